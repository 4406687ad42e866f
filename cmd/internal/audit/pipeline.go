package audit

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// bundlesAhead is how many bundles are read and decoded ahead of the one that
// is checked: enough to keep all processors busy, little memory.
const bundlesAhead = 64

// bundle is the events of one bundle of the log on their way through the audit.
// Decoding and hashing need no order and take most of the time, so that bundles
// are prepared beside each other and checked one after the other.
type bundle struct {
	events  []eventstore.Recorded
	decoded []domain.Event
	errs    []error // of decoding
	leaves  []tlog.Hash
	root    tlog.Hash
	ready   chan struct{} // closed when the fields above are set
}

func (b *bundle) prepare(codec *domain.Codec, hash bool) {
	b.decoded, b.errs = make([]domain.Event, len(b.events)), make([]error, len(b.events))
	for i, rec := range b.events {
		b.decoded[i], b.errs[i] = codec.Decode(rec.Data)
	}
	if !hash {
		return
	}
	b.leaves = make([]tlog.Hash, len(b.events))
	for i, rec := range b.events {
		b.leaves[i] = tlog.RecordHash(rec.Data)
	}
	if len(b.leaves) == transparency.TileWidth {
		b.root = transparency.SubtreeRoot(b.leaves)
	}
}

// inOrder reads a ledger, lets bundles be prepared by as many goroutines as
// there are processors, and gives them to check in their order. It ends with
// the first error, of check or of the ledger.
func inOrder(ctx context.Context, l Ledger, prepare func(*bundle), check func(*bundle) error) error {
	ctx, stop := context.WithCancel(ctx)
	work, queue := make(chan *bundle, bundlesAhead), make(chan *bundle, bundlesAhead)
	var running sync.WaitGroup
	defer func() { // also when check panics
		stop()
		running.Wait()
	}()
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for b := range work {
				prepare(b)
				close(b.ready)
			}
		})
	}
	var replayed error // set before queue is closed
	running.Go(func() {
		defer close(queue)
		defer close(work)
		replayed = cut(ctx, l, func(b *bundle) error {
			for _, next := range []chan *bundle{work, queue} { // first work: what is on the queue must get ready
				select {
				case next <- b:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for b := range queue {
		<-b.ready
		if err := check(b); err != nil {
			return err
		}
	}
	return replayed
}

// cut reads a ledger in bundles as the log has them.
func cut(ctx context.Context, l Ledger, emit func(*bundle) error) error {
	var next *bundle
	send := func() error {
		if next == nil {
			return nil
		}
		b := next
		next = nil
		return emit(b)
	}
	err := l.Replay(ctx, 1, 0, func(batch []eventstore.Recorded) error {
		for len(batch) > 0 {
			if next == nil {
				next = &bundle{events: make([]eventstore.Recorded, 0, transparency.TileWidth), ready: make(chan struct{})}
			}
			n := min(len(batch), transparency.TileWidth-len(next.events))
			next.events = append(next.events, batch[:n]...)
			batch = batch[n:]
			if len(next.events) == transparency.TileWidth {
				if err := send(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if sent := send(); err == nil { // what came before an error is checked too
		err = sent
	}
	return err
}

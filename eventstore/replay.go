package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// replayBatchEvents is the most that a replay hands over at once, in events.
	replayBatchEvents = 4096
	// replayFetchEvents is how far the server may run ahead, in events.
	replayFetchEvents = 10000
	// replayFetchBytes is the same in bytes; the client drops what exceeds 64 MiB.
	replayFetchBytes = 32 << 20
	// replayHeartbeat is how often the server must show that it is there.
	replayHeartbeat = 2 * time.Second
	// replayExpiry is how long the server keeps one request for more events.
	replayExpiry = 30 * time.Second
	// replayIdle is how long the server keeps the place of a reader that has
	// gone without a word.
	replayIdle = 30 * time.Second
)

// Replay hands the events from the sequence from up to the sequence to over to
// fn, in order and in batches as they arrive. With to = 0 it ends at the last
// sequence at the time of the call; a to beyond that means the same. The slice
// is used again after fn returns; the Data of the events may be kept.
//
// A replay survives reconnects; ErrUnavailable is returned when nothing comes
// for 20 s.
// An error of fn ends the replay and is returned as it is. A sequence that
// does not continue the one before is ErrCorrupt.
func (l *Ledger) Replay(ctx context.Context, from, to uint64, fn func([]Recorded) error) error {
	from = max(from, 1)
	info, err := l.Info(ctx)
	if err != nil {
		return err
	}
	if to == 0 || to > info.Last {
		to = info.Last
	}
	if from > to {
		return nil
	}
	return l.read(ctx, from, to, fn)
}

// Follow hands over the events from the sequence from on, for ever: first what
// is stored, then what is recorded while it runs, each batch as large as what
// is there. It survives reconnects, and ends with ctx, with the ledger, by an
// error of fn, or with ErrCorrupt or ErrNotFound.
func (l *Ledger) Follow(ctx context.Context, from uint64, fn func([]Recorded) error) error {
	return l.read(ctx, max(from, 1), 0, fn)
}

// read is Replay and, without an end, Follow. Each session reads on where the
// last one was interrupted.
func (l *Ledger) read(ctx context.Context, from, to uint64, fn func([]Recorded) error) error {
	ctx, stop := l.within(ctx)
	defer stop()
	r := &reader{ledger: l, next: from, to: to, fn: fn}
	progress := time.Now()
	for try := 0; ; try++ {
		before := r.next
		err := r.session(ctx)
		if r.next != before {
			try, progress = 0, time.Now()
		}
		switch {
		case err == nil:
			return nil
		case r.failed != nil:
			return r.failed
		case ctx.Err() != nil:
			return fmt.Errorf("ledger %s: reading from sequence %d: %w", l.config.Stream, r.next, context.Cause(ctx))
		case permanent(err):
			return fmt.Errorf("ledger %s: reading from sequence %d: %w", l.config.Stream, r.next, reachable(err))
		}
		if denied := l.denied(); denied != nil {
			return fmt.Errorf("ledger %s: reading from sequence %d: %w: %w", l.config.Stream, r.next, denied, err)
		}
		if to > 0 && time.Since(progress) > retryLimit {
			return fmt.Errorf("ledger %s: reading from sequence %d: %w: %w", l.config.Stream, r.next, ErrUnavailable, err)
		}
		_ = pause(ctx, try) // the next session notices the end of ctx
	}
}

// permanent reports whether the next session would end by the same error.
func permanent(err error) bool {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotFound), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return true
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrConsumerDoesNotExist):
		return false // the session's own consumer was lost with its server; the next one has another
	}
	// A code of 4xx is the server's considered refusal, for example because the
	// account has as many consumers as it may have; 5xx pass.
	return errors.As(err, &api) && api.Code >= 400 && api.Code < 500
}

// denied is the server's word that this connection may not read the ledger, or
// nil. The word comes apart from the request that it is about, whose answer
// then never comes, and the subject is only in its text.
func (l *Ledger) denied() error {
	err := l.wire.nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	for _, api := range []string{"CREATE", "MSG.NEXT"} {
		if strings.Contains(err.Error(), "$JS.API.CONSUMER."+api+"."+l.config.Stream+".") {
			return err
		}
	}
	return nil
}

// reader is one replay under way.
type reader struct {
	ledger *Ledger
	next   uint64 // the sequence that must come next
	to     uint64 // the last one that is wanted; 0 for no end
	fn     func([]Recorded) error
	failed error  // what fn returned
	last   []byte // the bytes of the event before next; nil before the first

	delivered uint64 // events that this session's consumer has sent
	batch     []Recorded
}

// session reads with one ephemeral consumer until the end or until the first
// disturbance. It does without the client library's ordered consumer, which
// starts anew by itself, because that one cannot be cut short by a context.
func (r *reader) session(ctx context.Context) error {
	connection := r.ledger.wire.exchange(0)
	defer connection.end()
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-connection.lost:
			cancel(errConnectionLost)
		case <-ctx.Done():
		}
	})
	defer watcher.Wait()
	defer cancel(nil)

	if err := r.sameLedger(ctx); err != nil {
		return err
	}
	consumer, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	defer r.discard(consumer)
	if err := r.checkEnd(ctx, consumer.CachedInfo().NumPending); err != nil {
		return err
	}
	arrived := make(chan jetstream.Msg, replayBatchEvents)
	broken := make(chan error, 1)
	consuming, err := consume(ctx, consumer, arrived, broken)
	if err != nil {
		return err
	}
	defer func() {
		cancel(nil)
		consuming.Stop()
		<-consuming.Closed()
	}()
	for {
		select {
		case msg := <-arrived:
			if done, err := r.take(ctx, msg, arrived); done || err != nil {
				return err
			}
		case err := <-broken:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sameLedger makes sure, before it reads on after a disturbance, that the last
// event which was handed over is still there: the stream may have been replaced.
func (r *reader) sameLedger(ctx context.Context) error {
	if r.last == nil {
		return nil
	}
	e, found, err := r.ledger.leaderGet(ctx, getRequest{Sequence: r.next - 1})
	switch {
	case err != nil:
		return err
	case !found:
		return errNotYetThere // a leader that was deposed without knowing it may lack it
	case !bytes.Equal(e.Data, r.last):
		return fmt.Errorf("%w: event %d is not the one that was read before: the stream was replaced; begin again from the first event", ErrCorrupt, r.next-1)
	}
	return nil
}

// consumer makes the session's consumer.
func (r *reader) consumer(ctx context.Context) (jetstream.Consumer, error) {
	consumer, err := r.ledger.js.CreateConsumer(ctx, r.ledger.config.Stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: replayIdle,
	})
	if err != nil {
		return nil, streamError(err)
	}
	r.delivered = 0
	return consumer, nil
}

// discard deletes the session's consumer. The answer is not waited for: a
// reader need not be allowed to delete, and a consumer that stays is removed
// by the server after replayIdle.
func (r *reader) discard(consumer jetstream.Consumer) {
	_ = r.ledger.wire.nc.Publish("$JS.API.CONSUMER.DELETE."+r.ledger.config.Stream+"."+consumer.CachedInfo().Name, nil)
}

// consume lets the consumer deliver until ctx ends. What goes wrong first is
// sent to broken.
func consume(ctx context.Context, consumer jetstream.Consumer, arrived chan<- jetstream.Msg, broken chan<- error) (jetstream.ConsumeContext, error) {
	return consumer.Consume(
		func(msg jetstream.Msg) {
			select {
			case arrived <- msg:
			case <-ctx.Done():
			}
		},
		jetstream.PullMaxMessagesWithBytesLimit(replayFetchEvents, replayFetchBytes),
		jetstream.PullExpiry(replayExpiry),
		jetstream.PullHeartbeat(replayHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case broken <- err:
			default: // the first one is the reason
			}
		}),
	)
}

// take gathers what has arrived, hands it over, and says whether the end was
// reached.
func (r *reader) take(ctx context.Context, first jetstream.Msg, arrived <-chan jetstream.Msg) (done bool, err error) {
	r.batch = r.batch[:0]
	var pending uint64
	for msg := first; msg != nil; {
		if pending, err = r.add(msg); err != nil {
			break
		}
		msg = nil
		if done = r.to > 0 && r.next > r.to; done || len(r.batch) == replayBatchEvents {
			break
		}
		select {
		case msg = <-arrived:
		default:
		}
	}
	if len(r.batch) > 0 {
		r.last = r.batch[len(r.batch)-1].Data
		if r.failed = r.fn(r.batch); r.failed != nil {
			return false, r.failed
		}
	}
	if done || err != nil {
		return done, err
	}
	return false, r.checkEnd(ctx, pending)
}

// add checks that an event continues the one before and adds it to the batch.
func (r *reader) add(msg jetstream.Msg) (pending uint64, err error) {
	meta, err := msg.Metadata()
	if err != nil {
		return 0, fmt.Errorf("%w: a delivery without its sequence: %w", ErrCorrupt, err)
	}
	r.delivered++
	if meta.Sequence.Consumer != r.delivered {
		return 0, errIncompleteAnswer // lost on the way, not in the ledger
	}
	if meta.Sequence.Stream != r.next {
		return 0, r.missing(meta.Sequence.Stream)
	}
	r.next++
	r.batch = append(r.batch, Recorded{Message{msg.Subject(), msg.Data()}, meta.Sequence.Stream, meta.Timestamp})
	return meta.NumPending, nil
}

// checkEnd notices that the ledger ends before the sequence that it is known
// to have. The consumer's replica may merely be behind, so the leader decides.
func (r *reader) checkEnd(ctx context.Context, pending uint64) error {
	if pending > 0 || r.to == 0 || r.next > r.to {
		return nil
	}
	_, found, err := r.ledger.leaderGet(ctx, getRequest{Sequence: r.next})
	if err == nil && !found {
		err = r.missing(0)
	}
	return err
}

// missing is the error about a gap; found is the sequence behind it, or 0.
func (r *reader) missing(found uint64) error {
	what := "nothing"
	if found > 0 {
		what = fmt.Sprintf("sequence %d", found)
	}
	return fmt.Errorf("%w: sequence %d is missing, %s comes next: stop recording and restore the stream from a copy", ErrCorrupt, r.next, what)
}

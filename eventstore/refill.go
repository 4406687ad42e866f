package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// refillBatchBytes bounds a batch of a refill, in bytes of events. Four such
	// batches are an eighth of the 128 MiB that the server lets wait for a stream.
	refillBatchBytes = 4 << 20
	// refillUnderWay is how many batches of a refill are under way, so that the
	// server has the next one when it has written one. It is as many as a ledger
	// has under way for its appends: all workers share the server's 50.
	refillUnderWay = maxCommits
)

// ErrDiffers says that the ledger holds other events than the copy from which
// it was to be refilled.
var ErrDiffers = errors.New("the ledger does not hold what the copy holds")

// DifferenceError is the ErrDiffers of one refill: the first place where the
// two are not the same.
type DifferenceError struct {
	Sequence uint64
	Ledger   string // the subject of the ledger's event at that sequence
	Copy     string // the subject of the copy's, or empty when the copy ends before it
}

func (e *DifferenceError) Error() string {
	what := fmt.Sprintf("the ledger's event is on %s, the copy's on %s", e.Ledger, e.Copy)
	switch e.Copy {
	case "":
		what = fmt.Sprintf("the ledger has an event on %s, and the copy ends before it", e.Ledger)
	case e.Ledger:
		what = fmt.Sprintf("the bytes of the event on %s differ", e.Ledger)
	}
	return fmt.Sprintf("sequence %d: %v: %s; refill a new, empty ledger, or use the copy that belongs to this one", e.Sequence, ErrDiffers, what)
}

// Unwrap makes errors.Is(err, ErrDiffers) true.
func (e *DifferenceError) Unwrap() error { return ErrDiffers }

// Refill makes an empty ledger hold the events of a copy: the copy's first event
// at sequence 1, the next at 2, and so on, with subjects and bytes as given.
// What was proved about a ledger that was lost then holds for the new one,
// because proofs are about sequences and bytes. It returns the last sequence
// up to which the ledger is known to hold the copy. JetStream's own restore is
// something else: it puts a whole stream in place, unread, from a snapshot that
// only a server can make.
//
// A ledger that holds the beginning of the copy is refilled from there on, and
// one that holds all of it is left as it is. So after any error but ErrDiffers
// and ErrCorrupt the same call may be made again, and two may run at once. Each
// batch carries the expectation that the whole ledger ends just before it. What
// somebody else records in between, or what is there already and not in the
// copy, is a *DifferenceError, and nothing is recorded after it. What the events
// expected of their subjects does not matter: that was decided when they were
// first recorded.
//
// A few batches are sent ahead of their answers. That is safe, because the ones
// behind a batch that was not recorded expect what is not so. When one is
// refused or its outcome is not known, all that are under way are awaited, what
// the ledger holds by then is compared with the copy, and the refill goes on
// behind it. A batch that is sent again cannot be recorded twice, because the
// ledger no longer ends before it.
//
// An error that events yields, or an event that Append would not take, ends the
// copy there: what comes before it is recorded, the error names its sequence,
// and a mended copy goes on there. The copy is read once and never held in
// memory, so whoever wants nothing of a damaged one must check it first. The
// bytes of an event must not be changed once it was yielded. The function events
// runs in the caller's goroutine and must itself notice the end of ctx where it
// waits; progress, if not nil, is called there too, after each batch.
//
// Errors: *DifferenceError, ErrCorrupt when sequences are missing,
// ErrUnavailable when nothing was recorded for 20 s or the storage is full,
// ErrClosed, ErrNotFound, the cause of ctx, and those about an event of the
// copy. When ctx ends, what is under way may yet be recorded, at its place. What
// an earlier call has recorded is found by reading, and so is as durable as the
// package comment says of such events.
func (l *Ledger) Refill(ctx context.Context, events iter.Seq2[Message, error], progress func(recorded uint64)) (last uint64, err error) {
	ctx, stop := l.within(ctx)
	defer stop()
	next, stopEvents := iter.Pull2(events)
	defer stopEvents()
	r := &refill{ledger: l, next: next, progress: progress, advanced: time.Now()}
	err = r.run(ctx)
	return r.recorded, err
}

// refill is one refill under way. One goroutine owns it.
type refill struct {
	ledger   *Ledger
	next     func() (Message, error, bool) // pulls the copy's next event
	progress func(uint64)

	recorded uint64    // the ledger is known to hold the copy up to here
	advanced time.Time // when that was last found to be more
	held     []Message // pulled events; the first comes after recorded
	ended    bool      // there is nothing left to pull
	failed   error     // why the copy ended before its end

	underWay []*sentBatch // in the order of their events, the first of which is the first held
	sent     int          // events in them
}

// run compares and sends by turns until the ledger holds all of the copy.
func (r *refill) run(ctx context.Context) error {
	for try := 0; ; try++ {
		before := r.recorded
		if err := r.compare(ctx); err != nil {
			return err
		}
		v, err := r.send(ctx)
		if r.recorded > before {
			try = 0
		}
		switch {
		case err == nil && r.failed == nil:
			return nil
		case ctx.Err() != nil:
			return r.failure(context.Cause(ctx))
		case err == nil:
			return r.failure(r.failed)
		case v == verdictRejected:
			return r.failure(err)
		case hasCode(err, codeBatchesDisabled):
			return r.failure(fmt.Errorf("%w: set allow_atomic again", err))
		case try >= storageTries && storageFull(err), time.Since(r.advanced) > retryLimit:
			return r.failure(fmt.Errorf("%w: %w; refill again to go on", ErrUnavailable, err))
		}
		if cause := pause(ctx, try); cause != nil {
			return r.failure(cause)
		}
	}
}

// failure says where the refill ended.
func (r *refill) failure(err error) error {
	return fmt.Errorf("ledger %s: refill: after sequence %d: %w", r.ledger.config.Stream, r.recorded, err)
}

// compare reads what the ledger holds above the recorded events and finds it in
// the copy.
func (r *refill) compare(ctx context.Context) error {
	return WithSubjects{r.ledger}.Replay(ctx, r.recorded+1, 0, func(batch []Recorded) error {
		for i, e := range batch {
			if !r.hold(i + 1) {
				if r.failed != nil {
					return r.failure(r.failed)
				}
				return r.failure(&DifferenceError{Sequence: e.Sequence, Ledger: e.Subject})
			}
			want := r.held[i]
			if want.Subject != e.Subject || !bytes.Equal(want.Data, e.Data) {
				return r.failure(&DifferenceError{Sequence: e.Sequence, Ledger: e.Subject, Copy: want.Subject})
			}
		}
		r.advance(len(batch))
		return nil
	})
}

// hold pulls until so many events are held, and reports whether the copy has
// that many.
func (r *refill) hold(n int) bool {
	for len(r.held) < n && !r.ended {
		m, err, ok := r.next()
		if !ok {
			r.ended = true
			break
		}
		if err == nil {
			err = r.ledger.acceptable(m)
		}
		if err != nil {
			r.ended = true
			r.failed = fmt.Errorf("the copy's event %d: %w; refill again from a sound copy to go on", r.recorded+uint64(len(r.held))+1, err)
			break
		}
		r.held = append(r.held, m)
	}
	return len(r.held) >= n
}

// advance says that the ledger holds the next n events.
func (r *refill) advance(n int) {
	r.held = r.held[n:]
	r.recorded += uint64(n)
	r.advanced = time.Now()
	if r.progress != nil {
		r.progress(r.recorded)
	}
}

// send records events until the copy ends or something goes wrong. It returns
// when nothing is under way any more, so that what is read next is settled
// unless the server fell silent.
func (r *refill) send(ctx context.Context) (v verdict, err error) {
	r.sent = 0
	for {
		if err == nil {
			v, err = r.start(ctx)
		}
		if len(r.underWay) == 0 {
			return v, err
		}
		b := r.underWay[0]
		r.underWay = r.underWay[1:]
		last, bv, berr := r.ledger.awaitBatch(ctx, b)
		switch end := r.recorded + uint64(b.count); {
		case err != nil: // the first error is the reason for the others
		case berr != nil:
			v, err = bv, berr
		case last != end:
			v, err = verdictRejected, fmt.Errorf("%w: events that were to end at sequence %d were recorded up to %d: refill a new, empty ledger", ErrCorrupt, end, last)
		default:
			r.sent -= b.count
			r.advance(b.count)
		}
	}
}

// start sends batches until enough are under way or the copy has ended.
func (r *refill) start(ctx context.Context) (verdict, error) {
	for len(r.underWay) < refillUnderWay && ctx.Err() == nil {
		events := r.nextBatch()
		if len(events) == 0 {
			return verdictRecorded, nil
		}
		expected := strconv.FormatUint(r.recorded+uint64(r.sent), 10)
		b, v, err := r.ledger.startBatch(len(events), func(i int, msg *nats.Msg) {
			msg.Subject, msg.Data = events[i].Subject, events[i].Data
			switch i {
			case 0:
				msg.Header[headerExpectedLast] = []string{expected}
			case 1: // the server allows it only in the first message
				delete(msg.Header, headerExpectedLast)
			}
		})
		if err != nil {
			return v, err
		}
		r.underWay = append(r.underWay, b)
		r.sent += len(events)
	}
	return verdictUnknown, context.Cause(ctx)
}

// nextBatch is the batch of held events behind those that were sent.
func (r *refill) nextBatch() []Message {
	size := 0
	for n := range MaxBatchEvents {
		if !r.hold(r.sent + n + 1) {
			return r.held[r.sent:]
		}
		size += len(r.held[r.sent+n].Data)
		if size > refillBatchBytes && n > 0 {
			return r.held[r.sent : r.sent+n]
		}
	}
	return r.held[r.sent : r.sent+MaxBatchEvents]
}

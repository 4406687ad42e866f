package eventstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

var errEvent = errors.New("invalid event")

// The states of a request, as its caller sees them. A caller that leaves early
// learns from the state whether its event may have been recorded.
const (
	stateQueued int32 = iota // waits; guarded by the queue's mutex
	stateIdle                // taken; certainly not recorded
	stateSent                // may be recorded
	stateLeft                // the caller has gone; not sent again
)

// request is one append on its way.
type request struct {
	message  Message
	expected uint64
	state    atomic.Int32
	answer   chan outcome // has room for the one answer, so that nobody waits for a caller that left

	// Owned by the commit that took the request.
	unsure   bool    // an earlier attempt may have been recorded
	verdict  verdict // of the last attempt
	err      error   // of the last attempt
	sequence uint64  // where the event was recorded
	ahead    int     // how often the expectation was above the subject's last sequence
}

type outcome struct {
	appended Appended
	err      error
}

func (r *request) finish(a Appended, err error) { r.answer <- outcome{a, err} }

// Append records one event and blocks until it is durable and it is known which
// control events govern it. The event must be the first one on its subject
// above the sequence expected; 0 means that the subject has none.
//
// Errors: *ConflictError, ErrBusy, ErrClosed, ErrSealed, ErrUnavailable and the
// errors of validation say that nothing was recorded, and so does an error of ctx that
// is not ErrOutcomeUnknown. After ErrOutcomeUnknown only the same bytes with
// the same expectation may be appended again; that is safe at any time and
// answers with the sequence of the first time.
//
// Safe for concurrent use. Concurrent appends share commits; an append never
// waits for others to come. Appends on one subject are sent one at a time.
func (l *Ledger) Append(ctx context.Context, m Message, expected uint64) (Appended, error) {
	if err := l.acceptable(m); err != nil {
		return Appended{}, fmt.Errorf("ledger %s: append: %w", l.config.Stream, err)
	}
	if err := ctx.Err(); err != nil {
		return Appended{}, fmt.Errorf("ledger %s: append to %s: nothing was recorded: %w", l.config.Stream, m.Subject, err)
	}
	r := &request{message: m, expected: expected, answer: make(chan outcome, 1)}
	if err := l.queue.add(r); err != nil {
		return Appended{}, fmt.Errorf("ledger %s: append to %s: %w", l.config.Stream, m.Subject, err)
	}
	appended, err := l.await(ctx, r)
	if err != nil {
		return Appended{}, fmt.Errorf("ledger %s: append to %s: %w", l.config.Stream, m.Subject, err)
	}
	return appended, nil
}

// await waits for the answer to a request, or leaves with ctx and says what is
// known about the event then.
func (l *Ledger) await(ctx context.Context, r *request) (Appended, error) {
	select {
	case out := <-r.answer:
		return out.appended, out.err
	case <-ctx.Done():
	}
	if l.queue.withdraw(r) {
		return Appended{}, fmt.Errorf("nothing was recorded: %w", ctx.Err())
	}
	if r.state.Swap(stateLeft) == stateIdle {
		return Appended{}, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	select {
	case out := <-r.answer: // it came just now
		return out.appended, out.err
	default:
		return Appended{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// acceptable reports what is wrong with an event before anything is sent.
func (l *Ledger) acceptable(m Message) error {
	if err := validateSubject(m.Subject); err != nil {
		return err
	}
	if !covered(l.config.Subjects, m.Subject) {
		return fmt.Errorf("%w %q: this ledger stores only %q", errSubject, m.Subject, l.config.Subjects)
	}
	if len(m.Data) == 0 {
		return fmt.Errorf("%w on %s: it has no bytes", errEvent, m.Subject)
	}
	if len(m.Data) > MaxEventBytes {
		return fmt.Errorf("%w on %s: %d bytes, at most %d are allowed", errEvent, m.Subject, len(m.Data), MaxEventBytes)
	}
	return nil
}

package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// errUnconfirmed says why an event that is recorded was not acknowledged.
	errUnconfirmed = errors.New("it was recorded, but the control subject could not be read after that")
	errNotYetThere = errors.New("no replica that answers has the event yet")
)

// confirm answers requests whose events are recorded, after one read of the
// control subject for all of them.
func (l *Ledger) confirm(rs []*request) {
	if len(rs) == 0 {
		return
	}
	control, err := l.lastControl(rs)
	if err != nil {
		err = fmt.Errorf("%w: %w: %w", ErrOutcomeUnknown, errUnconfirmed, err)
	}
	for _, r := range rs {
		if err != nil {
			r.finish(Appended{}, err)
			continue
		}
		r.finish(Appended{Sequence: r.sequence, Control: control}, nil)
	}
}

// lastControl returns the last sequence of the control subject, as a replica
// knows it that has all these events. It must not guess, so it tries until it
// has it, or gives up.
func (l *Ledger) lastControl(rs []*request) (uint64, error) {
	newest := rs[0]
	for _, r := range rs {
		if r.sequence > newest.sequence {
			newest = r
		}
	}
	begun := time.Now()
	for try := 0; ; try++ {
		control, err := l.readControl(l.ctx, newest.message.Subject, newest.sequence)
		if err == nil {
			return control, nil
		}
		if time.Since(begun) > retryLimit {
			return 0, err
		}
		if cause := pause(l.ctx, try); cause != nil {
			return 0, fmt.Errorf("%w: %w", cause, err)
		}
	}
}

// Control returns the last sequence of the control subject as somebody knows it
// who has the event that is recorded on a subject at a sequence, and so every
// control event that governs it. It is what Append answers, for an event that
// was appended before.
func (l *Ledger) Control(ctx context.Context, subject string, sequence uint64) (control uint64, err error) {
	if err := l.readable(subject); err != nil {
		return 0, err
	}
	err = l.retryRead(ctx, func(ctx context.Context) error {
		control, err = l.readControl(ctx, subject, sequence)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ledger %s: control of event %d: %w", l.config.Stream, sequence, err)
	}
	return control, nil
}

// readControl asks any replica for the last events of the control subject and
// of an event's subject in one read. Only an answer that holds the event counts:
// a replica that has it has all that lies below, and so every control event
// that governs it. Otherwise the error is errNotYetThere.
func (l *Ledger) readControl(ctx context.Context, subject string, sequence uint64) (uint64, error) {
	subjects := []string{l.config.Control}
	if subject != l.config.Control {
		subjects = append(subjects, subject)
	}
	last, err := l.lastOfMany(ctx, subjects)
	if err != nil {
		return 0, err
	}
	if last[subject] < sequence {
		return 0, errNotYetThere
	}
	return last[l.config.Control], nil
}

package eventstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	// errUnconfirmed says why an event that is recorded was not acknowledged.
	errUnconfirmed = errors.New("it was recorded, but the control subject could not be read after that")
	errNotYetThere = errors.New("no replica that answers has the event yet")
)

// runTrust is how long a run is believed, in time, without another look. An
// unbroken stream would not need it. It bounds what comes of a stream that is
// replaced by an older copy under workers that should have been stopped.
const runTrust = time.Second

// run is a number of events that follow each other without a gap and of which
// this ledger knows that none is a control event, so what governs the first
// governs the last.
type run struct {
	begun   time.Time
	known   chan struct{} // closed when control and err are set
	control uint64        // the last sequence of the control subject
	err     error         // why it could not be learned
}

// fence remembers the newest run. While nobody else records, all events are
// one run, and the control subject is read once and not for every commit: a
// read waits until the server has finished the batch that it is busy with.
type fence struct {
	mu  sync.Mutex // guards what follows
	end uint64     // the last sequence of the run
	run *run
}

// join adds recorded events to the newest run, or begins the next one with
// them if others were recorded in between, and reports whether it did so. The
// one who began a run has to find out what governs it.
func (f *fence) join(rs []*request, control string) (r *run, began bool) {
	first, last := rs[0].sequence, rs[0].sequence
	plain := true // none is a control event
	for _, r := range rs {
		first, last = min(first, r.sequence), max(last, r.sequence)
		plain = plain && r.message.Subject != control
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	follows := first == f.end+1 && last-first == uint64(len(rs)-1)
	if f.run != nil && follows && plain && time.Since(f.run.begun) < runTrust {
		f.end = last
		return f.run, false
	}
	r = &run{begun: time.Now(), known: make(chan struct{})}
	if last > f.end || f.run == nil {
		f.end, f.run = last, r
	} else {
		f.run = nil // Two commits ended in the wrong order, or the stream was set back.
	}
	return r, true
}

// leave ends a run about which nothing could be learned.
func (f *fence) leave(r *run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run == r {
		f.run = nil
	}
}

// confirm answers requests whose events are recorded, once it knows what
// governs them.
func (l *Ledger) confirm(rs []*request) {
	if len(rs) == 0 {
		return
	}
	control, err := l.governing(rs)
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

// governing returns the last sequence of the control subject as somebody knows
// it who has these events: from the run that they continue, or by reading it.
func (l *Ledger) governing(rs []*request) (uint64, error) {
	run, began := l.fence.join(rs, l.config.Control)
	if !began {
		if <-run.known; run.err == nil {
			return run.control, nil
		}
		return l.lastControl(rs) // the one who asked may have given up just when this began
	}
	run.control, run.err = l.lastControl(rs)
	if run.err != nil {
		l.fence.leave(run)
	}
	close(run.known)
	return run.control, run.err
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

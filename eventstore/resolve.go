package eventstore

import (
	"bytes"
	"fmt"
)

// aheadTries is how often an expectation may be found above the subject's last
// sequence before it is called a conflict: the leader may still be applying
// what its followers have.
const aheadTries = 5

// settle answers every request whose fate is decided after an attempt, looks
// into those where the attempt left doubt, and returns those to try again.
func (l *Ledger) settle(rs []*request) (open []*request) {
	l.resolve(rs)
	settled := make([]*request, 0, len(rs))
	var recorded []*request
	for _, r := range rs {
		switch r.verdict {
		case verdictRecorded:
			recorded = append(recorded, r)
		case verdictLost:
			l.observe.Conflicted()
			r.finish(Appended{}, r.err)
		case verdictRejected:
			r.finish(Appended{}, fmt.Errorf("%w: %w", r.failure(), r.err))
		default:
			r.unsure = r.unsure || r.verdict == verdictUnknown
			if !r.unsure {
				r.state.CompareAndSwap(stateSent, stateIdle)
			}
			open = append(open, r)
			continue
		}
		settled = append(settled, r)
	}
	l.queue.release(settled...)
	l.confirm(recorded)
	return open
}

// failure is what a request that is given up may say.
func (r *request) failure() error {
	switch {
	case r.unsure:
		return ErrOutcomeUnknown
	case hasCode(r.err, codeSealed):
		return ErrSealed
	}
	return ErrUnavailable
}

// resolve finds out what the ledger holds in place of the events that an
// attempt refused or left in doubt. A batch is refused as a whole without
// saying which event was wrong, so all its mismatches are found here at once.
//
// What a sealed stream refuses is not tried again, and it may be recorded all
// the same, by an append of the same bytes before the sealing. Of these the
// leader is asked about every one.
func (l *Ledger) resolve(rs []*request) {
	var suspects, rejected []*request
	for _, r := range rs {
		switch r.verdict {
		case verdictConflict, verdictUnknown:
			suspects = append(suspects, r)
		case verdictRejected:
			if r.unsure || hasCode(r.err, codeSealed) {
				rejected = append(rejected, r)
			}
		}
	}
	if len(suspects) >= batchEventsMin {
		suspects = l.mismatched(suspects)
	}
	suspects = append(suspects, rejected...)
	for i, r := range suspects {
		if err := l.look(r); err != nil {
			// Nothing is known about this one and the rest. Trying again is
			// always safe; of those that are not, nobody may say that nothing
			// was recorded.
			r.err = fmt.Errorf("%w; and then: %w", r.err, err)
			for _, r := range suspects[i:] {
				r.unsure = r.unsure || r.verdict == verdictRejected
			}
			return
		}
	}
}

// mismatched returns the requests whose subjects do not end where they were
// expected to. Any replica may answer: it may be behind, so what it says is
// only a hint whom to ask the leader about.
func (l *Ledger) mismatched(rs []*request) []*request {
	subjects := make([]string, len(rs))
	for i, r := range rs {
		subjects[i] = r.message.Subject
	}
	last, err := l.lastOfMany(l.ctx, subjects)
	if err != nil {
		return nil
	}
	var found []*request
	for _, r := range rs {
		if last[r.message.Subject] != r.expected {
			found = append(found, r)
		}
	}
	return found
}

// look asks the leader for the first event after the request's expectation.
// It is the request's own, recorded by an earlier attempt, or another one that
// came first. That there is none proves nothing: an attempt may still be on
// its way.
func (l *Ledger) look(r *request) error {
	subject := r.message.Subject
	first, found, err := l.firstAfter(l.ctx, subject, r.expected)
	switch {
	case err != nil:
		return err
	case found && bytes.Equal(first.Data, r.message.Data):
		r.verdict, r.sequence = verdictRecorded, first.Sequence
		return nil
	case found:
		r.verdict = verdictLost
		r.err = &ConflictError{Subject: subject, Expected: r.expected, Actual: first.Sequence}
		return nil
	case r.verdict != verdictConflict || r.expected == 0 || r.unsure:
		return nil
	}
	// No attempt is on its way. An expectation above the subject's end is wrong
	// for good, unless the leader is behind.
	last, _, err := l.leaderGet(l.ctx, getRequest{Last: subject})
	if err != nil {
		return err
	}
	if last.Sequence < r.expected {
		if r.ahead++; r.ahead >= aheadTries {
			r.verdict = verdictLost
			r.err = &ConflictError{Subject: subject, Expected: r.expected, Actual: last.Sequence}
		}
	}
	return nil
}

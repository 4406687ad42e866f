package eventstore

import (
	"testing"
	"time"
)

// HoldProbes reads for ever, as somebody does whose answer does not come, until
// it is let go.
func (l *Ledger) HoldProbes(patience time.Duration) (letGo func()) {
	l.probes.patience = patience
	_, number := l.probes.enter("nobody's")
	return func() { l.probes.leave(number) }
}

// Probing is how many wait for somebody else who reads.
func (l *Ledger) Probing() int {
	l.probes.mu.Lock()
	defer l.probes.mu.Unlock()
	return len(l.probes.waiting)
}

// ReadFrom makes another subject the one that replicas answer on.
func (l *Ledger) ReadFrom(subject string) (before string) {
	before, l.directGetSubject = l.directGetSubject, subject
	return before
}

// SetRoom is how many answers have room that were not looked at yet.
func (l *Ledger) SetRoom(t *testing.T, answers int) {
	if err := l.wire.sub.SetPendingLimits(answers, -1); err != nil {
		t.Error(err)
	}
}

// Lost is how many answers had no room.
func (l *Ledger) Lost() int {
	lost, _ := l.wire.sub.Dropped()
	return lost
}

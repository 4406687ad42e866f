package intake_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// TestTurns: of many submissions of one voter that come at once to one intake,
// only the one that wins is sent to the ledger.
func TestTurns(t *testing.T) {
	w := newWorld(t, 0)
	l := w.ledger.Reopen()
	const rivals = 64
	var appends, accepted atomic.Int64
	anna, err := w.key.Voter("Anna")
	must(t, err)
	in := w.intake(l)
	l.SetFaults(storetest.Faults{Append: func(eventstore.Message, uint64) storetest.Fault {
		if appends.Add(1) == 1 {
			storetest.Eventually(t, "all others wait for their turn", func() bool { return in.Turns(anna) == rivals })
		}
		return storetest.None
	}})
	var all sync.WaitGroup
	for i := range rivals {
		all.Go(func() {
			_, err := in.Submit(t.Context(), vote("Anna", "ilze", fmt.Sprintf("s%d", i)))
			var refusal *domain.Refusal
			switch {
			case err == nil:
				accepted.Add(1)
			case !errors.As(err, &refusal) || refusal.Code != domain.AlreadyVoted:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if appends.Load() != 1 || accepted.Load() != 1 {
		t.Errorf("%d appends, %d accepted", appends.Load(), accepted.Load())
	}
	w.audited()
}

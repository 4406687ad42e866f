package eventstore_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// counter is an Observer.
type counter struct{ committed, conflicts, retried atomic.Int64 }

func (c *counter) Committed(events int, took time.Duration) {
	if took <= 0 {
		panic("a commit took no time")
	}
	c.committed.Add(int64(events))
}
func (c *counter) Conflicted()        { c.conflicts.Add(1) }
func (c *counter) Retried(events int) { c.retried.Add(int64(events)) }

// TestObserver: every append is counted once, and so is every conflict.
func TestObserver(t *testing.T) {
	const subjects, writers = 50, 4
	nc, seen := storetest.NewServer(t).Connect(t), new(counter)
	config := storetest.Config("LEDGER_observed", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	config.Observer = seen
	l := open(t, nc, config)
	var wg sync.WaitGroup
	var conflicts atomic.Int64
	for i := range subjects * writers {
		wg.Go(func() {
			m := storetest.Event(storetest.Subject(config.Stream, i%subjects))
			_, err := l.Append(t.Context(), m, 0)
			if errors.Is(err, eventstore.ErrConflict) {
				conflicts.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := l.Pending(); n != 0 {
		t.Errorf("%d events wait", n)
	}
	// The last commit is counted after its callers have their answers.
	storetest.Eventually(t, "every append is counted", func() bool { return seen.committed.Load() == subjects*writers })
	if got := seen.conflicts.Load(); got != conflicts.Load() || got != subjects*(writers-1) {
		t.Errorf("%d conflicts are counted, the callers got %d, want %d", got, conflicts.Load(), subjects*(writers-1))
	}
}

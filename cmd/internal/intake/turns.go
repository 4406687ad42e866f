package intake

import (
	"context"
	"sync"

	"sakipaldies.lv/ledger/domain"
)

// turns let one command of a voter go ahead at a time. The others would be
// decided on the same ballot, and all but one of their appends would end in a
// conflict, one after the other: of 64 that came at once the last one waited
// for 63. So they wait here, in order of arrival, and find the ballot in the
// cache. It saves work, and decides nothing: other workers have turns of their
// own.
type turns struct {
	mu    sync.Mutex
	open  map[domain.Pseudonym]*turn // guarded by mu
	spare sync.Pool                  // of *turn that nobody has or waits for
}

// turn is one voter's.
type turn struct {
	room chan struct{} // has room for the one whose turn it is
	here int           // who has it or waits for it; guarded by turns.mu
}

// take waits for the voter's turn, which ends with give. The error is that of
// ctx.
func (ts *turns) take(ctx context.Context, voter domain.Pseudonym) (*turn, error) {
	t := ts.enter(voter)
	select {
	case t.room <- struct{}{}:
		return t, nil
	case <-ctx.Done():
		ts.exit(voter, t)
		return nil, ctx.Err()
	}
}

// give lets the next one go ahead.
func (ts *turns) give(voter domain.Pseudonym, t *turn) {
	<-t.room
	ts.exit(voter, t)
}

func (ts *turns) enter(voter domain.Pseudonym) *turn {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[voter]
	if t == nil {
		if ts.open == nil {
			ts.open = make(map[domain.Pseudonym]*turn)
		}
		var ok bool
		if t, ok = ts.spare.Get().(*turn); !ok {
			t = &turn{room: make(chan struct{}, 1)}
		}
		ts.open[voter] = t
	}
	t.here++
	return t
}

func (ts *turns) exit(voter domain.Pseudonym, t *turn) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.here--; t.here == 0 {
		delete(ts.open, voter)
		ts.spare.Put(t)
	}
}

package eventstore

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// idleYields is how often the committer yields in vain before it goes. Of
	// 1, 3, 8 and 20 this was the best with 256 callers.
	idleYields = 3
	// returnShare is the part of a commit's time in which as many are expected
	// to come back as it has answered, as a divisor. Of 8, 16 and 32 this was the best.
	returnShare = 16
	// returnTimeMax is the longest that they are expected, in time.
	returnTimeMax = 2 * time.Millisecond
)

// queue holds the requests that wait to be sent. It lets one request a subject
// go ahead; the others hang behind it until it is settled, because a batch may
// hold a subject only once and two in flight would refuse each other.
type queue struct {
	max int // events that may wait

	mu      sync.Mutex // guards what follows
	changed *sync.Cond // signalled when the committer may have something to do
	ready   []*request // in order of arrival, one a subject
	waiting int        // requests in ready and in chains
	chains  map[string][]*request
	commits int // under way
	stalled int // of them, those that wait before they try again
	closed  bool

	expected int       // events of the last commit, whose callers may come back
	until    time.Time // and until when they are expected
}

func newQueue(max int) *queue {
	q := &queue{max: max, chains: make(map[string][]*request)}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// add accepts a request or says ErrBusy or ErrClosed.
func (q *queue) add(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.waiting >= q.max:
		return ErrBusy
	}
	q.waiting++
	if chain, held := q.chains[r.message.Subject]; held {
		q.chains[r.message.Subject] = append(chain, r)
		return nil
	}
	q.chains[r.message.Subject] = nil
	q.ready = append(q.ready, r)
	q.changed.Signal()
	return nil
}

// depth is how many requests wait.
func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// withdraw takes back a request that was not taken yet, and reports whether
// that was so.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.state.Load() != stateQueued {
		return false
	}
	r.state.Store(stateLeft)
	q.waiting--
	if i := slices.Index(q.ready, r); i >= 0 {
		q.ready = slices.Delete(q.ready, i, i+1)
		q.releaseLocked(r)
		return true
	}
	chain := q.chains[r.message.Subject]
	i := slices.Index(chain, r)
	q.chains[r.message.Subject] = slices.Delete(chain, i, i+1)
	return true
}

// take waits until a commit should begin and returns its requests, at most
// MaxBatchEvents. It returns nil once the queue is closed and all is done.
func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.launchable() {
		if q.closed && q.waiting == 0 && q.commits == 0 {
			return nil
		}
		q.changed.Wait()
	}
	q.gatherLocked()
	n := min(len(q.ready), MaxBatchEvents)
	batch := slices.Clone(q.ready[:n])
	for _, r := range batch {
		r.state.Store(stateIdle)
	}
	q.ready = slices.Delete(q.ready, 0, n)
	q.waiting -= n
	q.commits++
	return batch
}

// gatherLocked yields the processor while that brings further requests, and for
// a moment after a commit while fewer have come than it has answered: the
// callers that were answered together come back together, and the first of
// them should not leave without the others. With nothing else to run, and no
// commit just before, it costs less than a microsecond.
func (q *queue) gatherLocked() {
	for idle := 0; len(q.ready) < MaxBatchEvents; idle++ {
		before := len(q.ready)
		if idle >= idleYields && (before >= q.expected || time.Now().After(q.until)) {
			return
		}
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
		if len(q.ready) > before {
			idle = 0
		}
	}
}

// launchable decides when a commit begins: at once when none is under way;
// beside others only when so many events wait that its flat cost is spread.
// Commits that have stalled keep nobody else waiting while there is room.
func (q *queue) launchable() bool {
	switch {
	case q.commits == q.stalled && q.commits < maxCommits:
		return len(q.ready) > 0
	case q.commits < maxCommits:
		return len(q.ready) >= fullBatchEvents
	default:
		return false
	}
}

// release lets the next requests on the subjects of settled ones go ahead.
func (q *queue) release(settled ...*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range settled {
		q.releaseLocked(r)
	}
	q.changed.Signal()
}

func (q *queue) releaseLocked(r *request) {
	chain := q.chains[r.message.Subject]
	if len(chain) == 0 {
		delete(q.chains, r.message.Subject)
		return
	}
	q.ready = append(q.ready, chain[0])
	q.chains[r.message.Subject] = chain[1:]
}

// stall says that a commit has settled what it could and will try again later.
func (q *queue) stall() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stalled++
	q.changed.Signal()
}

// finished says that a commit of so many events has ended after some time, and
// that its callers are answered.
func (q *queue) finished(stalled bool, events int, took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expected, q.until = events, time.Now().Add(min(took/returnShare, returnTimeMax))
	if stalled {
		q.expected = 0 // its callers were answered at different times
	}
	q.commits--
	if stalled {
		q.stalled--
	}
	q.changed.Signal()
}

// close refuses further requests; those that wait are still taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Signal()
}

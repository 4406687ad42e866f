package pubsub

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// batchMessagesMax is the server's limit for an atomic batch, in messages.
	batchMessagesMax = 1000
	// batchMessagesMin is the smallest group that goes as an atomic batch, in
	// messages. Fewer are cheaper as plain publishes, but only when they are of
	// different calls: the messages of one call would have to wait for each other.
	batchMessagesMin = 10
	// batchMessagesFull is how many messages must wait before a commit begins
	// beside another one.
	batchMessagesFull = 500
	// commitsMax is how many commits to one stream are under way. The server
	// stages at most 50 batches a stream, for all publishers together.
	commitsMax = 4
	// idleYields is how often a commit yields in vain before it goes.
	idleYields = 3
	// returnShare is the part of a commit's time in which as many messages are
	// expected to come back as it has stored, as a divisor, and returnTimeMax the
	// longest that they are. As for idleYields, see package eventstore.
	returnShare   = 16
	returnTimeMax = 2 * time.Millisecond
)

// lane carries the messages of many calls to one stream in group commits: what
// is alone goes at once, and while a commit is under way the next one gathers.
type lane struct {
	publisher *Publisher
	stream    string
	subjects  []string // guarded by the publisher's mutex
	atomic    bool     // the stream takes atomic batches

	sending sync.Mutex // held by who sends a batch, so that they end one after another

	mu       sync.Mutex // guards what follows
	waiting  []*parcel  // in order of arrival
	messages int        // in waiting
	commits  int        // under way
	expected int        // messages of the last commit, whose callers may come back
	until    time.Time  // and until when they are expected
}

// The states of a parcel.
const (
	parcelWaits int32 = iota
	parcelSent        // taken by a commit
	parcelLeft        // its caller has gone before
)

// parcel is the messages of one call that go together.
type parcel struct {
	messages []*nats.Msg
	state    atomic.Int32
	done     chan struct{} // closed when the outcome is known

	// Owned by the commit that took the parcel until done is closed.
	stored int
	err    error
}

// stores reports whether the stream stores the subject. The publisher's mutex
// must be held.
func (l *lane) stores(subject string) bool {
	for _, filter := range l.subjects {
		if matches(filter, subject) {
			return true
		}
	}
	return false
}

// publish stores at most batchMessagesMax messages and waits for the outcome.
func (l *lane) publish(ctx context.Context, messages []*nats.Msg) (stored int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: not sent: %w", ErrUnavailable, err)
	}
	p := &parcel{messages: messages, done: make(chan struct{})}
	l.add(p)
	select {
	case <-p.done:
		return p.stored, p.err
	case <-ctx.Done():
	}
	if p.state.CompareAndSwap(parcelWaits, parcelLeft) {
		return 0, fmt.Errorf("%w: not sent: %w", ErrUnavailable, ctx.Err())
	}
	select {
	case <-p.done: // it came just now
		return p.stored, p.err
	default:
		return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// add puts a parcel into the lane and begins a commit when none is under way,
// or beside others when so much waits that its flat cost is spread.
func (l *lane) add(p *parcel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, p)
	l.messages += len(p.messages)
	if l.commits == 0 || l.commits < commitsMax && l.messages >= batchMessagesFull {
		l.commits++
		l.publisher.calls.Go(l.commitAll)
	}
}

// commitAll commits until nothing waits, or until others are enough for it.
func (l *lane) commitAll() {
	for {
		parcels := l.take()
		if parcels == nil {
			return
		}
		begun, messages := time.Now(), 0
		l.commit(parcels)
		for _, p := range parcels {
			messages += len(p.messages)
			close(p.done)
		}
		l.committed(messages, time.Since(begun))
	}
}

// committed says that the callers of a commit were answered.
func (l *lane) committed(messages int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected, l.until = messages, time.Now().Add(min(took/returnShare, returnTimeMax))
}

// take returns what the next commit carries, or nil when the committer is to end.
func (l *lane) take() []*parcel {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gatherLocked()
	var taken []*parcel
	room := batchMessagesMax
	for len(l.waiting) > 0 && len(l.waiting[0].messages) <= room {
		if l.commits > 1 && taken == nil && l.messages < batchMessagesFull {
			break
		}
		p := l.waiting[0]
		l.waiting[0], l.waiting = nil, l.waiting[1:]
		l.messages -= len(p.messages)
		if p.state.CompareAndSwap(parcelWaits, parcelSent) {
			taken = append(taken, p)
			room -= len(p.messages)
		}
	}
	if taken == nil {
		l.commits--
	}
	return taken
}

// gatherLocked yields the processor while that brings further parcels, and for a
// moment after a commit while fewer messages have come than it has stored:
// callers that were answered together come back together. With nothing else to
// run, and no commit just before, it costs less than a microsecond.
func (l *lane) gatherLocked() {
	for idle := 0; l.messages < batchMessagesMax; idle++ {
		before := l.messages
		if idle >= idleYields && (before >= l.expected || time.Now().After(l.until)) {
			return
		}
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
		if l.messages > before {
			idle = 0
		}
	}
}

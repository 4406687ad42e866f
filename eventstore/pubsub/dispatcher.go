package pubsub

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// recentMax is how many acked messages a subscription remembers at least, in
// messages, to know them when they are delivered once more.
const recentMax = 1 << 15

// itemState is where a message is between its delivery and its ack.
type itemState int

const (
	itemQueued itemState = iota // held here until its turn
	itemInHand                  // given to the handler
	itemNacked                  // given back to the server, which delivers it again later
)

// item is one message that was delivered and is not acked.
type item struct {
	sequence   uint64
	deliveries uint64 // how often it was delivered
	reply      string // of the last delivery: where the server awaits the ack
	message    *message.Message
	malformed  error
	cancel     context.CancelFunc // of the message's context; nil before its turn
	touched    time.Time          // when the server last knew that it is held
	state      itemState
	line       *line
}

// line is the messages of one key, in order of their sequences. Without order
// each message has a line of its own.
type line struct {
	key   string
	items []*item
	busy  bool // one of the items is in hand
	ready bool // the line is in the dispatcher's list
}

// dispatcher decides which message comes next: at most limit are in hand, and
// one of each key, the lowest sequence first. It is a pure data structure that
// the goroutine of one subscription owns.
type dispatcher struct {
	limit   int // messages in hand
	orderBy func(subject string) string

	inHand int
	items  map[uint64]*item // by sequence
	lines  map[string]*line // by key; empty without order
	ready  []*line          // whose first message may go, in the order in which they became so
	recent recent
}

func newDispatcher(limit int, orderBy func(string) string) *dispatcher {
	return &dispatcher{limit: limit, orderBy: orderBy, items: make(map[uint64]*item), lines: make(map[string]*line)}
}

// add takes in a message that was delivered. It reports false for one that was
// acked before, whose ack was lost: it is only to be acked again.
func (d *dispatcher) add(it *item, subject string) bool {
	if d.recent.has(it.sequence) {
		return false
	}
	if known := d.items[it.sequence]; known != nil {
		d.again(known, it)
		return true
	}
	it.line = d.lineFor(subject)
	it.state = itemQueued
	d.items[it.sequence] = it
	at, _ := slices.BinarySearchFunc(it.line.items, it.sequence, bySequence)
	it.line.items = slices.Insert(it.line.items, at, it)
	d.wake(it.line)
	return true
}

// again takes in a further delivery of a message that is held. When it was
// nacked its turn comes again; otherwise only the way to ack it has changed.
func (d *dispatcher) again(known, delivered *item) {
	known.reply, known.touched = delivered.reply, delivered.touched
	if known.state != itemNacked {
		return
	}
	// A reset makes the server forget its count.
	known.deliveries = max(known.deliveries+1, delivered.deliveries)
	known.message, known.malformed, known.state = delivered.message, delivered.malformed, itemQueued
	known.message.Metadata[MetadataDeliveries] = strconv.FormatUint(known.deliveries, 10)
	d.wake(known.line)
}

func (d *dispatcher) lineFor(subject string) *line {
	if d.orderBy == nil {
		return &line{}
	}
	key := d.orderBy(subject)
	l := d.lines[key]
	if l == nil {
		l = &line{key: key}
		d.lines[key] = l
	}
	return l
}

func bySequence(it *item, sequence uint64) int {
	switch {
	case it.sequence < sequence:
		return -1
	case it.sequence > sequence:
		return 1
	}
	return 0
}

// wake lists a line whose first message may go.
func (d *dispatcher) wake(l *line) {
	if !l.ready && !l.busy && len(l.items) > 0 && l.items[0].state == itemQueued {
		l.ready = true
		d.ready = append(d.ready, l)
	}
}

// next returns the message that comes next, or nil. It stays the next one until
// handOver or a further add.
func (d *dispatcher) next() *item {
	if d.inHand >= d.limit {
		return nil
	}
	for len(d.ready) > 0 {
		l := d.ready[0]
		if !l.busy && len(l.items) > 0 && l.items[0].state == itemQueued {
			return l.items[0]
		}
		d.pop() // an earlier message has come that must be awaited
	}
	return nil
}

func (d *dispatcher) pop() {
	d.ready[0].ready = false
	d.ready[0] = nil
	d.ready = d.ready[1:]
}

// handOver says that the message that next has returned is in hand now.
func (d *dispatcher) handOver(it *item) {
	d.pop()
	it.state, it.line.busy = itemInHand, true
	d.inHand++
}

// settle says that a message in hand was acked or nacked. With order, a message
// that was nacked keeps those behind it waiting until it is delivered again.
func (d *dispatcher) settle(it *item, acked bool) {
	d.inHand--
	it.line.busy = false
	if !acked && d.orderBy != nil {
		it.state = itemNacked
		d.wake(it.line) // when an even earlier one has come meanwhile
		return
	}
	if acked {
		d.recent.add(it.sequence)
	}
	d.remove(it)
}

func (d *dispatcher) remove(it *item) {
	if it.cancel != nil {
		it.cancel()
	}
	delete(d.items, it.sequence)
	l := it.line
	if at, found := slices.BinarySearchFunc(l.items, it.sequence, bySequence); found {
		l.items = slices.Delete(l.items, at, at+1)
	}
	if len(l.items) == 0 && d.lines[l.key] == l {
		delete(d.lines, l.key)
	}
	d.wake(l)
}

// dropHeld forgets all that is not in hand and returns it, sorted.
func (d *dispatcher) dropHeld() (dropped []*item) {
	for _, it := range d.items {
		if it.state != itemInHand {
			dropped = append(dropped, it)
			d.remove(it)
		}
	}
	slices.SortFunc(dropped, func(a, b *item) int { return bySequence(a, b.sequence) })
	return dropped
}

// recent remembers the last recentMax to 2·recentMax sequences that were added.
type recent struct {
	young, old map[uint64]struct{}
}

func (r *recent) add(sequence uint64) {
	if r.young == nil || len(r.young) >= recentMax {
		r.young, r.old = make(map[uint64]struct{}), r.young
	}
	r.young[sequence] = struct{}{}
}

func (r *recent) has(sequence uint64) bool {
	_, young := r.young[sequence]
	_, old := r.old[sequence]
	return young || old
}

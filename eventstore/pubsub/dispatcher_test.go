package pubsub

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"pgregory.net/rapid"
)

// model is what a dispatcher is held against: it knows nothing but which
// messages exist and what became of them.
type model struct {
	t       *rapid.T
	d       *dispatcher
	ordered bool
	limit   int

	last   uint64 // delivered so far
	keys   map[uint64]string
	acked  map[uint64]bool
	inHand map[uint64]*item
	nacked []uint64 // that the server has to deliver again
}

func (m *model) deliver(sequence uint64) {
	it := &item{sequence: sequence, deliveries: 1, message: message.NewMessage("", nil), reply: fmt.Sprint(sequence)}
	if fresh := m.d.add(it, "votes."+m.keys[sequence]); fresh == m.acked[sequence] {
		m.t.Fatalf("delivery of %d, which is acked: %v, is fresh: %v", sequence, m.acked[sequence], fresh)
	}
}

func (m *model) deliverNext(t *rapid.T) {
	m.last++
	m.keys[m.last] = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
	m.deliver(m.last)
}

// deliverAgain is what a reset does, and what silence does.
func (m *model) deliverAgain(t *rapid.T) {
	if m.last > 0 {
		sequence := rapid.Uint64Range(1, m.last).Draw(t, "again")
		m.deliver(sequence)
		m.nacked = slices.DeleteFunc(m.nacked, func(n uint64) bool { return n == sequence })
	}
}

func (m *model) deliverNacked(*rapid.T) {
	if len(m.nacked) > 0 {
		sequence := m.nacked[0]
		m.nacked = m.nacked[1:]
		m.deliver(sequence)
	}
}

// handOver takes the next message and checks that it may go.
func (m *model) handOver(*rapid.T) {
	it := m.d.next()
	if it == nil {
		return
	}
	m.d.handOver(it)
	if m.inHand[it.sequence] != nil || m.acked[it.sequence] {
		m.t.Fatalf("%d is given out twice", it.sequence)
	}
	m.inHand[it.sequence] = it
	if len(m.inHand) > m.limit {
		m.t.Fatalf("%d messages in hand, at most %d are allowed", len(m.inHand), m.limit)
	}
	if !m.ordered {
		return
	}
	for earlier := range m.keys {
		if earlier < it.sequence && m.keys[earlier] == m.keys[it.sequence] && !m.acked[earlier] {
			m.t.Fatalf("%d is given out before %d of the same key is acked", it.sequence, earlier)
		}
	}
}

func (m *model) settle(t *rapid.T, acked bool) {
	if len(m.inHand) == 0 {
		return
	}
	var sequences []uint64
	for sequence := range m.inHand {
		sequences = append(sequences, sequence)
	}
	slices.Sort(sequences)
	sequence := rapid.SampledFrom(sequences).Draw(t, "settled")
	m.d.settle(m.inHand[sequence], acked)
	delete(m.inHand, sequence)
	if acked {
		m.acked[sequence] = true
	} else {
		m.nacked = append(m.nacked, sequence)
	}
}

// finish delivers, gives out and acks all that is left.
func (m *model) finish(t *rapid.T) {
	for range 3 * (m.last + 1) {
		for len(m.nacked) > 0 {
			m.deliverNacked(t)
		}
		m.handOver(t)
		for sequence, it := range m.inHand {
			m.d.settle(it, true)
			delete(m.inHand, sequence)
			m.acked[sequence] = true
		}
	}
	if len(m.acked) != int(m.last) {
		m.t.Fatalf("%d of %d messages are acked in the end", len(m.acked), m.last)
	}
	if len(m.d.items) != 0 || len(m.d.lines) != 0 || m.d.inHand != 0 {
		m.t.Fatalf("%d messages and %d lines are left", len(m.d.items), len(m.d.lines))
	}
}

// Whatever is delivered again and whoever nacks: within a key a message is given
// out only after all earlier ones are acked, no more are in hand than allowed,
// and in the end all are acked. rapid prints the seed of a failure.
func TestDispatcherKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			t:       t,
			ordered: rapid.Bool().Draw(t, "ordered"),
			limit:   rapid.IntRange(1, 4).Draw(t, "limit"),
			keys:    make(map[uint64]string),
			acked:   make(map[uint64]bool),
			inHand:  make(map[uint64]*item),
		}
		var orderBy func(string) string
		if m.ordered {
			orderBy = LastToken
		}
		m.d = newDispatcher(m.limit, orderBy)
		t.Repeat(map[string]func(*rapid.T){
			"deliver":        m.deliverNext,
			"deliver again":  m.deliverAgain,
			"deliver nacked": m.deliverNacked,
			"hand over":      m.handOver,
			"ack":            func(t *rapid.T) { m.settle(t, true) },
			"nack":           func(t *rapid.T) { m.settle(t, false) },
		})
		m.finish(t)
	})
}

func TestDroppedMessagesComeAgain(t *testing.T) {
	d := newDispatcher(2, LastToken)
	for i := range 4 {
		d.add(&item{sequence: uint64(i + 1), message: message.NewMessage("", nil)}, []string{"v.a", "v.b"}[i%2])
	}
	first := d.next()
	d.handOver(first)
	if dropped := d.dropHeld(); len(dropped) != 3 || dropped[0].sequence != 2 {
		t.Fatalf("dropped %v", dropped)
	}
	if d.next() != nil {
		t.Fatal("a dropped message is given out")
	}
	d.add(&item{sequence: 3, message: message.NewMessage("", nil)}, "v.a")
	if d.next() != nil {
		t.Fatal("3 is given out while 1 is in hand")
	}
	d.settle(first, true)
	if it := d.next(); it == nil || it.sequence != 3 {
		t.Fatalf("%v comes after 1", it)
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var r recent
	for sequence := range uint64(3 * recentMax) {
		r.add(sequence)
	}
	if r.has(recentMax-1) || !r.has(recentMax) || !r.has(3*recentMax-1) {
		t.Error("not the last two generations are remembered")
	}
}

package eventstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// model is a ledger that nobody could get wrong: it is told what was recorded.
type model struct {
	events   []eventstore.Message // sequence n at n-1
	subjects map[string][]uint64
}

func (m *model) last(subject string) uint64 {
	sequences := m.subjects[subject]
	if len(sequences) == 0 {
		return 0
	}
	return sequences[len(sequences)-1]
}

// firstAfter is what an append with this expectation runs into, or 0.
func (m *model) firstAfter(subject string, expected uint64) uint64 {
	for _, sequence := range m.subjects[subject] {
		if sequence > expected {
			return sequence
		}
	}
	return 0
}

// attempt is one append of a program.
type attempt struct {
	message  eventstore.Message
	expected uint64
	appended eventstore.Appended
	err      error
}

// TestProgramsOfAppends runs random programs of several writers, some of whom
// expect what is wrong or repeat what they have recorded, and compares every
// answer and all reads with the model.
func TestProgramsOfAppends(t *testing.T) {
	nc := storetest.NewServer(t).Connect(t)
	var streams atomic.Int64
	rapid.Check(t, func(r *rapid.T) {
		config := storetest.Config(fmt.Sprintf("LEDGER_%d", streams.Add(1)), 1)
		if err := eventstore.Create(t.Context(), nc, config); err != nil {
			r.Fatal(err)
		}
		var ledgers []*eventstore.Ledger
		for range 2 {
			ledger, err := eventstore.Open(t.Context(), nc, config)
			if err != nil {
				r.Fatal(err)
			}
			defer ledger.Close(t.Context())
			ledgers = append(ledgers, ledger)
		}
		m := &model{subjects: make(map[string][]uint64)}
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			attempts := m.draw(r, config.Stream)
			var wg sync.WaitGroup
			for i, a := range attempts {
				wg.Go(func() {
					a.appended, a.err = ledgers[i%len(ledgers)].Append(t.Context(), a.message, a.expected)
				})
			}
			wg.Wait()
			m.judge(r, attempts)
		}
		m.compare(r, t, ledgers[0])
	})
}

// draw chooses appends that are made at the same time.
func (m *model) draw(r *rapid.T, stream string) []*attempt {
	var attempts []*attempt
	for range rapid.IntRange(1, 30).Draw(r, "appends") {
		subject := storetest.Subject(stream, rapid.IntRange(1, 12).Draw(r, "subject"))
		a := &attempt{message: storetest.Event(subject), expected: m.last(subject)}
		switch rapid.IntRange(0, 9).Draw(r, "kind") {
		case 0: // an expectation that may be old
			a.expected = uint64(rapid.IntRange(0, len(m.events)).Draw(r, "expected"))
		case 1: // an event that may be recorded already, as its author sent it
			if sequences := m.subjects[subject]; len(sequences) > 0 {
				i := rapid.IntRange(0, len(sequences)-1).Draw(r, "repeated")
				a.message, a.expected = m.events[sequences[i]-1], 0
				if i > 0 {
					a.expected = sequences[i-1]
				}
			}
		}
		attempts = append(attempts, a)
	}
	return attempts
}

// judge checks the answers to appends that were made at the same time: those
// that were recorded are taken over in their order, and each of them and each
// refusal must be right.
func (m *model) judge(r *rapid.T, attempts []*attempt) {
	fresh := make(map[uint64]*attempt)
	for _, a := range attempts {
		if a.err == nil && a.appended.Sequence > uint64(len(m.events)) {
			fresh[a.appended.Sequence] = a
		}
	}
	for range len(fresh) {
		sequence := uint64(len(m.events)) + 1
		a := fresh[sequence]
		if a == nil {
			r.Fatalf("sequence %d was given to nobody", sequence)
		}
		if last := m.last(a.message.Subject); last != a.expected {
			r.Fatalf("sequence %d was recorded on %s with the expectation %d after %d", sequence, a.message.Subject, a.expected, last)
		}
		m.events = append(m.events, a.message)
		m.subjects[a.message.Subject] = append(m.subjects[a.message.Subject], sequence)
	}
	for _, a := range attempts {
		first := m.firstAfter(a.message.Subject, a.expected)
		if a.err == nil {
			if a.appended.Sequence != first || !bytes.Equal(m.events[first-1].Data, a.message.Data) {
				r.Fatalf("an append with the expectation %d was answered %+v; the first event after it is %d", a.expected, a.appended, first)
			}
			continue
		}
		var conflict *eventstore.ConflictError
		if !errors.As(a.err, &conflict) {
			r.Fatalf("append: %v", a.err)
		}
		if first == 0 {
			first = m.last(a.message.Subject) // the expectation was ahead of it
		}
		if conflict.Actual != first && conflict.Actual >= a.expected {
			r.Fatalf("%v: the first event after it is %d", conflict, first)
		}
	}
}

// compare reads everything back.
func (m *model) compare(r *rapid.T, t *testing.T, ledger *eventstore.Ledger) {
	next := uint64(1)
	err := eventstore.WithSubjects{Ledger: ledger}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, e := range batch {
			if e.Sequence != next || next > uint64(len(m.events)) || e.Subject != m.events[next-1].Subject || !bytes.Equal(e.Data, m.events[next-1].Data) {
				r.Fatalf("replay: %+v at %d", e, next)
			}
			next++
		}
		return nil
	})
	if err != nil || next != uint64(len(m.events))+1 {
		r.Fatalf("replay: %d events of %d: %v", next-1, len(m.events), err)
	}
	for subject, sequences := range m.subjects {
		history, err := ledger.History(t.Context(), subject, 0, eventstore.AnyReplica)
		if err != nil || len(history) != len(sequences) {
			r.Fatalf("history of %s: %d events of %d: %v", subject, len(history), len(sequences), err)
		}
		for i, e := range history {
			if e.Sequence != sequences[i] {
				r.Fatalf("history of %s: %d in place of %d", subject, e.Sequence, sequences[i])
			}
		}
	}
}

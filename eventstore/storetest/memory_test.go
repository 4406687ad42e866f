package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/eventstore"
)

const stream = "LEDGER_memory"

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T, stream string) Store {
		first := NewMemory(t, Control(stream))
		return func(testing.TB) Ledger { return first.Reopen() }
	})
}

// TestMemoryFaults: of each pair of faults, one leaves the event behind.
func TestMemoryFaults(t *testing.T) {
	for fault, want := range map[Fault]struct {
		err    error
		stored bool
	}{
		None:          {nil, true},
		Unavailable:   {eventstore.ErrUnavailable, false},
		Busy:          {eventstore.ErrBusy, false},
		LostUnknown:   {eventstore.ErrOutcomeUnknown, false},
		StoredUnknown: {eventstore.ErrOutcomeUnknown, true},
	} {
		m := NewMemory(t, Control(stream))
		m.SetFaults(Faults{Append: func(eventstore.Message, uint64) Fault { return fault }})
		event := Event(Subject(stream, 1))
		if _, err := m.Append(t.Context(), event, 0); !errors.Is(err, want.err) {
			t.Errorf("fault %d: %v, want %v", fault, err, want.err)
		}
		history, err := m.History(t.Context(), event.Subject, 0, eventstore.Leader)
		if err != nil || (len(history) == 1) != want.stored {
			t.Errorf("fault %d: the history has %d events, %v", fault, len(history), err)
		}
		m.SetFaults(Faults{})
		if a, err := m.Append(t.Context(), event, 0); err != nil || a.Sequence != 1 {
			t.Errorf("fault %d: the same append again: %+v, %v", fault, a, err)
		}
	}
}

func TestMemoryReadFaults(t *testing.T) {
	m := NewMemory(t, Control(stream))
	event := Event(Subject(stream, 1))
	if _, err := m.Append(t.Context(), event, 0); err != nil {
		t.Fatal(err)
	}
	fault := Unavailable
	m.SetFaults(Faults{Read: func(string, eventstore.Read) Fault { return fault }})
	if _, _, err := m.Last(t.Context(), event.Subject, eventstore.Leader); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("unavailable: %v", err)
	}
	fault = Stale
	for read, want := range map[eventstore.Read]bool{eventstore.AnyReplica: false, eventstore.Leader: true} {
		if _, found, err := m.Last(t.Context(), event.Subject, read); err != nil || found != want {
			t.Errorf("a stale replica, read %d: found %v, %v", read, found, err)
		}
	}
}

// complaints takes the place of a test that is expected to fail.
type complaints struct {
	testing.TB
	texts []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.texts = append(c.texts, fmt.Sprintf(format, args...))
}

func TestMemoryNoticesChangedBytes(t *testing.T) {
	c := &complaints{TB: t}
	m := NewMemory(c, Control(stream))
	event := Event(Subject(stream, 1))
	if _, err := m.Append(t.Context(), event, 0); err != nil {
		t.Fatal(err)
	}
	event.Data[0] = '!'
	if _, err := m.History(t.Context(), event.Subject, 0, eventstore.Leader); err != nil {
		t.Fatal(err)
	}
	if len(c.texts) != 1 || !strings.Contains(c.texts[0], "were changed") {
		t.Errorf("complaints: %q", c.texts)
	}
}

func TestMemoryFollow(t *testing.T) {
	m := NewMemory(t, Control(stream))
	ctx, cancel := context.WithCancel(t.Context())
	sequences, ended := make(chan uint64), make(chan error)
	go func() {
		ended <- m.Follow(ctx, 2, func(batch []eventstore.Recorded) error {
			for _, e := range batch {
				sequences <- e.Sequence
			}
			return nil
		})
	}()
	for i := range 5 {
		a, err := m.Append(t.Context(), Event(Subject(stream, i)), 0)
		if err != nil {
			t.Fatal(err)
		}
		if a.Sequence >= 2 {
			if got := <-sequences; got != a.Sequence {
				t.Errorf("sequence %d, want %d", got, a.Sequence)
			}
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("follow: %v", err)
	}
}

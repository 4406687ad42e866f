package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/eventstore"
)

// Fault is what goes wrong with one call of a Memory ledger. The faults come
// in pairs, because a caller that handles one of a pair often mishandles the
// other: what failed may have happened, and what did not fail may be old.
type Fault int

const (
	// None lets the call through.
	None Fault = iota
	// Unavailable makes an append or a read fail with ErrUnavailable; nothing
	// is stored.
	Unavailable
	// Busy makes an append fail with ErrBusy; nothing is stored.
	Busy
	// LostUnknown makes an append fail with ErrOutcomeUnknown; nothing is stored.
	LostUnknown
	// StoredUnknown makes an append fail with ErrOutcomeUnknown although the
	// event is stored.
	StoredUnknown
	// Stale makes a read with AnyReplica answer without the newest event of the
	// ledger, as a replica does that is behind. Reads from the leader are not
	// affected.
	Stale
)

// Memory is a ledger in memory, for tests of what stands on a ledger. It has
// the methods of eventstore.Ledger and passes the same suite, except that it
// forgets everything with the process.
type Memory struct {
	store *memoryStore

	mu     sync.Mutex
	closed chan struct{}
	faults Faults
}

// Faults chooses what goes wrong. A nil function means that nothing does. They
// are called without locks held, and by several goroutines at once.
type Faults struct {
	Append func(m eventstore.Message, expected uint64) Fault
	Read   func(subject string, read eventstore.Read) Fault
}

// memoryStore is what several opened ledgers share.
type memoryStore struct {
	t       testing.TB
	control string

	mu        sync.Mutex
	events    []memoryEvent       // the one with sequence n at n-1
	sequences map[string][]uint64 // by subject, ascending
	grown     chan struct{}       // closed and replaced when an event is added
}

// memoryEvent holds the very slice that the caller passed, and a copy: whoever
// changes an event's bytes later is found out.
type memoryEvent struct {
	eventstore.Recorded
	original []byte
}

// NewMemory returns an empty ledger with this control subject.
func NewMemory(t testing.TB, control string) *Memory {
	store := &memoryStore{t: t, control: control, sequences: make(map[string][]uint64), grown: make(chan struct{})}
	t.Cleanup(func() { store.between(1, 0) }) // a last look at all bytes
	return &Memory{store: store, closed: make(chan struct{})}
}

// Reopen returns another opened ledger on the same events, without faults.
func (m *Memory) Reopen() *Memory {
	return &Memory{store: m.store, closed: make(chan struct{})}
}

// SetFaults replaces the faults for the calls to come.
func (m *Memory) SetFaults(f Faults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = f
}

// Append implements the contract of eventstore.Ledger.
func (m *Memory) Append(ctx context.Context, msg eventstore.Message, expected uint64) (eventstore.Appended, error) {
	appended, err := m.append(ctx, msg, expected)
	if err != nil {
		return eventstore.Appended{}, fmt.Errorf("append to %s: %w", msg.Subject, err)
	}
	return appended, nil
}

func (m *Memory) append(ctx context.Context, msg eventstore.Message, expected uint64) (eventstore.Appended, error) {
	if err := m.usable(ctx); err != nil {
		return eventstore.Appended{}, err
	}
	if err := storable(msg); err != nil {
		return eventstore.Appended{}, err
	}
	fault := m.appendFault(msg, expected)
	switch fault {
	case Unavailable:
		return eventstore.Appended{}, eventstore.ErrUnavailable
	case Busy:
		return eventstore.Appended{}, eventstore.ErrBusy
	case LostUnknown:
		return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
	}
	appended, err := m.store.append(msg, expected)
	if fault == StoredUnknown {
		return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
	}
	return appended, err
}

func (m *Memory) appendFault(msg eventstore.Message, expected uint64) Fault {
	m.mu.Lock()
	decide := m.faults.Append
	m.mu.Unlock()
	if decide == nil {
		return None
	}
	return decide(msg, expected)
}

func (m *Memory) readFault(subject string, read eventstore.Read) Fault {
	m.mu.Lock()
	decide := m.faults.Read
	m.mu.Unlock()
	if decide == nil {
		return None
	}
	return decide(subject, read)
}

// usable reports why nothing can be asked of the ledger.
func (m *Memory) usable(ctx context.Context) error {
	select {
	case <-m.closed:
		return eventstore.ErrClosed
	default:
		return ctx.Err()
	}
}

// storable is the little that the memory ledger checks of what the real one
// does.
func storable(m eventstore.Message) error {
	switch {
	case m.Subject == "" || len(m.Subject) > eventstore.MaxSubjectBytes || strings.ContainsAny(m.Subject, " *>\t\r\n\x00"):
		return fmt.Errorf("invalid subject %q", m.Subject)
	case strings.HasPrefix(m.Subject, ".") || strings.HasSuffix(m.Subject, ".") || strings.Contains(m.Subject, ".."):
		return fmt.Errorf("invalid subject %q: it has an empty token", m.Subject)
	case len(m.Data) == 0 || len(m.Data) > eventstore.MaxEventBytes:
		return fmt.Errorf("invalid event of %d bytes on %s", len(m.Data), m.Subject)
	}
	return nil
}

func (s *memoryStore) append(msg eventstore.Message, expected uint64) (eventstore.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last, first uint64 // of the subject; first means after the expectation
	sequences := s.sequences[msg.Subject]
	if n := len(sequences); n > 0 {
		last = sequences[n-1]
	}
	if i, _ := slices.BinarySearch(sequences, expected+1); i < len(sequences) {
		first = sequences[i]
	}
	switch {
	case first > 0 && bytes.Equal(s.events[first-1].original, msg.Data):
		return eventstore.Appended{Sequence: first, Control: s.lastControl()}, nil
	case first > 0:
		return eventstore.Appended{}, &eventstore.ConflictError{Subject: msg.Subject, Expected: expected, Actual: first}
	case last != expected:
		return eventstore.Appended{}, &eventstore.ConflictError{Subject: msg.Subject, Expected: expected, Actual: last}
	}
	sequence := uint64(len(s.events)) + 1
	s.sequences[msg.Subject] = append(sequences, sequence)
	s.events = append(s.events, memoryEvent{
		eventstore.Recorded{Message: msg, Sequence: sequence, Time: time.Now().UTC()},
		bytes.Clone(msg.Data),
	})
	close(s.grown)
	s.grown = make(chan struct{})
	return eventstore.Appended{Sequence: sequence, Control: s.lastControl()}, nil
}

// lastControl is called with the mutex held.
func (s *memoryStore) lastControl() uint64 {
	sequences := s.sequences[s.control]
	if len(sequences) == 0 {
		return 0
	}
	return sequences[len(sequences)-1]
}

// between returns copies of the events from one sequence to another, 0 meaning
// the last, and a channel that is closed when an event is added.
func (s *memoryStore) between(from, to uint64) (events []eventstore.Recorded, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := uint64(len(s.events)); to == 0 || to > last {
		to = last
	}
	for sequence := from; sequence <= to; sequence++ {
		events = append(events, s.copyOf(sequence))
	}
	return events, s.grown
}

// matching returns copies of the events of a subject, which may hold
// wildcards, above one sequence and up to another.
func (s *memoryStore) matching(subject string, after, upTo uint64) (events []eventstore.Recorded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequences := s.sequences[subject]
	if strings.ContainsAny(subject, "*>") {
		for candidate, more := range s.sequences {
			if subjectMatches(subject, candidate) {
				sequences = append(sequences, more...)
			}
		}
		slices.Sort(sequences)
	}
	for _, sequence := range sequences {
		if sequence > after && sequence <= upTo {
			events = append(events, s.copyOf(sequence))
		}
	}
	return events
}

func (s *memoryStore) last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.events))
}

// copyOf returns a copy of an event, and fails the test when somebody has
// changed its bytes. It is called with the mutex held.
func (s *memoryStore) copyOf(sequence uint64) eventstore.Recorded {
	e := s.events[sequence-1]
	if !bytes.Equal(e.Data, e.original) {
		s.t.Errorf("the bytes of event %d on %s were changed after they were appended:\n was %q\n is  %q", e.Sequence, e.Subject, e.original, e.Data)
	}
	r := e.Recorded
	r.Data = bytes.Clone(e.original)
	return r
}

// History implements the contract of eventstore.Ledger.
func (m *Memory) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	events, err := m.read(ctx, subject, after, read)
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", subject, err)
	}
	return events, nil
}

// Last implements the contract of eventstore.Ledger.
func (m *Memory) Last(ctx context.Context, subject string, read eventstore.Read) (eventstore.Recorded, bool, error) {
	events, err := m.read(ctx, subject, 0, read)
	if err != nil {
		return eventstore.Recorded{}, false, fmt.Errorf("last event of %s: %w", subject, err)
	}
	if len(events) == 0 {
		return eventstore.Recorded{}, false, nil
	}
	return events[len(events)-1], true, nil
}

// Count implements the contract of eventstore.Ledger.
func (m *Memory) Count(ctx context.Context, subject string) (uint64, error) {
	events, err := m.read(ctx, subject, 0, eventstore.Leader)
	if err != nil {
		return 0, fmt.Errorf("count of %s: %w", subject, err)
	}
	return uint64(len(events)), nil
}

// Control returns the last sequence of the control subject.
func (m *Memory) Control(ctx context.Context, subject string, sequence uint64) (uint64, error) {
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.store.lastControl(), nil
}

// read returns the events of a subject that a read may see.
func (m *Memory) read(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	fault := m.readFault(subject, read)
	if fault == Unavailable {
		return nil, eventstore.ErrUnavailable
	}
	visible := m.store.last()
	if fault == Stale && read == eventstore.AnyReplica && visible > 0 {
		visible--
	}
	return m.store.matching(subject, after, visible), nil
}

// Replay implements the contract of eventstore.WithSubjects.
func (m *Memory) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	if err := m.usable(ctx); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	events, _ := m.store.between(max(from, 1), to)
	return handOver(ctx, events, fn)
}

// Follow implements the contract of eventstore.Ledger, and so tells neither
// subjects nor times.
func (m *Memory) Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error {
	for next := max(from, 1); ; {
		if err := m.usable(ctx); err != nil {
			return fmt.Errorf("follow: %w", err)
		}
		events, grown := m.store.between(next, 0)
		for i, e := range events {
			events[i] = eventstore.Recorded{Message: eventstore.Message{Data: e.Data}, Sequence: e.Sequence}
		}
		if len(events) > 0 {
			if err := handOver(ctx, events, fn); err != nil {
				return err
			}
			next += uint64(len(events))
			continue
		}
		select {
		case <-grown:
		case <-m.closed:
		case <-ctx.Done():
		}
	}
}

// handOver passes events on in batches.
func handOver(ctx context.Context, events []eventstore.Recorded, fn func([]eventstore.Recorded) error) error {
	const batchEventsMax = 4096
	for batch := range slices.Chunk(events, batchEventsMax) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(batch); err != nil {
			return err
		}
	}
	return nil
}

// Close refuses further calls. The events stay for Reopen.
func (m *Memory) Close(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	return nil
}

// subjectMatches is a second, deliberately simple reading of NATS wildcards.
func subjectMatches(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range f {
		switch {
		case token == ">":
			return len(s) > i
		case i >= len(s), token != "*" && token != s[i]:
			return false
		}
	}
	return len(f) == len(s)
}

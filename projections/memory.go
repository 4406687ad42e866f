package projections

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"sakipaldies.lv/ledger/domain"
)

// Memory is the read model of one campaign in memory: a mutex around the fold.
// It is safe for concurrent use.
type Memory struct {
	mu    sync.RWMutex
	tally domain.Tally // guarded by mu
	at    Position     // guarded by mu
}

// Position implements Model.
func (m *Memory) Position(context.Context) (Position, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.at, nil
}

// Apply implements Model.
func (m *Memory) Apply(_ context.Context, b *Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.at.Same(b.From) {
		return fmt.Errorf("%w: it is at event %d, the batch begins after event %d", ErrMoved, m.at.Sequence, b.From.Sequence)
	}
	for e := range b.Events {
		if _, err := m.tally.Apply(e.Sequence, e.Event); err != nil {
			return err // not possible: who made the batch has folded the events
		}
	}
	m.at = b.To
	return nil
}

// Read gives the tally to fn, which must not keep it.
func (m *Memory) Read(fn func(*domain.Tally)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	fn(&m.tally)
}

// MemoryModels are the read models of all campaigns in memory. The zero value
// has none. It is safe for concurrent use.
type MemoryModels struct {
	mu     sync.RWMutex
	models map[string]*Memory // guarded by mu
}

// Model implements Models.
func (s *MemoryModels) Model(_ context.Context, campaign string) (Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.models == nil {
		s.models = make(map[string]*Memory)
	}
	m, ok := s.models[campaign]
	if !ok {
		m = new(Memory)
		s.models[campaign] = m
	}
	return m, nil
}

// Get is the read model of a campaign, and false where there is none.
func (s *MemoryModels) Get(campaign string) (*Memory, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m, ok := s.models[campaign]
	return m, ok
}

// Campaigns implements Reader.
func (s *MemoryModels) Campaigns(ctx context.Context) ([]Summary, error) {
	s.mu.RLock()
	models := maps.Clone(s.models)
	s.mu.RUnlock()
	var list []Summary
	for _, campaign := range slices.Sorted(maps.Keys(models)) {
		err := models[campaign].read(func(r Results) error {
			summary, err := r.Summary(ctx)
			list = append(list, summary)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(list, func(s Summary) bool { return s.Position.Sequence == 0 }), nil
}

// Read implements Reader.
func (s *MemoryModels) Read(_ context.Context, campaign string, fn func(Results) error) error {
	m, ok := s.Get(campaign)
	if !ok {
		return fmt.Errorf("%w %s", ErrNoCampaign, campaign)
	}
	return m.read(func(r Results) error {
		if m.at.Sequence == 0 {
			return fmt.Errorf("%w %s", ErrNoCampaign, campaign)
		}
		return fn(r)
	})
}

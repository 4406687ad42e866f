package intake

import (
	"context"
	"sync/atomic"
)

// shared is work that many ask for at once and that one does for all. Who asks
// while it is under way shares the next run, and what comes of it: the work that
// is shared always began after the question.
type shared struct {
	begun atomic.Uint64 // runs begun
	turn  chan struct{} // has room for one: who works; guards the rest
	last  uint64        // number of the last run that ended
	err   error         // what came of it
}

func newShared() shared { return shared{turn: make(chan struct{}, 1)} }

// do does the work, or shares it. It does nothing when the work is not needed any
// more once its turn has come; needed may be nil.
func (s *shared) do(ctx context.Context, needed func() bool, work func(context.Context) error) error {
	asked := s.begun.Load()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case needed != nil && !needed():
		return nil
	case s.last > asked:
		return s.err
	}
	return s.run(ctx, work)
}

// try does the work if it is needed and nobody is at it already.
func (s *shared) try(ctx context.Context, needed func() bool, work func(context.Context) error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	default:
		return nil
	}
	if !needed() {
		return nil
	}
	return s.run(ctx, work)
}

// run is one run, by who has the turn.
func (s *shared) run(ctx context.Context, work func(context.Context) error) error {
	number := s.begun.Add(1)
	err := work(ctx)
	if ctx.Err() == nil { // what one caller gave up says nothing to the others
		s.last, s.err = number, err
	}
	return err
}

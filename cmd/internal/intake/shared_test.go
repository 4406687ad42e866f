package intake

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// TestShared: who asks while work is under way shares a run that begins later, and
// what comes of it; who gives up does so alone.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, fault := newShared(), errors.New("nobody answers")
		runs, finish := 0, make(chan error)
		work := func(ctx context.Context) error {
			runs++
			select {
			case err := <-finish:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var callers sync.WaitGroup
		ask := func(ctx context.Context, want error) {
			callers.Go(func() {
				if err := s.do(ctx, nil, work); !errors.Is(err, want) {
					t.Errorf("told %v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		hurried, giveUp := context.WithCancel(t.Context())
		ask(t.Context(), nil)
		ask(t.Context(), fault)
		ask(t.Context(), fault)
		ask(hurried, context.Canceled)
		if err := s.try(t.Context(), func() bool { return true }, work); err != nil || runs != 1 {
			t.Errorf("beside somebody: %v, %d runs", err, runs)
		}
		callers.Go(func() {
			if err := s.do(t.Context(), func() bool { return false }, work); err != nil {
				t.Errorf("what is not needed any more: %v", err)
			}
		})
		giveUp()
		synctest.Wait()
		finish <- nil
		finish <- fault
		callers.Wait()
		if runs != 2 {
			t.Errorf("%d runs, want 2", runs)
		}
		if err := s.try(t.Context(), func() bool { return false }, work); err != nil || runs != 2 {
			t.Errorf("what is not needed: %v, %d runs", err, runs)
		}
	})
}

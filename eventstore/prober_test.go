package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// probers is a prober whose questions the test answers, and who asks it.
type probers struct {
	*prober
	asked   chan []string
	answers chan probed
	callers sync.WaitGroup

	mu   sync.Mutex // guards what follows
	told map[string]probed
}

func newProbers() *probers {
	ps := &probers{asked: make(chan []string, 10), answers: make(chan probed), told: make(map[string]probed)}
	ps.prober = &prober{patience: time.Second, ask: func(subjects []string) (map[string]uint64, error) {
		ps.asked <- subjects
		a := <-ps.answers
		last := make(map[string]uint64)
		for _, subject := range subjects {
			if !a.absent {
				last[subject] = 1
			}
		}
		return last, a.err
	}}
	return ps
}

// come has so many ask about a subject each, and returns when they wait.
func (ps *probers) come(ctx context.Context, name string, count int) {
	for i := range count {
		ps.callers.Go(func() {
			subject := fmt.Sprintf("%s.%04d", name, i)
			absent, done, err := ps.absent(ctx, subject)
			done()
			ps.mu.Lock()
			defer ps.mu.Unlock()
			ps.told[subject] = probed{absent, err}
		})
	}
	synctest.Wait()
}

// heard is how many of a name have heard exactly that.
func (ps *probers) heard(name string, what probed) (count int) {
	synctest.Wait()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for subject, told := range ps.told {
		if subject[:len(name)] == name && told.absent == what.absent && errors.Is(told.err, what.err) {
			count++
		}
	}
	return count
}

func (ps *probers) want(t *testing.T, name string, count int, what probed) {
	t.Helper()
	if n := ps.heard(name, what); n != count {
		t.Errorf("%d of %s were told %+v, want %d", n, name, what, count)
	}
}

// TestProber is about who asks for whom.
func TestProber(t *testing.T) {
	absent, late := probed{absent: true}, fmt.Errorf("%w: nobody answers", ErrUnavailable)
	for name, test := range map[string]func(*testing.T, *probers){
		"a group is not larger than the server takes": func(t *testing.T, ps *probers) {
			_, number := ps.enter("reader")
			ps.come(t.Context(), "a", maxProbes+5)
			ps.leave(number)
			for _, want := range []int{maxProbes, 5} {
				if subjects := <-ps.asked; len(subjects) != want {
					t.Errorf("asked about %d, want %d", len(subjects), want)
				}
				ps.answers <- absent
			}
			ps.want(t, "a", maxProbes+5, absent)
		},
		"nobody waits for who is overdue, however often": func(t *testing.T, ps *probers) {
			ps.enter("reader") // and never leaves
			for _, name := range []string{"a", "b", "c"} {
				ps.come(t.Context(), name, 3)
				begun := time.Now()
				if subjects := <-ps.asked; len(subjects) != 3 || time.Since(begun) > 2*ps.patience {
					t.Errorf("asked about %d after %v", len(subjects), time.Since(begun))
				}
			}
			for range 3 {
				ps.answers <- absent
			}
			for _, name := range []string{"a", "b", "c"} {
				ps.want(t, name, 3, absent)
			}
		},
		"who leaves holds up nobody": func(t *testing.T, ps *probers) {
			_, number := ps.enter("reader")
			leaving, leave := context.WithCancel(t.Context())
			ps.come(leaving, "waits", 1)
			ps.come(t.Context(), "a", 3)
			leave()
			ps.want(t, "waits", 1, probed{})
			leaving, leave = context.WithCancel(t.Context())
			ps.come(leaving, "asked", 1)
			ps.leave(number)
			if subjects := <-ps.asked; !slices.Equal(slices.Sorted(slices.Values(subjects)), []string{"a.0000", "a.0001", "a.0002", "asked.0000"}) {
				t.Errorf("asked about %q", subjects)
			}
			leave()
			ps.want(t, "asked", 1, probed{})
			ps.answers <- absent
			ps.want(t, "a", 3, absent)
		},
		"what is not absent is read": func(t *testing.T, ps *probers) {
			_, number := ps.enter("reader")
			ps.come(t.Context(), "a", 3)
			ps.leave(number)
			ps.answers <- probed{}
			ps.want(t, "a", 3, probed{})
		},
		"what was not answered is not absent, and is not asked again one by one": func(t *testing.T, ps *probers) {
			_, number := ps.enter("reader")
			ps.come(t.Context(), "a", 3)
			ps.leave(number)
			ps.answers <- probed{absent: true, err: late}
			ps.want(t, "a", 3, probed{err: ErrUnavailable})
		},
		"what cannot be asked together is read one by one": func(t *testing.T, ps *probers) {
			_, number := ps.enter("reader")
			ps.come(t.Context(), "a", 3)
			ps.leave(number)
			ps.answers <- probed{absent: true, err: errOddHeaders}
			ps.want(t, "a", 3, probed{})
		},
		"the end": func(t *testing.T, ps *probers) {
			_, number := ps.enter("reader")
			ps.come(t.Context(), "asked", 3)
			ps.leave(number)
			ps.come(t.Context(), "waits", 3)
			var end sync.WaitGroup
			end.Go(ps.close)
			ps.want(t, "waits", 3, probed{err: ErrClosed})
			ps.answers <- probed{err: ErrClosed}
			end.Wait()
			ps.want(t, "asked", 3, probed{err: ErrClosed})
			ps.come(t.Context(), "late", 3)
			ps.want(t, "late", 3, probed{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ps := newProbers()
				test(t, ps)
				ps.callers.Wait()
				if len(ps.waiting) > 0 {
					t.Errorf("%d still wait", len(ps.waiting))
				}
			})
		})
	}
}

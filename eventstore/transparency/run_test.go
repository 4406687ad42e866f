package transparency_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

// report is one call of Config.Report.
type report struct {
	transparency.Checkpoint
	err error
	at  time.Time
}

// running is a Sealer at work.
type running struct {
	testing.TB
	reports chan report
	stop    context.CancelFunc
	ended   chan error
}

// start runs a Sealer. Every report has to be taken.
func start(t testing.TB, config transparency.Config) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{TB: t, reports: make(chan report), stop: stop, ended: make(chan error, 1)}
	config.Report = func(c transparency.Checkpoint, err error) {
		select {
		case r.reports <- report{c, err, time.Now()}:
		case <-ctx.Done():
		}
	}
	s, err := transparency.NewSealer(config)
	if err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- s.Run(ctx) }()
	return r
}

// next is the next report.
func (r *running) next() report {
	r.Helper()
	select {
	case got := <-r.reports:
		return got
	case err := <-r.ended:
		r.Fatalf("the signer has ended: %v", err)
	}
	return report{}
}

// wantSealed waits until so many entries are sealed.
func (r *running) wantSealed(size int) {
	r.Helper()
	for {
		if got := r.next(); got.err != nil {
			r.Fatal(got.err)
		} else if got.Size == uint64(size) {
			return
		}
	}
}

// wantHalt waits until the signer gives up. It must not try again.
func (r *running) wantHalt(want ...error) {
	r.Helper()
	select {
	case got := <-r.reports:
		r.Errorf("the signer has to halt with %q, and goes on after %v", want, got)
		r.end()
	case err := <-r.ended:
		r.stop()
		wantHalt(r, err, want...)
	}
}

// end stops the signer and waits for it.
func (r *running) end() {
	r.Helper()
	r.stop()
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		r.Errorf("stopped, the signer says: %v", err)
	}
}

// The time of these tests is synctest's, which costs nothing.

func TestRunSealsAsTheLedgerGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 0)
		config := l.config(l.folder())
		config.Interval = 10 * time.Second
		r := start(t, config)
		begun := time.Now()
		for i, size := range []int{0, 1, 300, 70_000} {
			l.ledger.GrowTo(size)
			r.wantSealed(size)
			if want := config.Interval * time.Duration(i+1); time.Since(begun) != want {
				t.Errorf("%d entries were sealed after %v, want %v", size, time.Since(begun), want)
			}
		}
		// Nothing new is nothing to sign.
		time.Sleep(100 * config.Interval)
		synctest.Wait()
		select {
		case got := <-r.reports:
			t.Errorf("nothing has come, and there is a checkpoint of %d entries", got.Size)
		default:
		}
		r.end()
		l.wantSound()
		if n := len(l.signer.all()); n != 4 {
			t.Errorf("%d checkpoints were signed, want 4", n)
		}
		again := start(t, l.config(l.folder()))
		l.ledger.GrowTo(70_001)
		again.wantSealed(70_001)
		again.end()
		l.wantSound()
		l.wantNoFork()
	})
}

// Faults that may pass are reported and tried again, with pauses that grow and
// that are short again after success.
func TestRunSurvivesWhatPasses(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(l *log, folder *transparency.Folder, fails func() bool)
		each time.Duration // how long one try takes until it fails
	}{
		"fence cannot be asked": {func(l *log, _ *transparency.Folder, fails func() bool) {
			l.fence.OnLoad(func() error {
				if fails() {
					return sealtest.ErrLost
				}
				return nil
			})
		}, 0},
		"fence cannot be moved": {func(l *log, _ *transparency.Folder, fails func() bool) {
			l.fence.OnMove(func(transparency.Signed) sealtest.Fault {
				if fails() {
					return sealtest.Failed
				}
				return sealtest.None
			})
		}, time.Second},
		"ledger cannot be asked": {func(l *log, _ *transparency.Folder, fails func() bool) {
			l.ledger.OnAsk(func() error {
				if fails() {
					return eventstore.ErrUnavailable
				}
				return nil
			})
		}, 0},
		"disk is full": {func(_ *log, folder *transparency.Folder, fails func() bool) {
			folder.OnStep(func(operation, _ string, run func() error) error {
				if operation == transparency.OpWrite && fails() {
					return errStep
				}
				return run()
			})
		}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog(t, 3)
				l.mustSeal(3)
				l.ledger.GrowTo(10)
				var mu sync.Mutex // guards left
				left := 9
				folder := l.folder()
				c.fail(l, folder, func() bool {
					mu.Lock()
					defer mu.Unlock()
					left--
					return left >= 0
				})
				r := start(t, l.config(folder))
				var pauses []time.Duration
				last := time.Now()
				for {
					got := r.next()
					if got.err == nil {
						if got.Size != 10 {
							t.Errorf("sealed %d entries", got.Size)
						}
						break
					}
					pauses = append(pauses, got.at.Sub(last)-c.each)
					last = got.at
				}
				// A full disk fails two writes of one try.
				var want []time.Duration
				for pause := time.Duration(0); len(want) < len(pauses); pause = max(250*time.Millisecond, min(2*pause, 15*time.Second)) {
					want = append(want, pause)
				}
				if len(pauses) < 4 || !slices.Equal(pauses, want) {
					t.Errorf("the pauses are %v, want %v", pauses, want)
				}
				r.end()
				l.wantSound()
				l.wantNoFork()
			})
		})
	}
}

func TestRunEndsWithWhatDoesNotPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 10)
		r := start(t, l.config(l.folder()))
		r.wantSealed(10)
		l.fence.Set(somewhere(11), 9) // another signer
		l.ledger.GrowTo(12)
		r.wantHalt(transparency.ErrFenced)
		r = start(t, l.config(l.folder()))
		r.wantHalt(transparency.ErrFork)
		l.fence.Set(somewhere(13), 9)
		r = start(t, l.config(l.folder()))
		r.wantHalt(transparency.ErrShorter)
		if n := len(l.signer.all()); n != 1 {
			t.Errorf("%d checkpoints were signed, want the first one only", n)
		}
	})
}

// Events that come while a seal fails are not added to what it has left half
// done.
func TestEventsAfterASealThatHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, 1000)
		folder := l.folder()
		ledger := &atOnce{Ledger: l.ledger, called: make(chan struct{}, 10)}
		failed := false
		folder.OnStep(func(operation, path string, run func() error) error {
			if operation == transparency.OpRead && path == "tile/0/001" && !failed {
				if err := run(); err != nil {
					return err // It is not written yet.
				}
				failed = true
				<-ledger.called // The first events are there.
				l.ledger.GrowTo(50_000)
				<-ledger.called
				return errStep
			}
			return run()
		})
		config := l.config(folder)
		config.Ledger = ledger
		r := start(t, config)
		if got := r.next(); !errors.Is(got.err, errStep) {
			t.Fatalf("%v", got)
		}
		for len(ledger.called) > 0 {
			<-ledger.called
		}
		r.wantSealed(50_000)
		r.end()
		l.wantSound()
	})
}

// atOnce hands over all that is there in one batch, and says so before.
type atOnce struct {
	*sealtest.Ledger
	called chan struct{}
}

func (a *atOnce) Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error {
	var batch []eventstore.Recorded
	return a.Ledger.Follow(ctx, from, func(part []eventstore.Recorded) error {
		batch = append(batch, part...)
		if len(batch) < a.Len()-int(batch[0].Sequence)+1 {
			return nil
		}
		whole := batch
		batch = nil
		a.called <- struct{}{}
		return fn(whole)
	})
}

func TestConfigIsChecked(t *testing.T) {
	l := newLog(t, 0)
	whole := l.config(l.folder())
	for name, spoil := range map[string]func(c *transparency.Config){
		"no ledger":         func(c *transparency.Config) { c.Ledger = nil },
		"no folder":         func(c *transparency.Config) { c.Folder = nil },
		"no fence":          func(c *transparency.Config) { c.Fence = nil },
		"no signer":         func(c *transparency.Config) { c.Signer = nil },
		"no keys":           func(c *transparency.Config) { c.Keys = nil },
		"another's keys":    func(c *transparency.Config) { _, c.Keys = newSigner(t) },
		"another log's key": func(c *transparency.Config) { c.Keys = mustKeys(t, string(read(t, vectorDir, "vkey"))) },
		"no interval":       func(c *transparency.Config) { c.Interval = -1 },
	} {
		config := whole
		spoil(&config)
		if _, err := transparency.NewSealer(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// liveLedger is a ledger on a real server, and the fence beside it.
func liveLedger(t *testing.T) (*eventstore.Ledger, *transparency.BucketFence) {
	t.Helper()
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config(fenceKey, 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger, err := eventstore.Open(t.Context(), nc, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ledger.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return ledger, bucketFence(t, nc, 1)
}

func appendEvents(t *testing.T, ledger *eventstore.Ledger, from, to int) {
	t.Helper()
	var appending sync.WaitGroup
	for n := from; n < to; n++ {
		appending.Go(func() {
			if _, err := ledger.Append(t.Context(), storetest.Event(storetest.Subject(fenceKey, n)), 0); err != nil {
				t.Error(err)
			}
		})
	}
	appending.Wait()
}

func TestRealLedgerIsSealedToItsEnd(t *testing.T) {
	ledger, fence := liveLedger(t)
	l := newLog(t, 0)
	config := l.config(l.folder())
	config.Ledger, config.Fence = ledger, fence
	s, err := transparency.NewSealer(config)
	if err != nil {
		t.Fatal(err)
	}
	before := 0
	for _, size := range []int{0, 1, 2, 255, 256, 257, 600} {
		appendEvents(t, ledger, before, size)
		before = size
		if c, err := s.RunToEnd(t.Context()); err != nil || c.Size != uint64(size) {
			t.Fatalf("sealed %d entries, want %d: %v", c.Size, size, err)
		}
		l.wantSound()
	}
	for sequence := range uint64(600) {
		if receipt, err := l.folder().Receipt(l.keys, sequence+1); err != nil {
			t.Fatal(err)
		} else if err := checkReceipt(receipt.Marshal(), l.keys); err != nil {
			t.Fatal(err)
		}
	}
}

// A signer follows a real ledger that others write to, and a fence that fails
// in between.
func TestRealLedgerIsFollowed(t *testing.T) {
	ledger, fence := liveLedger(t)
	l := newLog(t, 0)
	config := l.config(l.folder())
	flaky := &flakyFence{Fence: fence}
	config.Ledger, config.Fence, config.Interval = ledger, flaky, 5*time.Millisecond
	r := start(t, config)
	r.wantSealed(0)
	appendEvents(t, ledger, 0, 300)
	r.wantSealed(300)

	flaky.lose()
	appendEvents(t, ledger, 300, 301)
	if got := r.next(); !errors.Is(got.err, eventstore.ErrUnavailable) {
		t.Errorf("the fence has failed, and the report is %v", got)
	}
	r.wantSealed(301)
	appendEvents(t, ledger, 301, 1000)
	r.wantSealed(1000)
	r.end()
	l.wantSound()
}

// flakyFence loses the answer to one move.
type flakyFence struct {
	transparency.Fence
	mu   sync.Mutex // guards lost
	lost bool
}

func (f *flakyFence) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
}

func (f *flakyFence) Move(ctx context.Context, to transparency.Signed, revision uint64) (uint64, error) {
	next, err := f.Fence.Move(ctx, to, revision)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		f.lost = false
		return 0, eventstore.ErrUnavailable
	}
	return next, err
}

// lingering ends late: whoever follows a ledger hears of an error only then, and
// the clock goes on meanwhile.
type lingering struct{ transparency.Ledger }

func (l lingering) Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error {
	err := l.Ledger.Follow(ctx, from, fn)
	time.Sleep(time.Hour)
	return err
}

// Once a ledger was found to be another one, nothing is signed, however long it
// takes until the reading has ended.
func TestNothingIsSignedAfterAForkWasFound(t *testing.T) {
	for name, size := range map[string]int{"the ledger ends where it was signed": 5, "the ledger is longer": 300} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog(t, size)
				l.fence.Set(transparency.Signed{Size: 5, Root: transparency.Hash{1}}, 1)
				config := l.config(l.folder())
				config.Ledger = lingering{l.ledger}
				s, err := transparency.NewSealer(config)
				if err != nil {
					t.Fatal(err)
				}
				wantHalt(t, s.Run(t.Context()), transparency.ErrFork)
				if n := len(l.signer.all()); n > 0 {
					t.Errorf("%d checkpoints were signed", n)
				}
			})
		})
	}
}

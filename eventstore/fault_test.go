package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// faulty is a ledger whose network can be broken, and a second one on the same
// stream whose network is sound.
type faulty struct {
	*testing.T
	server *storetest.Server
	proxy  *storetest.Proxy
	config eventstore.Config
	ledger *eventstore.Ledger // through the proxy
	direct *eventstore.Ledger
}

func newFaulty(t *testing.T, change ...func(*eventstore.Config)) *faulty {
	t.Helper()
	s := storetest.NewServer(t)
	address, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{T: t, server: s, proxy: storetest.NewProxy(t, address.Host), config: storetest.Config("LEDGER_faulty", 1)}
	for _, c := range change {
		c(&f.config)
	}
	nc := s.Connect(t)
	if err := eventstore.Create(t.Context(), nc, f.config); err != nil {
		t.Fatal(err)
	}
	f.direct = open(t, nc, f.config)
	f.ledger = open(t, storetest.Connect(t, f.proxy.URL(), nats.IgnoreDiscoveredServers()), f.config)
	return f
}

func (f *faulty) subject(n int) string { return storetest.Subject(f.config.Stream, n) }

// appending is an append under way.
type appending struct {
	message  eventstore.Message
	appended eventstore.Appended
	err      error
	done     chan struct{}
}

// start appends n events at once, through the proxy.
func (f *faulty) start(ctx context.Context, n int) []*appending {
	var all []*appending
	for i := range n {
		a := &appending{message: storetest.Event(f.subject(i)), done: make(chan struct{})}
		all = append(all, a)
		go func() {
			defer close(a.done)
			a.appended, a.err = f.ledger.Append(ctx, a.message, 0)
		}()
	}
	return all
}

// stored counts the events as the sound network shows them.
func (f *faulty) stored() int {
	f.Helper()
	info, err := f.direct.Info(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return int(info.Messages)
}

// wantOnce waits for the appends and checks that each event is in the ledger
// exactly once, where its append said.
func (f *faulty) wantOnce(all []*appending) {
	f.Helper()
	want := make(map[uint64]eventstore.Message)
	for _, a := range all {
		<-a.done
		if a.err != nil {
			f.Errorf("append to %s: %v", a.message.Subject, a.err)
		}
		want[a.appended.Sequence] = a.message
	}
	wantLedger(f, f.direct, want)
}

func wantLedger(t testing.TB, ledger *eventstore.Ledger, want map[uint64]eventstore.Message) {
	t.Helper()
	count := 0
	err := eventstore.WithSubjects{Ledger: ledger}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, got := range batch {
			count++
			if m := want[got.Sequence]; m.Subject != got.Subject || !bytes.Equal(m.Data, got.Data) {
				t.Errorf("sequence %d holds %s %s, acknowledged was %s %s", got.Sequence, got.Subject, got.Data, m.Subject, m.Data)
			}
		}
		return nil
	})
	if err != nil || count != len(want) {
		t.Errorf("the ledger holds %d events, want %d: %v", count, len(want), err)
	}
}

// TestAnswersAreLost: the server recorded everything, the acknowledgements do
// not arrive, and the connection breaks.
func TestAnswersAreLost(t *testing.T) {
	for name, n := range map[string]int{"single": 1, "singles": 5, "batch": 200} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			f.proxy.DropAnswers()
			all := f.start(t.Context(), n)
			storetest.Eventually(t, "the server has recorded something", func() bool { return f.stored() > 0 })
			f.proxy.Cut()
			f.wantOnce(all)
		})
	}
}

// TestRequestsAreLost: nothing reaches the server, and the connection breaks.
func TestRequestsAreLost(t *testing.T) {
	for name, n := range map[string]int{"single": 1, "batch": 200} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			f.proxy.DropRequests()
			all := f.start(t.Context(), n)
			if stored := f.stored(); stored > 0 {
				t.Fatalf("%d events were stored through a network that loses all", stored)
			}
			f.proxy.Cut()
			f.wantOnce(all)
		})
	}
}

// TestAnotherEventCameFirst: while an append waits for an answer that is lost,
// somebody else records an event on its subject.
func TestAnotherEventCameFirst(t *testing.T) {
	f := newFaulty(t)
	f.proxy.DropRequests()
	all := f.start(t.Context(), 1)
	other, err := f.direct.Append(t.Context(), storetest.Event(f.subject(0)), 0)
	if err != nil {
		t.Fatal(err)
	}
	f.proxy.Cut()
	<-all[0].done
	var conflict *eventstore.ConflictError
	if !errors.As(all[0].err, &conflict) || conflict.Actual != other.Sequence {
		t.Errorf("got %v, want a conflict with sequence %d", all[0].err, other.Sequence)
	}
}

// TestTheCallerLeaves: what a caller hears that gives up depends on whether
// its event may have been recorded.
func TestTheCallerLeaves(t *testing.T) {
	t.Run("after the server recorded it", func(t *testing.T) {
		f := newFaulty(t)
		f.proxy.DropAnswers()
		ctx, cancel := context.WithCancel(t.Context())
		all := f.start(ctx, 1)
		storetest.Eventually(t, "the server has recorded it", func() bool { return f.stored() > 0 })
		cancel()
		<-all[0].done
		if err := all[0].err; !errors.Is(err, eventstore.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want an unknown outcome", err)
		}
		f.proxy.Cut()
		// The same append again, from elsewhere, finds the event.
		again, err := f.direct.Append(t.Context(), all[0].message, 0)
		if err != nil || again.Sequence != 1 {
			t.Errorf("the same append again: %+v, %v", again, err)
		}
		wantLedger(t, f.direct, map[uint64]eventstore.Message{1: all[0].message})
	})
	t.Run("while no server was there", func(t *testing.T) {
		f := newFaulty(t)
		f.server.Stop()
		storetest.Eventually(t, "the ledger notices", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, _, err := f.ledger.Last(ctx, f.subject(0), eventstore.Leader)
			return errors.Is(err, nats.ErrReconnectBufExceeded)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		all := f.start(ctx, 20)
		for _, a := range all {
			<-a.done
			unsent := errors.Is(a.err, eventstore.ErrUnavailable) || errors.Is(a.err, context.DeadlineExceeded)
			if !unsent || errors.Is(a.err, eventstore.ErrOutcomeUnknown) {
				t.Errorf("got %v, want that nothing was recorded", a.err)
			}
		}
		f.server.Start(t)
		storetest.Eventually(t, "the sound ledger is back", func() bool { return f.stored() == 0 })
	})
}

// TestTheServerRestarts while many append: each event is there once.
func TestTheServerRestarts(t *testing.T) {
	f := newFaulty(t)
	all := f.start(t.Context(), 500)
	<-all[0].done
	f.server.Stop()
	f.server.Start(t)
	f.wantOnce(all)
}

// TestTheNetworkKeepsBreaking: many callers, a network that breaks at random
// moments in random ways, and callers that repeat what they are unsure of.
func TestTheNetworkKeepsBreaking(t *testing.T) {
	const callers, breaks = 40, 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFaulty(t)
	sound := make(chan struct{}) // closed when the network breaks no more
	go func() {
		defer close(sound)
		for range breaks {
			breakNetwork(t.Context(), f.proxy, random)
		}
	}()
	recorded := make(map[uint64]eventstore.Message)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for last := uint64(0); ; {
				m := storetest.Event(f.subject(c))
				a, err := appendUntilKnown(t.Context(), f.ledger, m, last)
				if err != nil {
					t.Errorf("caller %d: %v", c, err)
					return
				}
				last = a.Sequence
				mu.Lock()
				recorded[last] = m
				mu.Unlock()
				select {
				case <-sound:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	<-sound
	wantLedger(t, f.direct, recorded)
}

// breakNetwork waits a moment, loses a direction or none, and cuts.
func breakNetwork(ctx context.Context, proxy *storetest.Proxy, random *rand.Rand) {
	wait := func(max time.Duration) {
		select {
		case <-time.After(time.Duration(random.Int64N(int64(max)))):
		case <-ctx.Done():
		}
	}
	wait(60 * time.Millisecond)
	switch random.IntN(3) {
	case 0:
		proxy.DropRequests()
	case 1:
		proxy.DropAnswers()
	}
	wait(10 * time.Millisecond)
	proxy.Cut()
}

// appendUntilKnown does what a caller must: the same bytes again until the
// outcome is known.
func appendUntilKnown(ctx context.Context, ledger storetest.Ledger, m eventstore.Message, expected uint64) (eventstore.Appended, error) {
	for {
		a, err := ledger.Append(ctx, m, expected)
		if errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, eventstore.ErrUnavailable) {
			continue
		}
		return a, err
	}
}

// TestTheQueueIsFull: what does not fit is refused at once, and a caller that
// leaves takes its event out of the queue; neither is recorded.
func TestTheQueueIsFull(t *testing.T) {
	const room, callers = 3, 20
	f := newFaulty(t, func(c *eventstore.Config) { c.MaxPending = room })
	f.proxy.DropAnswers()
	first := f.start(t.Context(), 1) // is sent, and then nothing else goes
	storetest.Eventually(t, "the first event is on its way", func() bool { return f.stored() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error, callers)
	for _, a := range f.start(ctx, callers) {
		go func() {
			<-a.done
			refused <- a.err
		}()
	}
	for range callers - room {
		if err := <-refused; !errors.Is(err, eventstore.ErrBusy) {
			t.Errorf("an append beside a full queue: %v", err)
		}
	}
	cancel()
	for range room {
		if err := <-refused; !errors.Is(err, context.Canceled) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
			t.Errorf("an append that was withdrawn: %v", err)
		}
	}
	f.proxy.Cut()
	f.wantOnce(first)
}

// TestTheStorageIsFull: appends fail soon, with the server's reason, and what
// was recorded before stays.
func TestTheStorageIsFull(t *testing.T) {
	nc := storetest.NewServer(t, func(o *server.Options) { o.JetStreamMaxStore = 200 << 10 }).Connect(t)
	config := storetest.Config("LEDGER_full", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	recorded := make(map[uint64]eventstore.Message)
	var mu sync.Mutex
	var refused int
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			m := storetest.Event(storetest.Subject(config.Stream, i))
			a, err := ledger.Append(t.Context(), m, 0)
			mu.Lock()
			defer mu.Unlock()
			var api *jetstream.APIError
			switch {
			case err == nil:
				recorded[a.Sequence] = m
			case errors.Is(err, eventstore.ErrOutcomeUnknown) && errors.As(err, &api):
				refused++
			default:
				t.Errorf("append: %v", err)
			}
		})
	}
	wg.Wait()
	if len(recorded) == 0 || refused == 0 {
		t.Errorf("%d events were recorded and %d refused: the test shows nothing", len(recorded), refused)
	}
	wantLedger(t, ledger, recorded)
}

// TestCloseIsCutShort: with a network that answers nothing, Close ends with its
// context and tells each caller what is known.
func TestCloseIsCutShort(t *testing.T) {
	f := newFaulty(t)
	f.proxy.DropAnswers()
	sent := f.start(t.Context(), 1)
	storetest.Eventually(t, "the server has recorded it", func() bool { return f.stored() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.ledger.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	<-sent[0].done
	if !errors.Is(sent[0].err, eventstore.ErrOutcomeUnknown) {
		t.Errorf("the append under way: %v", sent[0].err)
	}
}

// TestTheConnectionIsClosed: reads of a ledger whose owner has closed the
// connection for good say that it cannot be reached, and do not wait.
func TestTheConnectionIsClosed(t *testing.T) {
	s, config := storetest.NewServer(t), storetest.Config("LEDGER_closed", 1)
	nc := s.Connect(t)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger, subject := open(t, nc, config), storetest.Subject(config.Stream, 1)
	nc.Close()
	for _, read := range []eventstore.Read{eventstore.Leader, eventstore.AnyReplica} {
		if _, err := ledger.History(t.Context(), subject, 0, read); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("history: %v", err)
		}
		if _, _, err := ledger.Last(t.Context(), subject, read); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("last: %v", err)
		}
	}
	if _, err := ledger.Count(t.Context(), eventstore.AllSubjects); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("count: %v", err)
	}
}

// TestFollowSurvivesTheNetwork: a follower sees every event once and in order
// while the network breaks.
func TestFollowSurvivesTheNetwork(t *testing.T) {
	const total, breaks = 2000, 15
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFaulty(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range breaks {
			breakNetwork(ctx, f.proxy, random)
		}
	})
	wg.Go(func() {
		for i := range total {
			if _, err := f.direct.Append(t.Context(), storetest.Event(f.subject(i)), 0); err != nil {
				t.Errorf("append: %v", err)
				return
			}
		}
	})
	next := uint64(1)
	seenAll := errors.New("all seen")
	err := f.ledger.Follow(ctx, 1, func(batch []eventstore.Recorded) error {
		for _, e := range batch {
			if e.Sequence != next {
				t.Errorf("sequence %d, want %d", e.Sequence, next)
			}
			next = e.Sequence + 1
		}
		if next > total {
			return seenAll
		}
		return nil
	})
	if !errors.Is(err, seenAll) {
		t.Errorf("follow: %v", err)
	}
	cancel()
	wg.Wait()
}

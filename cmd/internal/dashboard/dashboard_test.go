package dashboard_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const campaign = "laba-servisa-kustiba-2018"

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ledgers opens the ledger of a history. Before, if there is one, is called
// when a ledger is opened.
type ledgers struct {
	history *projectiontest.History
	opened  atomic.Int64
	closed  atomic.Int64
	before  func(ctx context.Context) error
}

func (l *ledgers) OpenLedger(ctx context.Context, id string) (dashboard.Ledger, error) {
	if id != campaign {
		return nil, eventstore.ErrNotFound
	}
	l.opened.Add(1)
	if l.before != nil {
		if err := l.before(ctx); err != nil {
			return nil, err
		}
	}
	return closing{l.history.Ledger.Reopen(), l}, nil
}

// closing counts how many are closed.
type closing struct {
	dashboard.Ledger
	ledgers *ledgers
}

func (c closing) Close(ctx context.Context) error {
	c.ledgers.closed.Add(1)
	return c.Ledger.Close(ctx)
}

// newCounts are counts of a history as of now.
func newCounts(t testing.TB, h *projectiontest.History) (*dashboard.Counts, *ledgers) {
	t.Helper()
	var campaigns projectiontest.Campaigns
	campaigns.Add(campaign, h.Ledger.Reopen())
	models := new(projections.MemoryModels)
	check(t, projectiontest.Runner(t, &campaigns, models).RunToEnd(context.Background()))
	l := &ledgers{history: h}
	return dashboard.NewCounts(models, l, projectiontest.Codec(t)), l
}

// asOf reads as of one event, for the Chancellery.
type asOf struct {
	projections.Reader
	counts   *dashboard.Counts
	sequence uint64
}

func (r asOf) Read(ctx context.Context, campaign string, fn func(projections.Results) error) error {
	return r.counts.Read(ctx, campaign, domain.RoleChancellery, dashboard.AsOf{Sequence: r.sequence},
		func(r dashboard.Results) error { return fn(r.Results) })
}

// read reads nothing, as of an event.
func read(ctx context.Context, c *dashboard.Counts, sequence uint64) error {
	return asOf{counts: c, sequence: sequence}.Read(ctx, campaign, func(projections.Results) error { return nil })
}

// TestAnyMoment: results as of any event are those that were there then,
// whatever came afterwards.
func TestAnyMoment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := projectiontest.NewHistory(t, campaign)
		then := map[uint64]string{h.Last(): projectiontest.DescribeTally(rt, &h.Tally)}
		for range rapid.IntRange(0, 40).Draw(rt, "actions") {
			h.Act(projectiontest.Draw(rt))
			then[h.Last()] = projectiontest.DescribeTally(rt, &h.Tally)
		}
		counts, l := newCounts(t, h)
		defer counts.Close()
		for range 2 { // what is kept is as good
			for sequence, want := range then {
				got, err := projectiontest.Describe(context.Background(), asOf{counts: counts, sequence: sequence}, campaign)
				check(t, err)
				if got != want {
					rt.Fatalf("as of event %d:\n%s\nit was:\n%s", sequence, got, want)
				}
			}
		}
		if opened, closed := l.opened.Load(), l.closed.Load(); opened != closed {
			rt.Fatalf("%d ledgers were opened, %d closed", opened, closed)
		}
	})
}

// TestCountedOnce: many who ask for the same moment at once let it be counted
// once.
func TestCountedOnce(t *testing.T) {
	counts, l := newCounts(t, projectiontest.NewHistory(t, campaign))
	defer counts.Close()
	const askers = 32
	leave := make(chan struct{})
	l.before = func(context.Context) error { <-leave; return nil }
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			if err := read(t.Context(), counts, 2); err != nil {
				t.Error(err)
			}
		})
	}
	close(leave)
	all.Wait()
	if n := l.opened.Load(); n != 1 {
		t.Errorf("it was counted %d times", n)
	}
}

// TestGoneAsker: the counting goes on without who asked for it, and the next one
// has it; beyond two counts nothing is begun.
func TestGoneAsker(t *testing.T) {
	counts, l := newCounts(t, projectiontest.NewHistory(t, campaign))
	defer counts.Close()
	entered, leave := make(chan struct{}), make(chan struct{})
	l.before = func(context.Context) error { entered <- struct{}{}; <-leave; return nil }
	for _, sequence := range []uint64{1, 2} {
		ctx, stop := context.WithCancel(t.Context())
		asked := make(chan error)
		go func() { asked <- read(ctx, counts, sequence) }()
		<-entered
		stop()
		if err := <-asked; !errors.Is(err, dashboard.ErrCounting) || !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone is told %v", err)
		}
	}
	if err := read(t.Context(), counts, 3); !errors.Is(err, dashboard.ErrCounting) {
		t.Errorf("a third count: %v", err)
	}
	close(leave)
	for _, sequence := range []uint64{1, 2} {
		check(t, read(t.Context(), counts, sequence))
	}
	if n := l.opened.Load(); n != 2 {
		t.Errorf("ledgers were opened %d times", n)
	}
}

// TestFailedCount: a count that failed is tried again.
func TestFailedCount(t *testing.T) {
	counts, l := newCounts(t, projectiontest.NewHistory(t, campaign))
	defer counts.Close()
	l.before = func(context.Context) error { return eventstore.ErrUnavailable }
	if err := read(t.Context(), counts, 2); !errors.Is(err, dashboard.ErrUnavailable) || !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("without a ledger: %v", err)
	}
	l.before = nil
	check(t, read(t.Context(), counts, 2))
}

// TestForgotten: what was not asked for for long is counted again.
func TestForgotten(t *testing.T) {
	h := projectiontest.NewHistory(t, campaign)
	for i := range dashboard.MaxKept {
		h.Record(domain.CampaignAmended{Title: fmt.Sprintf("%d. redakcija", i)})
	}
	counts, l := newCounts(t, h)
	defer counts.Close()
	for sequence := range uint64(dashboard.MaxKept) {
		check(t, read(t.Context(), counts, sequence+1))
		check(t, read(t.Context(), counts, 1)) // is kept all the time
	}
	check(t, read(t.Context(), counts, dashboard.MaxKept+1))
	before := l.opened.Load()
	check(t, read(t.Context(), counts, 1))
	if n := l.opened.Load() - before; n != 0 {
		t.Errorf("event 1 was counted again")
	}
	check(t, read(t.Context(), counts, 2))
	if n := l.opened.Load() - before; n != 1 {
		t.Errorf("event 2 was kept, beyond %d", dashboard.MaxKept)
	}
}

// published is a history whose results as of an event are certified, by a digest,
// and published.
func published(t *testing.T, digest string) (h *projectiontest.History, sequence uint64) {
	h = projectiontest.NewHistory(t, campaign)
	h.Record(domain.CampaignClosed{})
	sequence = h.Last()
	h.Record(domain.ResultsCertified{Sequence: sequence, TallyDigest: cmp.Or(digest, h.Tally.Digest())})
	h.Record(domain.ResultsPublished{Certified: h.Last()})
	for i := range dashboard.MaxKept + 1 {
		h.Record(domain.SpecialistRegistered{Specialist: fmt.Sprintf("velak-%d", i)})
	}
	return h, sequence
}

// public reads what anybody may see.
func public(ctx context.Context, c *dashboard.Counts) (sequence uint64, err error) {
	err = c.Read(ctx, campaign, "", dashboard.AsOf{}, func(r dashboard.Results) error {
		s, err := r.Summary(ctx)
		sequence = s.Position.Sequence
		return err
	})
	return sequence, err
}

// TestPublicFirst: the published results are there however much else is asked
// for, and stay.
func TestPublicFirst(t *testing.T) {
	h, want := published(t, "")
	counts, l := newCounts(t, h)
	defer counts.Close()
	entered, leave := make(chan struct{}), make(chan struct{})
	l.before = func(context.Context) error { entered <- struct{}{}; <-leave; return nil }
	var others sync.WaitGroup
	for _, sequence := range []uint64{1, 2} {
		others.Go(func() {
			if err := read(t.Context(), counts, sequence); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	l.before = nil
	if got, err := public(t.Context(), counts); err != nil || got != want {
		t.Errorf("while others are counted it is %d, %v", got, err)
	}
	close(leave)
	others.Wait()
	for i := range uint64(dashboard.MaxKept) {
		check(t, read(t.Context(), counts, want+2+i))
	}
	before := l.opened.Load()
	if got, err := public(t.Context(), counts); err != nil || got != want || l.opened.Load() != before {
		t.Errorf("after others were counted it is %d, %v, and counted again %d times", got, err, l.opened.Load()-before)
	}
}

// TestOtherResults: nothing is told of a ledger of which the read model is not,
// and no public results that are not those that were certified.
func TestOtherResults(t *testing.T) {
	h, _ := published(t, "sha256:00")
	counts, _ := newCounts(t, h)
	defer counts.Close()
	if got, err := public(t.Context(), counts); !errors.Is(err, dashboard.ErrUnavailable) || !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("with another digest: %d, %v", got, err)
	}
	h, _ = published(t, "")
	counts, l := newCounts(t, h)
	defer counts.Close()
	l.history = projectiontest.NewHistory(t, "cita-kampana")
	if err := read(t.Context(), counts, 2); !errors.Is(err, dashboard.ErrUnavailable) || !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("of another ledger: %v", err)
	}
}

// TestClose ends what is being counted, and nothing is counted afterwards.
func TestClose(t *testing.T) {
	counts, l := newCounts(t, projectiontest.NewHistory(t, campaign))
	entered := make(chan struct{})
	l.before = func(ctx context.Context) error { close(entered); <-ctx.Done(); return ctx.Err() }
	asked := make(chan error)
	go func() { asked <- read(t.Context(), counts, 2) }()
	<-entered
	counts.Close()
	if err := <-asked; !errors.Is(err, dashboard.ErrUnavailable) {
		t.Errorf("who waits is told %v", err)
	}
	if err := read(t.Context(), counts, 2); !errors.Is(err, dashboard.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
	if n := l.opened.Load(); n != 1 {
		t.Errorf("ledgers were opened %d times", n)
	}
}

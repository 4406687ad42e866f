// Package projectiontest is the suite that every read model passes, and
// histories of campaigns to fill read models with.
package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
)

// Store is what the suite is about: read models of all campaigns, and how
// they are read.
type Store interface {
	projections.Models
	projections.Reader
}

// Run runs the suite. open gives an empty store that lasts as long as the
// test.
func Run(t *testing.T, open func(t testing.TB) Store) {
	for name, test := range map[string]func(*testing.T, Store){
		"Empty":         testEmpty,
		"AnySplit":      testAnySplit,
		"Archived":      testArchived,
		"Refusals":      testRefusals,
		"WholeBatches":  testWholeBatches,
		"Restarts":      testRestarts,
		"Racing":        testRacing,
		"SideBySide":    testSideBySide,
		"FromTheFuture": testFromTheFuture,
		"OtherLedger":   testOtherLedger,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Discard is a logger for those who must have one.
var Discard = slog.New(slog.DiscardHandler)

// Runner is a Runner between campaigns and a store.
func Runner(t testing.TB, campaigns projections.Campaigns, models projections.Models, upcasters ...domain.Upcaster) *projections.Runner {
	t.Helper()
	return projections.NewRunner(projections.Config{Campaigns: campaigns, Models: models, Codec: Codec(t, upcasters...), Log: Discard})
}

// Start lets a Runner run until stop is called, which the end of the test does
// too.
func Start(t testing.TB, r *projections.Runner) (changed chan<- struct{}, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	signal, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.Run(ctx, signal) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the runner ends with %v", err)
		}
	})
	t.Cleanup(stop)
	return signal, stop
}

// campaignIDs are new ones, so that rapid's tries need no new store each.
func campaignIDs() func() string {
	n := 0
	return func() string {
		n++
		return fmt.Sprintf("laba-servisa-kustiba-%d", n)
	}
}

func modelOf(t rapid.TB, store Store, campaign string) projections.Model {
	t.Helper()
	m, err := store.Model(context.Background(), campaign)
	check(t, err)
	return m
}

// fold adds the events from one sequence to another.
func fold(t rapid.TB, f *projections.Fold, h *History, from, to uint64) *projections.Batch {
	t.Helper()
	for _, rec := range h.Events()[from-1 : to] {
		e, err := h.codec.Decode(rec.Data)
		check(t, err)
		check(t, f.Add(projections.Event{Sequence: rec.Sequence, Event: e}, rec.Data))
	}
	return f.Take()
}

// testEmpty: what is not there is said.
func testEmpty(t *testing.T, store Store) {
	ctx := t.Context()
	at, err := modelOf(t, store, "nav-tadas").Position(ctx)
	if err != nil || at != (projections.Position{}) {
		t.Errorf("the position of an empty read model is %+v, %v", at, err)
	}
	if list, err := store.Campaigns(ctx); err != nil || len(list) != 0 {
		t.Errorf("campaigns are %+v, %v", list, err)
	}
	err = store.Read(ctx, "nav-tadas", func(projections.Results) error {
		t.Error("an empty read model is read")
		return nil
	})
	if !errors.Is(err, projections.ErrNoCampaign) {
		t.Errorf("reading an empty read model: %v", err)
	}
	h := NewHistory(t, "laba-servisa-kustiba-2018")
	check(t, modelOf(t, store, h.Campaign).Apply(ctx, fold(t, projections.NewFold(h.Campaign), h, 1, h.Last())))
	Expect(t, store, h.Campaign, &h.Tally)
	own := errors.New("pietiek")
	if err := store.Read(ctx, h.Campaign, func(projections.Results) error { return own }); !errors.Is(err, own) {
		t.Errorf("an error of the reader comes back as %v", err)
	}
	err = store.Read(ctx, h.Campaign, func(r projections.Results) error {
		_, err := r.Groups(ctx, "laiks")
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "laiks") {
		t.Errorf("groups by something unknown: %v", err)
	}
}

// testAnySplit: the batches into which events are split change nothing.
func testAnySplit(t *testing.T, store Store) {
	next := campaignIDs()
	rapid.Check(t, func(rt *rapid.T) {
		h := NewHistory(t, next())
		for range rapid.IntRange(0, 120).Draw(rt, "actions") {
			h.Act(Draw(rt))
		}
		m, f := modelOf(rt, store, h.Campaign), projections.NewFold(h.Campaign)
		for done := uint64(0); done < h.Last(); {
			n := rapid.Uint64Range(1, h.Last()-done).Draw(rt, "batch")
			check(rt, m.Apply(t.Context(), fold(rt, f, h, done+1, done+n)))
			done += n
		}
		Expect(rt, store, h.Campaign, &h.Tally)
		at, err := m.Position(t.Context())
		check(rt, err)
		events := h.Events()
		if want := (projections.Position{Stream: domain.StreamName(h.Campaign), Sequence: h.Last(), RecordedAt: h.Tally.AsOf(),
			Identity: projections.HashOf(events[0].Data), Hash: projections.HashOf(events[h.Last()-1].Data)}); at != want {
			rt.Fatalf("the position is %+v, want %+v", at, want)
		}
	})
}

// testArchived: events about specialists that lie above the archiving change
// nothing, however the fold comes to know of the specialists.
func testArchived(t *testing.T, store Store) {
	h := NewHistory(t, "laba-servisa-kustiba-2018")
	for random := rand.New(rand.NewPCG(1, 2)); h.Last() < 20; {
		h.Vote(random.IntN)
	}
	h.Record(domain.CampaignClosed{})
	h.Record(domain.ResultsCertified{Sequence: h.Last(), TallyDigest: "nav svarīgi"})
	h.Record(domain.ResultsPublished{Certified: h.Last()})
	h.Record(domain.CampaignArchived{})
	archived := h.Last()
	h.Record(domain.SpecialistRegistered{Specialist: "vela-vita", Profile: profiles[0]})
	h.Record(domain.SpecialistUpdated{Specialist: "vela-vita", Profile: profiles[1]})
	h.Record(domain.SpecialistUpdated{Specialist: "s0", Profile: profiles[len(profiles)-1]})
	h.Record(domain.SpecialistWithdrawn{Specialist: "s1", Reason: "Vairs nestrādā."})
	h.Record(domain.SpecialistMerged{Specialist: "s1", Into: "s2", Decision: "VK lēmums Nr. 3/2018"})
	m, f := modelOf(t, store, h.Campaign), projections.NewFold(h.Campaign)
	check(t, m.Apply(t.Context(), fold(t, f, h, 1, archived+2)))
	check(t, m.Apply(t.Context(), fold(t, f, h, archived+3, h.Last())))
	Expect(t, store, h.Campaign, &h.Tally)
}

// testRefusals: a batch is taken at its place only, and once.
func testRefusals(t *testing.T, store Store) {
	ctx := t.Context()
	h, other := NewHistory(t, "laba-servisa-kustiba-2018"), NewHistory(t, "laba-servisa-kustiba-2018")
	random := rand.New(rand.NewPCG(1, 2))
	for h.Last() < 40 || other.Last() < 40 {
		h.Vote(random.IntN)
		other.Vote(random.IntN)
	}
	m, f := modelOf(t, store, h.Campaign), projections.NewFold(h.Campaign)
	refuse := func(what string, b *projections.Batch) {
		t.Helper()
		before, _ := Describe(ctx, store, h.Campaign)
		if err := m.Apply(ctx, b); !errors.Is(err, projections.ErrMoved) {
			t.Errorf("%s: %v", what, err)
		}
		if after, _ := Describe(ctx, store, h.Campaign); after != before {
			t.Errorf("%s has changed\n%s", what, difference(before, after))
		}
	}
	first, second, third := fold(t, f, h, 1, 10), fold(t, f, h, 11, 20), fold(t, f, h, 21, 30)
	refuse("a second batch before the first", second)
	check(t, m.Apply(ctx, first))
	refuse("the first batch again", first)
	refuse("a third batch before the second", third)
	g := projections.NewFold(h.Campaign)
	fold(t, g, other, 1, 10)
	refuse("a batch of another history", fold(t, g, other, 11, 20))
	check(t, m.Apply(ctx, second))
	refuse("the second batch again", second)
	refuse("the first batch late", first)
	check(t, m.Apply(ctx, third))
	check(t, m.Apply(ctx, fold(t, f, h, 31, h.Last())))
	Expect(t, store, h.Campaign, &h.Tally)
}

// testWholeBatches reads all the time while batches are stored. What is read
// must be the fold up to the end of a batch.
func testWholeBatches(t *testing.T, store Store) {
	ctx, stop := context.WithCancel(t.Context())
	h := NewHistory(t, "laba-servisa-kustiba-2018")
	m, f := modelOf(t, store, h.Campaign), projections.NewFold(h.Campaign)
	var mu sync.Mutex
	whole := make(map[string]bool) // guarded by mu
	reads := 0                     // guarded by mu
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				text, err := Describe(ctx, store, h.Campaign)
				if errors.Is(err, projections.ErrNoCampaign) || ctx.Err() != nil {
					continue
				}
				check(t, err)
				mu.Lock()
				if reads++; !whole[text] {
					t.Errorf("this is not the end of a batch:\n%s", text)
				}
				mu.Unlock()
			}
		})
	}
	random := rand.New(rand.NewPCG(3, 4))
	for done := uint64(0); done < 600; {
		for range 1 + random.IntN(20) {
			h.Act(random.IntN)
		}
		mu.Lock()
		whole[DescribeTally(t, &h.Tally)] = true
		mu.Unlock()
		if h.Last() > done {
			check(t, m.Apply(ctx, fold(t, f, h, done+1, h.Last())))
		}
		done = h.Last()
	}
	stop()
	readers.Wait()
	if reads == 0 {
		t.Error("nothing was read")
	}
	Expect(t, store, h.Campaign, &h.Tally)
}

// testRestarts ends and starts a Runner anywhere, between any two events.
func testRestarts(t *testing.T, store Store) {
	next := campaignIDs()
	rapid.Check(t, func(rt *rapid.T) {
		h, campaigns := NewHistory(t, next()), new(Campaigns)
		campaigns.Add(h.Campaign, h.Ledger)
		for range rapid.IntRange(0, 8).Draw(rt, "runs") {
			for range rapid.IntRange(0, 20).Draw(rt, "actions") {
				h.Act(Draw(rt))
			}
			at, err := modelOf(rt, store, h.Campaign).Position(t.Context())
			check(rt, err)
			end := rapid.Uint64Range(max(at.Sequence, 1), h.Last()).Draw(rt, "end")
			campaigns.Set(h.Campaign, func(c *Campaign) { c.End = end })
			check(rt, Runner(t, campaigns, store).RunToEnd(t.Context()))
			at, err = modelOf(rt, store, h.Campaign).Position(t.Context())
			check(rt, err)
			if at.Sequence != end {
				rt.Fatalf("it stops at event %d instead of %d", at.Sequence, end)
			}
		}
		campaigns.Set(h.Campaign, func(c *Campaign) { c.End = 0 })
		check(rt, Runner(t, campaigns, store).RunToEnd(t.Context()))
		Expect(rt, store, h.Campaign, &h.Tally)
	})
}

// testRacing lets three Runners that know nothing of each other work on the
// same read model while the ledger grows.
func testRacing(t *testing.T, store Store) {
	const runs, runners, actions = 5, 3, 150
	next := campaignIDs()
	for run := range runs {
		seed := rand.Uint64()
		t.Logf("run %d: seed %d", run, seed)
		random := rand.New(rand.NewPCG(seed, 0))
		h, campaigns := NewHistory(t, next()), new(Campaigns)
		campaigns.Add(h.Campaign, h.Ledger)
		var stops []func()
		for range runners {
			_, stop := Start(t, Runner(t, campaigns, store))
			stops = append(stops, stop)
		}
		for range actions {
			h.Act(random.IntN)
		}
		Await(t, store, h)
		for _, stop := range stops {
			stop()
		}
		Expect(t, store, h.Campaign, &h.Tally)
	}
}

// Await waits until a read model has all events of a history.
func Await(t testing.TB, store Store, h *History) {
	t.Helper()
	m := modelOf(t, store, h.Campaign)
	storetest.Eventually(t, "the read model of "+h.Campaign+" has all events", func() bool {
		at, err := m.Position(context.Background())
		return err == nil && at.Sequence == h.Last()
	})
}

// testSideBySide has many campaigns with the same specialists in one store,
// some of them opened while a Runner runs.
func testSideBySide(t *testing.T, store Store) {
	const count, actions = 6, 100
	campaigns, random := new(Campaigns), rand.New(rand.NewPCG(5, 6))
	changed, stop := Start(t, Runner(t, campaigns, store))
	var all []*History
	for i := range count {
		h := NewHistory(t, fmt.Sprintf("laba-servisa-kustiba-%d", 2013+i))
		campaigns.Add(h.Campaign, h.Ledger)
		changed <- struct{}{}
		all = append(all, h)
	}
	for range actions {
		for _, h := range all {
			h.Act(random.IntN)
		}
	}
	for _, h := range all {
		Await(t, store, h)
	}
	stop()
	for _, h := range all {
		Expect(t, store, h.Campaign, &h.Tally)
	}
	list, err := store.Campaigns(t.Context())
	check(t, err)
	for i, s := range list {
		if h := all[i]; s.Campaign.ID != h.Campaign || s.Votes != h.Tally.Votes() || s.Position.Sequence != h.Last() {
			t.Errorf("campaign %d is %+v", i, s)
		}
	}
}

// testFromTheFuture: an event whose type is not known stops its campaign, and
// nothing is skipped, until a program comes that knows it.
func testFromTheFuture(t *testing.T, store Store) {
	const kind = "specialist.praised.v1"
	h, campaigns := NewHistory(t, "laba-servisa-kustiba-2018"), new(Campaigns)
	campaigns.Add(h.Campaign, h.Ledger)
	events := h.Events()
	known := string(events[len(events)-1].Data)
	h.RecordBytes([]byte(strings.NewReplacer("specialist.registered.v1", kind, `"s2"`, `"s3"`).Replace(known)))
	want := h.Last() + 1

	err := Runner(t, campaigns, store).RunToEnd(t.Context())
	var halt *projections.HaltError
	if !errors.As(err, &halt) || !errors.Is(err, domain.ErrUnknownType) || halt.Sequence != want || halt.Campaign != h.Campaign {
		t.Fatalf("it ends with %v", err)
	}
	if says := fmt.Sprintf("event %d: ", want); !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), ": run a newer paldies") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one sentence with the sequence and the remedy", err)
	}
	Expect(t, store, h.Campaign, &h.Tally)

	changed, stop := Start(t, Runner(t, campaigns, store))
	changed <- struct{}{} // it goes on to be halted
	stop()
	Expect(t, store, h.Campaign, &h.Tally)

	newer := domain.Upcaster{From: kind, To: "specialist.registered.v1", Data: keep}
	check(t, Runner(t, campaigns, store, newer).RunToEnd(t.Context()))
	at, err := modelOf(t, store, h.Campaign).Position(t.Context())
	if err != nil || at.Sequence != want {
		t.Errorf("the newer program stops at event %d, %v", at.Sequence, err)
	}
}

func keep(data jsontext.Value) (jsontext.Value, error) { return data, nil }

// testOtherLedger: a ledger that is not the one from which the read model was
// built changes nothing, until it is the right one again.
func testOtherLedger(t *testing.T, store Store) {
	random := rand.New(rand.NewPCG(7, 8))
	h, campaigns := NewHistory(t, "laba-servisa-kustiba-2018"), new(Campaigns)
	for h.Last() < 30 {
		h.Vote(random.IntN)
	}
	forked := NewHistory(t, h.Campaign) // begins like h and goes on otherwise
	other := newHistory(t, h.Campaign, 1000)
	for forked.Last() < 40 || other.Last() < 40 {
		forked.Vote(random.IntN)
		other.Vote(random.IntN)
	}
	campaigns.Add(h.Campaign, h.Ledger)
	check(t, Runner(t, campaigns, store).RunToEnd(t.Context()))

	for _, c := range []struct {
		ledger   *storetest.Memory
		end      uint64
		want     error
		sequence uint64
	}{
		{h.Ledger, 20, projections.ErrShorter, h.Last()},
		{other.Ledger, 0, projections.ErrOtherStream, 1},
		{forked.Ledger, 0, projections.ErrOtherEvent, h.Last()},
	} {
		campaigns.Add(h.Campaign, c.ledger)
		campaigns.Set(h.Campaign, func(s *Campaign) { s.End = c.end })
		err := Runner(t, campaigns, store).RunToEnd(t.Context())
		var halt *projections.HaltError
		if !errors.As(err, &halt) || !errors.Is(err, c.want) || halt.Sequence != c.sequence {
			t.Errorf("it ends with %v, want %v about event %d", err, c.want, c.sequence)
		}
		Expect(t, store, h.Campaign, &h.Tally)
	}
	h.Vote(random.IntN)
	campaigns.Add(h.Campaign, h.Ledger)
	check(t, Runner(t, campaigns, store).RunToEnd(t.Context()))
	Expect(t, store, h.Campaign, &h.Tally)
}

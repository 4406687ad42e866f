package projections_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// following is a Follower that runs until the test ends.
type following struct {
	*projections.Follower
	changed chan struct{}
	log     *bytes.Buffer // read after stop only
	stop    func() error
}

func follow(t *testing.T, c projections.Campaigns) *following {
	t.Helper()
	f := &following{changed: make(chan struct{}), log: new(bytes.Buffer)}
	f.Follower = projections.NewFollower(c, projectiontest.Codec(t), slog.New(slog.NewTextHandler(f.log, nil)))
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, f.changed) }()
	f.stop = sync.OnceValue(func() error {
		cancel(errors.New("a signal")) // that is why, and nothing to complain about
		return <-ended
	})
	t.Cleanup(func() { _ = f.stop() }) // the test has looked at the error, or failed before
	return f
}

// wait waits until the state of a campaign is as wanted. It tells the Runner
// to look around all the time.
func (f *following) wait(t *testing.T, campaign string, want func(projections.State) bool) {
	t.Helper()
	storetest.Eventually(t, "the state of "+campaign+" is as wanted", func() bool {
		states, _ := f.States(t.Context())
		i := slices.IndexFunc(states, func(s projections.State) bool { return s.Campaign == campaign })
		if i >= 0 && want(states[i]) {
			return true
		}
		f.changed <- struct{}{}
		return false
	})
}

func caughtUp(s projections.State) bool {
	return s.Ready && s.Status == projections.Running && s.Lag() == 0 && s.Position > 0
}

func TestFollowerFindsNewCampaigns(t *testing.T) {
	campaigns := new(projectiontest.Campaigns)
	old := projectiontest.NewHistory(t, "vecais")
	campaigns.Add(old.Campaign, old.Ledger)
	f := follow(t, campaigns)
	f.wait(t, "vecais", caughtUp)

	young := projectiontest.NewHistory(t, "jaunais")
	campaigns.Add(young.Campaign, young.Ledger)
	f.changed <- struct{}{}
	f.wait(t, "jaunais", caughtUp)
	young.Vote(rand.IntN)
	f.wait(t, "jaunais", func(s projections.State) bool { return s.Position == young.Last() && s.AsOf.Equal(young.Tally.AsOf()) })
	projectiontest.Expect(t, f, young.Campaign, &young.Tally)
	if states, err := f.States(t.Context()); err != nil || len(states) != 2 || states[0].Campaign != "jaunais" {
		t.Errorf("states %+v, %v", states, err)
	}
	check(t, f.stop())
	if f.log.Len() > 0 {
		t.Errorf("nothing was wrong, and the log says %s", f.log)
	}
	campaigns.Set("vecais", func(c *projectiontest.Campaign) {
		if c.Closed != 1 {
			t.Errorf("the ledger was closed %d times", c.Closed)
		}
	})
}

func TestFollowerOneHaltsAlone(t *testing.T) {
	campaigns := new(projectiontest.Campaigns)
	broken, sound := projectiontest.NewHistory(t, "bojats"), projectiontest.NewHistory(t, "vesels")
	campaigns.Add(broken.Campaign, broken.Ledger)
	campaigns.Add(sound.Campaign, sound.Ledger)
	f := follow(t, campaigns)
	f.wait(t, "bojats", caughtUp)
	broken.RecordBytes([]byte("nav notikums"))
	f.wait(t, "bojats", func(s projections.State) bool {
		return !s.Ready && s.Status == projections.Halted && s.Lag() == 1 && errors.Is(s.Err, projections.ErrUnreadable) &&
			strings.Contains(s.Err.Error(), "event 5")
	})
	for range 3 {
		f.changed <- struct{}{} // later looks change nothing
	}
	sound.Vote(rand.IntN)
	f.wait(t, "vesels", func(s projections.State) bool { return caughtUp(s) && s.Position == sound.Last() })
	check(t, f.stop())
	if log := f.log.String(); strings.Count(log, "has stopped") != 1 || !strings.Contains(log, "campaign=bojats") {
		t.Errorf("the log says %s", log)
	}
	projectiontest.Expect(t, f, broken.Campaign, &broken.Tally)
}

func TestFollowerTriesAgain(t *testing.T) {
	campaigns, h := new(projectiontest.Campaigns), projectiontest.NewHistory(t, "labais")
	campaigns.Add(h.Campaign, h.Ledger)
	fault := errors.New("serveris neatbild")
	set := func(open, info error) {
		campaigns.Set(h.Campaign, func(c *projectiontest.Campaign) { c.OpenErr, c.InfoErr = open, info })
	}
	failed := func(s projections.State) bool {
		return !s.Ready && s.Status == projections.Interrupted && errors.Is(s.Err, fault)
	}
	set(fault, nil)
	campaigns.Fail(fault)
	f := follow(t, campaigns)
	storetest.Eventually(t, "the list of campaigns fails", func() bool {
		states, err := f.States(t.Context())
		return errors.Is(err, fault) && len(states) == 0
	})
	campaigns.Fail(nil)
	f.wait(t, h.Campaign, failed)
	set(nil, fault)
	f.wait(t, h.Campaign, failed)
	set(nil, nil)
	f.wait(t, h.Campaign, caughtUp)
	if _, err := f.States(t.Context()); err != nil {
		t.Errorf("the list of campaigns still fails: %v", err)
	}
	check(t, f.stop())
}

// fullModels are read models that cannot store anything while they are full.
type fullModels struct {
	projections.MemoryModels
	full  atomic.Bool
	tries atomic.Int64 // to store something nevertheless
}

var errFull = errors.New("disks ir pilns")

func (m *fullModels) Model(ctx context.Context, campaign string) (projections.Model, error) {
	model, err := m.MemoryModels.Model(ctx, campaign)
	return fullModel{model, m}, err
}

type fullModel struct {
	projections.Model
	all *fullModels
}

func (m fullModel) Apply(ctx context.Context, b *projections.Batch) error {
	if m.all.full.Load() {
		m.all.tries.Add(1)
		return errFull
	}
	return m.Model.Apply(ctx, b)
}

// TestOneReasonIsLoggedOnce: a read model that stores nothing for days fills
// no log with it, although there is more to store at every try.
func TestOneReasonIsLoggedOnce(t *testing.T) {
	campaigns, models, log := new(projectiontest.Campaigns), new(fullModels), new(bytes.Buffer)
	h := projectiontest.NewHistory(t, "labais")
	campaigns.Add(h.Campaign, h.Ledger)
	r := projections.NewRunner(projections.Config{Campaigns: campaigns, Models: models, Codec: projectiontest.Codec(t),
		Log: slog.New(slog.NewTextHandler(log, nil))})
	_, stop := projectiontest.Start(t, r)
	projectiontest.Await(t, &models.MemoryModels, h)
	models.full.Store(true)
	for tries := range int64(4) {
		before := h.Last()
		for h.Last() == before {
			h.Vote(rand.IntN)
		}
		storetest.Eventually(t, "it is tried again", func() bool { return models.tries.Load() > tries })
	}
	states, err := r.States(t.Context())
	if err != nil || len(states) != 1 || states[0].Status != projections.Interrupted || !errors.Is(states[0].Err, errFull) {
		t.Errorf("the states are %+v, %v", states, err)
	}
	models.full.Store(false)
	projectiontest.Await(t, &models.MemoryModels, h)
	stop()
	projectiontest.Expect(t, &models.MemoryModels, h.Campaign, &h.Tally)
	if n := strings.Count(log.String(), "is interrupted"); n != 1 {
		t.Errorf("one reason is logged %d times:\n%s", n, log)
	}
}

// TestFollowerAsksInVain: a read model whose ledger does not answer is not
// ready, for nobody knows what it lacks.
func TestFollowerAsksInVain(t *testing.T) {
	campaigns, h := new(projectiontest.Campaigns), projectiontest.NewHistory(t, "labais")
	campaigns.Add(h.Campaign, h.Ledger)
	f := follow(t, campaigns)
	f.wait(t, h.Campaign, caughtUp)
	fault := errors.New("serveris neatbild")
	campaigns.Set(h.Campaign, func(c *projectiontest.Campaign) { c.InfoErr = fault })
	f.wait(t, h.Campaign, func(s projections.State) bool {
		return !s.Ready && errors.Is(s.Err, fault) && s.Position == h.Last() && s.Lag() == 0
	})
	campaigns.Set(h.Campaign, func(c *projectiontest.Campaign) { c.InfoErr = nil })
	f.wait(t, h.Campaign, caughtUp)
	check(t, f.stop())
}

// TestFollowerSeesLoss: a ledger that has become shorter halts the campaign
// though it is being followed, until it is whole again.
func TestFollowerSeesLoss(t *testing.T) {
	campaigns, h := new(projectiontest.Campaigns), projectiontest.NewHistory(t, "labais")
	campaigns.Add(h.Campaign, h.Ledger)
	f := follow(t, campaigns)
	f.wait(t, h.Campaign, caughtUp)
	campaigns.Set(h.Campaign, func(c *projectiontest.Campaign) { c.End = 2 })
	lost := func(s projections.State) bool {
		return s.Status == projections.Halted && errors.Is(s.Err, projections.ErrShorter) && strings.Contains(s.Err.Error(), "event 4") &&
			strings.Contains(s.Err.Error(), "restore")
	}
	f.wait(t, h.Campaign, lost)
	for range 2 {
		f.changed <- struct{}{} // the second is received after a whole look
	}
	h.Vote(rand.IntN)
	f.wait(t, h.Campaign, lost)
	campaigns.Set(h.Campaign, func(c *projectiontest.Campaign) { c.End = 0 })
	f.wait(t, h.Campaign, func(s projections.State) bool { return caughtUp(s) && s.Position == h.Last() })
	projectiontest.Expect(t, f, h.Campaign, &h.Tally)
	check(t, f.stop())
	if log := f.log.String(); !strings.Contains(log, "has stopped") {
		t.Errorf("it has gone on; the log says %s", log)
	}
}

// TestFollowerSeesReplacement: a stream that was deleted and created anew under
// a follower halts the campaign, however long it has grown.
func TestFollowerSeesReplacement(t *testing.T) {
	campaigns, h := new(projectiontest.Campaigns), projectiontest.NewHistory(t, "labais")
	campaigns.Add(h.Campaign, h.Ledger)
	f := follow(t, campaigns)
	f.wait(t, h.Campaign, caughtUp)
	replaced := storetest.NewMemory(t, domain.ControlSubject(h.Campaign))
	for _, e := range h.Events() {
		e.Data = append(slices.Clip(e.Data), ' ') // another event
		_, err := replaced.Append(t.Context(), e.Message, 0)
		check(t, err)
	}
	campaigns.Add(h.Campaign, replaced)
	campaigns.Set(h.Campaign, func(c *projectiontest.Campaign) { c.Created = time.Now() })
	f.wait(t, h.Campaign, func(s projections.State) bool {
		return s.Status == projections.Halted && errors.Is(s.Err, projections.ErrOtherStream)
	})
	projectiontest.Expect(t, f, h.Campaign, &h.Tally)
	check(t, f.stop())
}

// TestRunAgain runs a Runner a second time, as a projector does that has lost
// its place and gets it back.
func TestRunAgain(t *testing.T) {
	campaigns, h := new(projectiontest.Campaigns), projectiontest.NewHistory(t, "labais")
	campaigns.Add(h.Campaign, h.Ledger)
	models := new(projections.MemoryModels)
	r := projectiontest.Runner(t, campaigns, models)
	for range 3 {
		h.Vote(rand.IntN)
		_, stop := projectiontest.Start(t, r)
		projectiontest.Await(t, models, h)
		stop()
	}
	projectiontest.Expect(t, models, h.Campaign, &h.Tally)
	if states, _ := r.States(t.Context()); len(states) != 1 || states[0].Ready || states[0].Position != h.Last() {
		t.Errorf("after the end the states are %+v", states)
	}
}

func TestReplay(t *testing.T) {
	h, codec := projectiontest.NewHistory(t, "labais"), projectiontest.Codec(t)
	for h.Last() < 8 {
		h.Vote(rand.IntN)
	}
	var seen []uint64
	check(t, projections.Replay(t.Context(), h.Ledger, codec, 3, 6, func(sequence uint64, e domain.Event) error {
		if seen = append(seen, sequence); e.Campaign != h.Campaign {
			t.Errorf("event %d is of campaign %s", sequence, e.Campaign)
		}
		return nil
	}))
	if !slices.Equal(seen, []uint64{3, 4, 5, 6}) {
		t.Errorf("asked for 3 to 6, got %v", seen)
	}
	enough := errors.New("pietiek")
	if err := projections.Replay(t.Context(), h.Ledger, codec, 1, 0, func(sequence uint64, _ domain.Event) error {
		if sequence == 2 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) {
		t.Errorf("an error of the reader comes back as %v", err)
	}
	h.RecordBytes([]byte("{"))
	err := projections.Replay(t.Context(), h.Ledger, codec, 1, 0, func(uint64, domain.Event) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "event 9") {
		t.Errorf("an event that cannot be read: %v", err)
	}
}

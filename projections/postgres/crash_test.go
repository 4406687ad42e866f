package postgres_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// seeded is a source of chance whose seed is printed.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// campaign is a history whose ledger a Runner finds.
func campaign(t testing.TB) (*projectiontest.History, *projectiontest.Campaigns) {
	t.Helper()
	h, campaigns := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018"), new(projectiontest.Campaigns)
	campaigns.Add(h.Campaign, h.Ledger)
	return h, campaigns
}

// reached waits until the read model has an event.
func reached(t testing.TB, db *postgres.DB, campaign string, sequence uint64) {
	t.Helper()
	m, err := db.Model(t.Context(), campaign)
	check(t, err)
	storetest.Eventually(t, "the read model has the event", func() bool {
		at, err := m.Position(t.Context())
		return err == nil && at.Sequence >= sequence
	})
}

// TestConnectionCutAroundCommit breaks every second COMMIT in one of all ways.
func TestConnectionCutAroundCommit(t *testing.T) {
	const rounds = 60
	url := pgtest.NewDatabase(t)
	direct := open(t, url)
	p, through := newProxy(t, url)
	cut := open(t, through)
	random := seeded(t)
	h, campaigns := campaign(t)
	chance := rand.New(rand.NewPCG(random.Uint64(), 1)) // of its own goroutine: the proxy locks it
	p.set(func() fate {
		if chance.IntN(2) == 0 {
			return passed
		}
		return fate(1 + chance.IntN(int(fatesEnd)-1))
	})
	_, stop := projectiontest.Start(t, projectiontest.Runner(t, campaigns, cut))
	for range rounds {
		for range 1 + random.IntN(5) {
			h.Act(random.IntN)
		}
		reached(t, direct, h.Campaign, h.Last())
	}
	p.set(nil)
	stop()
	projectiontest.Expect(t, direct, h.Campaign, &h.Tally)
	seen := p.seen()
	t.Logf("COMMITs passed, unsent, unheard, belated: %v", seen)
	for f := passed; f < fatesEnd; f++ {
		if seen[f] == 0 {
			t.Errorf("no COMMIT had fate %d", f)
		}
	}
}

// TestPostgresKilled kills a Postgres of full durability under load.
func TestPostgresKilled(t *testing.T) {
	const kills = 5
	server := pgtest.NewServer(t, nil)
	db := open(t, server.URL("postgres"))
	random := seeded(t)
	h, campaigns := campaign(t)
	_, stop := projectiontest.Start(t, projectiontest.Runner(t, campaigns, db))
	for range kills {
		reached(t, db, h.Campaign, h.Last()) // it works again
		down := make(chan error, 1)
		after := time.Duration(random.IntN(20)) * time.Millisecond
		timer := time.AfterFunc(after, func() { down <- server.Kill() })
		for waiting := true; waiting; {
			h.Act(random.IntN)
			select {
			case err := <-down:
				check(t, err)
				waiting = false
			default:
			}
		}
		timer.Stop()
		for range 20 {
			h.Act(random.IntN)
		}
		check(t, server.Restart(t.Context()))
	}
	reached(t, db, h.Campaign, h.Last())
	stop()
	t.Logf("%d events", h.Last())
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

// projector is what one process of several would be.
type projector struct {
	leader *postgres.Leader
	proxy  *proxy
	stop   func()
}

func startProjector(t testing.TB, url string, campaigns projections.Campaigns) *projector {
	t.Helper()
	proxy, through := newProxy(t, url)
	db := open(t, through)
	p := &projector{leader: db.NewLeader(projectiontest.Discard), proxy: proxy}
	runner := projectiontest.Runner(t, campaigns, db)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- p.leader.Run(ctx, func(ctx context.Context) error { return runner.Run(ctx, nil) })
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a projector ends with %v", err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

func leading(projectors []*projector) (leaders []*projector) {
	for _, p := range projectors {
		if p.leader.State().Leading {
			leaders = append(leaders, p)
		}
	}
	return leaders
}

// TestLeaderLost lets three projectors wait for each other while votes go on,
// and takes the network from the one that works, again and again.
func TestLeaderLost(t *testing.T) {
	const losses, takeoverMax = 4, 10 * time.Second
	url := pgtest.NewDatabase(t)
	direct := open(t, url)
	random := seeded(t)
	h, campaigns := campaign(t)
	var projectors []*projector
	for range 3 {
		projectors = append(projectors, startProjector(t, url, campaigns))
	}
	for range losses {
		for range 50 {
			h.Act(random.IntN)
		}
		reached(t, direct, h.Campaign, h.Last())
		old := leading(projectors)
		if len(old) != 1 {
			t.Fatalf("%d projectors work", len(old))
		}
		begun := time.Now()
		old[0].proxy.cut(true)
		h.Vote(random.IntN)
		for range 20 {
			h.Act(random.IntN)
		}
		reached(t, direct, h.Campaign, h.Last())
		if took := time.Since(begun); took > takeoverMax {
			t.Errorf("another one has taken over after %v", took)
		} else {
			t.Logf("another one has taken over after %v", took.Round(time.Millisecond))
		}
		storetest.Eventually(t, "the one without network knows it", func() bool { return old[0].leader.State().Err != nil })
		old[0].proxy.cut(false)
		storetest.Eventually(t, "it waits or works again", func() bool { return old[0].leader.State().Err == nil })
	}
	for _, p := range projectors {
		p.stop()
	}
	projectiontest.Expect(t, direct, h.Campaign, &h.Tally)
}

// TestFrozenTransaction: a projector that hangs in the middle of a batch is in
// nobody's way for long.
func TestFrozenTransaction(t *testing.T) {
	url := pgtest.NewDatabase(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	frozen, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer func() { _ = frozen.Close(context.Background()) }() // Postgres has closed it
	_, err = frozen.Exec(t.Context(), `
		set idle_in_transaction_session_timeout = '1s';
		begin;
		update paldies.positions set votes = votes + 1000`)
	check(t, err)
	_, stop := projectiontest.Start(t, projectiontest.Runner(t, campaigns, db))
	h.Vote(rand.IntN)
	reached(t, db, h.Campaign, h.Last())
	stop()
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

package main

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// What TestRebuildUnderLoad does; `make soak` asks for a million votes and 20 kills.
var (
	rebuildVotes = flag.Int("rebuild-votes", 20_000, "votes in the ledger that TestRebuildUnderLoad builds a read model of")
	rebuildKills = flag.Int("rebuild-kills", 4, "how often TestRebuildUnderLoad kills a rebuild")
	rebuildRate  = flag.Int("rebuild-rate", 1000, "votes that come in during a second meanwhile")
)

// rebuildVoters is how many vote at the same time.
const rebuildVoters = 256

// TestRebuildUnderLoad kills rebuilds at random moments while votes come in, a
// projector follows and readers poll. No reader gets an error, nothing, or a figure
// that goes back, and in the end the read model is what the ledger says.
func TestRebuildUnderLoad(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(randomSeed(t), 1))
	nats, databaseURL, data := storetest.NewServer(t), migrated(t), t.TempDir()
	load := projectiontest.NewLoad(t, nats.Connect(t), *rebuildVotes)
	on := []string{"--nats-url", nats.URL(), "--database-url", databaseURL}
	rebuild := append([]string{"projection", "rebuild", "--campaign", load.Campaign}, on...)
	startDaemon(t, data, append([]string{"project"}, on...)...)
	atLeast := func(votes int64) func() bool {
		return func() bool {
			var have int64
			queryRow(t, databaseURL, `select coalesce(sum(votes), 0)::bigint from paldies.positions`, &have)
			return have >= votes
		}
	}
	eventually(t, "the votes are projected", atLeast(int64(*rebuildVotes)))

	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	var voted, polled atomic.Int64
	voted.Store(int64(*rebuildVotes))
	working.Go(func() { votesComeIn(ctx, t, load, &voted) })
	for _, query := range []string{
		`select votes, sequence from paldies.positions`,
		`select sum(votes)::bigint, max(as_of_sequence) from reporting_v1.specialist_totals`,
		`select sum(votes)::bigint, max(cumulative_votes)::bigint from reporting_v1.timeline_daily`,
	} {
		working.Go(func() { watch(ctx, t, databaseURL, query, &polled) })
	}
	begun := time.Now()
	before := voted.Load()
	paldies(t, data, rebuild...)
	whole := time.Since(begun)
	t.Logf("a rebuild of %d votes took %v while %d votes came in", *rebuildVotes, whole.Round(time.Millisecond), voted.Load()-before)
	ended := 0
	for killed := 0; killed < *rebuildKills; {
		moment := time.Duration(random.Int64N(int64(whole)))
		killing, spare := context.WithTimeout(t.Context(), moment)
		if out, errOut, code := tryUntil(killing, t, data, rebuild...); code == 0 {
			ended++
		} else if killed++; code > 0 {
			t.Fatalf("exit code %d\n%s%s", code, out, errOut)
		}
		spare()
	}
	t.Logf("%d rebuilds were killed, %d had ended before", *rebuildKills, ended)
	paldies(t, data, rebuild...)
	stop()
	working.Wait()
	t.Logf("%d votes came in, readers got %d answers", voted.Load()-int64(*rebuildVotes), polled.Load())
	eventually(t, "the last votes are projected", atLeast(voted.Load()))

	for _, args := range [][]string{{"-o", "json"}, {"--by", "hour"}, {"--by", "institution"}} {
		args = append([]string{"results", "--campaign", load.Campaign}, args...)
		ledger, model := paldies(t, data, append(args, "--nats-url", nats.URL())...), paldies(t, data, append(args, on...)...)
		if ledger != model {
			t.Errorf("paldies %s says of the ledger\n%.2000s\nand of the read model\n%.2000s", strings.Join(args, " "), ledger, model)
		}
	}
	// It compares each row with what it builds from the first event.
	paldies(t, data, rebuild...)
	paldies(t, data, append([]string{"projection", "discard", "--campaign", load.Campaign}, on...)...)
	var left int64
	queryRow(t, databaseURL, `
		select (select count(*) from paldies.cells where campaign not in (select campaign from paldies.positions))
		     + (select count(*) from paldies.rebuilds) + (select count(*) from paldies.retired)`, &left)
	if left != 0 {
		t.Errorf("%d rows are left behind", left)
	}
}

// votesComeIn records votes at a rate until the context ends, and counts those that
// were acknowledged.
func votesComeIn(ctx context.Context, t *testing.T, load *projectiontest.Load, voted *atomic.Int64) {
	numbers := make(chan int)
	var voting sync.WaitGroup
	for range rebuildVoters {
		voting.Go(func() {
			for i := range numbers {
				if _, err := load.Vote(i); err != nil {
					t.Errorf("vote %d: %v", i, err)
					continue
				}
				voted.Add(1)
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start, first := time.Now(), *rebuildVotes
	for next := first; ctx.Err() == nil; {
		<-tick.C
		for due := first + int(time.Since(start).Seconds()*float64(*rebuildRate)); next < due && ctx.Err() == nil; next++ {
			numbers <- next
		}
	}
	close(numbers)
	voting.Wait()
}

// watch asks again and again for votes and a position, neither of which ever goes
// back where nobody retracts.
func watch(ctx context.Context, t *testing.T, databaseURL, query string, polled *atomic.Int64) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var votes, position int64
	for ctx.Err() == nil {
		var v, p int64
		err := conn.QueryRow(ctx, query).Scan(&v, &p)
		switch {
		case errors.Is(err, context.Canceled):
			return
		case err != nil:
			t.Errorf("%s: %v", query, err)
			return
		case v < votes || p < position || v == 0:
			t.Errorf("%s: from %d and %d to %d and %d", query, votes, position, v, p)
		}
		votes, position = v, p
		polled.Add(1)
	}
}

// TestProjectionCommands: rows that somebody has changed are found and replaced, and
// what an older program has counted is built anew without being asked for by name.
func TestProjectionCommands(t *testing.T) {
	t.Parallel()
	data, databaseURL, set := t.TempDir(), migrated(t), smallBallots(t).as("kekava")
	set.open(t, data)
	paldies(t, data, set.importArgs()...)
	paldies(t, data, "project", "--once", "--database-url", databaseURL)
	projection := func(code int, args ...string) string {
		t.Helper()
		out, errOut, got := try(t, data, append(append([]string{"projection"}, args...), "--database-url", databaseURL)...)
		if got != code {
			t.Fatalf("paldies projection %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errOut)
		}
		return out + errOut
	}
	says := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%q is missing in:\n%s", w, text)
			}
		}
	}
	says(projection(0, "rebuild"), "no campaign needs it")
	says(projection(1, "switch", "--campaign", set.name), "no read model is built anew of campaign kekava: begin with `paldies projection rebuild`")
	says(projection(0, "rebuild", "--campaign", set.name, "--hold"), "campaign kekava: built")
	says(projection(0, "diff", "--campaign", set.name), "no row differs")
	set.assertTamperingIsFound(t, data, databaseURL)
	says(projection(3, "diff", "--campaign", set.name), "totals", "only_in", "2 rows are in one of them only")
	says(projection(3, "diff", "--campaign", set.name, "-o", "json"), `"rows": 2`, `"rebuilt": true`)
	says(projection(3, "rebuild", "--campaign", set.name), "2 rows are in one of them only")
	says(projection(0, "status"), "current")
	says(projection(0, "switch", "--campaign", set.name), "campaign kekava: switched to the new read model at event ")
	paldies(t, data, "audit", "verify", "--campaign", set.name, "--database-url", databaseURL)
	says(projection(0, "rebuild", "--campaign", set.name), "campaign kekava: switched")
	// Rows that a rebuild has left which was killed as it deleted them.
	execute(t, databaseURL, `insert into paldies.retired values (999); insert into paldies.cells values (999, now(), 1, 0, 1)`)
	says(projection(0, "status"), "Rows of 1 read models are left that nobody reads: `paldies projection rebuild` deletes them.")
	says(projection(0, "rebuild"), "no campaign needs it")
	var left int64
	queryRow(t, databaseURL, `select (select count(*) from paldies.retired) + (select count(*) from paldies.cells where campaign = 999)`, &left)
	if left != 0 {
		t.Errorf("%d rows are left behind", left)
	}
	execute(t, databaseURL, `update paldies.positions set fold = 99`)
	says(projection(0, "status"), "halted", "a newer version of paldies has counted it")
	says(projection(1, "rebuild", "--campaign", set.name), "a newer version of paldies has built the read model of campaign kekava: run that")
	execute(t, databaseURL, `update paldies.positions set fold = 0`)
	says(projection(0, "status"), "halted", "build it anew with `paldies projection rebuild`")
	says(projection(1, "--once"), "paldies projection rebuild")
	says(projection(0, "rebuild"), "campaign kekava: switched")
	assertProjected(t, data, databaseURL, set)
	says(projection(0, "rebuild", "--campaign", set.name, "--hold"), "campaign kekava: built")
	says(projection(0, "discard", "--campaign", set.name))
	says(projection(2, "rebuild", "--hold", "--accept-differences"), "exclude each other")
	assertProjected(t, data, databaseURL, set)
}

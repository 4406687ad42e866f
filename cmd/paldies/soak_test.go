package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sakipaldies.lv/ledger/projections/postgres/pgserver"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// soakDuration is how long kills go on; `make soak` sets it.
var soakDuration = flag.Duration("soak", 5*time.Second, "how long TestSoak kills things")

const (
	// soakCampaigns is into how many campaigns the votes of a soak go, one
	// after the other.
	soakCampaigns = 10
	// soakRows is how many submissions are imported at a time.
	soakRows = 3000
	// soakVoters is how many voters a campaign has. It is small against the
	// number of votes, so that many vote again and take back.
	soakVoters = 20_000
	// soakSpecialists is how many can be voted for.
	soakSpecialists = 40
	// soakPause is the mean time between two kills.
	soakPause = 1500 * time.Millisecond
	// soakProjectors is how many run beside each other.
	soakProjectors = 2
	// soakRate is how many submissions come in a second at most, so that an
	// hour of them fits on a disk.
	soakRate = 2500
	// soakTries bounds how often an import is repeated until it succeeds.
	soakTries = 100
)

// soak is a node, projectors and Postgres that are killed while votes come in.
type soak struct {
	t           *testing.T
	data        string
	databaseURL string
	postgres    *pgserver.Server
	node        *supervised
	projectors  []*supervised

	mu     sync.Mutex
	giveUp context.CancelFunc // kills the command that works on the node; guarded by mu

	random *rand.Rand // of the votes
	serial int        // of the last submission
	rows   atomic.Int64
	tries  atomic.Int64 // imports that had to be repeated

	// want is who votes for whom, kept in the plainest way: by campaign,
	// specialist and voter.
	want map[string]map[int]map[int]bool
}

// supervised is a process that is started again whenever it ends.
type supervised struct {
	name    string
	mu      sync.Mutex
	current *daemon // guarded by mu
	starts  int     // guarded by mu
}

// run starts the process until the context ends, and then stops it.
func (s *supervised) run(ctx context.Context, data string, args ...string) {
	for ctx.Err() == nil {
		// A start fails while what it needs is down; the next one is due.
		d, err := launch(context.WithoutCancel(ctx), data, args...)
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		s.current, s.starts = d, s.starts+1
		s.mu.Unlock()
		select {
		case <-d.ended:
		case <-ctx.Done():
			_ = d.cmd.Process.Signal(os.Interrupt) // it may have ended by itself
			<-d.ended
		}
	}
}

// kill ends the process if there is one.
func (s *supervised) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.kill()
	}
}

func (s *supervised) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// TestSoak kills node, projectors and Postgres at random moments while votes
// come in, and in the end counts everything.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := &soak{t: t, data: t.TempDir(), postgres: pgtest.NewServer(t, nil), node: &supervised{name: "node"},
		giveUp: func() {}, random: rand.New(rand.NewPCG(seed, 1)), want: make(map[string]map[int]map[int]bool)}
	var err error
	if s.databaseURL, err = s.postgres.EnsureDatabase(t.Context(), "paldies"); err != nil {
		t.Fatal(err)
	}
	paldies(t, s.data, "migrate", "--database-url", s.databaseURL)

	running, stop := context.WithCancel(t.Context())
	var processes sync.WaitGroup
	processes.Go(func() { s.node.run(running, s.data, "dev", "--http", "127.0.0.1:0") })
	for i := range soakProjectors {
		p := &supervised{name: fmt.Sprintf("projector %d", i)}
		s.projectors = append(s.projectors, p)
		processes.Go(func() { p.run(running, s.data, "project", "--database-url", s.databaseURL) })
	}
	until := time.Now().Add(*soakDuration)
	killing, calm := context.WithDeadline(t.Context(), until)
	defer calm()
	kills := make(map[string]int)
	var killer sync.WaitGroup
	killer.Go(func() { s.killAll(killing, rand.New(rand.NewPCG(seed, 2)), kills) })
	s.vote(until)
	killer.Wait()
	s.verify()
	stop()
	processes.Wait()
	t.Logf("%v: %v; %d submissions, %d imports repeated; the node was started %d times", *soakDuration, kills, s.rows.Load(), s.tries.Load(), s.node.count())
}

// killAll kills something every now and then.
func (s *soak) killAll(ctx context.Context, random *rand.Rand, kills map[string]int) {
	for {
		select {
		case <-time.After(time.Duration(random.Int64N(2 * int64(soakPause)))):
		case <-ctx.Done():
			return
		}
		victims := append([]*supervised{s.node}, s.projectors...)
		switch i := random.IntN(len(victims) + 2); {
		case i < len(victims):
			victims[i].kill()
			kills[victims[i].name]++
			if i == 0 {
				s.killCommand()
			}
		default:
			s.restartPostgres(i == len(victims))
			kills["Postgres"]++
		}
	}
}

// killCommand kills the command that has lost its node. It would give up by
// itself, but for most of a minute it would look for the node, and nobody would
// vote meanwhile.
func (s *soak) killCommand() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp()
}

// try runs a command until it ends or is killed.
func (s *soak) try(args ...string) (out, errOut string, code int) {
	s.t.Helper()
	ctx, giveUp := context.WithCancel(s.t.Context())
	defer giveUp()
	s.mu.Lock()
	s.giveUp = giveUp
	s.mu.Unlock()
	return tryUntil(ctx, s.t, s.data, args...)
}

// restartPostgres crashes the server or shuts it down, and starts it again.
func (s *soak) restartPostgres(crash bool) {
	if crash {
		if err := s.postgres.Kill(); err != nil {
			s.t.Errorf("killing Postgres: %v", err)
		}
	}
	if err := s.postgres.Restart(context.WithoutCancel(s.t.Context())); err != nil {
		s.t.Errorf("restarting Postgres: %v", err)
	}
}

// vote imports submissions into one campaign after the other.
func (s *soak) vote(until time.Time) {
	length, dir := time.Until(until)/soakCampaigns, s.t.TempDir()
	specialists, votes := filepath.Join(dir, "specialists.csv"), filepath.Join(dir, "votes.csv")
	rows := [][]string{{"specialist_id", "name", "institution", "branch"}}
	for i := range soakSpecialists {
		rows = append(rows, []string{fmt.Sprintf("s%d", i), fmt.Sprintf("Ģirts Ņukšs %d", i), "Ziedoņu klientu centrs", fmt.Sprintf("Ķekava %d", i%3)})
	}
	writeCSV(s.t, specialists, rows)
	for i := 0; time.Now().Before(until); i++ {
		campaign := fmt.Sprintf("soak-%d", i)
		s.want[campaign] = make(map[int]map[int]bool)
		s.insist("campaign", "open", campaign, "--opens", "2010-01-01T00:00Z", "--closes", "2025-01-01T00:00Z")
		s.insist("specialist", "import", "--campaign", campaign, specialists)
		for end := time.Now().Add(length); time.Now().Before(end); {
			start := time.Now()
			s.submissions(campaign, votes)
			s.insist("vote", "import", "--campaign", campaign, votes)
			time.Sleep(soakRows*time.Second/soakRate - time.Since(start)) // so many and no more
		}
	}
}

// submissions writes the next ones, and notes what they must come to.
func (s *soak) submissions(campaign, path string) {
	rows := [][]string{{"submission_id", "voter", "specialist_id", "channel", "action", "at"}}
	for range soakRows {
		s.serial++
		voter, specialist, action := s.random.IntN(soakVoters), s.random.IntN(soakSpecialists), "vote"
		votes := s.want[campaign][specialist]
		if votes == nil {
			votes = make(map[int]bool)
			s.want[campaign][specialist] = votes
		}
		if s.random.IntN(8) == 0 {
			action = "retract"
		}
		votes[voter] = action == "vote"
		at := time.Date(2018, 3, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(s.serial) * 50 * time.Millisecond)
		rows = append(rows, []string{strconv.Itoa(s.serial), fmt.Sprintf("balsotājs %d", voter), fmt.Sprintf("s%d", specialist),
			[]string{"web", "mobile", "in_person"}[s.serial%3], action, at.Format(time.RFC3339Nano)})
	}
	s.rows.Add(soakRows)
	writeCSV(s.t, path, rows)
}

// insist repeats a command until it succeeds: it may fail because what it needs
// was killed, but not for any other reason.
func (s *soak) insist(args ...string) string {
	s.t.Helper()
	for range soakTries {
		out, errOut, code := s.try(args...)
		switch {
		case code == 0:
			return out
		case args[0] == "campaign" && strings.Contains(errOut, "exists"):
			return "" // It was opened by a try whose answer was lost.
		case code != 4 && code != -1: // killed
			s.t.Fatalf("paldies %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
		}
		s.tries.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("paldies %s did not succeed in %d tries", strings.Join(args, " "), soakTries)
	return ""
}

// verify counts every campaign in the ledger and in Postgres.
func (s *soak) verify() {
	s.insist("project", "--once", "--database-url", s.databaseURL)
	for _, campaign := range slices.Sorted(maps.Keys(s.want)) {
		s.insist("audit", "verify", "--campaign", campaign, "--database-url", s.databaseURL)
		table := s.insist("results", "--campaign", campaign, "-o", "csv", "--database-url", s.databaseURL)
		got := column(s.t, table, "specialist_id", "votes")
		for i := range soakSpecialists {
			want := 0
			for _, inForce := range s.want[campaign][i] {
				if inForce {
					want++
				}
			}
			if id := fmt.Sprintf("s%d", i); got[id] != strconv.Itoa(want) {
				s.t.Errorf("campaign %s, specialist %s: %s votes, want %d", campaign, id, got[id], want)
			}
		}
	}
}

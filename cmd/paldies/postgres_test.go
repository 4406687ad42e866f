package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/projections/postgres/pgserver"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// migrated is the URL of a new database with the tables of the read model.
func migrated(t *testing.T) string {
	t.Helper()
	databaseURL := pgtest.NewDatabase(t)
	paldies(t, t.TempDir(), "migrate", "--database-url", databaseURL)
	return databaseURL
}

// queryRow runs a statement and scans its row.
func queryRow(t *testing.T, databaseURL, sql string, into ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), sql).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// smallBallots is a set with retractions that is imported in a second or two.
func smallBallots(t *testing.T) ballotSet {
	t.Helper()
	sets := ballotSets(t)
	i := slices.IndexFunc(sets, func(s ballotSet) bool { return s.alreadyVoted > 100 })
	return sets[i]
}

// as is the set under another campaign's name.
func (s ballotSet) as(name string) ballotSet {
	s.name = name
	return s
}

// assertProjected brings the read models of a node's campaigns, whose votes are
// the sets, to the ledgers' end and wants them to be equal: to what is expected,
// and in everything to a recount.
func assertProjected(t *testing.T, data, databaseURL string, sets ...ballotSet) {
	t.Helper()
	paldies(t, data, "project", "--once", "--database-url", databaseURL)
	for _, set := range sets {
		set.assertExpected(t, data, "--database-url", databaseURL)
	}
}

// assertSame wants the same words from the read model as from the ledger.
func (s ballotSet) assertSame(t *testing.T, data, databaseURL string) {
	t.Helper()
	for _, args := range [][]string{{"-o", "json"}, {"--by", "day"}} {
		args = append([]string{"results", "--campaign", s.name}, args...)
		ledger, model := paldies(t, data, args...), paldies(t, data, append(args, "--database-url", databaseURL)...)
		if ledger != model {
			t.Errorf("paldies %s says of the ledger\n%s\nand of the read model\n%s", strings.Join(args, " "), ledger, model)
		}
	}
}

// assertTamperingIsFound changes a row by hand. The audit must name it with
// both figures.
func (s ballotSet) assertTamperingIsFound(t *testing.T, data, databaseURL string) {
	t.Helper()
	var specialist string
	var votes int64
	queryRow(t, databaseURL, `
		update paldies.totals set votes = votes + 7
		where (campaign, placement) = (
			select campaign, placement from paldies.totals join paldies.positions using (campaign)
			where id = '`+s.name+`' order by totals.votes desc, placement limit 1)
		returning (select id from paldies.specialists s where (s.campaign, s.specialist) = (totals.campaign, totals.specialist)), votes`,
		&specialist, &votes)
	out, _, code := try(t, data, "audit", "verify", "--campaign", s.name, "--database-url", databaseURL)
	if code != 3 {
		t.Errorf("after a row was changed by hand the exit code is %d", code)
	}
	for _, words := range []string{"specialist " + specialist, fmt.Sprintf("the read model says %d votes, the ledger %d", votes, votes-7)} {
		if !strings.Contains(out, words) {
			t.Errorf("%q is missing in:\n%s", words, out)
		}
	}
	if out, _, code = try(t, data, "audit", "verify", "--campaign", s.name); code != 0 {
		t.Errorf("the ledger itself is untouched, and the exit code is %d\n%s", code, out)
	}
}

// load imports a set into one new campaign after another until it is stopped,
// and returns the campaigns.
func load(t *testing.T, data string, set ballotSet, name string) (stop func() []ballotSet) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var sets []ballotSet
	var loading sync.WaitGroup
	loading.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			next := set.as(fmt.Sprintf("%s-%d", name, i))
			next.open(t, data)
			paldies(t, data, next.importArgs()...)
			sets = append(sets, next)
		}
	})
	return func() []ballotSet {
		cancel()
		loading.Wait()
		return sets
	}
}

// projectorKills is how often a projector is killed.
const projectorKills = 100

// TestKilledProjector kills a real projector with SIGKILL at random moments
// while votes come in, and wants every event counted once.
func TestKilledProjector(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	data, databaseURL, set := t.TempDir(), migrated(t), smallBallots(t)
	stopNode := startNode(t, data)
	start := time.Now()
	paldies(t, data, "project", "--once", "--database-url", databaseURL)
	reach := time.Since(start) // a moment at which a projector has begun to work

	stopLoad := load(t, data, set, "slodze")
	moved, last := 0, int64(0)
	for range projectorKills {
		cmd := command(t.Context(), data, "project", "--database-url", databaseURL)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment is what is tested here, not what is waited for. It is
		// aimed so that half of the projectors come to store something.
		moment := reach/2 + time.Duration(random.Int64N(int64(reach)))
		kill := time.AfterFunc(moment, func() { cmd.Process.Kill() })
		if err := cmd.Wait(); exitOf(err) != -1 {
			t.Fatalf("a projector has ended before it was killed: %v", err)
		}
		kill.Stop()
		position := positions(t, databaseURL)
		if position > last {
			moved++
			reach -= reach / 10
		} else {
			reach += reach / 10
		}
		last = position
	}
	sets := stopLoad()
	t.Logf("%d kills, %d of projectors that had stored something; %d campaigns, %d events before the last kill", projectorKills, moved, len(sets), last)
	if moved < projectorKills/10 {
		t.Errorf("only %d of %d projectors had stored something when they were killed", moved, projectorKills)
	}
	assertProjected(t, data, databaseURL, sets...)
	stopNode()
}

// projectArgs run a projector that can be asked what it does.
func projectArgs(databaseURL string) []string {
	return []string{"project", "--database-url", databaseURL, "--http", "127.0.0.1:0"}
}

// leaderOf waits until one of the projectors works, and returns its place.
func leaderOf(t *testing.T, projectors []*daemon) (leader int, took time.Duration) {
	t.Helper()
	took = eventually(t, "a projector works", func() bool {
		leader = slices.IndexFunc(projectors, func(d *daemon) bool {
			report, err := d.projector(t.Context())
			return err == nil && report.State == "leading"
		})
		return leader >= 0
	})
	return leader, took
}

// TestSeveralProjectors runs three, then two projectors beside each other
// while votes come in. Whoever works is killed, and the next one takes over.
func TestSeveralProjectors(t *testing.T) {
	t.Parallel()
	data, databaseURL, set := t.TempDir(), migrated(t), smallBallots(t)
	stopNode := startNode(t, data)
	projectors := make([]*daemon, 3)
	for i := range projectors {
		projectors[i] = startDaemon(t, data, projectArgs(databaseURL)...)
	}
	for len(projectors) > 1 {
		stopLoad := load(t, data, set, fmt.Sprintf("kopa-%d", len(projectors)))
		leader, _ := leaderOf(t, projectors)
		eventually(t, "the leader has stored something of the load", func() bool {
			report, err := projectors[leader].projector(t.Context())
			return err == nil && slices.ContainsFunc(report.Campaigns, func(c projectedCampaign) bool {
				return c.Campaign == fmt.Sprintf("kopa-%d-0", len(projectors)) && c.Position > 1000
			})
		})
		for i, d := range projectors {
			if i != leader {
				eventually(t, fmt.Sprintf("projector %d waits beside the leader %d", i, leader), func() bool {
					report, err := d.projector(t.Context())
					return err == nil && report.State == "waiting" && report.Ready
				})
			}
		}
		projectors[leader].kill()
		projectors = slices.Delete(projectors, leader, leader+1)
		_, took := leaderOf(t, projectors)
		t.Logf("the next projector works %v after the kill", took.Round(time.Millisecond))
		assertProjected(t, data, databaseURL, stopLoad()...)
	}
	if status := paldies(t, data, "project", "status", "--database-url", databaseURL); !strings.Contains(status, "current") || strings.Contains(status, "lagging") {
		t.Errorf("project status:\n%s", status)
	}
	if metrics := projectors[0].get(t, "/metrics"); !strings.Contains(metrics, "\npaldies_projector_leading 1\n") ||
		!strings.Contains(metrics, `paldies_read_model_lag_events{campaign="kopa-2-0",model="postgres"} 0`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	projectors[0].stop(t)
	stopNode()
}

// postgresRestarts is how often Postgres is restarted, every other time after
// a crash.
const postgresRestarts = 4

// TestPostgresRestarted restarts Postgres while votes come in. The projector
// goes on by itself, and so does the node when it has ended and there is
// another one at another address.
func TestPostgresRestarted(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	databaseURL, err := server.EnsureDatabase(t.Context(), "paldies")
	if err != nil {
		t.Fatal(err)
	}
	data, set := t.TempDir(), smallBallots(t)
	paldies(t, data, "migrate", "--database-url", databaseURL)
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0")
	projector := startDaemon(t, data, projectArgs(databaseURL)...)
	stopLoad := load(t, data, set, "restarts")
	for i := range postgresRestarts {
		before := positions(t, databaseURL)
		eventually(t, "the projector stores something", func() bool { return positions(t, databaseURL) > before })
		if i%2 == 0 {
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sets := stopLoad()
	node.kill()
	node = startDaemon(t, data, "dev", "--http", "127.0.0.1:0")
	after := set.as("cits-mezgls")
	after.open(t, data)
	paldies(t, data, after.importArgs()...)
	eventually(t, "the projector follows the next node", func() bool {
		report, err := projector.projector(t.Context())
		return err == nil && report.Ready && report.State == "leading" && len(report.Campaigns) == len(sets)+1
	})
	assertProjected(t, data, databaseURL, append(sets, after)...)
	projector.stop(t)
	node.stop(t)
}

// positions is the sum of all positions.
func positions(t *testing.T, databaseURL string) (sum int64) {
	t.Helper()
	queryRow(t, databaseURL, `select coalesce(sum(sequence), 0)::bigint from paldies.positions`, &sum)
	return sum
}

// TestMisfits: a read model halts before a ledger that is not the one that it
// was built from, says so, and goes on when the right one is back.
func TestMisfits(t *testing.T) {
	t.Parallel()
	data, databaseURL := t.TempDir(), migrated(t)
	set := generateBallots(t)[1].as("misfit")
	set.open(t, data)
	earlier := filepath.Join(t.TempDir(), "agrak")
	if err := os.CopyFS(earlier, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	paldies(t, data, set.importArgs()...)
	paldies(t, data, "project", "--once", "--database-url", databaseURL)
	other := t.TempDir()
	set.open(t, other)
	paldies(t, other, set.importArgs()...)
	for _, misfit := range []struct{ data, words, remedy string }{
		{earlier, "the ledger is shorter than the read model", "restore the stream from a copy"},
		{other, "the read model was built from another stream of this name", "connect to the right server"},
	} {
		_, errOut, code := try(t, misfit.data, "project", "--once", "--database-url", databaseURL)
		if code != 1 || !strings.Contains(errOut, misfit.words) || !strings.Contains(errOut, misfit.remedy) {
			t.Errorf("exit code %d: %s", code, errOut)
		}
		if status := paldies(t, misfit.data, "project", "status", "--database-url", databaseURL); !strings.Contains(status, "halted") {
			t.Errorf("project status: %s", status)
		}
		if _, _, code := try(t, misfit.data, "audit", "verify", "--campaign", set.name, "--database-url", databaseURL); code != 3 {
			t.Errorf("audit verify of another ledger: exit code %d", code)
		}
	}
	assertProjected(t, data, databaseURL, set)
}

// TestLocalDatabase runs the node with a private Postgres server twice.
func TestLocalDatabase(t *testing.T) {
	t.Parallel()
	data, err := pgserver.MkdirTemp()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	set := generateBallots(t)[1]
	for range 2 {
		stop := startNode(t, data, "--database", "local")
		text, err := os.ReadFile(filepath.Join(data, "database-url"))
		if err != nil {
			t.Fatal(err)
		}
		set.open(t, data)
		paldies(t, data, set.importArgs()...)
		assertProjected(t, data, strings.TrimSpace(string(text)), set)
		stop()
		if _, err := os.Stat(filepath.Join(data, "database-url")); err == nil {
			t.Error("the URL outlives the private server")
		}
		set = set.as(set.name + "-otrreiz")
	}
}

// TestLocalDatabaseReturns: a private Postgres server that cannot be started
// again takes no node with it, and comes back when it can.
func TestLocalDatabaseReturns(t *testing.T) {
	t.Parallel()
	data, err := pgserver.MkdirTemp()
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(data)) })
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--database", "local")
	text, err := os.ReadFile(filepath.Join(data, "database-url"))
	check(t, err)
	cluster := filepath.Join(data, "postgres", "data")
	control := filepath.Join(cluster, "global", "pg_control")
	check(t, os.Rename(control, control+".away"))
	var pid int
	file, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	check(t, err)
	_, err = fmt.Sscan(string(file), &pid)
	check(t, err)
	postmaster, err := os.FindProcess(pid)
	check(t, err)
	check(t, postmaster.Kill())

	set := generateBallots(t)[1]
	set.open(t, data)
	paldies(t, data, set.importArgs()...)
	eventually(t, "the node says that nobody projects", func() bool {
		report, err := node.projector(t.Context())
		return err == nil && report.State == "interrupted" && strings.Contains(report.Error, "nobody answers")
	})
	check(t, os.Rename(control+".away", control))
	node.reachesEnd(t, set)
	assertProjected(t, data, strings.TrimSpace(string(text)), set)
	node.stop(t)
}

// TestDevDatabase runs the node with a database of somebody else, whose tables
// it makes.
func TestDevDatabase(t *testing.T) {
	t.Parallel()
	data, databaseURL, set := t.TempDir(), pgtest.NewDatabase(t), generateBallots(t)[1]
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--database-url", databaseURL)
	set.open(t, data)
	paldies(t, data, set.importArgs()...)
	node.reachesEnd(t, set)
	assertProjected(t, data, databaseURL, set)
	node.stop(t)
}

// TestDatabaseErrors: one sentence, the right exit code, never the password.
func TestDatabaseErrors(t *testing.T) {
	const password = "noslēpums-42"
	databaseURL, data := migrated(t), t.TempDir()
	var name string
	queryRow(t, databaseURL, `select current_database()`, &name)
	role := strings.Replace(name, "paldies_test", "lasa", 1)
	execute(t, databaseURL, `create role `+role+` login password '`+password+`'`)
	t.Cleanup(func() { execute(t, databaseURL, `drop role `+role) })
	newer, older := migrated(t), pgtest.NewDatabase(t)
	execute(t, newer, `insert into paldies.schema_version (version_id, is_applied) values (9999, true)`)

	for what, c := range map[string]struct {
		url   string
		code  int
		words string
	}{
		"nobody there":   {changed(t, databaseURL, func(u *url.URL) { u.Host = closedAddress(t) }), 4, "nobody answers at"},
		"wrong password": {changed(t, databaseURL, func(u *url.URL) { u.User = url.UserPassword(role, password+"x") }), 4, "check user and password"},
		"missing rights": {changed(t, databaseURL, func(u *url.URL) { u.User = url.UserPassword(role, password) }), 4, "lacks a right"},
		"no database":    {changed(t, databaseURL, func(u *url.URL) { u.Path = "/nav" }), 4, "there is no database nav"},
		"no tables":      {older, 1, "run paldies migrate"},
		"newer tables":   {newer, 1, "run a newer paldies"},
		"no URL":         {"postgres://a:" + password + "@host:1:2/x", 2, "--database-url"},
	} {
		t.Run(what, func(t *testing.T) {
			for _, args := range [][]string{{"project"}, {"project", "--once"}, {"project", "status"}, {"results", "--campaign", "c"}, {"audit", "verify", "--campaign", "c"}} {
				out, errOut, code := try(t, data, append(args, "--database-url", c.url)...)
				if code != c.code || !strings.Contains(errOut, c.words) || strings.Count(errOut, "\n") != 1 {
					t.Errorf("paldies %s: exit code %d, want %d: %s%s", strings.Join(args, " "), code, c.code, out, errOut)
				}
				for _, secret := range []string{password, url.PathEscape(password)} {
					if strings.Contains(out+errOut, secret) {
						t.Errorf("paldies %s prints the password: %s%s", strings.Join(args, " "), out, errOut)
					}
				}
			}
		})
	}
}

// changed is a URL with a change.
func changed(t *testing.T, databaseURL string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// closedAddress is an address of this machine on which nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// execute runs a statement.
func execute(t *testing.T, databaseURL, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestMigrateWithoutRoles: who may not create roles is told on standard error
// what an administrator has to run, word for word.
func TestMigrateWithoutRoles(t *testing.T) {
	t.Parallel()
	server, data := pgtest.NewServer(t, map[string]string{"fsync": "off"}), t.TempDir() // roles are the server's
	admin := server.URL("postgres")
	execute(t, admin, `create role ligita login password 'parole'`)
	execute(t, admin, `create database balsis owner ligita`)
	databaseURL := changed(t, admin, func(u *url.URL) { u.Path, u.User = "/balsis", url.UserPassword("ligita", "parole") })
	out, errOut, code := try(t, data, "migrate", "--database-url", databaseURL)
	if code != 0 || !strings.Contains(out, "from version 0 to") || strings.Contains(out, "role") {
		t.Fatalf("exit code %d: %s%s", code, out, errOut)
	}
	statements := 0
	for line := range strings.Lines(errOut) {
		if strings.HasPrefix(line, "  ") {
			statements++
			execute(t, admin, line)
		}
	}
	if statements != 2*6 { // two roles, each with its limits
		t.Errorf("it asks for %d statements:\n%s", statements, errOut)
	}
	out, errOut, code = try(t, data, "migrate", "--database-url", databaseURL)
	if code != 0 || errOut != "" {
		t.Errorf("with the roles the exit code is %d: %s%s", code, out, errOut)
	}
	var may bool
	queryRow(t, databaseURL, `select has_table_privilege('reporting_ro', 'reporting_v1.specialist_totals', 'select')`, &may)
	if !may {
		t.Error("the role got no rights")
	}
}

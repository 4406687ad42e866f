package pgtest_test

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func one(t *testing.T, conn *pgx.Conn, sql string) (text string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDatabases has databases of two tests, which know nothing of each other
// and are gone afterwards, although somebody is still connected.
func TestDatabases(t *testing.T) {
	var urls []string
	var left []*pgx.Conn
	t.Run("tests", func(t *testing.T) {
		for _, name := range []string{"Čakste", "Ķirsis"} {
			databaseURL := pgtest.NewDatabase(t)
			urls = append(urls, databaseURL)
			conn := connect(t, databaseURL)
			other := connect(t, databaseURL)
			left = append(left, other)
			if _, err := conn.Exec(t.Context(), `create table "vārdi" as select '`+name+`'::text as "vārds"`); err != nil {
				t.Fatal(err)
			}
			if got := one(t, other, `select string_agg("vārds", ',') from "vārdi"`); got != name {
				t.Errorf("read %q; want %q", got, name)
			}
			if got := one(t, other, "show server_encoding"); got != "UTF8" {
				t.Errorf("the encoding is %s", got)
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	if len(urls) != 2 || urls[0] == urls[1] {
		t.Fatalf("the databases are %q", urls)
	}
	for _, conn := range left {
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("a connection has outlived its database")
		}
	}
	for _, gone := range urls {
		if conn, err := pgx.Connect(t.Context(), gone); err == nil {
			t.Errorf("the database of a test that has ended is still there: %v", conn.Close(t.Context()))
		}
	}
}

// TestServerOfOthers runs the tests above in another process, on a server that
// the environment names.
func TestServerOfOthers(t *testing.T) {
	s := pgtest.NewServer(t, map[string]string{"fsync": "off", "log_statement": "ddl"})
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]string{
		s.URL("postgres"):            "PASS",
		"host=localhost password=šš": pgtest.URLVariable + " is not of the form postgres://",
	} {
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestDatabases$")
		cmd.Env = append(os.Environ(), pgtest.URLVariable+"="+server)
		output, err := cmd.CombinedOutput()
		if (err == nil) != (want == "PASS") || !strings.Contains(string(output), want) || strings.Contains(string(output), "šš") {
			t.Errorf("%v; want %q in:\n%s", err, want, output)
		}
	}
	if log := strings.Join(s.Log(), "\n"); strings.Count(log, "statement: create database") != 2 {
		t.Errorf("the tests did not use the server:\n%s", log)
	}
}

func TestNewServer(t *testing.T) {
	s := pgtest.NewServer(t, map[string]string{"work_mem": "7MB"})
	conn := connect(t, s.URL("postgres"))
	if got := one(t, conn, "select concat_ws(',', current_setting('fsync'), current_setting('work_mem'))"); got != "on,7MB" {
		t.Errorf("the settings are %s", got)
	}
	if err := errors.Join(conn.Close(t.Context()), s.Kill(), s.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	shared, err := url.Parse(pgtest.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	if own, err := url.Parse(s.URL("postgres")); err != nil || own.Host == shared.Host {
		t.Errorf("the test's own server is the shared one at %s (%v)", shared.Host, err)
	}
}

// Package pgtest gives tests a real PostgreSQL: one server for all tests of a
// package, and a database for each test.
//
// The server is the one that PALDIES_TEST_DATABASE_URL names, otherwise a
// private one of package pgserver, with PostgreSQL installed first where that
// is possible. A test that finds neither fails and says what to do. A package
// that uses NewDatabase runs its tests through Main:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m).Run()) }
//
// or, with a check for goroutines that are left,
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"sakipaldies.lv/ledger/projections/postgres/pgserver"
)

// URLVariable is the environment variable with the URL of a server on which
// tests may create databases. Servers of NewServer are private in any case.
const URLVariable = "PALDIES_TEST_DATABASE_URL"

const (
	// setUpTimeout is the longest that a server may take until tests can use
	// it, an installation included.
	setUpTimeout = 8 * time.Minute
	// databaseTimeout is the longest that making or dropping a database takes.
	databaseTimeout = time.Minute
	// stopTimeout is what a server gets for shutting down in order.
	stopTimeout = 30 * time.Second
)

// unsafe are settings for tests that survive no power loss and need not.
var unsafe = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "off",
	"full_page_writes":   "off",
}

// shared is the server of this process for NewDatabase: databases are made
// through its address, and only a private one has a server to stop.
var shared struct {
	sync.Mutex
	ready   bool // whether Main will stop the server
	started bool
	err     error // why it has not started
	address string
	server  *pgserver.Server
	remove  func() error
}

// Tests are the tests of a package together with the server that they share.
type Tests struct{ m *testing.M }

// Main wraps the tests of a package.
func Main(m *testing.M) Tests { return Tests{m} }

// Run runs the tests, stops the server if one was started, and returns the
// exit code for the process.
func (t Tests) Run() int {
	shared.Lock()
	shared.ready = true
	shared.Unlock()
	code := t.m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// NewDatabase makes an empty database with UTF-8 text, and drops it when the
// test ends, whoever is still connected. The private server on which it lies
// acknowledges before anything is on the disk; tests that are about durability
// or that crash a server take NewServer.
func NewDatabase(t testing.TB) (databaseURL string) {
	t.Helper()
	server := sharedAddress(t)
	databaseURL, name, err := databaseOn(server)
	if err == nil {
		err = execute(server, "create database "+name+" template template0 encoding 'UTF8'")
	}
	if err != nil {
		t.Fatalf("making a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(server, "drop database if exists "+name+" with (force)"); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	return databaseURL
}

// NewServer starts a private server for one test, which may kill and restart
// it; it is as durable as PostgreSQL is by default unless the settings say
// otherwise. It is stopped when the test ends; a test that fails shows the
// server's last lines.
func NewServer(t testing.TB, settings map[string]string) *pgserver.Server {
	t.Helper()
	server, remove, err := start(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of Postgres ends:\n%s", strings.Join(server.Log(), "\n"))
		}
		if err := errors.Join(stop(server), remove()); err != nil {
			t.Errorf("stopping the test's Postgres server: %v", err)
		}
	})
	return server
}

// sharedAddress starts the shared server for the first who asks. If that
// fails, it fails for everybody.
func sharedAddress(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.ready {
		t.Fatal("nobody would stop the Postgres server: let TestMain run the tests through pgtest.Main")
	}
	if !shared.started {
		shared.started = true
		if shared.address = os.Getenv(URLVariable); shared.address == "" {
			shared.server, shared.remove, shared.err = start(unsafe)
			if shared.err == nil {
				shared.address = shared.server.URL("postgres")
			}
		}
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.address
}

// stopShared stops the shared server if one has been started.
func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return nil
	}
	err := errors.Join(stop(shared.server), shared.remove())
	shared.server = nil
	if err != nil {
		return fmt.Errorf("stopping the Postgres server of the tests: %w", err)
	}
	return nil
}

// start starts a server in a temporary directory, which remove removes.
func start(settings map[string]string) (server *pgserver.Server, remove func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	binaries, err := pgserver.FindOrInstall(ctx, nil)
	if errors.Is(err, pgserver.ErrNotFound) {
		return nil, nil, fmt.Errorf("%w, or set %s to the URL of a server on which databases may be created", err, URLVariable)
	}
	if err != nil {
		return nil, nil, err
	}
	dir, err := pgserver.MkdirTemp()
	if err != nil {
		return nil, nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	server, err = pgserver.Start(ctx, pgserver.Config{Dir: dir, Binaries: binaries, Settings: maps.Clone(settings)})
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return server, remove, nil
}

func stop(server *pgserver.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return server.Stop(ctx)
}

// databaseOn names a new database and its URL on the server of another.
func databaseOn(server string) (databaseURL, name string, err error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		// The text may hold a password, which the error must not repeat.
		return "", "", errors.New(URLVariable + " is not of the form postgres://user:password@host:5432/database")
	}
	name = "paldies_test_" + strings.ToLower(rand.Text())
	u.Path = "/" + name
	return u.String(), name, nil
}

// execute runs one statement on a connection of its own.
func execute(server, statement string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

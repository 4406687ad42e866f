//go:build unix

package pgserver

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// quick are settings for tests that lose nothing to a power cut.
var quick = map[string]string{"fsync": "off"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newDir is a directory that a server of this user can use.
func newDir(t *testing.T) string {
	t.Helper()
	if _, err := FindOrInstall(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	dir, err := MkdirTemp()
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// run starts a server that is stopped at the end of the test.
func run(t *testing.T, config Config) *Server {
	t.Helper()
	if config.Settings == nil {
		config.Settings = quick
	}
	s, err := Start(t.Context(), config)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		must(t, s.Stop(ctx))
	})
	return s
}

// query runs a statement on a connection of its own and returns its one text.
func query(ctx context.Context, databaseURL, sql string, args ...any) (text string, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, sql, args...).Scan(&text)
	return text, errors.Join(err, conn.Close(ctx))
}

func want(t *testing.T, s *Server, expected, sql string, args ...any) {
	t.Helper()
	got, err := query(t.Context(), s.URL("postgres"), sql, args...)
	if err != nil || got != expected {
		t.Errorf("%s: %q, %v; want %q", sql, got, err, expected)
	}
}

// wantFailure checks an error that an operator reads: its kind, its words, and
// that it is one line.
func wantFailure(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v; want %v", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is not one line: %v", err)
	}
}

func wantServerError(t *testing.T, err error, words ...string) *ServerError {
	t.Helper()
	var failed *ServerError
	if !errors.As(err, &failed) {
		t.Fatalf("error %v; want a *ServerError", err)
	}
	wantFailure(t, err, failed, words...)
	return failed
}

func postmasterPID(t *testing.T, s *Server) int {
	t.Helper()
	text, err := readSmallFile(filepath.Join(s.cluster.dataDir(), "postmaster.pid"))
	must(t, err)
	line, _, _ := strings.Cut(text, "\n")
	pid, err := strconv.Atoi(line)
	must(t, err)
	return pid
}

func TestDataOutlivesEveryEnd(t *testing.T) {
	config := Config{Dir: newDir(t)}
	s := run(t, config)
	address := s.URL("postgres")
	const praise = "Paldies Žanetei Šķērstiņai par ļoti laipnu apkalpošanu Gulbenē!"
	want(t, s, "0", `with t as (select 1) select count(*)::text from pg_class where relname = 'pateicība'`)
	conn, err := pgx.Connect(t.Context(), address)
	must(t, err)
	_, err = conn.Exec(t.Context(), `create table "pateicība" (teksts text)`)
	must(t, err)
	_, err = conn.Exec(t.Context(), `insert into "pateicība" values ($1)`, praise)
	must(t, err)

	const stored = `select teksts from "pateicība"`
	must(t, s.Restart(t.Context())) // in order, in spite of the open connection
	want(t, s, praise, stored)
	must(t, s.Kill())
	if _, err := query(t.Context(), address, stored); err == nil {
		t.Error("a killed server answers")
	}
	if err := s.Kill(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("killing it again: %v; want %v", err, ErrNotRunning)
	}
	must(t, s.Restart(t.Context()))
	want(t, s, praise, stored)
	must(t, s.Stop(t.Context()))
	must(t, s.Stop(t.Context()))
	if err := s.Wait(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("waiting for a server that is stopped: %v; want %v", err, ErrNotRunning)
	}
	must(t, s.Restart(t.Context()))
	want(t, s, praise, stored)
	if s.URL("postgres") != address {
		t.Errorf("the address became %s; it was %s", s.URL("postgres"), address)
	}
	must(t, s.Stop(t.Context()))
	must(t, conn.Close(t.Context()))

	want(t, run(t, config), praise, stored)
}

func TestKillUnderLoad(t *testing.T) {
	s := run(t, Config{Dir: newDir(t)})
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	must(t, err)
	_, err = conn.Exec(t.Context(), "create table balsis (n bigint)")
	must(t, err)
	for range 3 {
		acknowledged := make(chan int, 1)
		inserted := make(chan struct{}, 1)
		go func() {
			n := 0
			for {
				if _, err := conn.Exec(t.Context(), "insert into balsis values (1)"); err != nil {
					acknowledged <- n
					return
				}
				if n++; n == 50 {
					inserted <- struct{}{}
				}
			}
		}()
		<-inserted
		must(t, s.Kill())
		n := <-acknowledged
		conn.Close(t.Context()) // It is broken; its error says nothing new.
		must(t, s.Restart(t.Context()))
		conn, err = pgx.Connect(t.Context(), s.URL("postgres"))
		must(t, err)
		var stored int
		must(t, conn.QueryRow(t.Context(), "select count(*) from balsis").Scan(&stored))
		// The last one may be stored without the acknowledgement having come.
		if stored != n && stored != n+1 {
			t.Errorf("%d rows are stored, %d were acknowledged", stored, n)
		}
		_, err = conn.Exec(t.Context(), "truncate balsis")
		must(t, err)
	}
	must(t, conn.Close(t.Context()))
}

func TestTextIsUnicode(t *testing.T) {
	s := run(t, Config{Dir: newDir(t)})
	want(t, s, "UTF8", "select pg_encoding_to_char(encoding) from pg_database where datname = 'postgres'")
	want(t, s, "āčēģīķļņšūž", "select lower('ĀČĒĢĪĶĻŅŠŪŽ')")
	want(t, s, "Ogre,Zilupe,Ādaži", "select string_agg(v, ',' order by v) from unnest(array['Ādaži', 'Ogre', 'Zilupe']) v")
	want(t, s, "Ādaži,Ogre,Zilupe", `select string_agg(v, ',' order by v collate "lv-x-icu") from unnest(array['Zilupe', 'Ogre', 'Ādaži']) v`)
	first, err := s.EnsureDatabase(t.Context(), "paldies “2018”")
	must(t, err)
	again, err := s.EnsureDatabase(t.Context(), "paldies “2018”")
	must(t, err)
	if got, err := query(t.Context(), again, "select current_database()"); err != nil || got != "paldies “2018”" || first != again {
		t.Errorf("connected to %q (%v) by %s and %s", got, err, first, again)
	}
}

func TestTwoServersAtOnce(t *testing.T) {
	dirs := []string{newDir(t), newDir(t)}
	servers := make([]*Server, len(dirs))
	var starting sync.WaitGroup
	for i, dir := range dirs {
		starting.Go(func() {
			var err error
			if servers[i], err = Start(t.Context(), Config{Dir: dir, Settings: quick}); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	for i, s := range servers {
		if s == nil {
			continue
		}
		want(t, s, filepath.Join(dirs[i], "data"), "show data_directory")
		defer func() { must(t, s.Stop(context.Background())) }()
	}
}

func TestOnlyWithThePassword(t *testing.T) {
	s := run(t, Config{Dir: newDir(t)})
	info, err := os.Stat(s.cluster.passwordPath())
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file has mode %v", info.Mode())
	}
	u, err := url.Parse(s.URL("postgres"))
	must(t, err)
	u.User = url.UserPassword("postgres", "parole")
	socket := "host=" + s.Dir() + " port=" + u.Port() + " user=postgres dbname=postgres password=parole"
	for _, address := range []string{u.String(), socket} {
		var refused *pgconn.PgError
		if _, err := query(t.Context(), address, "select 'ielaists'"); !errors.As(err, &refused) || refused.Code != "28P01" {
			t.Errorf("connecting with a wrong password: %v", err)
		}
	}
	host, _, err := net.SplitHostPort(u.Host)
	must(t, err)
	want(t, s, host, "show listen_addresses")
}

func TestLostPassword(t *testing.T) {
	dir := newDir(t)
	s := run(t, Config{Dir: dir})
	must(t, s.Stop(t.Context()))
	password := filepath.Join(dir, "password")
	must(t, os.WriteFile(password, []byte("cita"), 0o600))
	_, err := Start(t.Context(), Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "restore the file") {
		t.Errorf("with another password: %v", err)
	}
	must(t, os.Truncate(password, 0))
	_, err = Start(t.Context(), Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "is empty: restore the file") {
		t.Errorf("with an empty password file: %v", err)
	}
	must(t, os.Remove(password))
	_, err = Start(t.Context(), Config{Dir: dir})
	wantFailure(t, err, fs.ErrNotExist, "restore the file")
}

func TestDirectoryInUse(t *testing.T) {
	dir := newDir(t)
	s := run(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir})
	wantFailure(t, err, ErrInUse, dir, "stop that one first")
	must(t, s.Kill())
	_, err = Start(t.Context(), Config{Dir: dir}) // It may be restarted.
	wantFailure(t, err, ErrInUse)
	must(t, s.Stop(t.Context()))
	run(t, Config{Dir: dir})
}

func TestDirectoryOfSomethingElse(t *testing.T) {
	dir := newDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "piezīmes.txt"), []byte("Neaiztikt!"), 0o600))
	before, err := os.Stat(dir)
	must(t, err)
	_, err = Start(t.Context(), Config{Dir: dir})
	wantFailure(t, err, ErrNotCluster, dir, "name an empty directory")
	after, err := os.Stat(dir)
	must(t, err)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory now holds %v (%v)", entries, err)
	}
	if after.Sys().(*syscall.Stat_t).Uid != before.Sys().(*syscall.Stat_t).Uid {
		t.Error("the directory has got another owner")
	}
}

func TestDataOfSomethingElse(t *testing.T) {
	dir := newDir(t)
	s := run(t, Config{Dir: dir})
	must(t, s.Stop(t.Context()))
	version := filepath.Join(dir, "data", "PG_VERSION")
	must(t, os.WriteFile(version, []byte("nav versija\n"), 0o600))
	_, err := Start(t.Context(), Config{Dir: dir})
	wantFailure(t, err, ErrNotCluster, "nav versija", "move it away")
	must(t, os.Remove(version))
	_, err = Start(t.Context(), Config{Dir: dir})
	wantFailure(t, err, ErrNotCluster, "move it away")
}

func TestClusterOfAnotherVersion(t *testing.T) {
	dir := newDir(t)
	s := run(t, Config{Dir: dir})
	must(t, s.Stop(t.Context()))
	must(t, os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600))
	for _, binaries := range []Binaries{{}, s.Binaries()} {
		_, err := Start(t.Context(), Config{Dir: dir, Binaries: binaries})
		wantFailure(t, err, ErrVersion, "install PostgreSQL 9", "move the directory away")
	}
}

func TestUnfinishedClusterIsMadeAnew(t *testing.T) {
	dir := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	// The password is written just before initdb starts.
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, unfinishedName)); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond) // Nothing tells when initdb begins.
		}
	}()
	_, err := Start(ctx, Config{Dir: dir, Settings: quick})
	cancel()
	<-watched
	wantFailure(t, err, context.Canceled)
	must(t, os.MkdirAll(filepath.Join(dir, unfinishedName, "base"), 0o700)) // what kill -9 leaves
	want(t, run(t, Config{Dir: dir}), "ir", "select 'ir'")
}

func TestServerEndsByItself(t *testing.T) {
	s := run(t, Config{Dir: newDir(t)})
	for _, stop := range []bool{true, false} {
		waited := make(chan error, 1)
		go func() { waited <- s.Wait(t.Context()) }()
		must(t, syscall.Kill(postmasterPID(t, s), syscall.SIGKILL))
		wantServerError(t, <-waited, "did not go on (signal: killed)")
		if stop {
			wantServerError(t, s.Stop(t.Context()), "did not go on")
		}
		must(t, s.Restart(t.Context()))
		want(t, s, "ir", "select 'ir'")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting without time: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- s.Wait(t.Context()) }()
	must(t, s.Stop(t.Context()))
	if err := <-waited; err != nil && !errors.Is(err, ErrNotRunning) {
		t.Errorf("waiting for a server that is stopped: %v", err)
	}
}

func TestStopWithoutTime(t *testing.T) {
	s := run(t, Config{Dir: newDir(t)})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nav laika"))
	wantServerError(t, s.Stop(ctx), "did not stop in time (nav laika)")
	if conn, err := net.Dial("unix", s.cluster.socketPath(s.port)); err == nil {
		conn.Close()
		t.Error("the server still answers")
	}
	must(t, s.Restart(t.Context()))
	want(t, s, "ir", "select 'ir'")
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	config := Config{Dir: newDir(t), Port: port, Settings: quick}
	_, err = Start(t.Context(), config)
	wantServerError(t, err, "port "+strconv.Itoa(port)+" is taken", "choose another one")
	must(t, l.Close())
	want(t, run(t, config), strconv.Itoa(port), "show port")
}

func TestSettings(t *testing.T) {
	s := run(t, Config{Dir: newDir(t), Settings: map[string]string{"fsync": "off", "work_mem": "7MB", "application_name": "Saki paldies"}})
	want(t, s, "7MB", "show work_mem")
	want(t, s, "off", "show fsync")

	config := Config{Dir: newDir(t), Settings: map[string]string{"fsync": "off", "work_mem": "daudz"}}
	_, err := Start(t.Context(), config)
	failed := wantServerError(t, err, "did not start", `invalid value for parameter "work_mem": "daudz"`)
	if len(failed.Log) == 0 {
		t.Error("the error has no log")
	}
}

func TestDurableUnlessToldOtherwise(t *testing.T) {
	s := run(t, Config{Dir: newDir(t), Settings: map[string]string{}})
	want(t, s, "on,on,on", "select concat_ws(',', current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'))")
}

func TestLogger(t *testing.T) {
	var buffer bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&buffer, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := run(t, Config{Dir: newDir(t), Logger: logger})
	if _, err := query(t.Context(), s.URL("postgres"), "select 'pateicība'::int::text"); err == nil {
		t.Error("the cast did not fail")
	}
	must(t, s.Stop(t.Context()))
	for _, expected := range []string{"level=DEBUG msg=postgres line=\"LOG:  " + readyLine, "level=WARN msg=postgres line=\"ERROR:  invalid input syntax"} {
		if !strings.Contains(buffer.String(), expected) {
			t.Errorf("the log has no %s:\n%s", expected, buffer.String())
		}
	}
	if log := strings.Join(s.Log(), "\n"); !strings.Contains(log, "database system is shut down") {
		t.Errorf("the end of the log is not kept:\n%s", log)
	}
}

// TestLongPath has a directory whose name is too long for a socket's.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(newDir(t), strings.Repeat("ļoti garš ceļš ", 8), "klasteris")
	parent := filepath.Dir(dir)
	must(t, os.Chmod(filepath.Dir(parent), 0o711))
	s := run(t, Config{Dir: dir})
	want(t, s, "", "show unix_socket_directories")
}

func TestConfigIsValidated(t *testing.T) {
	for _, test := range []struct {
		config Config
		says   string
	}{
		{Config{}, "no directory"},
		{Config{Dir: "x", Port: -1}, "-1 is no TCP port"},
		{Config{Dir: "x", Port: 65536}, "65536 is no TCP port"},
		{Config{Dir: "x", Settings: map[string]string{"Listen-Addresses": "*"}}, "Listen-Addresses cannot be chosen"},
	} {
		_, err := Start(t.Context(), test.config)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v; want %q", test.config, err, test.says)
		}
	}
}

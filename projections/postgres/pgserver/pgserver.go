// Package pgserver finds PostgreSQL's programs on this machine and runs a
// private server with them: for tests, and for a person who wants the read
// model in Postgres without setting one up.
//
// A Server is a child process that ends with its parent. It listens on
// loopback only and asks for a password that is generated once and kept in a
// file which only its user can read. A directory belongs to one Server at a
// time; a lock on it says so, which the system frees however its holder ends.
//
// PostgreSQL refuses to run as root. A parent with root privileges therefore
// runs it as the user who owns the cluster or, for a new one, as postgres or
// nobody, who must be able to enter the directories above.
//
// Text is UTF-8, sorted by code point, and upper and lower case are those of
// Unicode, on every system and in every version alike. Sorting as Latvian does
// takes a collation such as "lv-x-icu" in the query.
//
// Windows has neither the signals nor the credentials for this: Start answers
// errors.ErrUnsupported there.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// startTimeout is the longest that a server may take until it accepts
	// connections, recovery from a crash included.
	startTimeout = 2 * time.Minute
	// quitTimeout is what a server gets for ending at once when it has not
	// ended in order; what is still there then is killed.
	quitTimeout = 5 * time.Second
	// retryInterval lies between two attempts to start while another process
	// still holds what the server needs.
	retryInterval = 50 * time.Millisecond

	// Free ports are looked for below the ranges from which Linux and macOS
	// serve outgoing connections: otherwise such a connection could take the
	// port of a server that is down for a moment.
	freePortMin, freePortMax = 15_000, 32_000
	// freePortAttempts is how many ports are tried.
	freePortAttempts = 100

	superuser       = "postgres"
	loopbackAddress = "127.0.0.1"
)

var (
	// ErrNotFound says that this machine has no suitable PostgreSQL.
	ErrNotFound = errors.New("no PostgreSQL 14 or newer found")
	// ErrNotCluster says that a directory holds something else.
	ErrNotCluster = errors.New("not a directory of this server")
	// ErrVersion says that a cluster was made by another major version.
	ErrVersion = errors.New("made by another version of PostgreSQL")
	// ErrInUse says that another Server, perhaps of another process, has the
	// directory.
	ErrInUse = errors.New("in use by another process")
	// ErrUnreachable says that the user as whom the server has to run cannot
	// enter the directory.
	ErrUnreachable = errors.New("out of the server's reach")
	// ErrNotRunning says that the server has been stopped or killed.
	ErrNotRunning = errors.New("the Postgres server is not running")
)

// discard is the logger of who wants no log.
var discard = slog.New(slog.DiscardHandler)

// Config says which server to run.
type Config struct {
	// Dir is the server's directory: a new one, an empty one, or that of an
	// earlier Server. It is created for its user alone.
	Dir string
	// Port is the TCP port on loopback; 0 picks a free one, which the Server
	// keeps.
	Port int
	// Settings are parameters of postgresql.conf by name, such as
	// "fsync": "off". Those that Start needs for itself cannot be set.
	Settings map[string]string
	// Binaries are the programs to run; the zero value means those that Find
	// finds or, for a cluster that exists, those of its version.
	Binaries Binaries
	// Logger gets the server's log line by line; nil discards it.
	Logger *slog.Logger
}

// reserved are the parameters on which Start itself depends.
var reserved = map[string]bool{
	"cluster_name": true, "config_file": true, "data_directory": true, "external_pid_file": true, "hba_file": true,
	"lc_messages": true, "listen_addresses": true, "log_destination": true, "log_line_prefix": true, "log_min_messages": true,
	"logging_collector": true, "port": true, "unix_socket_directories": true,
}

// Validate reports settings that cannot work.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("the Postgres server has no directory: name one"))
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("%d is no TCP port: use 1 to 65535, or 0 for a free one", c.Port))
	}
	for name := range c.Settings {
		// Postgres takes names in either case and with hyphens too.
		if reserved[strings.ReplaceAll(strings.ToLower(name), "-", "_")] {
			errs = append(errs, fmt.Errorf("the Postgres parameter %s cannot be chosen: leave it out", name))
		}
	}
	return errors.Join(errs...)
}

// Server is a PostgreSQL server that this process has started. Its methods may
// be called by several goroutines. Who starts it must Stop it, after Kill too.
type Server struct {
	config   Config // complete, never changed
	cluster  *cluster
	password string // set by Start, never changed later
	port     int    // set by Start, never changed later

	mu      sync.Mutex  // held while the server starts or ends
	lock    *dirLock    // nil after Stop; guarded by mu
	running *process    // nil after Stop and Kill; guarded by mu
	log     *programLog // of the process that was last started; guarded by mu
}

// Start makes the cluster if there is none, and starts a server on it. It
// returns when the server accepts connections; ctx bounds only that. Errors
// are ErrNotFound, ErrNotCluster, ErrVersion, ErrInUse, ErrUnreachable, or a
// *ServerError with what PostgreSQL said.
func Start(ctx context.Context, config Config) (*Server, error) {
	if !supported {
		return nil, fmt.Errorf("a private Postgres server cannot run on this system: install PostgreSQL as a service and give its database's URL: %w", errors.ErrUnsupported)
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = discard
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the directory of the Postgres server: %w", err)
	}
	cluster, err := openCluster(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, cluster: cluster, port: config.Port}
	if s.lock, err = lockDir(cluster.lockPath()); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.lock.release())
	}
	return s, nil
}

// start does the part of Start for which the directory is locked.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	if s.config.Binaries, err = s.cluster.binaries(ctx, s.config.Binaries); err != nil {
		return err
	}
	sync := !strings.EqualFold(s.config.Settings["fsync"], "off")
	if s.password, err = s.cluster.prepare(ctx, s.config.Binaries, sync); err != nil {
		return err
	}
	return s.launch(ctx)
}

// launch starts the server on a prepared cluster. It tries again as long as
// something passing is in the way: a free port that is no longer free, or
// processes of a crashed server that have not noticed yet.
func (s *Server) launch(ctx context.Context) error {
	if err := s.cluster.stopOrphan(ctx); err != nil {
		return err
	}
	for choose := s.port == 0; ; {
		if choose {
			var err error
			if s.port, err = freePort(ctx); err != nil {
				return err
			}
		}
		p, err := s.attempt(ctx)
		var failed *ServerError
		switch {
		case err == nil:
			s.running, s.log = p, p.log
			return nil
		case !errors.As(err, &failed):
			return err
		case failed.portTaken() && !choose:
			return fmt.Errorf("port %d is taken: stop what uses it or choose another one: %w", s.port, err)
		case !failed.portTaken() && !failed.lingering():
			return err
		}
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return err // which says what has been in the way
		}
	}
}

// attempt starts the server once, and makes sure that it is ours that answers.
func (s *Server) attempt(ctx context.Context) (*process, error) {
	log := newProgramLog("postgres", s.config.Logger)
	p, err := startProcess(s.command(log), log)
	if err != nil {
		return nil, s.cluster.failure("start", err, log)
	}
	select {
	case <-log.ready:
		err = s.ping(ctx)
	case <-p.exited:
		return nil, s.cluster.failure("start", p.err, log)
	case <-ctx.Done():
		err = s.cluster.failure("start", context.Cause(ctx), log)
	}
	if err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return p, nil
}

// ping connects once. A server that has just begun to listen answers at once.
func (s *Server) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err == nil {
		return conn.Close(ctx)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "28P01" { // invalid_password
		return fmt.Errorf("%s does not hold the password of the cluster beside it: restore the file, or remove %s to begin with an empty cluster: %w",
			s.cluster.passwordPath(), s.cluster.dir, err)
	}
	return fmt.Errorf("connecting to the Postgres server on %s: %w", s.cluster.dir, err)
}

// URL is where clients reach a database of the server, as its superuser. It
// contains the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort(loopbackAddress, strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Dir is the absolute path of the server's directory.
func (s *Server) Dir() string { return s.cluster.dir }

// Binaries are the programs that the server runs.
func (s *Server) Binaries() Binaries { return s.config.Binaries }

// EnsureDatabase creates a database if it is not there, and returns its URL.
func (s *Server) EnsureDatabase(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("creating the database %s: %w", name, err)
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" template template0 encoding 'UTF8'")
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42P04" { // duplicate_database
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("creating the database %s: %w", name, err)
	}
	return s.URL(name), nil
}

// Log is the end of the server's log since it was last started.
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return nil
	}
	return s.log.lines()
}

// Wait returns when the server ends: nil if by Stop, Kill or Restart,
// otherwise a *ServerError. It returns earlier only if ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	s.mu.Lock()
	p := s.running
	s.mu.Unlock()
	if p == nil {
		return ErrNotRunning
	}
	select {
	case <-p.exited:
		return s.unexpected(p)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unexpected is the error of a process that has ended without being asked.
func (s *Server) unexpected(p *process) error {
	if p.asked.Load() {
		return nil
	}
	return s.cluster.failure("go on", p.err, p.log)
}

// Stop shuts the server down: open transactions are rolled back, everything
// else is on the disk, and the directory is free for another Server. If ctx
// ends first, the server is made to end at once, as in a crash, and the error
// says so. A server that has ended without being asked is a *ServerError.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.shutDown(ctx)
	if s.lock != nil {
		err = errors.Join(err, s.lock.release())
		s.lock = nil
	}
	return err
}

// shutDown ends the running process, if there is one. The caller holds mu.
func (s *Server) shutDown(ctx context.Context) error {
	p := s.running
	if p == nil {
		return nil
	}
	s.running = nil
	if p.hasExited() {
		return s.unexpected(p)
	}
	p.interrupt()
	select {
	case <-p.exited:
		if p.err != nil {
			return s.cluster.failure("stop in order", p.err, p.log)
		}
		return nil
	case <-ctx.Done():
		err := s.cluster.failure("stop in time", context.Cause(ctx), p.log)
		return errors.Join(err, p.quit(quitTimeout))
	}
}

// Kill ends the server with SIGKILL, as a crash does. Sessions end as soon as
// they notice, usually within milliseconds; Kill waits for them. The directory
// stays locked for Restart.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.running
	if p == nil {
		return ErrNotRunning
	}
	s.running = nil
	if p.hasExited() {
		return s.unexpected(p)
	}
	return p.kill()
}

// Restart starts the server again, on the same port and with the same
// password, whether it runs (then it is shut down first, as by Stop), was
// killed, was stopped, or has ended without being asked. Errors are those of
// Start and Stop.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil && s.running.hasExited() {
		s.running = nil
	}
	if err := s.shutDown(ctx); err != nil {
		return err
	}
	if s.lock == nil {
		lock, err := lockDir(s.cluster.lockPath())
		if err != nil {
			return err
		}
		s.lock = lock
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.launch(ctx)
}

// freePort finds a TCP port on which nobody listens. Who wants it has to be
// prepared that somebody else is quicker.
func freePort(ctx context.Context) (int, error) {
	var listen net.ListenConfig
	var lastErr error
	for range freePortAttempts {
		port := freePortMin + rand.IntN(freePortMax-freePortMin)
		l, err := listen.Listen(ctx, "tcp", net.JoinHostPort(loopbackAddress, strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		lastErr = err
	}
	return 0, fmt.Errorf("no free port for the Postgres server after %d attempts: %w", freePortAttempts, lastErr)
}

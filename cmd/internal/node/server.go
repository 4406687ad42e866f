package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// embedded is the NATS server in this process.
type embedded struct {
	*server.Server
}

// startServer starts a server on the data directory and returns when it is
// ready. Every message it acknowledges is on the disk (SyncAlways).
func startServer(ctx context.Context, c Config, token string) (*embedded, error) {
	options := &server.Options{
		ServerName:        "paldies",
		JetStream:         true,
		StoreDir:          c.DataDir, // The server adds storeName.
		SyncAlways:        true,
		JetStreamMaxStore: c.MaxStoreBytes,
		Authorization:     token,
		DontListen:        !c.Serve,
		Host:              "127.0.0.1",
		Port:              server.RANDOM_PORT,
		NoSigs:            true, // Signals are for the command.
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("%w: the embedded NATS server refuses its options: %w", ErrDataDir, err)
	}
	log := &serverLog{to: c.Logger}
	s.SetLogger(log, false, false)
	s.Start() // It returns when the server is ready or has failed, and cannot be stopped while it reads its store.
	e := &embedded{s}
	if err := errors.Join(ctx.Err(), e.startError(c, log)); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

// startError says why the server is not ready, or nil. A stream that cannot be
// read would otherwise pass for one that does not exist.
func (e *embedded) startError(c Config, log *serverLog) error {
	failure := log.failed()
	if failure == "" {
		if failure = e.health(); failure == "" {
			return nil
		}
	}
	if strings.Contains(failure, outOfSpace) {
		return fullError(c.DataDir, errors.New(failure))
	}
	return fmt.Errorf("%w: the embedded NATS server cannot open %s: %s: make its files readable and writable for this user, or restore them from a copy",
		ErrDataDir, c.DataDir, failure)
}

const (
	// healthTries is how often the server is asked whether it is well. It gives
	// itself a millisecond to answer, which a busy machine may not have.
	healthTries = 1000
	// notReady is how its answer begins when that time was too short.
	notReady = "failed to be ready for connections"
)

// health is what the server finds wrong with itself and its streams, for
// example a failed write, or nothing.
func (e *embedded) health() string {
	var failure string
	for range healthTries {
		failure = e.Healthz(&server.HealthzOptions{}).Error
		if !strings.HasPrefix(failure, notReady) {
			break
		}
	}
	return failure
}

// limitReached reports whether the server stores as much as it may.
func (e *embedded) limitReached() bool {
	info, err := e.Jsz(&server.JSzOptions{})
	return err == nil && info.Store >= uint64(info.Config.MaxStore)
}

// url is the address for this machine's other processes.
func (e *embedded) url() string { return "nats://" + e.Addr().String() }

// stop ends the server and waits until everything it had is on the disk.
func (e *embedded) stop() {
	e.Shutdown()
	e.WaitForShutdown()
}

// serverLog hands the server's messages to slog. What the server calls a
// notice, such as its start, is for debugging here: the user of a command did
// not ask for a server. It keeps the first fatal message, upon which the
// server's own logger would end the process.
type serverLog struct {
	to *slog.Logger

	mu    sync.Mutex
	fatal string
}

func (l *serverLog) failed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *serverLog) log(level slog.Level, format string, values []any) {
	ctx := context.Background() // The server's interface has none.
	if l.to.Enabled(ctx, level) {
		l.to.Log(ctx, level, "nats: "+strings.TrimSpace(fmt.Sprintf(format, values...)))
	}
}

func (l *serverLog) Fatalf(format string, values ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == "" {
		l.fatal = fmt.Sprintf(format, values...)
	}
}

func (l *serverLog) Errorf(format string, values ...any)  { l.log(slog.LevelError, format, values) }
func (l *serverLog) Warnf(format string, values ...any)   { l.log(slog.LevelWarn, format, values) }
func (l *serverLog) Noticef(format string, values ...any) { l.log(slog.LevelDebug, format, values) }
func (l *serverLog) Debugf(format string, values ...any)  { l.log(slog.LevelDebug, format, values) }
func (l *serverLog) Tracef(format string, values ...any)  { l.log(slog.LevelDebug, format, values) }

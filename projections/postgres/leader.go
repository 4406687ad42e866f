package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// leaderInterval is how often those who wait ask for the lock, and how
	// often its holder sees that the connection still carries.
	leaderInterval = 500 * time.Millisecond
	// leaderTimeout bounds one answer of Postgres to them.
	leaderTimeout = 3 * time.Second
	// leaderKey is the first half of the lock's key; the second is the schema's.
	leaderKey = 0x50616c64 // "Pald"
)

// errLeaderLost says that the connection that held the lock has gone.
var errLeaderLost = errors.New("the leader's lock was lost")

// Leader chooses who works of all that have the same schema of a database. It
// holds a session advisory lock on a connection of its own: when the process
// or the connection dies, Postgres frees it, and somebody else takes over.
//
// That the lock is lost may be noticed a moment late. Two may therefore work
// at the same time; Apply is safe against that.
type Leader struct {
	db  *DB
	log *slog.Logger

	mu    sync.Mutex
	state Leadership // guarded by mu
}

// Leadership is what a Leader is doing.
type Leadership struct {
	Leading bool      // this process works
	Since   time.Time // since when it works, or waits
	Err     error     // why it can neither work nor wait; it is tried again
}

// NewLeader does nothing until it is run.
func (db *DB) NewLeader(log *slog.Logger) *Leader {
	return &Leader{db: db, log: log, state: Leadership{Since: time.Now()}}
}

// State is what it is doing at the moment.
func (l *Leader) State() Leadership {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Run calls work whenever this process is the one that works, with a context
// that ends when it no longer is. It waits for the others, and for Postgres,
// until ctx ends, or until work returns before its context has ended: work's
// error is then returned.
func (l *Leader) Run(ctx context.Context, work func(context.Context) error) error {
	for ctx.Err() == nil {
		done, err := l.term(ctx, work)
		if done {
			return err
		}
		l.set(ctx, Leadership{Err: err})
		pause(ctx)
	}
	return nil
}

// term waits for the lock and works while it is held. It is done when there
// is nothing left to do; otherwise the connection was lost.
func (l *Leader) term(ctx context.Context, work func(context.Context) error) (done bool, err error) {
	if err := l.db.checkSchema(ctx, l.db.pool); err != nil {
		return false, err
	}
	conn, err := pgx.ConnectConfig(ctx, l.db.connect) // has a time limit
	if err != nil {
		return false, l.db.explain(err)
	}
	defer closeConn(conn)
	if err := l.wait(ctx, conn); err != nil {
		return false, l.db.explain(err)
	}
	defer unlock(conn, leaderKey, l.db.schema)
	l.set(ctx, Leadership{Leading: true})
	working, stop := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { stop(l.watch(working, conn)) })
	err = work(working)
	cause := context.Cause(working)
	stop(nil)
	watcher.Wait()
	var schema *SchemaError
	if errors.As(cause, &schema) {
		return false, cause
	}
	if errors.Is(cause, errLeaderLost) {
		return false, &Error{ErrUnavailable, errLeaderLost.Error() + ": another process may have taken over", cause}
	}
	return true, err
}

// wait asks for the lock until it is held.
func (l *Leader) wait(ctx context.Context, conn *pgx.Conn) error {
	for {
		held, err := tryLock(ctx, conn, leaderKey, l.db.schema)
		if err != nil || held {
			return err
		}
		l.set(ctx, Leadership{})
		pause(ctx)
	}
}

// tryLock says whether the connection holds a lock from now on, which is free when
// the connection ends.
func tryLock(ctx context.Context, conn *pgx.Conn, class int32, name string) (held bool, err error) {
	ctx, stop := context.WithTimeout(ctx, leaderTimeout)
	defer stop()
	err = conn.QueryRow(ctx, `select pg_try_advisory_lock($1, hashtext($2))`, class, name).Scan(&held)
	return held, err
}

// unlock gives a lock back. When the connection ends Postgres does so too, but a
// moment later, and who comes in between is refused.
func unlock(conn *pgx.Conn, class int32, name string) {
	ctx, stop := context.WithTimeout(context.Background(), leaderTimeout)
	defer stop()
	_, _ = conn.Exec(ctx, `select pg_advisory_unlock($1, hashtext($2))`, class, name) // of a connection that is lost it is free
}

// set keeps the state, and logs it when it is another one or has another
// reason: that the lock was lost is soon followed by why it cannot be had.
func (l *Leader) set(ctx context.Context, s Leadership) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.state
	s.Since = before.Since
	other := s.Leading != before.Leading || (s.Err == nil) != (before.Err == nil)
	if other {
		s.Since = time.Now()
	}
	switch {
	case s.Err != nil && (other || s.Err.Error() != before.Err.Error()):
		l.log.WarnContext(ctx, "nobody can project here at the moment", "error", s.Err)
	case other && s.Leading:
		l.log.InfoContext(ctx, "this process projects")
	case other && s.Err == nil:
		l.log.InfoContext(ctx, "another process projects; this one waits")
	}
	l.state = s
}

// watch returns when the connection no longer carries, when the tables are no longer
// those of this program, or when ctx ends.
func (l *Leader) watch(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(leaderInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		asking, stop := context.WithTimeout(ctx, leaderTimeout)
		err := l.db.checkSchema(asking, conn)
		stop()
		var schema *SchemaError
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.As(err, &schema):
			return err
		default:
			return fmt.Errorf("%w: %w", errLeaderLost, err)
		}
	}
}

// closeConn has a time of its own, for it comes when the context has ended.
func closeConn(conn *pgx.Conn) {
	ctx, stop := context.WithTimeout(context.Background(), leaderTimeout)
	defer stop()
	_ = conn.Close(ctx) // it fails for a connection that was lost, which is closed too
}

// pause waits a little, at random, so that those who wait do not ask at once.
func pause(ctx context.Context) {
	timer := time.NewTimer(leaderInterval/2 + rand.N(leaderInterval))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

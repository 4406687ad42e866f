// Package node gives a process its way to the ledger, and takes it away again
// in order.
//
// There are three ways (Open): servers that the configuration names; the node
// that runs on the data directory already; and a server inside this process,
// for as long as it runs. Two processes never open one data directory: its
// lock is an advisory lock of the operating system on the file DATA/lock,
// which ends with the process however it ends. Whoever serves the directory to
// others says so in DATA/node.json, which only its user can read: it holds the
// address on the loopback interface and the token without which the server
// accepts nobody.
//
// The embedded server writes every message through to the disk before it
// acknowledges it (SyncAlways). NATS servers elsewhere may be set up
// otherwise; Durability says what can be seen of that from here.
//
// A node that holds a million ballots takes 145 MiB of heap more than an empty
// one and starts in 1.2 s (2 cores; go test -run '^$' -bench Ballots -benchtime 1x
// ./cmd/internal/node -ballots 1000000).
//
// Connections are made as the ledger asks (eventstore.ConnectOptions): what is
// published while a connection is away fails at once and is never sent later.
// Of several servers, one that is cut off from the others is left within half a
// minute: it keeps its clients, which would wait for the end of the partition.
package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/eventstore"
)

const (
	// joinTimeout is how long Open waits for a node that has locked the data
	// directory and is about to serve it. A ledger of two million ballots
	// takes a node two to four seconds to open.
	joinTimeout = 15 * time.Second
	// joinInterval is the pause between two looks at such a node.
	joinInterval = 25 * time.Millisecond
)

var (
	// ErrInUse says that another process has the data directory to itself.
	ErrInUse = errors.New("the data directory is in use")
	// ErrDataDir says that the data directory cannot be used as it is.
	ErrDataDir = errors.New("the data directory cannot be used")
	// ErrNoData says that there is no data in the data directory.
	ErrNoData = errors.New("there is no data")
	// ErrUnavailable says that no NATS server can be reached right now.
	ErrUnavailable = errors.New("the NATS server cannot be reached")
	// ErrCredentials says that the NATS server does not let this user in.
	ErrCredentials = errors.New("the NATS server refuses the credentials")
	// ErrUnsuitable says that the NATS server lacks what a ledger needs.
	ErrUnsuitable = errors.New("the NATS server is not fit for a ledger")
)

// Node is a process' way to the ledger. Its methods may be called
// concurrently, Close once after all others.
type Node struct {
	config Config
	conn   *connection
	url    string

	// The rest is nil unless the server runs in this process.
	lock    *dataLock
	server  *embedded
	staging *staging
	address *address // what node.json says; nil when it says nothing
}

// Open finds the ledger's server or starts it. Its errors are ErrInUse,
// ErrDataDir, ErrNoData, ErrUnavailable, ErrCredentials, ErrUnsuitable, ErrStorageFull,
// those of Config.Validate, and the context's; each names the remedy.
func Open(ctx context.Context, c Config) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.NATSURL == "" {
		return openData(ctx, c)
	}
	conn, err := connect(ctx, c.Command, target{servers: c.NATSURL, remedy: "start the server, or correct --nats-url or PALDIES_NATS_URL", options: c.serverOptions()})
	if err != nil {
		return nil, err
	}
	return &Node{config: c, conn: conn, url: RedactServers(c.NATSURL)}, nil
}

// openData takes the data directory or joins the node that has it.
func openData(ctx context.Context, c Config) (*Node, error) {
	if c.MustExist && !hasData(c.DataDir) {
		return nil, fmt.Errorf("%w in %s: name the right directory with --data, or begin with `paldies campaign open`", ErrNoData, c.DataDir)
	}
	if c.Join {
		return joinRunning(ctx, c)
	}
	if err := makeDataDir(c.DataDir); err != nil {
		return nil, err
	}
	instance := newInstance()
	return whenReady(ctx, func(waiting context.Context) (*Node, error) {
		lock, err := takeLock(c.DataDir, holder{PID: processID, Command: c.Command, Instance: instance, Serve: c.Serve})
		switch {
		case err == nil:
			return embed(ctx, c, lock)
		case errors.Is(err, errLocked):
			return join(waiting, c)
		}
		return nil, err
	})
}

// notYetError holds what is to be said if the node that is starting on the
// data directory does not become reachable.
type notYetError struct{ err error }

func (e *notYetError) Error() string { return e.err.Error() }
func (e *notYetError) Unwrap() error { return e.err }

// join connects to the node that holds the data directory.
func join(ctx context.Context, c Config) (*Node, error) {
	h, err := readHolder(c.DataDir)
	if err != nil {
		// It was locked this very moment, or by a program that is not ours.
		return nil, &notYetError{fmt.Errorf("%w: another program holds %s: wait until it has ended", ErrInUse, lockPath(c.DataDir))}
	}
	inUse := fmt.Errorf("%w: process %d (%s) works on %s: wait until it has ended, or start `paldies dev` so that commands can share the directory",
		ErrInUse, h.PID, h.Command, c.DataDir)
	switch {
	case c.Serve && h.Serve:
		return nil, fmt.Errorf("%w: process %d (%s) serves %s already: use it, or stop it first", ErrInUse, h.PID, h.Command, c.DataDir)
	case c.Serve || !h.Serve:
		return nil, inUse
	}
	a, err := readAddress(c.DataDir)
	if err != nil || a.Instance != h.Instance {
		return nil, &notYetError{fmt.Errorf("%w: process %d (%s) is starting on %s: try again when it serves", ErrUnavailable, h.PID, h.Command, c.DataDir)}
	}
	conn, err := connect(ctx, c.Command, target{
		servers: a.URL,
		remedy:  fmt.Sprintf("process %d (%s) holds %s but does not answer, so stop it and start it again", h.PID, h.Command, c.DataDir),
		options: []nats.Option{nats.Token(a.Token)},
	})
	if err != nil {
		return nil, &notYetError{err} // It may be stopping, and the lock soon free.
	}
	return &Node{config: c, conn: conn, url: a.URL, address: &a}, nil
}

// embed starts a server on the locked data directory.
func embed(ctx context.Context, c Config, lock *dataLock) (_ *Node, err error) {
	n := &Node{config: c, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.staging, err = prepareStaging(c.DataDir, c.StageOnDisk); err != nil {
		return nil, err
	}
	token := newToken()
	if n.server, err = startServer(ctx, c, token); err != nil {
		return nil, err
	}
	if err = n.staging.recovered(); err != nil {
		return nil, dataDirError(c.DataDir, err)
	}
	if n.conn, err = connect(ctx, c.Command, target{
		remedy:  "this should not happen inside one process, so please report it",
		options: []nats.Option{nats.InProcessServer(n.server), nats.Token(token)},
	}); err != nil {
		return nil, err
	}
	n.url = "in process"
	if !c.Serve {
		return n, nil
	}
	n.url = n.server.url()
	n.address = &address{holder: lock.holder, URL: n.url, Token: token, HTTP: c.HTTP, SyncAlways: true}
	if err = n.address.write(c.DataDir); err != nil {
		return nil, err
	}
	return n, nil
}

// Conn is the connection to the server. It belongs to the node.
func (n *Node) Conn() *nats.Conn { return n.conn.Conn }

// Embedded reports whether the server runs in this process.
func (n *Node) Embedded() bool { return n.server != nil }

// URL says where the server is, for people: without passwords, and "in
// process" when nobody else can reach it.
func (n *Node) URL() string { return n.url }

// DataDir is the absolute path of the data directory, which need not exist
// when the server was named by NATSURL.
func (n *Node) DataDir() string { return n.config.DataDir }

// OpenLedger opens a ledger over the node's connection. The caller closes it
// before the node. Errors are those of eventstore.Open.
func (n *Node) OpenLedger(ctx context.Context, c eventstore.Config) (*eventstore.Ledger, error) {
	l, err := eventstore.Open(ctx, n.Conn(), c)
	if err != nil {
		return nil, n.Explain(err)
	}
	n.Stage(c.Stream)
	return l, nil
}

// CreateLedger creates a ledger. Errors are those of eventstore.Create.
func (n *Node) CreateLedger(ctx context.Context, c eventstore.Config) error {
	if err := eventstore.Create(ctx, n.Conn(), c); err != nil {
		return n.Explain(err)
	}
	n.Stage(c.Stream)
	return nil
}

// Stage has the stream's batches staged in memory where the server is ours. A
// ledger's are without asking.
func (n *Node) Stage(stream string) {
	if n.Embedded() {
		n.staging.stage(stream)
	}
}

// Close gives everything back, in the reverse order of Open: the connection is
// drained, the server shut down and waited for, node.json removed, the data
// directory unlocked.
func (n *Node) Close() error {
	var errs []error
	if n.conn != nil {
		errs = append(errs, n.conn.close())
	}
	if n.server != nil {
		n.server.stop()
	}
	if n.lock != nil {
		if n.address != nil {
			errs = append(errs, removeAddress(n.config.DataDir))
		}
		if n.staging != nil {
			errs = append(errs, n.staging.remove())
		}
		errs = append(errs, n.lock.release())
	}
	return errors.Join(errs...)
}

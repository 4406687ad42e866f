package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"sakipaldies.lv/ledger/eventstore"
)

const (
	// dialTimeout is the longest that one server may take to answer.
	dialTimeout = 3 * time.Second
	// checkTimeout is the longest that a server may take to say what it can.
	checkTimeout = 5 * time.Second
	// drainTimeout is the longest that a closing connection may take to
	// deliver what it has received and to send what was published.
	drainTimeout = 5 * time.Second

	// The first release with atomic batches (API level 2 of JetStream).
	serverMajorMin, serverMinorMin = 2, 12
)

// connection is a NATS connection whose end can be waited for.
type connection struct {
	*nats.Conn
	js       jetstream.JetStream
	hangUp   context.CancelFunc // ends attempts to connect
	closed   chan struct{}      // closed when the connection is
	watching sync.WaitGroup     // leaveCutOff
}

// target says where to connect to.
type target struct {
	servers string        // addresses separated by commas
	remedy  string        // what to do when none of them answers
	options []nats.Option // what else it takes to be let in
}

// connect reaches one of the target's servers and makes sure that a ledger can
// live there. The context bounds the attempt, not the connection; a server
// that accepts the connection and then says nothing is given dialTimeout.
func connect(ctx context.Context, command string, t target) (*connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dialing, hangUp := context.WithCancel(context.Background())
	unbind := context.AfterFunc(ctx, hangUp)
	checking, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	c := &connection{hangUp: hangUp, closed: make(chan struct{})}
	options := append(eventstore.ConnectOptions(),
		nats.Name("paldies "+command),
		nats.Timeout(dialTimeout),
		nats.SetCustomDialer(dialer{dialing}),
		nats.DrainTimeout(drainTimeout),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			// The server does not answer a request that is not allowed. Other
			// errors are reported by the requests that they concern.
			if errors.Is(err, nats.ErrPermissionViolation) {
				refuse(err)
			}
		}),
	)
	var err error
	if c.Conn, err = nats.Connect(t.servers, append(options, t.options...)...); err != nil {
		unbind()
		hangUp()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, t.refusal(err)
	}
	if err = c.check(checking); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if !unbind() {
		return nil, errors.Join(ctx.Err(), c.close())
	}
	if len(c.Servers()) > 1 {
		c.watching.Go(func() { c.leaveCutOff(dialing) })
	}
	return c, nil
}

// dialer lets a context end a connection attempt; nats.Connect takes none.
type dialer struct{ ctx context.Context }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(d.ctx, network, address)
}

// refusal puts a failed connection into words.
func (t target) refusal(err error) error {
	where := RedactServers(t.servers)
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unverified):
		return fmt.Errorf("%w at %s (%w): name the file with the certificate of its authority by --nats-ca or PALDIES_NATS_CA, and the server as its certificate does", ErrUnavailable, where, err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("%w at %s (%w): put the right ones into the address, as in nats://user:password@host:4222", ErrCredentials, where, err)
	default:
		return fmt.Errorf("%w at %s (%w): %s", ErrUnavailable, where, err, t.remedy)
	}
}

// check makes sure that the server has JetStream for this account and is new
// enough. It needs leave to publish to $JS.API.INFO; the context's cause tells
// when it has none.
func (c *connection) check(ctx context.Context) error {
	where := c.ConnectedUrlRedacted()
	if v := c.ConnectedServerVersion(); tooOld(v) {
		return fmt.Errorf("%w: %s runs version %s, which has no atomic batches: install nats-server %d.%d or later",
			ErrUnsuitable, where, v, serverMajorMin, serverMinorMin)
	}
	var err error
	if c.js, err = jetstream.New(c.Conn); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	asking, stop := context.WithTimeout(ctx, checkTimeout)
	defer stop()
	_, err = c.js.AccountInfo(asking)
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), nats.ErrPermissionViolation):
		return fmt.Errorf("%w at %s for JetStream (%w): let the user publish to $JS.API.INFO and to what else its role needs", ErrCredentials, where, context.Cause(ctx))
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("%w: %s has no JetStream (%w): start it with a `jetstream` block in its configuration, or with -js", ErrUnsuitable, where, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: %s has no JetStream for this account (%w): add `jetstream: enabled` to the account, or use a user of another one", ErrUnsuitable, where, err)
	default:
		return fmt.Errorf("%w: %s is there but its JetStream does not answer (%w): look whether most servers of the cluster run and see each other", ErrUnavailable, where, err)
	}
}

// tooOld reports whether a server of this version lacks atomic batches. What
// cannot be read as a version is given the benefit of the doubt: the ledger's
// creation will tell.
func tooOld(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errMajor := strconv.Atoi(major)
	b, errMinor := strconv.Atoi(minor)
	if errMajor != nil || errMinor != nil {
		return false
	}
	return a < serverMajorMin || a == serverMajorMin && b < serverMinorMin
}

// close drains the connection and waits until it is closed. A connection that
// is lost at the moment has nothing to drain.
func (c *connection) close() error {
	defer c.watching.Wait()
	defer c.hangUp()
	err := c.Drain()
	if errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrConnectionClosed) {
		err = nil
	}
	timeout := time.NewTimer(2 * drainTimeout) // The client drains subscriptions first, then publishers.
	defer timeout.Stop()
	select {
	case <-c.closed:
	case <-timeout.C:
		c.Conn.Close()
		<-c.closed
	}
	if err != nil {
		return fmt.Errorf("draining the connection: %w", err)
	}
	return nil
}

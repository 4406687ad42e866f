package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	// maxPendingDefault is the queue of a ledger whose Config names none, in
	// events: eight full batches, about a tenth of a second of work.
	maxPendingDefault = 8192
	// maxStreamNameBytes keeps the stream's folder below the 255 bytes that
	// file systems allow.
	maxStreamNameBytes = 200
	// headerBytesMax is the room for transport headers beside an event, in bytes.
	headerBytesMax = 4 << 10
	// creationKey names the metadata that makes each creation unique, so that
	// the server refuses the second of two identical ones.
	creationKey = "creation"
)

// Config describes one ledger.
type Config struct {
	// Stream is the JetStream stream's name, for example LEDGER_2018.
	Stream string
	// Subjects is what the stream stores; wildcards are allowed.
	Subjects []string
	// Control is the one subject whose events govern all others. Every append
	// is answered together with the last sequence on it.
	Control string
	// Replicas is 1 for a single server and 3 for a cluster.
	Replicas int
	// MaxPending bounds the queue of one opened ledger, in events that wait to
	// be sent; 0 means 8192. An append beyond it fails with ErrBusy.
	MaxPending int
	// Observer is told of what the ledger does; nil when nobody wants to know.
	Observer Observer
}

// Observer counts what a ledger does. Its methods are called by several
// goroutines at a time, on the way of every append, and must not block.
type Observer interface {
	// Committed: so many events went together and found their end, whichever.
	// Those that were given up are not among them.
	Committed(events int, took time.Duration)
	// Conflicted: another event came first on the subject of an append.
	Conflicted()
	// Retried: so many appends are tried once more.
	Retried(events int)
}

// unobserved is the Observer of a ledger that has none.
type unobserved struct{}

func (unobserved) Committed(int, time.Duration) {}
func (unobserved) Conflicted()                  {}
func (unobserved) Retried(int)                  {}

func (c Config) observer() Observer {
	if c.Observer == nil {
		return unobserved{}
	}
	return c.Observer
}

// Validate reports the first thing that is wrong with the configuration.
func (c Config) Validate() error {
	if c.Stream == "" || len(c.Stream) > maxStreamNameBytes || strings.ContainsFunc(c.Stream, notInStreamName) {
		return fmt.Errorf("stream name %q: use 1 to %d bytes without spaces, dots, wildcards and slashes", c.Stream, maxStreamNameBytes)
	}
	if len(c.Subjects) == 0 {
		return fmt.Errorf("ledger %s: no subjects: name what the stream is to store", c.Stream)
	}
	for _, s := range c.Subjects {
		if err := validateFilter(s); err != nil {
			return fmt.Errorf("ledger %s: %w", c.Stream, err)
		}
	}
	if err := validateSubject(c.Control); err != nil {
		return fmt.Errorf("ledger %s: control %w", c.Stream, err)
	}
	if !covered(c.Subjects, c.Control) {
		return fmt.Errorf("ledger %s: the control subject %s is not among its subjects", c.Stream, c.Control)
	}
	if c.Replicas != 1 && c.Replicas != 3 {
		return fmt.Errorf("ledger %s: %d replicas: use 1, or 3 in a cluster", c.Stream, c.Replicas)
	}
	if c.MaxPending < 0 {
		return fmt.Errorf("ledger %s: a queue of %d events: use at least 1, or 0 for %d", c.Stream, c.MaxPending, maxPendingDefault)
	}
	return nil
}

func (c Config) maxPending() int {
	if c.MaxPending == 0 {
		return maxPendingDefault
	}
	return c.MaxPending
}

// streamConfig is the one place that says how a ledger's stream is set up. It
// spells out the server's defaults too, so that CheckConfig can compare every
// field with what the server reports.
func (c Config) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:     c.Stream,
		Subjects: c.Subjects,
		Storage:  jetstream.FileStorage,
		Replicas: c.Replicas,

		// Nothing that was stored may go: no limit, no age, no deletion, and a
		// new event is refused rather than an old one dropped.
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		DenyDelete:        true,
		DenyPurge:         true,

		MaxMsgSize: MaxEventBytes + headerBytesMax,
		// The window is the server's default and of no use here: see the
		// package comment about Nats-Msg-Id.
		Duplicates: 2 * time.Minute,

		AllowDirect:        true,
		AllowAtomicPublish: true,
	}
}

// Create makes the ledger's stream. It never happens implicitly: a ledger that
// is missing is a mistake or a loss, and neither is mended by an empty one.
//
// ErrExists is returned when the stream exists, with whatever configuration.
func Create(ctx context.Context, nc *nats.Conn, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("create ledger %s: %w", c.Stream, err)
	}
	cfg := c.streamConfig()
	// The server answers a second creation with the same configuration by
	// success. A unique mark makes it tell the two apart.
	cfg.Metadata = map[string]string{creationKey: nuid.Next()}
	_, err = js.CreateStream(ctx, cfg)
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		return fmt.Errorf("create ledger %s: %w", c.Stream, ErrExists)
	case err != nil:
		return fmt.Errorf("create ledger %s: %w", c.Stream, reachable(err))
	}
	return nil
}

// Seal ends recording for good: from then on the server takes nothing, and
// nothing can unseal the stream but its restoration elsewhere. It changes
// nothing else, and does nothing to a ledger that is sealed.
//
// A stream that is not set up as Create does is not sealed: the deviation would
// stay for ever.
func (l *Ledger) Seal(ctx context.Context) error {
	if err := l.seal(ctx); err != nil {
		return fmt.Errorf("seal ledger %s: %w", l.config.Stream, err)
	}
	return nil
}

func (l *Ledger) seal(ctx context.Context) error {
	if deviations, err := l.checkConfig(ctx, true); err != nil || deviations == nil {
		return err
	}
	switch deviations, err := l.checkConfig(ctx, false); {
	case err != nil:
		return err
	case deviations != nil:
		return fmt.Errorf("%w: %v; set it back first", errConfig, deviations[0])
	}
	stream, err := l.js.Stream(ctx, l.config.Stream)
	if err != nil {
		return streamError(err)
	}
	config := stream.CachedInfo().Config // with the mark of its creation
	config.Sealed = true
	if _, err := l.js.UpdateStream(ctx, config); err != nil {
		return reachable(err)
	}
	return nil
}

// errConfig says that the stream is not set up as it must be.
var errConfig = errors.New("the stream's configuration was changed")

// List returns the names of all streams that begin with prefix, sorted.
func List(ctx context.Context, nc *nats.Conn, prefix string) ([]string, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("list ledgers: %w", err)
	}
	var names []string
	lister := js.StreamNames(ctx)
	for name := range lister.Name() {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("list ledgers: %w", reachable(err))
	}
	slices.Sort(names)
	return names, nil
}

func notInStreamName(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune(`.*>/\`, r)
}

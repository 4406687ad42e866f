package pubsub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streamNameBytesMax keeps a stream's folder below the 255 bytes that file
// systems allow.
const streamNameBytesMax = 200

// duplicateWindow is for how long a stream remembers a Nats-Msg-Id. It is the
// shortest that the server takes, because it acknowledges what it then drops, and
// compares the ids of all publishers with each other.
const duplicateWindow = 100 * time.Millisecond

// Retention says when a stream lets go of a message.
type Retention int

const (
	// Keep holds messages until MaxAge or MaxBytes, whoever has read them; Trim
	// removes what all groups that it is told have acked. Different groups each get everything.
	// It is the fast one: see the package comment.
	Keep Retention = iota
	// WorkQueue removes each message as it is acked. Only one group may read a
	// topic. With fsync always every ack costs its own fsyncs.
	WorkQueue
)

// StreamConfig describes a stream that stores topics.
type StreamConfig struct {
	Name      string   // for example SUBMISSIONS
	Subjects  []string // the topics that it stores; wildcards are allowed
	Retention Retention
	Replicas  int           // 1 for a single server and 3 for a cluster
	MaxAge    time.Duration // after which unread messages go too; 0 for never
	MaxBytes  int64         // on disk, which the server reserves; 0 for no limit
	// DiscardOld makes room in a stream that is full by dropping its oldest
	// messages. Otherwise new ones are refused.
	DiscardOld bool
	// MaxMessageBytes is the largest message with its headers, in bytes; 0 for
	// the server's limit.
	MaxMessageBytes int32
}

// Validate reports the first thing that is wrong with the configuration.
func (c StreamConfig) Validate() error {
	if err := validateName(c.Name); err != nil {
		return fmt.Errorf("stream %w", err)
	}
	if len(c.Subjects) == 0 {
		return fmt.Errorf("stream %s: no subjects: name the topics that it is to store", c.Name)
	}
	for _, s := range c.Subjects {
		if err := validateFilter(s); err != nil {
			return fmt.Errorf("stream %s: %w", c.Name, err)
		}
	}
	switch {
	case c.Retention != Keep && c.Retention != WorkQueue:
		return fmt.Errorf("stream %s: retention %d: use Keep or WorkQueue", c.Name, c.Retention)
	case c.Replicas != 1 && c.Replicas != 3:
		return fmt.Errorf("stream %s: %d replicas: use 1, or 3 in a cluster", c.Name, c.Replicas)
	case c.MaxAge < 0 || c.MaxBytes < 0 || c.MaxMessageBytes < 0:
		return fmt.Errorf("stream %s: a limit is negative: use 0 for no limit", c.Name)
	case c.DiscardOld && c.MaxBytes == 0:
		return fmt.Errorf("stream %s: DiscardOld without MaxBytes: it is never full", c.Name)
	}
	return nil
}

// validateName accepts names of streams and of durable consumers.
func validateName(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`.*>/\`, r) }
	if name == "" || len(name) > streamNameBytesMax || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("name %q: use 1 to %d bytes without spaces, dots, wildcards and slashes", name, streamNameBytesMax)
	}
	return nil
}

// CreateStream makes a stream, or does nothing when it exists with this very
// configuration. A stream of this name with another configuration is an error.
func CreateStream(ctx context.Context, nc *nats.Conn, c StreamConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("create stream %s: %w", c.Name, err)
	}
	retention := jetstream.LimitsPolicy
	if c.Retention == WorkQueue {
		retention = jetstream.WorkQueuePolicy
	}
	// What was acknowledged to its publisher is not dropped for what comes after it,
	// unless that is wanted.
	discard := jetstream.DiscardNew
	if c.DiscardOld {
		discard = jetstream.DiscardOld
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name:      c.Name,
		Subjects:  c.Subjects,
		Retention: retention,
		Storage:   jetstream.FileStorage,
		Replicas:  c.Replicas,
		MaxAge:    c.MaxAge,
		MaxBytes:  orNone(c.MaxBytes),
		// Zero would mean two minutes.
		Duplicates:         duplicateWindow,
		Discard:            discard,
		MaxMsgSize:         int32(orNone(int64(c.MaxMessageBytes))),
		AllowDirect:        true,
		AllowAtomicPublish: true,
	})
	if err != nil {
		return fmt.Errorf("create stream %s: %w", c.Name, err)
	}
	return nil
}

// orNone spells "no limit" as the server does.
func orNone(limit int64) int64 {
	if limit == 0 {
		return -1
	}
	return limit
}

// Trim removes from a Keep stream what every one of the groups has acked, and
// returns how many messages went. It costs a few fsyncs, however many messages
// go. The groups are named by who knows them, because a server that lists the
// consumers of a stream leaves out those that it cannot reach. When one of them is
// not there, or cannot be asked, nothing is removed.
//
// nats-server forgets at a purge what was given back and not delivered since. It
// comes again after AckWait then, or to whoever takes over after TakeoverAfter. So
// who ends a subscription trims before and not after it.
func Trim(ctx context.Context, nc *nats.Conn, stream string, groups ...string) (removed uint64, err error) {
	if len(groups) == 0 {
		return 0, fmt.Errorf("trim stream %s: name the groups that must have acked what is removed", stream)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("trim stream %s: %w", stream, err)
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("trim stream %s: %w", stream, streamError(err))
	}
	floor, err := ackFloor(ctx, s, groups)
	if err != nil {
		return 0, fmt.Errorf("trim stream %s: %w", stream, err)
	}
	before := s.CachedInfo().State
	if floor < before.FirstSeq {
		return 0, nil
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
		return 0, fmt.Errorf("trim stream %s: %w", stream, err)
	}
	after, err := s.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("trim stream %s: %w", stream, err)
	}
	// Sequences, and not counts, because publishers are not waited for.
	return after.State.FirstSeq - before.FirstSeq, nil
}

// ackFloor is the highest sequence up to which all groups have acked, or 0.
func ackFloor(ctx context.Context, s jetstream.Stream, groups []string) (uint64, error) {
	floor := uint64(math.MaxUint64)
	for _, group := range groups {
		consumer, err := s.Consumer(ctx, group)
		if err != nil {
			return 0, fmt.Errorf("group %s: %w", group, consumerError(err))
		}
		floor = min(floor, consumer.CachedInfo().AckFloor.Stream)
	}
	return floor, nil
}

// streamError tells a missing stream from one that cannot be asked. What the server
// refuses, it refuses again.
func streamError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: %w", ErrNoStream, err)
	case errors.As(err, &api) && api.Code < http.StatusInternalServerError:
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

package credential

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/bucket"
)

const (
	// followPause is the pause before the bucket is looked for again, when it
	// is not there or cannot be followed.
	followPause = 500 * time.Millisecond
	// lookInterval is how often a Book looks for what is new. It does without the
	// bucket's own watch, which would make a consumer.
	lookInterval = 100 * time.Millisecond
	// InForce is within which time every worker knows of a change, unless it cannot
	// reach the server or is very busy.
	InForce = 3 * lookInterval
)

// What is wrong with a token, and with a Book.
var (
	ErrMissing   = errors.New("there is no credential")
	ErrMalformed = errors.New("the credential is not a token of paldies")
	ErrUnknown   = errors.New("the credential is not known")
	ErrRevoked   = errors.New("the credential was revoked")
	ErrExpired   = errors.New("the credential has expired")
	// ErrNotReady says that the credentials have not been read yet, so that
	// nothing can be said about any token. It will pass.
	ErrNotReady = errors.New("the credentials have not been read yet")
)

var (
	errNoBucket = errors.New("there is no bucket " + bucketName + ": `paldies credential add` makes it")
	errReplaced = errors.New("the bucket " + bucketName + " was replaced by another one")
)

// Book is what a worker knows of all credentials. Check may be called by any
// number of goroutines beside Run, which alone changes what is known.
type Book struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	log *slog.Logger
	// known is replaced as a whole and never changed, so that Check takes no
	// lock. It is nil until the bucket was read.
	known atomic.Pointer[map[string]*stored]

	now     func() time.Time
	look    time.Duration // lookInterval, shorter in tests
	changed func()        // tests wait for it
}

// NewBook is a Book that knows nothing until it is run. The connection stays
// its owner's; it must reconnect by itself.
func NewBook(nc *nats.Conn, log *slog.Logger) (*Book, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return &Book{nc: nc, js: js, log: log, now: time.Now, look: lookInterval, changed: func() {}}, nil
}

// Ready says whether Check can answer: the error is ErrNotReady until the
// bucket was read, or found not to exist, for the first time. It stays nil from
// then on, also while the server is away.
func (b *Book) Ready() error {
	if b.known.Load() == nil {
		return fmt.Errorf("%w: look whether the NATS server can be reached", ErrNotReady)
	}
	return nil
}

// nobody stands for an unknown credential: its secret is compared too.
var nobody = &stored{hash: hashSecret(newSecret()), credential: new(Credential)}

// Check says whose token it is: ErrMissing for none at all, ErrMalformed,
// ErrUnknown for a wrong id or a wrong secret, ErrRevoked, ErrExpired,
// ErrNotReady. The credential comes with ErrRevoked and ErrExpired too, so that
// it can be logged, and is nil with the others. It is the same one for the same token until that
// credential itself is changed.
//
// How long it takes does not tell how much of a secret is right, nor whether
// an id is known.
func (b *Book) Check(token string) (*Credential, error) {
	if token == "" {
		return nil, ErrMissing
	}
	id, secret, ok := parseToken(token)
	if !ok {
		return nil, ErrMalformed
	}
	known := b.known.Load()
	if known == nil {
		return nil, ErrNotReady
	}
	s, found := (*known)[id]
	if !found {
		s = nobody
	}
	switch err := s.check(secret, b.now()); {
	case err == ErrUnknown || !found:
		return nil, ErrUnknown
	default:
		return s.credential, err
	}
}

// check compares a secret in constant time. Only who has the right one learns
// that the credential was revoked or has expired.
func (s *stored) check(secret string, now time.Time) error {
	given := hashSecret(secret)
	switch {
	case subtle.ConstantTimeCompare(given[:], s.hash[:]) != 1:
		return ErrUnknown
	case !s.credential.Revoked.IsZero():
		return ErrRevoked
	case s.credential.Expired(now):
		return ErrExpired
	}
	return nil
}

// Run follows the bucket until the context ends, whose error it returns, or
// the connection is closed for good. While the server or the bucket is away it
// keeps what is known and tries again.
func (b *Book) Run(ctx context.Context) error {
	var said string
	for {
		err := b.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case b.nc.IsClosed():
			return fmt.Errorf("credentials: %w: %w", eventstore.ErrUnavailable, nats.ErrConnectionClosed)
		case err.Error() != said: // not the same again and again
			b.log.WarnContext(ctx, "credentials are not followed right now; what is known stays in force", "error", err)
			said = err.Error()
		}
		if err := pause(ctx, followPause); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow reads the bucket and then what changes, until something is wrong.
func (b *Book) follow(ctx context.Context) error {
	info, err := b.state(ctx)
	if err != nil {
		if errors.Is(err, errNoBucket) && b.known.Load() == nil {
			b.publish(nil) // Nobody was ever given a credential.
		}
		return err
	}
	created := info.Created
	known, seen, err := b.read(ctx, make(map[string]*stored), 0)
	if err != nil {
		return err
	}
	b.publish(known)
	for {
		if err := pause(ctx, b.look); err != nil {
			return err
		}
		info, err := b.state(ctx)
		switch {
		case err != nil:
			return err
		case !info.Created.Equal(created) || info.State.LastSeq < seen:
			return errReplaced
		case info.State.LastSeq == seen:
			continue
		}
		if known, seen, err = b.read(ctx, maps.Clone(known), seen); err != nil {
			return err
		}
		b.publish(known)
	}
}

// read enters all that the bucket has above a revision into what will be known
// next, and says up to which one that is.
func (b *Book) read(ctx context.Context, next map[string]*stored, seen uint64) (map[string]*stored, uint64, error) {
	err := entries(ctx, b.nc, seen, func(e bucket.Entry) {
		b.enter(ctx, next, e)
		seen = e.Revision
	})
	return next, seen, err
}

// publish makes it known.
func (b *Book) publish(known map[string]*stored) {
	b.known.Store(&known)
	b.changed()
}

// state asks the stream's leader.
func (b *Book) state(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	stream, err := b.js.Stream(ctx, bucket.Stream(bucketName))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, errNoBucket
	case err != nil:
		return nil, fmt.Errorf("bucket %s: %w: %w", bucketName, eventstore.ErrUnavailable, err)
	}
	return stream.CachedInfo(), nil
}

// enter puts an entry of the bucket into what will be known next. One that
// cannot be read is refused, and harms no other.
func (b *Book) enter(ctx context.Context, next map[string]*stored, e bucket.Entry) {
	id := e.Key
	delete(next, id)
	if len(e.Value) == 0 {
		b.log.WarnContext(ctx, "a credential was deleted from the bucket by hand and is refused", "id", id)
		return
	}
	s, err := decodeRecord(id, e.Value)
	if err != nil {
		b.log.ErrorContext(ctx, "a credential is refused", "error", err)
		return
	}
	var before *Credential
	if known := b.known.Load(); known != nil {
		if old, ok := (*known)[id]; ok {
			if old.text == s.text {
				next[id] = old // the same one, with its token bucket
				return
			}
			before = old.credential
		}
	}
	s.credential.limit(before)
	next[id] = s
}

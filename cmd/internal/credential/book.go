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
	// lookInterval is how often a Book makes sure that it has missed nothing.
	// A watch ends without a word when the client cannot set it up again.
	lookInterval = 5 * time.Second
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
	errStalled  = errors.New("the watch of the bucket " + bucketName + " has stalled")
	errAgain    = errors.New("the connection is back")
	errEnded    = errors.New("the watch of the bucket " + bucketName + " has ended")
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
		case errors.Is(err, errAgain):
			said = ""
			continue
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
	// A server that was started again has lost the watch, and the client would
	// notice only after two missed heartbeats, of five seconds each.
	connected := b.nc.StatusChanged(nats.CONNECTED)
	defer b.nc.RemoveStatusListener(connected)
	f := &following{book: b, read: make(map[string]*stored)}
	if err := f.begin(ctx); err != nil {
		if errors.Is(err, errNoBucket) && b.known.Load() == nil {
			b.publish(nil) // Nobody was ever given a credential.
		}
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w, err := f.kv.WatchAll(watching)
	if err != nil {
		return fmt.Errorf("bucket %s: %w: %w", bucketName, eventstore.ErrUnavailable, err)
	}
	defer stopWatch(w)
	look := time.NewTicker(b.look)
	defer look.Stop()
	for {
		select {
		case e, open := <-w.Updates():
			if !open {
				return errEnded
			}
			f.take(ctx, e)
		case <-connected:
			return errAgain
		case <-look.C:
			if err := f.check(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish makes it known.
func (b *Book) publish(known map[string]*stored) {
	b.known.Store(&known)
	b.changed()
}

// following is one watch of one bucket. Only follow's goroutine has it.
type following struct {
	book    *Book
	kv      jetstream.KeyValue
	created time.Time          // the bucket's
	read    map[string]*stored // what was read so far; nil once it was published
	seen    uint64             // last revision that the watch has brought
	owed    uint64             // last revision of the bucket at the former look
}

// begin finds the bucket.
func (f *following) begin(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	info, err := f.book.state(ctx)
	if err != nil {
		return err
	}
	f.created = info.Created
	if f.kv, err = f.book.js.KeyValue(ctx, bucketName); err != nil {
		return fmt.Errorf("bucket %s: %w: %w", bucketName, eventstore.ErrUnavailable, err)
	}
	return nil
}

// state asks the stream's leader.
func (b *Book) state(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := b.js.Stream(ctx, bucket.Stream(bucketName))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, errNoBucket
	case err != nil:
		return nil, fmt.Errorf("bucket %s: %w: %w", bucketName, eventstore.ErrUnavailable, err)
	}
	return stream.CachedInfo(), nil
}

// take takes what the watch brings; nil ends what was there when it began.
func (f *following) take(ctx context.Context, e jetstream.KeyValueEntry) {
	if e == nil {
		if f.read != nil {
			f.book.publish(f.read)
			f.read = nil
		}
		return
	}
	f.seen = e.Revision()
	next := f.read
	if next == nil {
		next = maps.Clone(*f.book.known.Load())
	}
	f.book.enter(ctx, next, e)
	if f.read == nil {
		f.book.publish(next)
	}
}

// enter puts an entry of the bucket into what will be known next. One that
// cannot be read is refused, and harms no other.
func (b *Book) enter(ctx context.Context, next map[string]*stored, e jetstream.KeyValueEntry) {
	id := e.Key()
	delete(next, id)
	if e.Operation() != jetstream.KeyValuePut {
		b.log.WarnContext(ctx, "a credential was deleted from the bucket by hand and is refused", "id", id)
		return
	}
	s, err := decodeRecord(id, e.Value())
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

// check finds out whether the watch still follows the bucket that is there. A
// server that does not answer is waited for.
func (f *following) check(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	info, err := f.book.state(ctx)
	switch {
	case errors.Is(err, errNoBucket):
		return err
	case err != nil:
		return nil
	case !info.Created.Equal(f.created) || info.State.LastSeq < f.seen:
		return errReplaced
	case f.seen < f.owed:
		return errStalled // It has not brought in one interval what was there before.
	}
	f.owed = info.State.LastSeq
	return nil
}

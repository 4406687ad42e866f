package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/bucket"
)

const (
	// maxCredentials is how many there may be, revoked ones included. A
	// campaign has a handful of channels and of people who read; the limit stops a script that adds
	// one for each request. Those who add at the same moment may exceed it by
	// each other's.
	maxCredentials = 1000
	// revokeTries is how often a revocation is tried against other writers.
	revokeTries = 10
)

// ErrTooMany says that no further credential can be added.
var ErrTooMany = errors.New("too many credentials")

// Store changes and lists the credentials, for operators. Its methods may be
// called concurrently.
type Store struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int
	now      func() time.Time
}

// NewStore is a store over a connection, which stays its owner's. Replicas are
// those of a bucket that Add has to make.
func NewStore(nc *nats.Conn, replicas int, now func() time.Time) (*Store, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return &Store{nc, js, replicas, now}, nil
}

// MakeBucket makes the bucket of the credentials if it is missing. Until then a
// Book knows that there is none. Errors are eventstore.ErrUnavailable.
func (s *Store) MakeBucket(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	_, err := ensureBucket(ctx, s.js, s.replicas)
	return err
}

// Add makes a credential and gives it an id, a secret and its time of
// creation. The token cannot be told again. After eventstore.ErrUnavailable there may be
// a credential whose token nobody knows: it is harmless, and can be revoked.
func (s *Store) Add(ctx context.Context, c Credential) (token string, _ Credential, err error) {
	if err := c.Validate(); err != nil {
		return "", Credential{}, err
	}
	if c.Expires = domain.Timestamp(c.Expires); c.Expired(s.now()) {
		return "", Credential{}, fmt.Errorf("%w: it would have expired at %s", ErrInvalid, domain.FormatTime(c.Expires))
	}
	known, err := s.List(ctx)
	if err != nil && !errors.Is(err, ErrCorrupt) { // what cannot be read is in nobody's way
		return "", Credential{}, err
	}
	if len(known) >= maxCredentials {
		return "", Credential{}, fmt.Errorf("%w: there are %d, revoked ones included, and at most %d are kept: use one of those", ErrTooMany, len(known), maxCredentials)
	}
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	kv, err := ensureBucket(ctx, s.js, s.replicas)
	if err != nil {
		return "", Credential{}, err
	}
	secret := newSecret()
	c.ID, c.Created, c.Revoked, c.limiter = newID(), domain.Timestamp(s.now()), time.Time{}, nil
	value, err := encodeRecord(&c, hashSecret(secret))
	if err != nil {
		return "", Credential{}, err
	}
	// An id is taken once in 2^50; it is an error like any other then.
	if _, err := kv.Update(ctx, c.ID, value, 0); err != nil {
		return "", Credential{}, fmt.Errorf("add credential %s: %w: %w", c.ID, eventstore.ErrUnavailable, err)
	}
	return formatToken(c.ID, secret), c, nil
}

// Revoke ends a credential for ever. One that was revoked before keeps the
// moment at which it was: again is true then. ErrUnknown says that there is no
// such credential, ErrCorrupt that it cannot be read and is refused anyway.
func (s *Store) Revoke(ctx context.Context, id string) (c Credential, again bool, err error) {
	if err := ValidateID(id); err != nil {
		return c, false, err
	}
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	for range revokeTries {
		if c, again, err = s.revoke(ctx, id); !bucket.IsConflict(err) {
			return c, again, err
		}
	}
	return c, false, fmt.Errorf("revoke credential %s: %w: others change it all the time: try again: %w", id, eventstore.ErrUnavailable, err)
}

// revoke tries it once.
func (s *Store) revoke(ctx context.Context, id string) (Credential, bool, error) {
	value, revision, err := load(ctx, s.nc, id)
	if err != nil {
		return Credential{}, false, fmt.Errorf("credential %s: %w", id, err)
	}
	was, err := decodeRecord(id, value)
	if err != nil {
		return Credential{}, false, err
	}
	c := *was.credential
	if !c.Revoked.IsZero() {
		return c, true, nil
	}
	c.Revoked = domain.Timestamp(s.now())
	if value, err = encodeRecord(&c, was.hash); err != nil {
		return Credential{}, false, err
	}
	kv, err := s.js.KeyValue(ctx, bucketName)
	if err == nil {
		_, err = kv.Update(ctx, id, value, revision)
	}
	if err != nil {
		return Credential{}, false, fmt.Errorf("revoke credential %s: %w: %w", id, eventstore.ErrUnavailable, err)
	}
	return c, false, nil
}

// Check says whose token it is, as Book.Check does, by asking the leader: for
// who has one question and keeps no Book. Its errors are eventstore.ErrUnavailable and
// ErrCorrupt, too.
func (s *Store) Check(ctx context.Context, token string) (Credential, error) {
	id, secret, ok := parseToken(token)
	switch {
	case token == "":
		return Credential{}, ErrMissing
	case !ok:
		return Credential{}, ErrMalformed
	}
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	value, _, err := load(ctx, s.nc, id)
	if err != nil {
		return Credential{}, fmt.Errorf("credential %s: %w", id, err)
	}
	known, err := decodeRecord(id, value)
	if err != nil {
		return Credential{}, err
	}
	return *known.credential, known.check(secret, s.now())
}

// List returns all credentials, revoked ones too, by their creation. Entries
// that cannot be read hide no others: they are left out, and the error, which
// comes with the others then, wraps ErrCorrupt and names each.
func (s *Store) List(ctx context.Context) ([]Credential, error) {
	newest := make(map[string]bucket.Entry)
	err := entries(ctx, s.nc, 0, func(e bucket.Entry) { newest[e.Key] = e })
	if err != nil && !errors.Is(err, bucket.ErrNoBucket) {
		return nil, err
	}
	var (
		all     []Credential
		corrupt error
	)
	for id, e := range newest {
		if len(e.Value) == 0 { // it was deleted by hand
			continue
		}
		known, err := decodeRecord(id, e.Value)
		if err != nil {
			corrupt = errors.Join(corrupt, err)
			continue
		}
		all = append(all, *known.credential)
	}
	slices.SortFunc(all, func(a, b Credential) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all, corrupt
}

package transparency

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/bucket"
)

// ErrFenced says that another signer has signed meanwhile. There must be one.
var ErrFenced = errors.New("another signer has signed this log meanwhile")

// Signed is the largest tree that may have been signed.
type Signed struct {
	Size uint64    `json:"size"`
	Root tlog.Hash `json:"root"` // in base64
}

// Fence keeps what was signed last, so that no two signers and no signer that
// was restarted can sign a fork. Move is durable when it returns, and happens
// only if nobody has moved since the revision; it is ErrFenced otherwise. After
// any other error of Move it may have happened: Load tells, and must not be
// answered by a replica that lags behind.
type Fence interface {
	// Load returns revision 0 when nothing was ever signed.
	Load(ctx context.Context) (s Signed, revision uint64, err error)
	Move(ctx context.Context, to Signed, revision uint64) (next uint64, err error)
}

const (
	// fenceBucket is the key-value bucket of all logs' fences.
	fenceBucket = "paldies_signed"
	// fenceTimeout is how long one question to the server may take.
	fenceTimeout = 5 * time.Second
)

// BucketFence is a Fence in a JetStream key-value bucket, moved by
// compare-and-set on the revision.
type BucketFence struct {
	nc  *nats.Conn
	kv  jetstream.KeyValue
	key string
}

// NewBucketFence is the fence of a log under a key, which must be a valid one
// for JetStream, such as a stream's name. It makes the bucket if it is missing;
// a bucket that was lost is told from a log that was never signed by the log's
// own checkpoint.
func NewBucketFence(ctx context.Context, nc *nats.Conn, key string, replicas int) (*BucketFence, error) {
	kv, err := openFences(ctx, nc, replicas)
	if err != nil {
		return nil, fmt.Errorf("fence of %s: %w", key, err)
	}
	return &BucketFence{nc: nc, kv: kv, key: key}, nil
}

// MakeFences makes the bucket of all logs' fences if it is missing, for signers
// that may not.
func MakeFences(ctx context.Context, nc *nats.Conn, replicas int) error {
	if _, err := openFences(ctx, nc, replicas); err != nil {
		return fmt.Errorf("fences: %w", err)
	}
	return nil
}

func openFences(ctx context.Context, nc *nats.Conn, replicas int) (jetstream.KeyValue, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, fenceTimeout)
	defer stop()
	return bucket.Open(ctx, js, jetstream.KeyValueConfig{
		Bucket:      fenceBucket,
		Description: "what was signed last; whoever changes it lets a fork be signed",
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
	})
}

// Load asks the leader: the bucket's own reads may be answered by any replica.
func (f *BucketFence) Load(ctx context.Context) (s Signed, revision uint64, err error) {
	return loadSigned(ctx, f.nc, f.key)
}

// LoadSigned reads what was signed last under a key, without making anything.
// Revision 0 says that nothing ever was, or that there is no record of it.
func LoadSigned(ctx context.Context, nc *nats.Conn, key string) (s Signed, revision uint64, err error) {
	s, revision, err = loadSigned(ctx, nc, key)
	if errors.Is(err, eventstore.ErrNotFound) {
		return Signed{}, 0, nil
	}
	return s, revision, err
}

func loadSigned(ctx context.Context, nc *nats.Conn, key string) (s Signed, revision uint64, err error) {
	ctx, stop := context.WithTimeout(ctx, fenceTimeout)
	defer stop()
	value, revision, err := bucket.Load(ctx, nc, fenceBucket, key)
	switch {
	case errors.Is(err, bucket.ErrNoKey):
		return s, 0, nil
	case errors.Is(err, bucket.ErrNoBucket):
		return s, 0, fmt.Errorf("fence of %s: %w: the bucket %s was lost, so nothing is signed: find out why", key, eventstore.ErrNotFound, fenceBucket)
	case err != nil:
		return s, 0, fmt.Errorf("fence of %s: %w", key, err)
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return s, 0, fmt.Errorf("fence of %s: %w: its value cannot be read, so nothing is signed: %w", key, eventstore.ErrCorrupt, err)
	}
	return s, revision, nil
}

// Move writes the value if the key is at the revision.
func (f *BucketFence) Move(ctx context.Context, to Signed, revision uint64) (uint64, error) {
	ctx, stop := context.WithTimeout(ctx, fenceTimeout)
	defer stop()
	value, err := json.Marshal(to)
	if err != nil {
		return 0, err
	}
	next, err := f.kv.Update(ctx, f.key, value, revision)
	switch {
	case bucket.IsConflict(err):
		return 0, fmt.Errorf("fence of %s: %w", f.key, ErrFenced)
	case err != nil:
		return 0, fmt.Errorf("fence of %s: %w: %w", f.key, eventstore.ErrUnavailable, err)
	}
	return next, nil
}

package credential

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore/bucket"
)

const (
	// bucketName is the key-value bucket of all credentials: the key is the id.
	bucketName = "paldies_credentials"
	// bucketHistory is how many values of a credential are kept: it has two
	// states, and the rest is what a repair by hand may need.
	bucketHistory = 5
	// requestTimeout is how long one question to the server may take.
	requestTimeout = 5 * time.Second
)

// ensureBucket opens the bucket and makes it if it is missing.
func ensureBucket(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	return bucket.Open(ctx, js, jetstream.KeyValueConfig{
		Bucket:       bucketName,
		Description:  "credentials of channels; whoever writes here can hand in votes",
		Storage:      jetstream.FileStorage,
		History:      bucketHistory,
		MaxValueSize: recordBytesMax,
		Replicas:     replicas,
	})
}

// load reads a credential from the leader. ErrUnknown says that there is none.
func load(ctx context.Context, nc *nats.Conn, id string) (value []byte, revision uint64, err error) {
	value, revision, err = bucket.Load(ctx, nc, bucketName, id)
	if errors.Is(err, bucket.ErrNoKey) || errors.Is(err, bucket.ErrNoBucket) {
		return nil, 0, ErrUnknown
	}
	return value, revision, err
}

// entries calls take with all that the bucket has above a revision, former values
// of a credential too, in order.
func entries(ctx context.Context, nc *nats.Conn, after uint64, take func(bucket.Entry)) error {
	next := func() (bucket.Entry, error) {
		ctx, stop := context.WithTimeout(ctx, requestTimeout)
		defer stop()
		return bucket.Next(ctx, nc, bucketName, after)
	}
	for {
		e, err := next()
		switch {
		case errors.Is(err, bucket.ErrNoKey):
			return nil
		case err != nil:
			return err
		}
		take(e)
		after = e.Revision
	}
}

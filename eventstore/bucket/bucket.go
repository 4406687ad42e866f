// Package bucket is what the key-value buckets of this project have in common
// beside what jetstream.KeyValue does: they are read from the leader, and a
// change that came too late is told from a fault. A bucket holds a few records
// on which processes must agree, such as what was signed last.
package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
)

var (
	// ErrNoKey says that the bucket has no value for a key.
	ErrNoKey = errors.New("no such key")
	// ErrNoBucket says that there is no bucket: nothing was ever kept, or it was
	// lost.
	ErrNoBucket = errors.New("no such bucket")
)

// Open opens a bucket and makes it if it is missing. Whoever else makes it at
// the same moment is no obstacle. Errors are eventstore.ErrUnavailable.
func Open(ctx context.Context, js jetstream.JetStream, c jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, c.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, c)
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, c.Bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w: %w", c.Bucket, eventstore.ErrUnavailable, err)
	}
	return kv, nil
}

// Load reads a key from the leader. The bucket's own reads may be answered by a
// replica that is behind. Errors are ErrNoKey, ErrNoBucket and
// eventstore.ErrUnavailable.
func Load(ctx context.Context, nc *nats.Conn, bucket, key string) (value []byte, revision uint64, err error) {
	e, err := get(ctx, nc, bucket, map[string]any{"last_by_subj": prefix(bucket) + key})
	if errors.Is(err, ErrNoKey) {
		err = fmt.Errorf("%w %s", err, key)
	}
	return e.Value, e.Revision, err
}

// Entry is what a bucket holds, or held before.
type Entry struct {
	Key      string
	Value    []byte // empty when the key was deleted
	Revision uint64
}

// Next reads the first entry above a revision from the leader; ErrNoKey says that
// there is none. So a bucket is read, and followed by who asks again. The bucket's
// own listing and watching make consumers, which readers are not allowed.
func Next(ctx context.Context, nc *nats.Conn, bucket string, after uint64) (Entry, error) {
	return get(ctx, nc, bucket, map[string]any{"seq": after + 1, "next_by_subj": prefix(bucket) + ">"})
}

// get asks the leader for a message.
func get(ctx context.Context, nc *nats.Conn, bucket string, which map[string]any) (Entry, error) {
	ask, err := json.Marshal(which)
	if err != nil {
		return Entry{}, err
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+Stream(bucket), ask)
	if err != nil {
		return Entry{}, fmt.Errorf("bucket %s: %w: %w", bucket, eventstore.ErrUnavailable, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string `json:"subject"`
			Sequence uint64 `json:"seq"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return Entry{}, fmt.Errorf("bucket %s: %w: the server's answer: %w", bucket, eventstore.ErrUnavailable, err)
	}
	switch m := answer.Message; {
	case answer.Error == nil:
		return Entry{strings.TrimPrefix(m.Subject, prefix(bucket)), m.Data, m.Sequence}, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return Entry{}, fmt.Errorf("bucket %s: %w", bucket, ErrNoKey)
	case answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return Entry{}, fmt.Errorf("%w: %s", ErrNoBucket, bucket)
	}
	return Entry{}, fmt.Errorf("bucket %s: %w: %w", bucket, eventstore.ErrUnavailable, answer.Error)
}

// prefix is what the subjects of a bucket's keys begin with.
func prefix(bucket string) string { return "$KV." + bucket + "." }

// Stream is the name of the stream behind a bucket.
func Stream(bucket string) string { return "KV_" + bucket }

// IsConflict recognises both of JetStream's codes for a wrong last sequence;
// the second one means that another write is under way.
func IsConflict(err error) bool {
	const wrongSequence, wrongSequenceConstant = 10071, 10164
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && (api.ErrorCode == wrongSequence || api.ErrorCode == wrongSequenceConstant)
}

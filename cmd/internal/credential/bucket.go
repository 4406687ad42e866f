package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// bucketName is the key-value bucket of all credentials: the key is the id.
	bucketName = "paldies_credentials"
	// streamName is the stream behind it.
	streamName = "KV_" + bucketName
	// bucketHistory is how many values of a credential are kept: it has two
	// states, and the rest is what a repair by hand may need.
	bucketHistory = 5
	// requestTimeout is how long one question to the server may take.
	requestTimeout = 5 * time.Second
)

// ErrUnavailable says that the server gave no answer, or not the one that it
// should.
var ErrUnavailable = errors.New("the credentials cannot be reached")

// ensureBucket opens the bucket and makes it if it is missing.
func ensureBucket(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, bucketName)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:       bucketName,
			Description:  "credentials of channels; whoever writes here can hand in votes",
			Storage:      jetstream.FileStorage,
			History:      bucketHistory,
			MaxValueSize: recordBytesMax,
			Replicas:     replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another process was quicker
			kv, err = js.KeyValue(ctx, bucketName)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w: %w", bucketName, ErrUnavailable, err)
	}
	return kv, nil
}

// load reads a credential from the leader, for the bucket's own reads may be
// answered by a replica that lags behind. ErrUnknown says that there is none.
func load(ctx context.Context, nc *nats.Conn, id string) (value []byte, revision uint64, err error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + bucketName + "." + id})
	if err != nil {
		return nil, 0, err
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+streamName, ask)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, 0, fmt.Errorf("%w: the server's answer: %w", ErrUnavailable, err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message.Data, answer.Message.Sequence, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound, answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return nil, 0, ErrUnknown
	}
	return nil, 0, fmt.Errorf("%w: %w", ErrUnavailable, answer.Error)
}

// isConflict recognises both of JetStream's codes for a wrong last sequence;
// the second one means that another write is under way.
func isConflict(err error) bool {
	const wrongSequence, wrongSequenceConstant = 10071, 10164
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && (api.ErrorCode == wrongSequence || api.ErrorCode == wrongSequenceConstant)
}

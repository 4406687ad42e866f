package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore/pubsub"
)

// poisonTopic is the topic of what cannot be filed under its own subject.
const poisonTopic = poisonPrefix + "unfiled"

const (
	// correlationBytesMax is how much of a correlation id is kept, in bytes.
	correlationBytesMax = 128
	// retryChunkMax is how many submissions are published again before they are taken
	// out of the poison, so that what is interrupted leaves few in both.
	retryChunkMax = 1000
	// reasonBytesMax is how much of a reason is kept, in bytes. Written as JSON it
	// may become six times as long: see poisonBytesMax.
	reasonBytesMax = 512
)

// Metadata of a submission in the poison, beside those of package pubsub.
const metadataSubmitted = "submitted_at" // when the channel published it

// poisonMetadata is what was added to a submission on its way into the poison.
var poisonMetadata = []string{pubsub.MetadataPoisonReason, pubsub.MetadataPoisonTopic, pubsub.MetadataPoisonHandler,
	middleware.PoisonedHandlerKey, metadataSubmitted}

// poisonSubject files a message under what it was published to.
func poisonSubject(_ string, m *message.Message) string {
	rest, ok := strings.CutPrefix(m.Metadata[pubsub.MetadataSubject], submissionsPrefix)
	subject := poisonPrefix + rest
	if !ok || len(subject) > subjectBytesMax || !printable(subject) {
		return poisonTopic
	}
	return subject
}

// filing publishes to the poison. It adds to a message what its subscriber knew
// and is not published again: where and when the channel has published it. What
// a channel wrote in its headers stays behind, but for the correlation id: it can
// grow on its way, and what does not fit into the poison would come again for ever.
type filing struct {
	message.Publisher
	filed func(*message.Message) // is told what is durable in the poison
}

// Publish implements message.Publisher.
func (f filing) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		err := f.Publisher.Publish(topic, filed(m))
		if errors.Is(err, pubsub.ErrRefused) {
			err = f.Publisher.Publish(topic, unfiled(m))
		}
		if err != nil {
			return err
		}
		f.filed(m)
	}
	return nil
}

// filed is a message as it goes to the poison.
func filed(m *message.Message) *message.Message {
	c := message.NewMessage(m.UUID, m.Payload)
	c.SetContext(m.Context())
	for key, bytesMax := range map[string]int{
		middleware.CorrelationIDMetadataKey: correlationBytesMax,
		pubsub.MetadataPoisonReason:         reasonBytesMax,
		middleware.PoisonedHandlerKey:       reasonBytesMax,
		pubsub.MetadataPoisonHandler:        reasonBytesMax,
	} {
		if value := m.Metadata[key]; value != "" {
			c.Metadata[key] = shortened(value, bytesMax)
		}
	}
	c.Metadata[pubsub.MetadataPoisonTopic] = shortened(m.Metadata[pubsub.MetadataSubject], subjectBytesMax)
	c.Metadata[metadataSubmitted] = m.Metadata[pubsub.MetadataPublished]
	c.Metadata[pubsub.MetadataSubject] = m.Metadata[pubsub.MetadataSubject] // for poisonSubject; it is not published
	return c
}

// unfiled is a message with nothing that anybody could refuse.
func unfiled(m *message.Message) *message.Message {
	c := message.NewMessage("", m.Payload)
	c.SetContext(m.Context())
	c.Metadata[pubsub.MetadataPoisonReason] = "unknown: the poison did not take it with its reason and its subject; the log of the worker has the reason"
	c.Metadata[metadataSubmitted] = m.Metadata[pubsub.MetadataPublished]
	return c
}

// shortened is text of so many bytes at most, in UTF-8. A subject that is cut off
// is none of a submission: those are far shorter.
func shortened(text string, bytesMax int) string {
	return strings.ToValidUTF8(text[:min(len(text), bytesMax)], "?")
}

// Poisoned is a submission in the poison. Its body may hold a voter's id.
type Poisoned struct {
	ID        uint64    // its place in the poison
	Subject   string    // where its channel has published it
	Reason    string    // why it can never succeed as it is
	Submitted time.Time // when its channel has published it; zero if that is not known
	Since     time.Time // when it came into the poison
	Body      []byte
	metadata  message.Metadata
}

// ErrNotPoisoned says that there is no such submission in the poison.
var ErrNotPoisoned = errors.New("it is not in the poison; `paldies queue poison list` shows what is")

// Poison is the submissions that no worker can decide, for a person to look at.
type Poison struct{ nc *nats.Conn }

// NewPoison looks at the poison over a connection that stays its owner's.
func NewPoison(nc *nats.Conn) Poison { return Poison{nc} }

// List is what is in the poison, oldest first.
func (p Poison) List(ctx context.Context) (all []Poisoned, err error) {
	err = readAll(ctx, p.nc, PoisonStream, func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		all = append(all, readPoisoned(meta.Sequence.Stream, meta.Timestamp, m.Subject(), m.Headers(), m.Data()))
		return nil
	})
	return all, err
}

// Get is one submission in the poison.
func (p Poison) Get(ctx context.Context, id uint64) (Poisoned, error) {
	stream, err := p.stream(ctx)
	if err != nil {
		return Poisoned{}, err
	}
	m, err := stream.GetMsg(ctx, id)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Poisoned{}, fmt.Errorf("submission %d: %w", id, ErrNotPoisoned)
	case err != nil:
		return Poisoned{}, unavailable(err)
	}
	return readPoisoned(m.Sequence, m.Time, m.Subject, m.Header, m.Data), nil
}

func readPoisoned(id uint64, since time.Time, subject string, header nats.Header, body []byte) Poisoned {
	m := pubsub.Metadata(header)
	q := Poisoned{ID: id, Subject: m[pubsub.MetadataPoisonTopic], Reason: m[pubsub.MetadataPoisonReason], Since: since, Body: body, metadata: m}
	if q.Subject == "" { // somebody has put it there by hand
		q.Subject = submissionsPrefix + strings.TrimPrefix(subject, poisonPrefix)
	}
	q.Submitted, _ = time.Parse(time.RFC3339Nano, m[metadataSubmitted]) // zero when it says nothing
	return q
}

func (p Poison) stream(ctx context.Context) (jetstream.Stream, error) {
	js, err := jetstream.New(p.nc)
	if err != nil {
		return nil, err
	}
	return openStream(ctx, js, PoisonStream)
}

// Retry publishes submissions anew, in their order, where their channels have
// published them, and then takes them out of the poison; it returns how many.
// When it is interrupted in between they are in both, which is no harm: a
// submission has one outcome. Those with a subject that no submission can have
// stay, and the error names them.
func (p Poison) Retry(ctx context.Context, list []Poisoned) (retried int, err error) {
	publisher, err := newSubmitter(p.nc)
	if err != nil {
		return 0, err
	}
	defer publisher.Close() // it has answered everything
	var stay []error
	var again []Poisoned
	for _, q := range list {
		if _, err := parsePlace(q.Subject); err != nil {
			stay = append(stay, fmt.Errorf("submission %d can only be dropped: %w", q.ID, err))
			continue
		}
		again = append(again, q)
	}
	for chunk := range slices.Chunk(again, retryChunkMax) {
		n, refused, err := p.retryChunk(ctx, publisher, chunk)
		retried, stay = retried+n, append(stay, refused...)
		if err != nil {
			return retried, errors.Join(append(stay, err)...)
		}
	}
	return retried, errors.Join(stay...)
}

// retryChunk retries some together and, when one of them is refused, each alone.
func (p Poison) retryChunk(ctx context.Context, publisher *pubsub.Publisher, list []Poisoned) (retried int, refused []error, err error) {
	err = p.retry(ctx, publisher, list)
	switch {
	case err == nil:
		return len(list), nil, nil
	case !errors.Is(err, pubsub.ErrRefused):
		return 0, nil, err
	case len(list) == 1:
		return 0, []error{fmt.Errorf("submission %d: %w", list[0].ID, err)}, nil
	}
	for _, q := range list {
		n, one, err := p.retryChunk(ctx, publisher, []Poisoned{q})
		retried, refused = retried+n, append(refused, one...)
		if err != nil {
			return retried, refused, err
		}
	}
	return retried, refused, nil
}

func (p Poison) retry(ctx context.Context, publisher *pubsub.Publisher, list []Poisoned) error {
	messages := make([]*message.Message, len(list))
	for i, q := range list {
		m := message.NewMessage("", q.Body)
		for key, value := range q.metadata {
			if !slices.Contains(poisonMetadata, key) {
				m.Metadata[key] = value
			}
		}
		messages[i] = addressed(ctx, q.Subject, m)
	}
	if err := publisher.Publish(submissionsPrefix, messages...); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	return p.Drop(ctx, list)
}

// Drop removes submissions for good: their bytes are overwritten.
func (p Poison) Drop(ctx context.Context, list []Poisoned) error {
	stream, err := p.stream(ctx)
	if err != nil {
		return err
	}
	for _, q := range list {
		err := stream.SecureDeleteMsg(ctx, q.ID)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
			return fmt.Errorf("submission %d: %w", q.ID, unavailable(err))
		}
		if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
			if _, err := p.Get(ctx, q.ID); !errors.Is(err, ErrNotPoisoned) {
				return fmt.Errorf("submission %s could not be removed", strconv.FormatUint(q.ID, 10))
			}
		}
	}
	return nil
}

package pubsub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Subscriber gives out the messages of topics to one group. It is a Watermill
// message.Subscriber. Its methods are safe for concurrent use.
type Subscriber struct {
	config SubscriberConfig
	nc     *nats.Conn
	js     jetstream.JetStream

	mu            sync.Mutex // guards what follows
	closed        bool
	subscriptions []*subscription // that have not ended
	calls         sync.WaitGroup  // of Subscribe; added to under mu while not closed
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber makes a Subscriber on a connection that stays its owner's. The
// connection must have been made with eventstore.ConnectOptions.
func NewSubscriber(nc *nats.Conn, c SubscriberConfig) (*Subscriber, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := checkConnection(nc); err != nil {
		return nil, fmt.Errorf("subscriber %s: %w", c.Group, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("subscriber %s: %w", c.Group, err)
	}
	return &Subscriber{config: c.withDefaults(), nc: nc, js: js}, nil
}

// SubscribeInitialize makes the group's durable consumer for a topic, as
// Subscribe does. It is not needed: a new group begins with the oldest message.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	_, _, err := s.consumer(context.Background(), topic)
	return err
}

// Subscribe gives out the topic's messages until ctx ends or the Subscriber is
// closed; then the channel is closed. It is also closed when somebody has deleted
// the stream or the group's durable consumer: Subscribe makes another one, which
// begins with the oldest message. The topic may have wildcards. ErrNoStream is
// returned when no stream stores it.
//
// The next message comes only when there is room among the InFlight messages
// that are neither acked nor nacked, and, in an ordered group, when all earlier
// ones with its key are acked. A message's context ends when it is acked or
// nacked, when ctx ends, or when Close has lost its patience.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("subscriber %s: subscribe to %s: %w", s.config.Group, topic, err)
	}
	defer s.calls.Done()
	stream, created, err := s.consumer(ctx, topic)
	if err != nil {
		return nil, err
	}
	sub := newSubscription(ctx, s, stream, topic)
	sub.created = created
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions = append(s.subscriptions, sub)
	go sub.run()
	return sub.out, nil
}

func (s *Subscriber) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// ended forgets a subscription.
func (s *Subscriber) ended(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions = slices.DeleteFunc(s.subscriptions, func(other *subscription) bool { return other == sub })
}

// consumer makes the group's durable consumer for a topic unless it is there,
// and returns the name of its stream and when the consumer was made.
func (s *Subscriber) consumer(ctx context.Context, topic string) (stream string, created time.Time, err error) {
	if err := validateFilter(topic); err != nil {
		return "", created, fmt.Errorf("subscriber %s: %w", s.config.Group, err)
	}
	found, err := findStream(ctx, s.js, topic)
	if err != nil {
		return "", created, fmt.Errorf("subscriber %s: subscribe to %s: %w", s.config.Group, topic, err)
	}
	stream = found.CachedInfo().Config.Name
	if created, err = s.ensureConsumer(ctx, found, topic); err != nil {
		return "", created, fmt.Errorf("subscriber %s: subscribe to %s in stream %s: %w", s.config.Group, topic, stream, err)
	}
	return stream, created, nil
}

// ensureConsumer refuses to change what a group reads, and whether it is ordered:
// that would lose its place, or break the promise that other subscribers rely on.
func (s *Subscriber) ensureConsumer(ctx context.Context, stream jetstream.Stream, topic string) (created time.Time, err error) {
	wanted := s.consumerConfig(topic)
	existing, err := stream.Consumer(ctx, s.config.Group)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return created, streamError(err)
	default:
		c := existing.CachedInfo().Config
		if c.FilterSubject != topic {
			return created, fmt.Errorf("the group reads %q there: use another group", c.FilterSubject)
		}
		if c.PriorityPolicy != wanted.PriorityPolicy {
			return created, errors.New("the group exists and is ordered where this subscriber is not, or the reverse: use another group, or delete the durable consumer")
		}
		if c.AckWait == wanted.AckWait && c.MaxAckPending == wanted.MaxAckPending && c.PinnedTTL == wanted.PinnedTTL {
			return existing.CachedInfo().Created, nil
		}
	}
	consumer, err := stream.CreateOrUpdateConsumer(ctx, wanted)
	if err != nil {
		return created, streamError(err)
	}
	return consumer.CachedInfo().Created, nil
}

func (s *Subscriber) consumerConfig(topic string) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable:       s.config.Group,
		FilterSubject: topic,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.config.AckWait,
		MaxAckPending: s.config.MaxAckPending,
		MaxDeliver:    -1,
	}
	if s.config.OrderBy != nil {
		c.PriorityPolicy = jetstream.PriorityPolicyPinned
		c.PriorityGroups = []string{priorityGroup}
		c.PinnedTTL = s.config.TakeoverAfter
	}
	return c
}

// Close ends all subscriptions and waits for their handlers, at most CloseTimeout.
// What was not acked then is given back, so that others get it at once; Close
// says how much of it was still in hand. Closing again does nothing. The
// connection stays open.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	s.mu.Lock()
	subscriptions := slices.Clone(s.subscriptions)
	s.mu.Unlock()
	for _, sub := range subscriptions {
		sub.end()
	}
	abandoned := 0
	for _, sub := range subscriptions {
		<-sub.done
		abandoned += sub.abandoned
	}
	if abandoned > 0 {
		s.config.Logger.Warn("messages were given back before their handlers were done",
			"group", s.config.Group, "messages", abandoned, "after", s.config.CloseTimeout)
	}
	return nil
}

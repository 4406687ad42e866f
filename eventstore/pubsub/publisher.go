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

// closeTimeoutDefault is how long Close waits for what is under way, in time.
const closeTimeoutDefault = 30 * time.Second

// PublisherConfig configures a Publisher.
type PublisherConfig struct {
	// Subject chooses the subject of a message, for example the topic and a
	// voter's pseudonym. Nil means the topic itself. One call of Publish must
	// stay within one stream.
	Subject func(topic string, m *message.Message) string
	// CloseTimeout is how long Close waits for what is under way; 0 means 30 s.
	CloseTimeout time.Duration
}

// Validate reports the first thing that is wrong with the configuration.
func (c PublisherConfig) Validate() error {
	if c.CloseTimeout < 0 {
		return fmt.Errorf("publisher: CloseTimeout %v: use 0 for %v", c.CloseTimeout, closeTimeoutDefault)
	}
	return nil
}

// Publisher publishes to the streams that store its topics. It is a Watermill
// message.Publisher. Its methods are safe for concurrent use.
type Publisher struct {
	config PublisherConfig
	nc     *nats.Conn
	js     jetstream.JetStream

	// ctx ends when Close has lost its patience. It is no caller's context,
	// because a commit belongs to many callers.
	ctx    context.Context
	cancel context.CancelCauseFunc
	status chan nats.Status
	watch  sync.WaitGroup // the watcher of the connection

	mu     sync.Mutex // guards what follows
	lanes  []*lane    // one a stream that was published to
	closed bool
	calls  sync.WaitGroup // calls of Publish; added to under mu while not closed
	// connected ends when the connection breaks: no answer comes after that.
	connected context.Context
	broken    context.CancelCauseFunc
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher makes a Publisher on a connection that stays its owner's. The
// connection must have been made with eventstore.ConnectOptions.
func NewPublisher(nc *nats.Conn, c PublisherConfig) (*Publisher, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := checkConnection(nc); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = closeTimeoutDefault
	}
	p := &Publisher{config: c, nc: nc, js: js}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.connected, p.broken = context.WithCancelCause(p.ctx)
	p.status = nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	p.watch.Go(p.watchConnection)
	return p, nil
}

// checkConnection refuses a connection that publishes later what it could not
// publish at once: an outcome that was reported as failed could still change.
func checkConnection(nc *nats.Conn) error {
	if nc == nil {
		return errors.New("no connection")
	}
	if nc.Opts.ReconnectBufSize >= 0 {
		return errors.New("the connection keeps publishes while it is disconnected: connect with eventstore.ConnectOptions")
	}
	return nil
}

// watchConnection gives up at once on answers that can no longer come.
func (p *Publisher) watchConnection() {
	for range p.status {
		p.mu.Lock()
		p.broken(errConnectionLost)
		p.connected, p.broken = context.WithCancelCause(p.ctx)
		p.mu.Unlock()
	}
}

// Publish stores the messages in their order and returns when all of them are
// durable. Several messages go as atomic batches of at most 1000. Messages of
// concurrent calls share commits; nothing waits for others to come. Concurrent
// calls have no order among each other.
//
// The call ends early with the context of its first message. Every error is a
// *PublishError around ErrNoStream, ErrRefused, ErrUnavailable, ErrClosed (in
// all these cases the failing batch was not stored) or ErrOutcomeUnknown.
//
// Nothing is de-duplicated: after ErrOutcomeUnknown the message may be stored
// twice, so consumers must know a submission by its own id.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	stored, err := p.publish(topic, messages)
	if err != nil {
		return &PublishError{Topic: topic, Stored: stored, Err: err}
	}
	return nil
}

func (p *Publisher) publish(topic string, messages []*message.Message) (stored int, err error) {
	if err := p.enter(); err != nil {
		return 0, err
	}
	defer p.calls.Done()
	encoded, err := p.encodeAll(topic, messages)
	if err != nil {
		return 0, err
	}
	ctx := messages[0].Context()
	lane, err := p.laneFor(ctx, encoded)
	if err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk(encoded, batchMessagesMax) {
		n, err := lane.publish(ctx, chunk)
		stored += n
		if err != nil {
			return stored, err
		}
	}
	return stored, nil
}

func (p *Publisher) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.calls.Add(1)
	return nil
}

func (p *Publisher) encodeAll(topic string, messages []*message.Message) ([]*nats.Msg, error) {
	encoded := make([]*nats.Msg, len(messages))
	for i, m := range messages {
		subject := topic
		if p.config.Subject != nil {
			subject = p.config.Subject(topic, m)
		}
		if err := validateTopic(subject); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		msg, err := encode(subject, m)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
		if size := int64(len(msg.Data)); size > p.nc.MaxPayload() {
			return nil, fmt.Errorf("message %d: %w: %d bytes, the server takes %d", i+1, ErrRefused, size, p.nc.MaxPayload())
		}
		encoded[i] = msg
	}
	return encoded, nil
}

// laneFor finds the lane of the stream that stores all the messages.
func (p *Publisher) laneFor(ctx context.Context, messages []*nats.Msg) (*lane, error) {
	first := messages[0].Subject
	l := p.knownLane(first)
	if l == nil {
		var err error
		if l, err = p.newLane(ctx, first); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range messages[1:] {
		if m.Subject != first && !l.stores(m.Subject) {
			return nil, fmt.Errorf("%w: stream %s stores %s but not %s: publish them apart", ErrRefused, l.stream, first, m.Subject)
		}
	}
	return l, nil
}

func (p *Publisher) knownLane(subject string) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes {
		if l.stores(subject) {
			return l
		}
	}
	return nil
}

// newLane asks the server which stream stores the subject.
func (p *Publisher) newLane(ctx context.Context, subject string) (*lane, error) {
	stream, err := findStream(ctx, p.js, subject)
	switch {
	case err == nil:
	case errors.Is(err, ErrNoStream), errors.Is(err, ErrUnavailable):
		return nil, err
	default:
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	config := stream.CachedInfo().Config
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes { // somebody else was as fast, or the stream has more subjects now
		if l.stream == config.Name {
			l.subjects = config.Subjects
			return l, nil
		}
	}
	l := &lane{publisher: p, stream: config.Name, subjects: config.Subjects, atomic: config.AllowAtomicPublish}
	p.lanes = append(p.lanes, l)
	return l, nil
}

// forget lets the next call look for the stream again.
func (p *Publisher) forget(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lanes = slices.DeleteFunc(p.lanes, func(known *lane) bool { return known == l })
}

// findStream returns the stream that stores a topic.
func findStream(ctx context.Context, js jetstream.JetStream, topic string) (jetstream.Stream, error) {
	name, err := js.StreamNameBySubject(ctx, topic)
	if err != nil {
		return nil, streamError(err)
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, streamError(err)
	}
	return stream, nil
}

// Close refuses further calls and waits until those under way have ended. What
// is not answered after CloseTimeout ends with ErrOutcomeUnknown, and Close says
// so. Closing again does nothing. The connection stays open.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(ended)
	}()
	timer := time.NewTimer(p.config.CloseTimeout)
	defer timer.Stop()
	var late error
	select {
	case <-ended:
	case <-timer.C:
		late = fmt.Errorf("close publisher: calls were cut off after %v", p.config.CloseTimeout)
		p.cancel(ErrClosed)
		<-ended
	}
	p.cancel(ErrClosed)
	p.nc.RemoveStatusListener(p.status)
	p.watch.Wait()
	return late
}

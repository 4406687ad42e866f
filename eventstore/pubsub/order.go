package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// resume begins the session of an ordered group. A subscription that is active
// still goes on after a reset; another one stands by, and forgets what it holds:
// the active one gets it.
func (s *subscription) resume(p *puller) error {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	if s.pin != "" {
		pin, err := s.pinned(ctx)
		if err != nil {
			return err
		}
		if pin == s.pin {
			return s.reset(ctx, p, s.pin)
		}
	}
	s.pin = ""
	s.dispatch.dropHeld()
	return nil
}

// pinned asks the server for the pin of the group's active subscription, which
// is empty when there is none.
func (s *subscription) pinned(ctx context.Context) (string, error) {
	consumer, err := s.js.Consumer(ctx, s.stream, s.config.Group)
	if err != nil {
		return "", consumerError(err)
	}
	for _, group := range consumer.CachedInfo().PriorityGroups {
		if group.Group == priorityGroup {
			return group.PinnedClientID, nil
		}
	}
	return "", nil
}

// reset makes the server forget what it has delivered since its ack floor: it
// delivers all of that again, in order, beginning with consumer sequence 1. From
// here on nothing can be unknown that comes before what is known.
func (s *subscription) reset(ctx context.Context, p *puller, pin string) error {
	if _, err := s.js.ResetConsumer(ctx, s.stream, s.config.Group); err != nil {
		return consumerError(err)
	}
	p.pin, s.pin, s.expected = pin, pin, 1
	return nil
}

// receive takes in what the server has sent.
func (s *subscription) receive(p *puller, msg *nats.Msg) error {
	p.heard = time.Now()
	if msg.Reply == "" {
		return p.status(msg)
	}
	p.outstanding = max(p.outstanding-1, 0)
	d, err := parseDelivery(msg)
	if err != nil {
		return fmt.Errorf("a message without JetStream's reply subject: %w", err)
	}
	if s.ordered() {
		if skip, err := s.inOrder(p, msg, d); skip || err != nil {
			return err
		}
	}
	m, malformed := decode(msg, d)
	it := &item{sequence: d.sequence, deliveries: d.deliveries, reply: msg.Reply, message: m, malformed: malformed, touched: p.heard}
	if !s.dispatch.add(it, msg.Subject) {
		s.answer(msg.Reply, wordAck)
	}
	return nil
}

// inOrder makes sure that nothing is missing before a message of an ordered
// group. The first message after a time of standing by only shows that this
// subscription is active now; it comes again after the reset.
func (s *subscription) inOrder(p *puller, msg *nats.Msg, d delivery) (skip bool, err error) {
	pin := pinOf(msg)
	if p.pin == "" {
		return true, s.takeOver(p, pin)
	}
	if pin != "" && pin != p.pin {
		return false, errDisplaced
	}
	if d.consumer != s.expected {
		return false, fmt.Errorf("%w: consumer sequence %d instead of %d", errGap, d.consumer, s.expected)
	}
	s.expected++
	return false, nil
}

// takeOver makes this subscription the active one under the pin that came with
// a message. A message whose headers cannot be read comes without one; then the
// server tells it.
func (s *subscription) takeOver(p *puller, pin string) error {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	if pin == "" {
		var err error
		if pin, err = s.pinned(ctx); err != nil {
			return err
		}
	}
	s.config.Logger.Info("this subscription is the active one of its group now",
		"group", s.config.Group, "topic", s.topic)
	return s.reset(ctx, p, pin)
}

// makeWay lets another subscriber of an ordered group become active at once.
func (s *subscription) makeWay(ctx context.Context) {
	if s.pin == "" {
		return
	}
	if pin, err := s.pinned(ctx); err != nil || pin != s.pin {
		return // there is nothing to make way for, or TakeoverAfter does it
	}
	if stream, err := s.js.Stream(ctx, s.stream); err == nil {
		_ = stream.UnpinConsumer(ctx, s.config.Group, priorityGroup)
	}
}

// consumerError tells a consumer that is gone from one that cannot be asked.
func consumerError(err error) error {
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
		return fmt.Errorf("%w: %w", errNoConsumer, err)
	}
	return err
}

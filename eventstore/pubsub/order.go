package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// handoverTimeout is how long a subscription that becomes active waits for what
// the one before it has given back, in time.
const handoverTimeout = time.Second

// gapTimeout is how long a message of an ordered group may be late, in time.
const gapTimeout = time.Second

// resume begins the session of an ordered group. A subscription that is active
// still goes on after a reset; another one stands by, and forgets what it holds:
// the active one gets it, or who will be active next.
func (s *subscription) resume(p *puller) error {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	if s.pin != "" {
		group, err := s.group(ctx)
		if err != nil {
			return err
		}
		if group.pin == s.pin {
			p.pin = s.pin
			return s.reset(ctx)
		}
		s.dispatch.dropHeld()
		if err := s.relieve(ctx); err != nil { // when nobody is active now
			return err
		}
	}
	s.pin = ""
	s.looked = time.Now()
	return nil
}

// lookAfter makes sure, once in a while, that a subscription which stands by does
// not wait for nothing.
func (s *subscription) lookAfter(p *puller) error {
	if !s.ordered() || p.pin != "" || time.Since(s.looked) < s.config.TakeoverAfter {
		return nil
	}
	s.looked = time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	return s.relieve(ctx)
}

// relieve makes the server deliver again what nobody works on. It makes somebody
// active only when there is a message to deliver; when all that there is was
// delivered to a subscription that is gone, that would be after AckWait.
func (s *subscription) relieve(ctx context.Context) error {
	group, err := s.group(ctx)
	if err != nil || group.pin != "" || group.unacked == 0 {
		return err
	}
	if _, err := s.js.ResetConsumer(ctx, s.stream, s.config.Group); err != nil {
		return consumerError(err)
	}
	return nil
}

// groupState is what the server knows about the group.
type groupState struct {
	pin     string // of the active subscription; empty when there is none
	unacked int    // delivered to whomever, and not acked
}

func (s *subscription) group(ctx context.Context) (groupState, error) {
	consumer, err := s.js.Consumer(ctx, s.stream, s.config.Group)
	if err != nil {
		return groupState{}, consumerError(err)
	}
	info := consumer.CachedInfo()
	state := groupState{unacked: info.NumAckPending}
	for _, group := range info.PriorityGroups {
		if group.Group == priorityGroup {
			state.pin = group.PinnedClientID
		}
	}
	return state, nil
}

// reset makes the server forget what it has delivered since its ack floor: it
// delivers all of that again, in order, beginning with consumer sequence 1. From
// here on nothing can be unknown that comes before what is known. What is held
// is forgotten here too, because messages before it may have been unknown.
func (s *subscription) reset(ctx context.Context) error {
	s.dispatch.dropHeld()
	if _, err := s.js.ResetConsumer(ctx, s.stream, s.config.Group); err != nil {
		return consumerError(err)
	}
	s.beginTurns(1)
	s.proceed()
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
	if !s.ordered() {
		s.take(msg, d)
		return nil
	}
	if p.pin == "" {
		if skip, err := s.takeOver(p, msg, d); skip || err != nil {
			return err
		}
	} else if pin := pinOf(msg); pin != "" && pin != p.pin {
		return errDisplaced
	}
	return s.inTurn(msg, d)
}

// take lets the dispatcher have a message.
func (s *subscription) take(msg *nats.Msg, d delivery) {
	m, malformed := decode(msg, d)
	it := &item{sequence: d.sequence, deliveries: d.deliveries, reply: msg.Reply, message: m, malformed: malformed, touched: time.Now()}
	if !s.dispatch.add(it, msg.Subject) {
		s.answer(msg.Reply, wordAck)
	}
}

// early is a message of an ordered group that came before its turn.
type early struct {
	msg *nats.Msg
	d   delivery
}

// inTurn takes the messages of an ordered group in the order in which the server
// has delivered them, so that nothing is missing before any of them. Servers that
// replicate to each other send some earlier than others that they have numbered
// before. What is missing for long was delivered elsewhere or lost.
func (s *subscription) inTurn(msg *nats.Msg, d delivery) error {
	if d.consumer < s.expected {
		return fmt.Errorf("%w: consumer sequence %d instead of %d", errGap, d.consumer, s.expected)
	}
	if d.consumer == s.expected && len(s.early) == 0 { // as nearly always
		s.expected++
		s.arrived(d)
		s.take(msg, d)
		return nil
	}
	s.early[d.consumer] = early{msg, d}
	moved := false
	for e, found := s.early[s.expected]; found; e, found = s.early[s.expected] {
		delete(s.early, s.expected)
		s.expected++
		s.arrived(e.d)
		s.take(e.msg, e.d)
		moved = true
	}
	switch {
	case len(s.early) == 0:
		s.gap = nil
	case moved || s.gap == nil:
		s.gap = time.After(gapTimeout)
	}
	return nil
}

// arrived counts down what the subscription before has given back. A message
// that comes for the first time is not part of it, even if it comes again.
func (s *subscription) arrived(d delivery) {
	if s.awaited == 0 || s.came[d.sequence] {
		return
	}
	s.came[d.sequence] = true
	if d.deliveries == 1 {
		return
	}
	if s.awaited--; s.awaited == 0 {
		s.proceed()
	}
}

// beginTurns says which consumer sequence comes next, whatever came before.
func (s *subscription) beginTurns(expected uint64) {
	s.expected, s.early, s.gap = expected, make(map[uint64]early), nil
}

// proceed ends the wait for what the subscription before has given back.
func (s *subscription) proceed() { s.awaited, s.came, s.handover = 0, nil, nil }

// takeOver makes this subscription, which stood by, the active one: the first
// message shows it. What is unacked may be unknown here and come later, although
// it comes first. When the subscription before has given everything back, all of
// that comes at once, and its number is known: until then nothing is handed
// over. When it does not come, because that subscription crashed, a reset brings
// it, and on a Keep stream also what was acked out of turn.
//
// The message itself is given back after the question, so that it is one of
// those that are counted; unless it is new and the only one. What others ack late
// can only make the wait last until the reset.
func (s *subscription) takeOver(p *puller, msg *nats.Msg, d delivery) (skip bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	group, err := s.group(ctx)
	if err != nil {
		return false, err
	}
	pin := pinOf(msg)
	if pin == "" { // of a message whose headers cannot be read
		pin = group.pin
	}
	s.config.Logger.Info("this subscription is the active one of its group now",
		"group", s.config.Group, "topic", s.topic, "unacked", group.unacked)
	p.pin, s.pin = pin, pin
	s.beginTurns(d.consumer)
	if group.unacked == 1 && d.deliveries == 1 {
		return false, nil
	}
	s.expected++
	s.answer(msg.Reply, wordNak)
	s.awaited, s.came, s.handover = group.unacked, make(map[uint64]bool), time.After(handoverTimeout)
	return true, nil
}

// resetNow ends the wait for what the subscription before has given back.
func (s *subscription) resetNow() error {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	return s.reset(ctx)
}

// makeWay lets another subscriber of an ordered group become active at once.
func (s *subscription) makeWay(ctx context.Context) {
	if s.pin == "" {
		return
	}
	if group, err := s.group(ctx); err != nil || group.pin != s.pin {
		return // there is nothing to make way for, or TakeoverAfter does it
	}
	if stream, err := s.js.Stream(ctx, s.stream); err == nil {
		_ = stream.UnpinConsumer(ctx, s.config.Group, priorityGroup)
	}
}

// consumerError tells a consumer that is gone from one that cannot be asked.
func consumerError(err error) error {
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return err
}

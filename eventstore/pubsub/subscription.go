package pubsub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// beatsPerAckWait is how often the server hears in the time of AckWait that a
	// message is held.
	beatsPerAckWait = 4
	// apiTimeout is how long one question to the server may take, in time.
	apiTimeout = 5 * time.Second
	// retryMin and retryMax bound the time between two sessions.
	retryMin = 20 * time.Millisecond
	retryMax = 2 * time.Second
	// noConsumerTries is how often a subscription looks for its durable consumer
	// in vain before it ends, in sessions: about five seconds.
	noConsumerTries = 9
	// poisonReasonBytesMax is the longest reason that the server is told, in bytes.
	poisonReasonBytesMax = 200
)

var (
	errGap      = errors.New("a message was delivered elsewhere or lost on its way")
	errReplaced = errors.New("the durable consumer was replaced by another one of its name: subscribe again")
)

// subscription is one call of Subscribe. One goroutine owns all of it; the
// handlers' acks come to it over the channel settled.
type subscription struct {
	subscriber *Subscriber
	config     SubscriberConfig
	nc         *nats.Conn
	js         jetstream.JetStream
	stream     string
	topic      string
	created    time.Time // of the durable consumer
	orphaned   bool      // that consumer is gone; another one may have its name

	out      chan *message.Message
	settled  chan settlement // has room for all that is in hand, so that no handler waits
	ctx      context.Context // of Subscribe
	stop     chan struct{}   // closed by Close
	stopOnce sync.Once
	done     chan struct{} // closed when all has ended

	handlers  context.Context // parent of the messages' contexts
	cancel    context.CancelFunc
	giveUp    chan struct{} // closed when handlers are waited for no longer
	abandoned int           // messages in hand at that time; read after done

	dispatch *dispatcher
	pin      string           // of an ordered group: under which this subscription is, or was, active
	expected uint64           // of an ordered group: the consumer sequence that must come next
	early    map[uint64]early // messages that came before their turn, by consumer sequence
	gap      <-chan time.Time // when the one before them is lost
	awaited  int              // messages that must come again before anything is handed over
	came     map[uint64]bool  // sequences that have come meanwhile
	handover <-chan time.Time // when they are awaited no longer
	looked   time.Time        // when it was last seen whether somebody is active
}

// settlement is what became of a message in hand.
type settlement struct {
	item  *item
	acked bool
	term  string // why a malformed message is done with; its poison copy is durable
}

func newSubscription(ctx context.Context, s *Subscriber, stream, topic string) *subscription {
	sub := &subscription{
		subscriber: s,
		config:     s.config,
		nc:         s.nc,
		js:         s.js,
		stream:     stream,
		topic:      topic,
		out:        make(chan *message.Message),
		settled:    make(chan settlement, s.config.InFlight),
		ctx:        ctx,
		stop:       make(chan struct{}),
		done:       make(chan struct{}),
		giveUp:     make(chan struct{}),
		dispatch:   newDispatcher(s.config.InFlight, s.config.OrderBy),
	}
	sub.handlers, sub.cancel = context.WithCancel(ctx)
	return sub
}

func (s *subscription) ordered() bool { return s.config.OrderBy != nil }

// end makes the subscription end; done tells when it has.
func (s *subscription) end() { s.stopOnce.Do(func() { close(s.stop) }) }

// ending reports whether the subscription is to end.
func (s *subscription) ending() bool {
	select {
	case <-s.stop:
		return true
	case <-s.ctx.Done():
		return true
	default:
		return s.nc.IsClosed()
	}
}

// run is the subscription's goroutine. It goes from session to session until it
// is to end.
func (s *subscription) run() {
	defer close(s.done)
	defer s.subscriber.ended(s)
	defer s.cancel()
	missing := 0
	for try := 0; !s.ending(); try++ {
		begun := time.Now()
		err := s.session()
		if err == nil {
			break
		}
		if missing++; !errors.Is(err, errMissing) {
			missing = 0
		}
		if s.orphaned = errors.Is(err, errReplaced) || missing == noConsumerTries; s.orphaned {
			s.config.Logger.Error("a subscription has ended", "group", s.config.Group, "topic", s.topic, "error", err)
			break
		}
		if time.Since(begun) > retryMax {
			try = 0
		}
		s.config.Logger.Warn("a subscription was disturbed and goes on",
			"group", s.config.Group, "topic", s.topic, "error", err)
		s.pause(min(retryMin<<min(try, 16), retryMax))
	}
	close(s.out)
	s.finish()
}

func (s *subscription) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.stop:
	case <-s.ctx.Done():
	}
}

// session works until the first disturbance, which it returns, or until the
// subscription is to end. Messages in hand outlive it.
func (s *subscription) session() error {
	p, err := newPuller(s.nc, s.stream, s.config.Group, s.room(), s.config)
	if err != nil {
		return err
	}
	defer func() { _ = p.sub.Unsubscribe() }() // fails only when it is closed already
	status := s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer s.nc.RemoveStatusListener(status)
	if err := s.sameConsumer(); err != nil {
		return err
	}
	s.beginTurns(0)
	s.proceed()
	if s.ordered() {
		if err := s.resume(p); err != nil {
			return err
		}
	}
	beat := time.NewTicker(min(s.config.AckWait/beatsPerAckWait, p.heartbeat()))
	defer beat.Stop()
	for {
		if err := s.ask(p); err != nil {
			return err
		}
		next, out := s.next()
		select {
		case msg := <-p.arrived:
			if err := s.receive(p, msg); err != nil {
				return err
			}
		case out <- messageOf(next):
			s.handOver(next)
		case done := <-s.settled:
			s.settle(done)
		case <-beat.C:
			if p.silent() {
				return errSilent
			}
			s.keep()
			if err := s.lookAfter(p); err != nil {
				return err
			}
		case <-s.gap:
			return errGap
		case <-s.handover:
			if err := s.resetNow(); err != nil {
				return err
			}
		case <-status:
			return errConnectionLost
		case <-s.stop:
			s.drain(p)
			return nil
		case <-s.ctx.Done():
			s.drain(p)
			return nil
		}
	}
}

// sameConsumer makes sure, at the beginning of a session, that nobody has made
// the stream or the consumer anew. What is known here would be wrong then: an ack
// for a message of the old stream would be one for a message of the new stream.
func (s *subscription) sameConsumer() error {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	consumer, err := s.js.Consumer(ctx, s.stream, s.config.Group)
	if err != nil {
		return consumerError(err)
	}
	if !consumer.CachedInfo().Created.Equal(s.created) {
		return errReplaced
	}
	return nil
}

// room is how many messages the server may send before it hears from here.
func (s *subscription) room() int {
	if s.ordered() {
		return s.config.MaxAckPending
	}
	return s.config.InFlight
}

// ask requests messages when there is room for a fair number of them. Of an
// ordered group the server itself bounds what is unacked, because only one
// subscriber is active; requests also show it that this one lives.
func (s *subscription) ask(p *puller) error {
	room := s.room() - p.outstanding
	switch {
	case !s.ordered():
		room -= len(s.dispatch.items)
	case p.pin == "": // the first message shows that this subscription is active now
		room = 1 - p.outstanding
	}
	if room <= 0 || p.outstanding > 0 && room < s.room()/4 {
		return nil
	}
	return p.pull(room)
}

// next returns the message that comes next and the channel that it goes to, or
// nil. Malformed messages go their own way if there is one.
func (s *subscription) next() (*item, chan<- *message.Message) {
	for s.awaited == 0 {
		next := s.dispatch.next()
		switch {
		case next == nil:
			return nil, nil
		case next.malformed == nil || s.config.Poison == nil:
			s.prepare(next)
			return next, s.out
		}
		s.dispatch.handOver(next)
		go s.poison(next)
	}
	return nil, nil
}

func messageOf(it *item) *message.Message {
	if it == nil {
		return nil
	}
	return it.message
}

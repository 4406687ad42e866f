package pubsub

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	ackWaitDefault       = 30 * time.Second
	nackDelayMinDefault  = 100 * time.Millisecond
	nackDelayMaxDefault  = 30 * time.Second
	takeoverAfterDefault = 10 * time.Second

	// ackWaitMin and takeoverAfterMin leave room for the heartbeats, of which
	// there are three in that time.
	ackWaitMin       = 300 * time.Millisecond
	takeoverAfterMin = time.Second
	// inFlightMax bounds what one subscription holds, in messages.
	inFlightMax = 1 << 14
	// aheadFactor is how many messages an ordered subscription holds for each
	// that may be in hand, so that it finds other keys behind a busy one.
	aheadFactor = 4
	// ackPendingDefault is how many messages an unordered group may hold.
	ackPendingDefault = 1 << 16
)

// Poison is where malformed messages go.
type Poison struct {
	Publisher message.Publisher
	Topic     string
}

// SubscriberConfig configures a Subscriber.
type SubscriberConfig struct {
	// Group is the durable consumer's name. Subscribers of one group share its
	// messages; each group of a Keep stream gets all of them. A group reads one
	// topic of a stream.
	Group string
	// InFlight is how many messages one call of Subscribe gives out before the
	// first of them is acked; 0 means 1, which is Watermill's contract.
	InFlight int
	// OrderBy, if set, makes the group ordered: of messages with the same key,
	// which it finds in their subjects, one is given out only when the one before
	// it was acked. One subscriber of the group is active then, and the others
	// stand by: see the package comment. LastToken is such a function; one that
	// returns a constant keeps everything in order.
	OrderBy func(subject string) string
	// MaxAckPending is how many messages a group holds unacked; 0 means 65536 or,
	// for an ordered group, four times InFlight.
	MaxAckPending int
	// AckWait is after what silence the server delivers a message again; 0 means
	// 30 s. While a handler is at work its subscriber is not silent.
	AckWait time.Duration
	// NackDelayMin is how long the server waits before it delivers a nacked
	// message for the second time; 0 means 100 ms. The delay doubles with each
	// delivery up to NackDelayMax; 0 means 30 s.
	NackDelayMin, NackDelayMax time.Duration
	// TakeoverAfter is after what silence of the active subscriber of an ordered
	// group another one takes over; 0 means 10 s. A subscriber that is closed
	// makes way at once.
	TakeoverAfter time.Duration
	// CloseTimeout is how long Close, or the end of Subscribe's context, waits for
	// handlers; 0 means 30 s. Then their contexts are cancelled and their messages
	// given back.
	CloseTimeout time.Duration
	// Poison takes malformed messages, which no handler sees then. They are done
	// when its Publish has returned without error. Nil means that handlers get
	// them, with MetadataMalformed.
	Poison *Poison
	// Logger is told about disturbances that a subscription survives; nil means
	// nobody is.
	Logger *slog.Logger
}

// Validate reports the first thing that is wrong with the configuration.
func (c SubscriberConfig) Validate() error {
	if err := validateName(c.Group); err != nil {
		return fmt.Errorf("subscriber: group %w", err)
	}
	c = c.withDefaults()
	switch {
	case c.InFlight < 1 || c.InFlight > inFlightMax:
		return fmt.Errorf("subscriber %s: InFlight %d: use 1 to %d messages", c.Group, c.InFlight, inFlightMax)
	case c.MaxAckPending < c.InFlight:
		return fmt.Errorf("subscriber %s: MaxAckPending %d: use at least InFlight, which is %d", c.Group, c.MaxAckPending, c.InFlight)
	case c.OrderBy != nil && c.MaxAckPending > aheadFactor*inFlightMax:
		return fmt.Errorf("subscriber %s: MaxAckPending %d: an ordered subscriber holds at most %d", c.Group, c.MaxAckPending, aheadFactor*inFlightMax)
	case c.AckWait < ackWaitMin:
		return fmt.Errorf("subscriber %s: AckWait %v: use at least %v", c.Group, c.AckWait, ackWaitMin)
	case c.NackDelayMin < 0 || c.NackDelayMax < c.NackDelayMin:
		return fmt.Errorf("subscriber %s: NackDelayMin %v and NackDelayMax %v: use 0 ≤ min ≤ max", c.Group, c.NackDelayMin, c.NackDelayMax)
	case c.TakeoverAfter < takeoverAfterMin:
		return fmt.Errorf("subscriber %s: TakeoverAfter %v: use at least %v", c.Group, c.TakeoverAfter, takeoverAfterMin)
	case c.CloseTimeout < 0:
		return fmt.Errorf("subscriber %s: CloseTimeout %v: use 0 for %v", c.Group, c.CloseTimeout, closeTimeoutDefault)
	}
	if c.Poison != nil {
		if c.Poison.Publisher == nil {
			return fmt.Errorf("subscriber %s: Poison has no Publisher", c.Group)
		}
		if err := validateTopic(c.Poison.Topic); err != nil {
			return fmt.Errorf("subscriber %s: poison %w", c.Group, err)
		}
	}
	return nil
}

// withDefaults replaces zeros by what they mean.
func (c SubscriberConfig) withDefaults() SubscriberConfig {
	c.InFlight = cmp.Or(c.InFlight, 1)
	if c.OrderBy != nil {
		c.MaxAckPending = cmp.Or(c.MaxAckPending, aheadFactor*c.InFlight)
	}
	c.MaxAckPending = cmp.Or(c.MaxAckPending, ackPendingDefault)
	c.AckWait = cmp.Or(c.AckWait, ackWaitDefault)
	c.NackDelayMin = cmp.Or(c.NackDelayMin, nackDelayMinDefault)
	c.NackDelayMax = cmp.Or(c.NackDelayMax, max(nackDelayMaxDefault, c.NackDelayMin))
	c.TakeoverAfter = cmp.Or(c.TakeoverAfter, takeoverAfterDefault)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, closeTimeoutDefault)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// nackDelay is how long a message rests after so many deliveries.
func (c SubscriberConfig) nackDelay(deliveries uint64) time.Duration {
	delay := c.NackDelayMin
	for ; deliveries > 1 && delay < c.NackDelayMax; deliveries-- {
		delay *= 2
	}
	return min(delay, c.NackDelayMax)
}

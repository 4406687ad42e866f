package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/eventstore/pubsub"
)

const (
	// publishChunk is how many submissions are published together.
	publishChunk = 10_000
	// publishPatience is how long a fault of the servers is waited for, in time.
	publishPatience = 30 * time.Second
	// followedApart is of how many submissions at most the outcomes are followed
	// one by one, instead of all outcomes of the campaign.
	followedApart = 100
	// publishPause is the pause between two tries, in time.
	publishPause = 100 * time.Millisecond
)

// Item is a submission and how it comes.
type Item struct {
	Submission
	Channel string
}

// Check says what is wrong with a submission before it is published. Its errors
// repeat nothing of it.
func (it Item) Check(campaign string) error {
	p, err := parsePlace(Subject(campaign, it.Channel, Key(it.Submission)))
	if err != nil {
		return err
	}
	body, err := it.Encode()
	if err != nil {
		return err
	}
	_, err = p.command(body)
	return err
}

// addressKey is under what a message's context holds its subject.
type addressKey struct{}

// addressed is a message that goes to a subject of its own.
func addressed(ctx context.Context, subject string, m *message.Message) *message.Message {
	m.SetContext(context.WithValue(ctx, addressKey{}, subject))
	return m
}

// newSubmitter publishes messages that are addressed.
func newSubmitter(nc *nats.Conn) (*pubsub.Publisher, error) {
	return pubsub.NewPublisher(nc, pubsub.PublisherConfig{Subject: func(topic string, m *message.Message) string {
		if subject, ok := m.Context().Value(addressKey{}).(string); ok {
			return subject
		}
		return topic
	}})
}

// Submit publishes submissions of a campaign in their order, and returns when
// all of them are durable in the queue. It tries to get over faults that pass;
// what is published twice has one outcome. Done counts those that are durable.
func Submit(ctx context.Context, nc *nats.Conn, campaign string, items []Item, done func(n int)) error {
	publisher, err := newSubmitter(nc)
	if err != nil {
		return err
	}
	defer publisher.Close() // it has answered everything
	var messages []*message.Message
	for _, it := range items {
		body, err := it.Encode()
		if err != nil {
			return err
		}
		m := message.NewMessage(uuid.Must(uuid.NewV7()).String(), body)
		messages = append(messages, addressed(ctx, Subject(campaign, it.Channel, Key(it.Submission)), m))
	}
	failing := time.Time{} // since when
	for len(messages) > 0 {
		n := min(len(messages), publishChunk)
		err := publisher.Publish(submissionsPrefix, messages[:n]...)
		var partly *pubsub.PublishError
		switch {
		case err == nil:
			failing = time.Time{}
		case errors.As(err, &partly) && (errors.Is(err, pubsub.ErrUnavailable) || errors.Is(err, pubsub.ErrOutcomeUnknown)):
			n = partly.Stored
			if failing.IsZero() {
				failing = time.Now()
			}
			if ctx.Err() != nil || time.Since(failing) > publishPatience {
				return err
			}
			if err := rest(ctx); err != nil {
				return err
			}
		default:
			return err
		}
		messages = messages[n:]
		done(n)
	}
	return nil
}

func rest(ctx context.Context) error {
	select {
	case <-time.After(publishPause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Waiting waits for the outcomes of submissions.
type Waiting struct {
	wanted   map[string]int // outcomes that are still to come, by awaitedKey
	left     int
	outcomes jetstream.MessagesContext
	poison   jetstream.MessagesContext
}

// Await begins to wait for the outcomes of submissions of a campaign. It comes
// before they are published, so that none is missed that goes to the poison;
// outcomes of submissions that were decided before are found too. Distinct is
// how many different submissions there are among the items: the rest are
// repeats of others.
//
// An outcome does not say whose it is. It is known by the channel, the submission
// id, the action and the digest of the content, so that ids must be unique within
// the channel and the campaign: see Ambiguous.
func Await(ctx context.Context, nc *nats.Conn, campaign string, items []Item) (w *Waiting, distinct int, err error) {
	w = &Waiting{wanted: make(map[string]int)}
	seen := make(map[string]bool, len(items))
	for _, it := range items {
		o, err := it.awaited()
		if err != nil {
			return nil, 0, err
		}
		key := awaitedKey(outcomePlace(campaign, it.Channel, it.ID), o)
		if id := key + spelling(it.Voter); !seen[id] {
			seen[id] = true
			w.wanted[key]++
			w.left++
		}
	}
	filters := []string{outcomesPrefix + campaign + ".>"}
	if len(items) <= followedApart {
		filters = outcomeFilters(campaign, items)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, 0, err
	}
	if w.poison, err = follow(ctx, js, PoisonStream, []string{poisonPrefix + campaign + ".>"}, jetstream.DeliverNewPolicy); err != nil {
		return nil, 0, err
	}
	if w.outcomes, err = follow(ctx, js, OutcomesStream(campaign), filters, jetstream.DeliverAllPolicy); err != nil {
		w.poison.Stop()
		return nil, 0, err
	}
	return w, w.left, nil
}

// awaited is what the outcome of a submission says of it, whatever it is.
func (it Item) awaited() (Outcome, error) {
	at, err := intake.StatedTime(it.Channel, it.CastAt)
	if err != nil {
		return Outcome{}, err
	}
	return outcomeOf(intake.Command{Action: it.Action, Specialist: it.Specialist, SubmissionID: it.ID, At: at}), nil
}

// awaitedKey is what an outcome is known by to who does not have the campaign's
// key. Place is the beginning of its subject.
func awaitedKey(place string, o Outcome) string {
	return place + string(o.Action) + "." + string(o.Digest[:]) + "."
}

// Ambiguous finds items that use the submission id of another voter's item of
// the same channel: nobody could tell their outcomes apart. It holds the voter
// of each channel and id.
type Ambiguous map[[2]string]string

// Add says whether the item uses another voter's submission id.
func (a Ambiguous) Add(it Item) bool {
	id, voter := [2]string{it.Channel, it.ID}, spelling(it.Voter)
	first, known := a[id]
	if !known {
		a[id] = voter
	}
	return known && first != voter
}

// outcomeFilters match the outcomes of items, each once: the server takes no
// filters that overlap.
func outcomeFilters(campaign string, items []Item) (filters []string) {
	for _, it := range items {
		filters = append(filters, OutcomeFilter(campaign, it.Channel, it.ID))
	}
	slices.Sort(filters)
	return slices.Compact(filters)
}

func follow(ctx context.Context, js jetstream.JetStream, name string, filters []string, from jetstream.DeliverPolicy) (jetstream.MessagesContext, error) {
	stream, err := openStream(ctx, js, name)
	if err != nil {
		return nil, err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: filters, DeliverPolicy: from})
	if err != nil {
		return nil, unavailable(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, unavailable(err)
	}
	return messages, nil
}

// Stop ends the waiting.
func (w *Waiting) Stop() {
	w.outcomes.Stop()
	w.poison.Stop()
}

// PoisonedError says that a submission went to the poison.
type PoisonedError struct{ Reason string }

func (e *PoisonedError) Error() string { return e.Reason }

// Each calls settled for each outcome, until all have come or ctx ends; for a
// submission that went to the poison the error is a *PoisonedError.
func (w *Waiting) Each(ctx context.Context, settled func(Outcome, error)) error {
	type arrival struct {
		m      jetstream.Msg
		poison bool
		err    error
	}
	arrived := make(chan arrival)
	ended := make(chan struct{})
	receive := func(messages jetstream.MessagesContext, poison bool) {
		for {
			m, err := messages.Next()
			select {
			case arrived <- arrival{m, poison, err}:
			case <-ended:
				return
			}
			if err != nil {
				return
			}
		}
	}
	go receive(w.outcomes, false)
	go receive(w.poison, true)
	defer w.Stop()
	defer close(ended)
	for w.left > 0 {
		select {
		case a := <-arrived:
			if a.err != nil {
				return unavailable(a.err)
			}
			if err := w.take(a.m, a.poison, settled); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// take settles the submission that a message is about, if it is awaited.
func (w *Waiting) take(m jetstream.Msg, poison bool, settled func(Outcome, error)) error {
	place := m.Subject()[:strings.LastIndexByte(m.Subject(), '.')+1]
	var o Outcome
	var fate error
	if poison {
		p, err := parsePlace(submissionsPrefix + strings.TrimPrefix(m.Subject(), poisonPrefix))
		if err != nil {
			return nil // nothing that was published here
		}
		cmd, err := p.command(m.Data())
		if err != nil {
			return nil
		}
		place = outcomePlace(p.campaign, p.channel, cmd.SubmissionID)
		o, fate = outcomeOf(cmd), &PoisonedError{pubsub.Metadata(m.Headers())[pubsub.MetadataPoisonReason]}
	} else {
		var err error
		if o, err = ParseOutcome(m.Data()); err != nil {
			return fmt.Errorf("%s: %w", m.Subject(), err)
		}
	}
	key := awaitedKey(place, o)
	if w.wanted[key] == 0 {
		return nil
	}
	w.wanted[key]--
	w.left--
	settled(o, fate)
	return nil
}

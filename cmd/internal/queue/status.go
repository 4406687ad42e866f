package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
)

// Backlog is what waits in the queue.
type Backlog struct {
	Pending  uint64    // submissions that no worker has taken
	InFlight int       // submissions that a worker holds
	Oldest   time.Time // when the oldest of them was published; zero when there is none
	Poison   uint64    // submissions in the poison
	taken    bool      // the durable consumer of workers is there
}

// Age is for how long the oldest submission has waited.
func (b Backlog) Age(now time.Time) time.Duration {
	if b.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(b.Oldest))
}

// ErrNoQueue says that there is no queue yet.
var ErrNoQueue = errors.New("there is no queue yet: `paldies intake --queue` or `paldies dev` makes it")

// ReadBacklog asks the servers what waits.
func ReadBacklog(ctx context.Context, nc *nats.Conn) (Backlog, error) {
	b, err := readBacklog(ctx, nc)
	if err != nil {
		return b, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return b, err
	}
	poison, err := openStream(ctx, js, PoisonStream)
	if err != nil {
		return b, err
	}
	b.Poison = poison.CachedInfo().State.Msgs
	return b, nil
}

// readBacklog leaves out the poison.
func readBacklog(ctx context.Context, nc *nats.Conn) (b Backlog, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return b, err
	}
	stream, err := openStream(ctx, js, SubmissionsStream)
	if err != nil {
		return b, err
	}
	next := stream.CachedInfo().State.FirstSeq
	consumer, err := stream.Consumer(ctx, group)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // no worker has run yet
		b.Pending = stream.CachedInfo().State.Msgs
	case err != nil:
		return b, unavailable(err)
	default:
		info := consumer.CachedInfo()
		b.Pending, b.InFlight, b.taken = info.NumPending, info.NumAckPending, true
		next = max(next, info.AckFloor.Stream+1)
	}
	if b.Pending == 0 && b.InFlight == 0 {
		return b, nil
	}
	oldest, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(submissionsPrefix+">"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // it was decided this very moment
	case err != nil:
		return b, unavailable(err)
	default:
		b.Oldest = oldest.Time
	}
	return b, nil
}

func openStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, ErrNoQueue
	case err != nil:
		return nil, unavailable(err)
	}
	return stream, nil
}

// unavailable is what there is to say when the servers do not answer.
func unavailable(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return fmt.Errorf("the queue: %w", err)
	}
	return fmt.Errorf("the queue: %w: %w", eventstore.ErrUnavailable, err)
}

// CountOutcomes counts the outcomes of a campaign by code: accepted, or that of
// the refusal. Outcomes older than OutcomesKept are not there any more.
func CountOutcomes(ctx context.Context, nc *nats.Conn, campaign string) (map[string]int, error) {
	counts := make(map[string]int)
	err := readAll(ctx, nc, OutcomesStream(campaign), func(m jetstream.Msg) error {
		o, err := ParseOutcome(m.Data())
		if err != nil {
			return err
		}
		counts[o.CountedAs()]++
		return nil
	})
	return counts, err
}

// CampaignsWithOutcomes are those of which something was decided.
func CampaignsWithOutcomes(ctx context.Context, nc *nats.Conn) (campaigns []string, err error) {
	streams, err := eventstore.List(ctx, nc, OutcomesPrefix)
	for _, name := range streams {
		if id, ok := campaignOfOutcomes(name); ok {
			campaigns = append(campaigns, id)
		}
	}
	return campaigns, err
}

// readAllPause is after what silence readAll asks whether there is more.
const readAllPause = time.Second

// isBetween says whether a stream still has a message after one sequence and up to
// another one. What was there may have been removed before it was read.
func isBetween(ctx context.Context, stream jetstream.Stream, after, last uint64) (bool, error) {
	m, err := stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(">"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, unavailable(err)
	}
	return m.Sequence <= last, nil
}

// readAll reads what is in a stream now.
func readAll(ctx context.Context, nc *nats.Conn, name string, read func(jetstream.Msg) error) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stream, err := openStream(ctx, js, name)
	if err != nil || stream.CachedInfo().State.Msgs == 0 {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return unavailable(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return unavailable(err)
	}
	defer messages.Stop()
	unbind := context.AfterFunc(ctx, messages.Stop)
	defer unbind()
	for at := uint64(0); ; { // the sequence that was read last
		m, err := messages.Next(jetstream.NextMaxWait(readAllPause))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, nats.ErrTimeout):
			if more, err := isBetween(ctx, stream, at, last); err != nil || !more {
				return err
			}
			continue
		case err != nil:
			return unavailable(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := read(m); err != nil {
			return err
		}
		if at = meta.Sequence.Stream; at >= last || meta.NumPending == 0 {
			return nil
		}
	}
}

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
	Away     int       // servers whose copy of the queue, or of how far workers are in it, is offline or behind
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
	copies := []*jetstream.ClusterInfo{stream.CachedInfo().Cluster}
	next := stream.CachedInfo().State.FirstSeq
	consumer, err := stream.Consumer(ctx, group)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // no worker has run yet
		b.Pending = stream.CachedInfo().State.Msgs
	case err != nil:
		return b, unavailable(err)
	default:
		info := consumer.CachedInfo()
		copies = append(copies, info.Cluster)
		b.Pending, b.InFlight, b.taken = info.NumPending, info.NumAckPending, true
		next = max(next, info.AckFloor.Stream+1)
	}
	b.Away = away(copies)
	oldest, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(submissionsPrefix+">"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // it was decided this very moment
	case err != nil:
		return b, unavailable(err)
	default:
		b.Oldest = oldest.Time
		if b.InFlight == 0 { // The server counts a message for its consumers a moment after it has stored it.
			b.Pending = max(b.Pending, 1)
		}
	}
	return b, nil
}

// away counts the servers of which a copy is offline or behind.
func away(groups []*jetstream.ClusterInfo) int {
	servers := make(map[string]bool)
	for _, group := range groups {
		if group == nil {
			continue // it has one copy
		}
		for _, peer := range group.Replicas {
			if peer.Offline || !peer.Current {
				servers[peer.Name] = true
			}
		}
	}
	return len(servers)
}

// CheckStreams is ErrNoQueue where the streams that all campaigns share were not
// made yet.
func CheckStreams(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = openStream(ctx, js, SubmissionsStream)
	return err
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

// readAll reads what is in a stream now. When the server is silent, it goes on with
// another consumer: the one before may be gone with the server that had it, which
// the client library would not notice while it is asked again and again.
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
	for at := uint64(0); ; { // the sequence that was read last
		if at, err = readOn(ctx, stream, at, last, read); err != nil || at >= last {
			return err
		}
		if more, err := isBetween(ctx, stream, at, last); err != nil || !more {
			return err
		}
	}
}

// readOn reads up to the message last, or until the server is silent, and returns
// which message was the last one.
func readOn(ctx context.Context, stream jetstream.Stream, after, last uint64, read func(jetstream.Msg) error) (at uint64, err error) {
	at = after
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1})
	if err != nil {
		return at, unavailable(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return at, unavailable(err)
	}
	defer messages.Stop()
	unbind := context.AfterFunc(ctx, messages.Stop)
	defer unbind()
	for at < last {
		m, err := messages.Next(jetstream.NextMaxWait(readAllPause))
		switch {
		case ctx.Err() != nil:
			return at, ctx.Err()
		case errors.Is(err, nats.ErrTimeout):
			return at, nil
		case err != nil:
			return at, unavailable(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return at, err
		}
		if err := read(m); err != nil {
			return at, err
		}
		if at = meta.Sequence.Stream; meta.NumPending == 0 {
			return last, nil
		}
	}
	return at, nil
}

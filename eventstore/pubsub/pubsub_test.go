package pubsub_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// patience is how long a test waits for what should take a moment.
const patience = time.Minute

// bench is a server with one stream of votes.
type bench struct {
	t      testing.TB
	server *storetest.Server
	nc     *nats.Conn
}

// newBench starts a server and makes the stream VOTES with the subjects votes.>.
func newBench(t testing.TB, retention pubsub.Retention) *bench {
	t.Helper()
	b := &bench{t: t, server: storetest.NewServer(t)}
	b.nc = b.server.Connect(t)
	b.stream("VOTES", "votes.>", retention)
	return b
}

func (b *bench) stream(name, subject string, retention pubsub.Retention) {
	b.t.Helper()
	config := pubsub.StreamConfig{Name: name, Subjects: []string{subject}, Replicas: 1, Retention: retention}
	if err := pubsub.CreateStream(context.Background(), b.nc, config); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) publisher() *pubsub.Publisher {
	b.t.Helper()
	p, err := pubsub.NewPublisher(b.nc, pubsub.PublisherConfig{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return p
}

// subscriber makes a subscriber on a connection, which closes with the test.
func (b *bench) subscriber(nc *nats.Conn, c pubsub.SubscriberConfig) *pubsub.Subscriber {
	b.t.Helper()
	if c.Group == "" {
		c.Group = "workers"
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = time.Second
	}
	s, err := pubsub.NewSubscriber(nc, c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return s
}

func (b *bench) subscribe(s *pubsub.Subscriber, topic string) <-chan *message.Message {
	b.t.Helper()
	messages, err := s.Subscribe(context.Background(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	return messages
}

func (b *bench) publish(p *pubsub.Publisher, topic string, payloads ...string) {
	b.t.Helper()
	var messages []*message.Message
	for _, payload := range payloads {
		messages = append(messages, message.NewMessage(payload, []byte(payload)))
	}
	if err := p.Publish(topic, messages...); err != nil {
		b.t.Fatal(err)
	}
}

// receive waits for the next message.
func receive(t testing.TB, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, open := <-messages:
		if !open {
			t.Fatal("the subscription has ended")
		}
		return m
	case <-time.After(patience):
		t.Fatalf("no message within %v", patience)
	}
	return nil
}

// pending asks the server how many messages a group has not acked.
func (b *bench) pending(group string) int {
	b.t.Helper()
	info := b.state(group)
	if info == nil {
		return -1 // while the server restarts
	}
	return info.NumAckPending + int(info.NumPending)
}

// state is what the server says of a group, or nil when it does not answer.
func (b *bench) state(group string) *jetstream.ConsumerInfo {
	b.t.Helper()
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := js.Consumer(context.Background(), "VOTES", group)
	if err != nil {
		return nil
	}
	return c.CachedInfo()
}

func (b *bench) allAcked(group string) {
	b.t.Helper()
	storetest.Eventually(b.t, "group "+group+" has acked everything", func() bool { return b.pending(group) == 0 })
}

// journal notes what handlers see, and checks the order of each voter's messages:
// payloads are "voter/number", with numbers from 0.
type journal struct {
	mu         sync.Mutex // guards what follows
	acked      map[string]int
	duplicates int
	wrong      []string
}

// handle takes a message as an idempotent handler does. A number that is too
// high for its voter means that an earlier message was overtaken.
func (j *journal) handle(m *message.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acked == nil {
		j.acked = make(map[string]int)
	}
	var voter, number string
	for i, c := range string(m.Payload) {
		if c == '/' {
			voter, number = string(m.Payload[:i]), string(m.Payload[i+1:])
		}
	}
	n, err := strconv.Atoi(number)
	switch {
	case err != nil:
		j.wrong = append(j.wrong, fmt.Sprintf("payload %q", m.Payload))
	case n == j.acked[voter]:
		j.acked[voter]++
	case n < j.acked[voter]:
		j.duplicates++
	default:
		j.wrong = append(j.wrong, fmt.Sprintf("%s after %d of its voter", m.Payload, j.acked[voter]))
	}
}

// check fails the test unless each voter's messages were all seen in order.
func (j *journal) check(t testing.TB, voters, each int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, w := range j.wrong {
		t.Errorf("out of order: %s", w)
		if i == 10 {
			break
		}
	}
	for v := range voters {
		if got := j.acked[fmt.Sprint(v)]; got != each {
			t.Errorf("voter %d: %d of %d messages seen", v, got, each)
		}
	}
	t.Logf("%d messages of %d voters, and %d more that were seen before", voters*each, voters, j.duplicates)
}

// seen counts the messages that were seen in order. One out of order ends the
// wait of whoever waits for more.
func (j *journal) seen() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.wrong) > 0 {
		return math.MaxInt
	}
	for _, acked := range j.acked {
		n += acked
	}
	return n
}

// publishVotes publishes numbered messages of many voters, interleaved.
func (b *bench) publishVotes(voters, each int) {
	b.t.Helper()
	p, err := pubsub.NewPublisher(b.nc, pubsub.PublisherConfig{
		Subject: func(topic string, m *message.Message) string { return topic + "." + m.Metadata["voter"] },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	defer p.Close()
	var messages []*message.Message
	for n := range each {
		for v := range voters {
			m := message.NewMessage("", fmt.Appendf(nil, "%d/%d", v, n))
			m.Metadata["voter"] = fmt.Sprint(v)
			messages = append(messages, m)
		}
	}
	if err := p.Publish("votes", messages...); err != nil {
		b.t.Fatal(err)
	}
}

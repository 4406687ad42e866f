package pubsub_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestAMessageTellsWhereItIsFrom(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	b.publish(b.publisher(), "votes.anna", "1", "2")
	messages := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{}), "votes.*")
	receive(t, messages).Ack()
	m := receive(t, messages)
	for key, want := range map[string]string{
		pubsub.MetadataStream:     "VOTES",
		pubsub.MetadataSequence:   "2",
		pubsub.MetadataDeliveries: "1",
		pubsub.MetadataSubject:    "votes.anna",
	} {
		if m.Metadata[key] != want {
			t.Errorf("%s is %q, not %q", key, m.Metadata[key], want)
		}
	}
	published, err := time.Parse(time.RFC3339Nano, m.Metadata[pubsub.MetadataPublished])
	if err != nil || time.Since(published) > patience {
		t.Errorf("published at %q: %v", m.Metadata[pubsub.MetadataPublished], err)
	}
	m.Ack()
}

func TestATopicWithoutAStream(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	s := b.subscriber(b.nc, pubsub.SubscriberConfig{})
	if _, err := s.Subscribe(t.Context(), "nobody.stores.this"); !errors.Is(err, pubsub.ErrNoStream) {
		t.Errorf("Subscribe: %v", err)
	}
	err := b.publisher().Publish("nobody.stores.this", message.NewMessage("1", nil))
	if !errors.Is(err, pubsub.ErrNoStream) {
		t.Errorf("Publish: %v", err)
	}
}

func TestAGroupIsNotChangedInPassing(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{}), "votes.>")
	if _, err := b.subscriber(b.nc, pubsub.SubscriberConfig{}).Subscribe(t.Context(), "votes.anna"); err == nil {
		t.Error("the group's topic was changed")
	}
	ordered := b.subscriber(b.nc, pubsub.SubscriberConfig{OrderBy: pubsub.LastToken})
	if _, err := ordered.Subscribe(t.Context(), "votes.>"); err == nil {
		t.Error("a group without order became an ordered one")
	}
	if _, err := b.subscriber(b.nc, pubsub.SubscriberConfig{AckWait: time.Minute}).Subscribe(t.Context(), "votes.>"); err != nil {
		t.Errorf("AckWait cannot be changed: %v", err)
	}
}

func TestNackedMessagesComeLaterEachTime(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{}, {OrderBy: pubsub.LastToken, InFlight: 2}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			c.NackDelayMin, c.NackDelayMax = 50*time.Millisecond, 200*time.Millisecond
			b.publish(b.publisher(), "votes.anna", "1")
			messages := b.subscribe(b.subscriber(b.nc, c), "votes.>")
			receive(t, messages).Nack()
			last := time.Now()
			for i, atLeast := range []time.Duration{50, 100, 200, 200} {
				m := receive(t, messages)
				if rested := time.Since(last); rested < atLeast*time.Millisecond {
					t.Errorf("delivery %d came after %v, not after %v ms", i+2, rested, atLeast)
				}
				if got := m.Metadata[pubsub.MetadataDeliveries]; got != fmt.Sprint(i+2) {
					t.Errorf("delivery %d is called %s", i+2, got)
				}
				last = time.Now()
				m.Nack()
			}
			receive(t, messages).Ack()
			b.allAcked("workers")
		})
	}
}

// A nacked message of one voter keeps back that voter's next, and nobody else's.
func TestANackedMessageIsNotOvertakenByItsVoter(t *testing.T) {
	b := newBench(t, pubsub.WorkQueue)
	p := b.publisher()
	b.publish(p, "votes.anna", "a1", "a2")
	b.publish(p, "votes.berta", "b1", "b2")
	messages := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{OrderBy: pubsub.LastToken, InFlight: 10}), "votes.>")
	var order []string
	nacks := 2
	for len(order) < 4 {
		m := receive(t, messages)
		if m.UUID == "a1" && nacks > 0 {
			nacks--
			m.Nack()
			continue
		}
		order = append(order, m.UUID)
		m.Ack()
	}
	if got := strings.Join(order, " "); got != "b1 b2 a1 a2" {
		t.Errorf("acked in the order %s", got)
	}
	b.allAcked("workers")
}

// A slow handler keeps its message for many times AckWait, and what waits behind
// it is not given to others either.
func TestASlowHandlerKeepsItsMessage(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{InFlight: 2}, {OrderBy: pubsub.LastToken, InFlight: 2}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			c.AckWait, c.TakeoverAfter = 400*time.Millisecond, time.Second
			b.publish(b.publisher(), "votes.anna", "1", "2", "3")
			slow := b.subscribe(b.subscriber(b.nc, c), "votes.>")
			m := receive(t, slow)
			other := b.subscribe(b.subscriber(b.nc, c), "votes.>")
			timer := time.After(2500 * time.Millisecond)
			for waiting := true; waiting; {
				select {
				case m2 := <-slow:
					if m2.UUID == m.UUID {
						t.Fatal("the message came a second time")
					}
				case m2 := <-other:
					if m2.UUID == m.UUID || c.OrderBy != nil {
						t.Fatalf("another subscriber got %s", m2.UUID)
					}
				case <-timer:
					waiting = false
				}
			}
			if !m.Ack() {
				t.Error("the ack came too late")
			}
		})
	}
}

// Of competing subscribers without order, one loses its connection with messages
// in hand: the other one gets all of them.
func TestACompetitorIsKilled(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	b.publishVotes(100, 5)
	c := pubsub.SubscriberConfig{InFlight: 20, AckWait: time.Second}
	victim := b.server.Connect(t)
	taken := b.subscribe(b.subscriber(victim, c), "votes.>")
	for range 20 {
		receive(t, taken)
	}
	messages := b.subscribe(b.subscriber(b.nc, c), "votes.>")
	victim.Close()
	seen := make(map[string]bool)
	for len(seen) < 500 {
		m := receive(t, messages)
		seen[string(m.Payload)] = true
		m.Ack()
	}
	b.allAcked("workers")
}

// consume handles messages concurrently, as Watermill's router does. Some are
// nacked, and some handlers take their time.
func consume(messages <-chan *message.Message, j *journal, random *rand.Rand) *sync.WaitGroup {
	var work sync.WaitGroup
	work.Go(func() {
		for m := range messages {
			nack, slow := random.IntN(10) == 0, random.IntN(20) == 0
			work.Go(func() {
				if slow {
					<-time.After(time.Millisecond)
				}
				if nack || m.Context().Err() != nil {
					m.Nack()
					return
				}
				j.handle(m)
				m.Ack()
			})
		}
	})
	return &work
}

func newRandom(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Three subscribers of an ordered group compete. Again and again the active one
// loses its connection with messages in hand, or is closed, or the server is
// restarted. Each voter's messages are seen in order, none is lost.
func TestOrderSurvivesCrashes(t *testing.T) {
	for _, retention := range []pubsub.Retention{pubsub.Keep, pubsub.WorkQueue} {
		t.Run(fmt.Sprintf("retention=%d", retention), func(t *testing.T) {
			t.Parallel()
			const voters, each, rounds = 100, 10, 9
			random := newRandom(t)
			b := newBench(t, retention)
			b.publishVotes(voters, each)
			c := pubsub.SubscriberConfig{
				OrderBy: pubsub.LastToken, InFlight: 16, AckWait: 2 * time.Second, TakeoverAfter: time.Second,
				NackDelayMin: time.Millisecond, NackDelayMax: 50 * time.Millisecond,
			}
			var j journal
			var works []*sync.WaitGroup
			start := func() (*nats.Conn, *pubsub.Subscriber) {
				nc := b.server.Connect(t)
				s := b.subscriber(nc, c)
				works = append(works, consume(b.subscribe(s, "votes.>"), &j, random2(random)))
				return nc, s
			}
			type subscriber struct {
				nc *nats.Conn
				s  *pubsub.Subscriber
			}
			var subscribers []subscriber
			for range 3 {
				nc, s := start()
				subscribers = append(subscribers, subscriber{nc, s})
			}
			for round := range rounds {
				target := (round + 1) * voters * each / (rounds + 1)
				storetest.Eventually(t, fmt.Sprintf("%d messages are seen", target), func() bool { return j.seen() >= target })
				switch round % 3 {
				case 0:
					for _, s := range subscribers[:2] { // one of any two is often the active one
						s.nc.Close()
					}
				case 1:
					for _, s := range subscribers[:2] {
						if err := s.s.Close(); err != nil {
							t.Error(err)
						}
					}
				case 2:
					b.server.Stop()
					b.server.Start(t)
					continue
				}
				subscribers = subscribers[2:]
				for range 2 {
					nc, s := start()
					subscribers = append(subscribers, subscriber{nc, s})
				}
			}
			storetest.Eventually(t, "all messages are seen", func() bool { return j.seen() >= voters*each })
			b.allAcked("workers")
			for _, s := range subscribers {
				if err := s.s.Close(); err != nil {
					t.Error(err)
				}
			}
			for _, work := range works {
				work.Wait()
			}
			j.check(t, voters, each)
		})
	}
}

// random2 derives a source for another goroutine.
func random2(random *rand.Rand) *rand.Rand {
	return rand.New(rand.NewPCG(random.Uint64(), 0))
}

// A subscription survives a restart of the server: what it had acked does not
// come again, what it had in hand is acked afterwards.
func TestTheServerIsRestarted(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{InFlight: 4}, {OrderBy: pubsub.LastToken, InFlight: 4}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			b.publishVotes(50, 2)
			c.TakeoverAfter, c.AckWait = time.Second, time.Second
			messages := b.subscribe(b.subscriber(b.nc, c), "votes.>")
			var held []*message.Message
			seen := make(map[string]int)
			for range 20 {
				m := receive(t, messages)
				if seen[string(m.Payload)]++; len(held) < 3 {
					held = append(held, m)
				} else {
					m.Ack()
				}
			}
			b.server.Stop()
			b.server.Start(t)
			for len(seen) < 97 {
				m := receive(t, messages)
				seen[string(m.Payload)]++
				m.Ack()
			}
			for _, m := range held {
				m.Ack()
			}
			for len(seen) < 100 {
				m := receive(t, messages)
				seen[string(m.Payload)]++
				m.Ack()
			}
			for payload, n := range seen {
				if n > 1 {
					t.Errorf("%s came %d times", payload, n)
				}
			}
			b.allAcked("workers")
		})
	}
}

// Close under load: each message is either acked by its handler or comes again,
// and Close waits for the handlers that are at work.
func TestCloseUnderLoad(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{InFlight: 50}, {OrderBy: pubsub.LastToken, InFlight: 50}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			const voters, each = 100, 10
			b.publishVotes(voters, each)
			c.CloseTimeout = patience
			var mu sync.Mutex
			done := make(map[string]int)
			for round := 1; round <= 5; round++ {
				var working atomic.Int32
				s := b.subscriber(b.nc, c)
				messages := b.subscribe(s, "votes.>")
				var work sync.WaitGroup
				enough := make(chan struct{})
				var once sync.Once
				work.Go(func() {
					for m := range messages {
						working.Add(1)
						work.Go(func() {
							mu.Lock()
							done[string(m.Payload)]++
							if len(done) >= round*voters*each/5 {
								once.Do(func() { close(enough) })
							}
							mu.Unlock()
							working.Add(-1)
							m.Ack()
						})
					}
				})
				<-enough
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if n := working.Load(); n != 0 {
					t.Errorf("Close left %d handlers at work", n)
				}
				work.Wait()
			}
			b.allAcked("workers")
			for payload, n := range done {
				if n > 1 {
					t.Errorf("%s was done %d times", payload, n)
				}
			}
		})
	}
}

// Close has lost its patience with a handler: the message's context ends, its
// ack comes too late, and another subscriber gets it at once and not after AckWait.
func TestCloseGivesBackWhatIsNotAcked(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{}, {OrderBy: pubsub.LastToken}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			b.publish(b.publisher(), "votes.anna", "1", "2")
			c.CloseTimeout, c.AckWait, c.TakeoverAfter = time.Millisecond, time.Hour, time.Hour
			s := b.subscriber(b.nc, c)
			m := receive(t, b.subscribe(s, "votes.>"))
			other := b.subscribe(b.subscriber(b.server.Connect(t), c), "votes.>")
			if c.OrderBy == nil {
				receive(t, other).Ack() // 2
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if m.Context().Err() == nil || m.Ack() {
				t.Error("the handler does not learn that it is too late")
			}
			again := receive(t, other)
			if again.UUID != "1" {
				t.Errorf("%s came first", again.UUID)
			}
			again.Ack()
		})
	}
}

// A worker was closed, and the next one comes after it: it gets at once what the
// first one has given back, and not after TakeoverAfter.
func TestWhoComesAfterASubscriberWasClosed(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	c := pubsub.SubscriberConfig{OrderBy: pubsub.LastToken, InFlight: 1, AckWait: time.Hour, TakeoverAfter: time.Hour}
	var ids []string
	for i := range 1000 {
		ids = append(ids, fmt.Sprint(i))
	}
	b.publish(b.publisher(), "votes.anna", ids...)
	for i := 0; i < 1000; i += 100 {
		s := b.subscriber(b.server.Connect(t), c)
		messages := b.subscribe(s, "votes.>")
		for n := range 100 {
			m := receive(t, messages)
			if m.UUID != ids[i+n] {
				t.Fatalf("%s came instead of %s", m.UUID, ids[i+n])
			}
			m.Ack()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.allAcked("workers")
}

// All that there is was delivered to a subscriber that is gone: another one takes
// over after TakeoverAfter, and not after AckWait.
func TestTakeoverOfAllThatThereIs(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	b.publish(b.publisher(), "votes.anna", "1", "2")
	c := pubsub.SubscriberConfig{OrderBy: pubsub.LastToken, InFlight: 2, AckWait: time.Hour, TakeoverAfter: time.Second}
	gone := b.server.Connect(t)
	receive(t, b.subscribe(b.subscriber(gone, c), "votes.>"))
	storetest.Eventually(t, "both are delivered", func() bool { return b.state("workers").NumAckPending == 2 })
	gone.Close()
	other := b.subscribe(b.subscriber(b.server.Connect(t), c), "votes.>")
	for _, want := range []string{"1", "2"} {
		m := receive(t, other)
		if m.UUID != want {
			t.Errorf("%s came instead of %s", m.UUID, want)
		}
		m.Ack()
	}
	b.allAcked("workers")
}

func TestTheEndOfAContextEndsItsSubscription(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	b.publish(b.publisher(), "votes.anna", "1")
	s := b.subscriber(b.nc, pubsub.SubscriberConfig{AckWait: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	messages, err := s.Subscribe(ctx, "votes.>")
	if err != nil {
		t.Fatal(err)
	}
	m := receive(t, messages)
	cancel()
	<-m.Context().Done()
	m.Nack()
	for range messages { // until it is closed
	}
	receive(t, b.subscribe(s, "votes.>")).Ack()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Subscribe(t.Context(), "votes.>"); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("Subscribe after Close: %v", err)
	}
}

// The stream is made anew while a subscription has a message of the old one in
// hand. The subscription ends, and its ack is not one for a message of the new stream.
func TestAStreamThatIsMadeAnewEndsItsSubscriptions(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	p := b.publisher()
	b.publish(p, "votes.anna", "old")
	old := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{InFlight: 2}), "votes.>")
	m := receive(t, old)
	js, err := jetstream.New(b.nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "VOTES"); err != nil {
		t.Fatal(err)
	}
	b.stream("VOTES", "votes.>", pubsub.Keep)
	b.publish(p, "votes.anna", "new")
	s := b.subscriber(b.nc, pubsub.SubscriberConfig{InFlight: 2, AckWait: time.Second})
	messages := b.subscribe(s, "votes.>")
	for m := range old {
		t.Errorf("the old subscription gets %s", m.UUID)
	}
	fresh := receive(t, messages)
	m.Ack()
	if err := s.Close(); err != nil { // it gives the message back
		t.Fatal(err)
	}
	again := receive(t, b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{InFlight: 2, AckWait: time.Second}), "votes.>"))
	if fresh.UUID != "new" || again.UUID != "new" {
		t.Errorf("%s, then %s came", fresh.UUID, again.UUID)
	}
	again.Ack()
}

// Somebody deletes the durable consumer: the subscription ends, instead of waiting
// for messages that nobody will send.
func TestAConsumerThatIsDeletedEndsItsSubscriptions(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{}, {OrderBy: pubsub.LastToken, TakeoverAfter: time.Second}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			b.publish(b.publisher(), "votes.anna", "1")
			messages := b.subscribe(b.subscriber(b.nc, c), "votes.>")
			receive(t, messages).Ack()
			js, err := jetstream.New(b.nc)
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteConsumer(t.Context(), "VOTES", "workers"); err != nil {
				t.Fatal(err)
			}
			select {
			case m, open := <-messages:
				if open {
					t.Errorf("%s came", m.UUID)
				}
			case <-time.After(patience):
				t.Errorf("the subscription goes on for %v", patience)
			}
		})
	}
}

// malformed publishes messages that a subscriber cannot read, and one good one
// after them.
func malformed(t *testing.T, b *bench) {
	t.Helper()
	for _, header := range []nats.Header{
		{"Paldies-Metadata": {"{"}},
		{"Paldies-Message-Uuid": {"1", "2"}},
	} {
		if _, err := b.nc.RequestMsg(&nats.Msg{Subject: "votes.anna", Header: header, Data: []byte("bad")}, patience); err != nil {
			t.Fatal(err)
		}
	}
	publishRaw(t, b, "votes.anna", "NATS/1.0\r\nno colon here\r\n\r\n", "bad")
	b.publish(b.publisher(), "votes.anna", "good")
}

// publishRaw writes a message to the server that the client library would not.
func publishRaw(t *testing.T, b *bench, subject, header, payload string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.server.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(header), len(header)+len(payload), header, payload)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if lines.Text() == "PONG" {
			return
		}
	}
	t.Fatal("the server did not take the message")
}

func TestMalformedMessagesGoToThePoisonTopic(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{{}, {OrderBy: pubsub.LastToken}} {
		t.Run(fmt.Sprintf("ordered=%v", c.OrderBy != nil), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			b.stream("POISON", "poison", pubsub.Keep)
			malformed(t, b)
			c.Poison = &pubsub.Poison{Publisher: b.publisher(), Topic: "poison"}
			messages := b.subscribe(b.subscriber(b.nc, c), "votes.>")
			if m := receive(t, messages); m.UUID != "good" {
				t.Errorf("a handler gets %q", m.Payload)
			} else {
				m.Ack()
			}
			poisoned := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{}), "poison")
			for range 3 {
				m := receive(t, poisoned)
				if string(m.Payload) != "bad" || m.Metadata[pubsub.MetadataPoisonReason] == "" ||
					m.Metadata[pubsub.MetadataPoisonTopic] != "votes.anna" || m.Metadata[pubsub.MetadataPoisonHandler] != "workers" {
					t.Errorf("%q %q is in the poison topic", m.Payload, m.Metadata)
				}
				m.Ack()
			}
			b.allAcked("workers")
		})
	}
}

func TestWithoutAPoisonTopicHandlersGetMalformedMessages(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	malformed(t, b)
	messages := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{OrderBy: pubsub.LastToken}), "votes.>")
	for range 3 {
		m := receive(t, messages)
		if m.UUID == "" || m.Metadata[pubsub.MetadataMalformed] == "" {
			t.Errorf("message %q has the metadata %q", m.UUID, m.Metadata)
		}
		m.Ack()
	}
	if m := receive(t, messages); m.UUID != "good" || m.Metadata[pubsub.MetadataMalformed] != "" {
		t.Errorf("message %q has the metadata %q", m.UUID, m.Metadata)
	}
}

// failing is a publisher that fails some times before it works. Its pair fails
// after it has published.
type failing struct {
	message.Publisher
	failures atomic.Int32
	persists bool
}

func (f *failing) Publish(topic string, messages ...*message.Message) error {
	if f.failures.Add(-1) < 0 {
		return f.Publisher.Publish(topic, messages...)
	}
	if f.persists {
		if err := f.Publisher.Publish(topic, messages...); err != nil {
			return err
		}
	}
	return errors.New("the poison topic is full")
}

// A malformed message stays in the topic until its copy is durable.
func TestAMalformedMessageIsNotLostWithThePoisonTopic(t *testing.T) {
	for _, persists := range []bool{false, true} {
		b := newBench(t, pubsub.WorkQueue)
		b.stream("POISON", "poison", pubsub.Keep)
		malformed(t, b)
		publisher := &failing{Publisher: b.publisher(), persists: persists}
		publisher.failures.Store(4)
		c := pubsub.SubscriberConfig{
			OrderBy: pubsub.LastToken, NackDelayMin: time.Millisecond,
			Poison: &pubsub.Poison{Publisher: publisher, Topic: "poison"},
		}
		m := receive(t, b.subscribe(b.subscriber(b.nc, c), "votes.>"))
		if m.UUID != "good" {
			t.Errorf("a handler gets %q", m.Payload)
		}
		m.Ack()
		poisoned := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{}), "poison")
		sequences := make(map[string]bool)
		for len(sequences) < 3 {
			m := receive(t, poisoned)
			sequences[m.UUID] = true
			m.Ack()
		}
		b.allAcked("workers")
	}
}

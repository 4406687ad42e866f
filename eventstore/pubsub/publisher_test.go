package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func numbered(n int) []*message.Message {
	messages := make([]*message.Message, n)
	for i := range messages {
		messages[i] = message.NewMessage(fmt.Sprint(i), fmt.Append(nil, i))
	}
	return messages
}

// stored counts the messages in the stream VOTES.
func (b *bench) stored() uint64 {
	b.t.Helper()
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), "VOTES")
	if err != nil {
		b.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestManyMessagesOfOneCallStayInOrder(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		t.Run(fmt.Sprintf("atomic=%v", atomic), func(t *testing.T) {
			b := newBench(t, pubsub.Keep)
			js, err := jetstream.New(b.nc)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.UpdateStream(t.Context(), jetstream.StreamConfig{
				Name: "VOTES", Subjects: []string{"votes.>"}, Discard: jetstream.DiscardNew,
				AllowDirect: true, AllowAtomicPublish: atomic,
			}); err != nil {
				t.Fatal(err)
			}
			if err := b.publisher().Publish("votes.anna", numbered(2500)...); err != nil {
				t.Fatal(err)
			}
			messages := b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{}), "votes.>")
			for i := range 2500 {
				m := receive(t, messages)
				if m.UUID != fmt.Sprint(i) {
					t.Fatalf("message %d is %s", i, m.UUID)
				}
				m.Ack()
			}
		})
	}
}

func TestConcurrentCallsShareCommits(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	p := b.publisher()
	var wg sync.WaitGroup
	for v := range 200 {
		wg.Go(func() {
			for _, m := range numbered(5) {
				if err := p.Publish(fmt.Sprintf("votes.%d", v), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.stored(); n != 1000 {
		t.Errorf("%d messages stored", n)
	}
}

func TestWhatIsRefused(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	p := b.publisher()
	for name, publish := range map[string]func() error{
		"wildcard":    func() error { return p.Publish("votes.*", numbered(1)...) },
		"no subject":  func() error { return p.Publish("", numbered(1)...) },
		"bad UUID":    func() error { return p.Publish("votes.anna", message.NewMessage("a\nb", nil)) },
		"too large":   func() error { return p.Publish("votes.anna", message.NewMessage("1", make([]byte, 2<<20))) },
		"two streams": func() error { return publishTwoStreams(b) },
	} {
		var failed *pubsub.PublishError
		if err := publish(); !errors.Is(err, pubsub.ErrRefused) || !errors.As(err, &failed) || failed.Stored != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := b.stored(); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

func publishTwoStreams(b *bench) error {
	b.stream("OTHER", "other", pubsub.Keep)
	p, err := pubsub.NewPublisher(b.nc, pubsub.PublisherConfig{
		Subject: func(_ string, m *message.Message) string { return []string{"votes.anna", "other"}[len(m.UUID)-1] },
	})
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Publish("any", message.NewMessage("1", nil), message.NewMessage("22", nil))
}

// One message that the stream does not take makes the server refuse its batch;
// those of other calls in the batch are stored all the same.
func TestAMessageThatIsTooLargeHarmsNobodyElse(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	small := pubsub.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, Replicas: 1, MaxMessageBytes: 500}
	if err := pubsub.CreateStream(t.Context(), b.nc, small); err != nil {
		t.Fatal(err)
	}
	p := b.publisher()
	messages := numbered(30)
	messages[20].Payload = make([]byte, 1000)
	var failed *pubsub.PublishError
	if err := p.Publish("small", messages...); !errors.Is(err, pubsub.ErrRefused) || !errors.As(err, &failed) || failed.Stored != 20 {
		t.Errorf("of 30 messages the 21st is too large: %v", err)
	}
}

// Without a batch as with one, nothing of a call is stored behind what failed: it
// would overtake that one when the call is made again.
func TestNothingIsStoredBehindWhatFailed(t *testing.T) {
	for _, n := range []int{3, 30} {
		for _, atomic := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d messages, atomic=%v", n, atomic), func(t *testing.T) {
				b := newBench(t, pubsub.Keep)
				js, err := jetstream.New(b.nc)
				if err != nil {
					t.Fatal(err)
				}
				stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, MaxMsgSize: 500, AllowAtomicPublish: atomic})
				if err != nil {
					t.Fatal(err)
				}
				messages := numbered(n)
				messages[1].Payload = make([]byte, 1000)
				var failed *pubsub.PublishError
				if err := b.publisher().Publish("small", messages...); !errors.As(err, &failed) || failed.Stored != 1 {
					t.Errorf("the second message is too large: %v", err)
				}
				info, err := stream.Info(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if info.State.Msgs != 1 {
					t.Errorf("%d messages are stored", info.State.Msgs)
				}
			})
		}
	}
}

// The answer is lost: the message may be stored, and the error says so.
func TestAnUnknownOutcomeIsCalledSo(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	address, err := url.Parse(b.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := storetest.NewProxy(t, address.Host)
	nc := storetest.Connect(t, proxy.URL(), nats.IgnoreDiscoveredServers())
	p, err := pubsub.NewPublisher(nc, pubsub.PublisherConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Publish("votes.anna", numbered(1)...); err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{1, 5, 50} {
		before := b.stored()
		proxy.DropAnswers()
		failed := make(chan error)
		go func() { failed <- p.Publish("votes.anna", numbered(n)...) }()
		storetest.Eventually(t, "the messages are stored", func() bool { return b.stored() == before+uint64(n) })
		proxy.Cut()
		if err := <-failed; !errors.Is(err, pubsub.ErrOutcomeUnknown) {
			t.Errorf("call %d: %v", i, err)
		}
		storetest.Eventually(t, "the connection is back", nc.IsConnected)
	}
}

// Without a server nothing is sent, and the error says so.
func TestWithoutAServerNothingIsStored(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	p := b.publisher()
	b.publish(p, "votes.anna", "1")
	b.server.Stop()
	storetest.Eventually(t, "the connection is lost", func() bool { return !b.nc.IsConnected() })
	for _, n := range []int{1, 5, 50} {
		if err := p.Publish("votes.anna", numbered(n)...); !errors.Is(err, pubsub.ErrUnavailable) {
			t.Errorf("%d messages: %v", n, err)
		}
	}
	b.server.Start(t)
	storetest.Eventually(t, "the connection is back", b.nc.IsConnected)
	storetest.Eventually(t, "publishing works again", func() bool { return p.Publish("votes.anna", numbered(1)...) == nil })
	if n := b.stored(); n != 2 {
		t.Errorf("%d messages stored", n)
	}
}

func TestTheEndOfAContextEndsItsCall(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	p := b.publisher()
	b.publish(p, "votes.anna", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := message.NewMessageWithContext(ctx, "2", nil)
	if err := p.Publish("votes.anna", m); !errors.Is(err, pubsub.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := b.stored(); n != 1 {
		t.Errorf("%d messages stored", n)
	}
}

// Close waits for the calls that are under way: each of them is answered, and
// what it says is true.
func TestClosingAPublisherUnderLoad(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	p := b.publisher()
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored, begun := uint64(0), make(chan struct{})
	var once sync.Once
	for range 50 {
		wg.Go(func() {
			for {
				err := p.Publish("votes.anna", numbered(3)...)
				if errors.Is(err, pubsub.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if stored += 3; stored > 300 {
					once.Do(func() { close(begun) })
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("publishing is too slow")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := b.stored(); n != stored {
		t.Errorf("%d messages stored, %d acknowledged", n, stored)
	}
}

func TestTrimRemovesWhatAllGroupsHaveAcked(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	b.publish(b.publisher(), "votes.anna", "1", "2", "3", "4")
	if n, err := pubsub.Trim(t.Context(), b.nc, "VOTES"); err == nil || n != 0 {
		t.Errorf("without a group, %d are trimmed: %v", n, err)
	}
	for group, acks := range map[string]int{"fast": 4, "slow": 2} {
		s := b.subscriber(b.nc, pubsub.SubscriberConfig{Group: group})
		messages := b.subscribe(s, "votes.>")
		for range acks {
			receive(t, messages).Ack()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// A list of the stream's consumers would not have the one that is away.
	if n, err := pubsub.Trim(t.Context(), b.nc, "VOTES", "fast", "slow", "away"); err == nil || n != 0 || b.stored() != 4 {
		t.Errorf("while nobody knows what one group has acked, %d are trimmed: %v", n, err)
	}
	if n, err := pubsub.Trim(t.Context(), b.nc, "VOTES", "fast", "slow"); err != nil || n != 2 {
		t.Errorf("%d are trimmed: %v", n, err)
	}
	if n, err := pubsub.Trim(t.Context(), b.nc, "VOTES", "fast", "slow"); err != nil || n != 0 {
		t.Errorf("the second time, %d are trimmed: %v", n, err)
	}
	if _, err := pubsub.Trim(t.Context(), b.nc, "NONE", "fast"); !errors.Is(err, pubsub.ErrNoStream) {
		t.Errorf("a missing stream: %v", err)
	}
}

// A stream drops, and acknowledges, what comes under the Nats-Msg-Id of another
// publisher. That must be over in a moment, not in the server's two minutes.
func TestAMessageIDIsForgottenAtOnce(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	begun := time.Now()
	for stored := 0; stored < 2; {
		answer, err := b.nc.RequestMsg(&nats.Msg{Subject: "votes.anna", Header: nats.Header{"Nats-Msg-Id": {"1"}}}, patience)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(answer.Data), `"duplicate"`) {
			stored++
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("%d of 2 messages are stored after %v: %s", stored, time.Since(begun), answer.Data)
		}
	}
	if n := b.stored(); n != 2 {
		t.Errorf("%d messages stored", n)
	}
}

func TestConfigurationsAreChecked(t *testing.T) {
	for _, c := range []pubsub.SubscriberConfig{
		{},
		{Group: "a.b"},
		{Group: "g", InFlight: -1},
		{Group: "g", InFlight: 10, MaxAckPending: 5},
		{Group: "g", AckWait: time.Millisecond},
		{Group: "g", NackDelayMin: time.Second, NackDelayMax: time.Millisecond},
		{Group: "g", TakeoverAfter: time.Millisecond},
		{Group: "g", CloseTimeout: -1},
		{Group: "g", Poison: &pubsub.Poison{}},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	for _, c := range []pubsub.StreamConfig{
		{},
		{Name: "A", Replicas: 1},
		{Name: "A", Subjects: []string{"a..b"}, Replicas: 1},
		{Name: "A", Subjects: []string{"a.b*"}, Replicas: 1},
		{Name: "A", Subjects: []string{">.a"}, Replicas: 1},
		{Name: "A", Subjects: []string{"a"}, Replicas: 2},
		{Name: "A", Subjects: []string{"a"}, Replicas: 1, Retention: 7},
		{Name: "A", Subjects: []string{"a"}, Replicas: 1, MaxAge: -1},
		{Name: "A", Subjects: []string{"a"}, Replicas: 1, DiscardOld: true},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	if (pubsub.PublisherConfig{CloseTimeout: -1}).Validate() == nil {
		t.Error("a negative time is valid")
	}
	buffered, err := nats.Connect(storetest.NewServer(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer buffered.Close()
	if _, err := pubsub.NewPublisher(buffered, pubsub.PublisherConfig{}); err == nil {
		t.Error("a connection that keeps publishes is accepted")
	}
}

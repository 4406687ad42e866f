package pubsub_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, storetest.Leftovers()...) }

// fullSuite makes Watermill's suite publish as many messages as it does by
// default. With less it finds the same mistakes in a tenth of the time. The full
// one, repeatedly and with the race detector:
//
//	PALDIES_FULL_SUITE=1 go test -race -count=3 -run Universal ./eventstore/pubsub
const fullSuite = "PALDIES_FULL_SUITE"

// initialising makes a stream for each topic of the suite before the group's
// consumer: the package itself makes none.
type initialising struct {
	*pubsub.Subscriber
	nc        *nats.Conn
	retention pubsub.Retention
}

func (s initialising) SubscribeInitialize(topic string) error {
	config := pubsub.StreamConfig{Name: topic, Subjects: []string{topic}, Replicas: 1, Retention: s.retention}
	if err := pubsub.CreateStream(context.Background(), s.nc, config); err != nil {
		return err
	}
	return s.Subscriber.SubscribeInitialize(topic)
}

// runSuite runs Watermill's suite on one server. The suite leaves some
// subscribers open, so the end of a test closes what it made.
func runSuite(t *testing.T, features tests.Features, config pubsub.SubscriberConfig, retention pubsub.Retention) {
	features.ConsumerGroups = true
	features.Persistent = true
	features.ForceShort = os.Getenv(fullSuite) == ""
	s := storetest.NewServer(t)
	nc := s.Connect(t)
	make := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		publisher, err := pubsub.NewPublisher(nc, pubsub.PublisherConfig{})
		if err != nil {
			t.Fatal(err)
		}
		c := config
		c.Group = group
		subscriber, err := pubsub.NewSubscriber(nc, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := publisher.Close(); err != nil {
				t.Error(err)
			}
			if err := subscriber.Close(); err != nil {
				t.Error(err)
			}
		})
		return publisher, initialising{subscriber, nc, retention}
	}
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) { return make(t, "group") },
		make)
}

// suiteConfig has short times, because the suite abandons messages.
func suiteConfig() pubsub.SubscriberConfig {
	return pubsub.SubscriberConfig{
		NackDelayMin: time.Millisecond,
		NackDelayMax: 20 * time.Millisecond,
		CloseTimeout: 200 * time.Millisecond,
	}
}

// Competing subscribers of a group without order see the order of the stream
// only when there is one of them.
func TestUniversalSuiteWithoutOrder(t *testing.T) {
	runSuite(t, tests.Features{GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true}, suiteConfig(), pubsub.Keep)
}

// With one key for everything, ten competing subscribers keep the order.
func TestUniversalSuiteInOrder(t *testing.T) {
	config := suiteConfig()
	config.OrderBy = func(string) string { return "" }
	runSuite(t, tests.Features{GuaranteedOrder: true}, config, pubsub.Keep)
}

package pubsub_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// Watermill's router runs a goroutine a message, retries, and moves to its poison
// queue what cannot succeed: the order of each voter is kept all the same, and
// the reason arrives whole.
func TestRouterKeepsTheOrder(t *testing.T) {
	const voters, each = 50, 10
	b := newBench(t, pubsub.Keep)
	b.stream("POISON", "poison", pubsub.Keep)
	b.publishVotes(voters, each)
	b.publish(b.publisher(), "votes.bad", "bad")

	publisher := b.publisher()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: patience}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	poison, err := middleware.PoisonQueue(publisher, "poison")
	if err != nil {
		t.Fatal(err)
	}
	retry := middleware.Retry{MaxRetries: 2, InitialInterval: time.Millisecond, MaxInterval: time.Millisecond}
	router.AddMiddleware(middleware.Recoverer, poison, retry.Middleware)
	var j journal
	s := b.subscriber(b.nc, pubsub.SubscriberConfig{OrderBy: pubsub.LastToken, InFlight: 32})
	router.AddConsumerHandler("votes", "votes.>", s, func(m *message.Message) error {
		if string(m.Payload) == "bad" {
			return errors.New("it is bad,\nreally")
		}
		j.handle(m)
		return nil
	})
	done := make(chan error)
	go func() { done <- router.Run(context.Background()) }()
	storetest.Eventually(t, "all messages are seen", func() bool { return j.seen() >= voters*each })
	b.allAcked("workers")
	if err := router.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	j.check(t, voters, each)

	m := receive(t, b.subscribe(b.subscriber(b.nc, pubsub.SubscriberConfig{}), "poison"))
	if reason := m.Metadata[middleware.ReasonForPoisonedKey]; !strings.Contains(reason, "it is bad,\nreally") {
		t.Errorf("the reason is %q", reason)
	}
	m.Ack()
}

package comparison

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmjetstream "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/jetstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

const (
	// routed is how many messages go through our router, at least; a tenth goes
	// through the other one.
	routed   = 5000
	inFlight = 4096
)

// BenchmarkRouter lets Watermill's router carry messages from a stream into a
// ledger: on package pubsub, in order, as the submission queue does, and on
// watermill-nats with a work queue. Messages are there before the router starts;
// everything is fsynced. Rounds alternate, and medians are compared.
func BenchmarkRouter(b *testing.B) {
	var ours, theirs []float64
	n := max(routed, b.N/rounds)
	for range rounds {
		ours = append(ours, routerRate(b, n, onPubsub))
		theirs = append(theirs, routerRate(b, n/10, onWatermillNATS))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours), "events/s")
	b.ReportMetric(median(ours)/median(theirs), "x-watermill-nats")
}

// routerRate is how many messages a second a router brings into a ledger.
func routerRate(b *testing.B, n int, filled func(b *testing.B, n int) (message.Subscriber, string)) float64 {
	b.Helper()
	s, topic := filled(b, n)
	record, done := ledger(b), make(chan struct{})
	var recorded atomic.Int64
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	check(b, err)
	router.AddMiddleware(middleware.Recoverer, middleware.Retry{MaxRetries: 3}.Middleware)
	router.AddConsumerHandler("votes", topic, s, func(m *message.Message) error {
		if err := record(int(next.Add(1))); err != nil {
			return err
		}
		if recorded.Add(1) == int64(n) {
			close(done)
		}
		return nil
	})
	ended := make(chan error, 1)
	begun := time.Now()
	go func() { ended <- router.Run(context.Background()) }()
	<-done
	rate := float64(n) / time.Since(begun).Seconds()
	check(b, router.Close())
	check(b, <-ended)
	return rate
}

// next makes the subject of each event another one.
var next atomic.Int64

func onPubsub(b *testing.B, n int) (message.Subscriber, string) {
	b.Helper()
	server := storetest.NewServer(b)
	nc := server.Connect(b)
	check(b, pubsub.CreateStream(b.Context(), nc, pubsub.StreamConfig{Name: "VOTES", Subjects: []string{"votes.>"}, Replicas: 1}))
	server.StageInMemory(b, "VOTES")
	p, err := pubsub.NewPublisher(nc, pubsub.PublisherConfig{Subject: func(topic string, m *message.Message) string { return topic + "." + m.UUID }})
	check(b, err)
	var messages []*message.Message
	for i := range n {
		messages = append(messages, message.NewMessage(strconv.Itoa(i), payload))
	}
	check(b, p.Publish("votes", messages...))
	check(b, p.Close())
	s, err := pubsub.NewSubscriber(nc, pubsub.SubscriberConfig{Group: "workers", InFlight: inFlight, OrderBy: pubsub.LastToken})
	check(b, err)
	return s, "votes.>"
}

func onWatermillNATS(b *testing.B, n int) (message.Subscriber, string) {
	b.Helper()
	const stream = "VOTES"
	nc := storetest.NewServer(b).Connect(b)
	js, err := jetstream.New(nc)
	check(b, err)
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{stream}, Retention: jetstream.WorkQueuePolicy})
	check(b, err)
	own, err := nats.Connect(nc.ConnectedUrl(), eventstore.ConnectOptions()...) // the publisher closes it
	check(b, err)
	p, err := wmjetstream.NewPublisher(wmjetstream.PublisherConfig{Conn: own, Logger: watermill.NopLogger{}})
	check(b, err)
	for i := range n {
		check(b, p.Publish(stream, message.NewMessage(strconv.Itoa(i), payload)))
	}
	check(b, p.Close())
	theirs, err := nats.Connect(nc.ConnectedUrl()) // the subscriber closes it
	check(b, err)
	s, err := wmjetstream.NewSubscriber(wmjetstream.SubscriberConfig{Conn: theirs, Logger: watermill.NopLogger{}, ResourceInitializer: wmjetstream.GroupedConsumer("workers")})
	check(b, err)
	return s, stream
}

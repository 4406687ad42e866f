package pubsub_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"sakipaldies.lv/ledger/eventstore/pubsub"
)

// benchPayload is as large as a submission.
var benchPayload = []byte(strings.Repeat("Paldies par sirsnīgu apkalpošanu! ", 9)[:300])

// benchMessages is how many messages one iteration moves.
const benchMessages = 20_000

// rate runs f, which moves benchMessages, and returns messages a second.
func rate(f func()) float64 {
	begun := time.Now()
	f()
	return benchMessages / time.Since(begun).Seconds()
}

// callers shares the messages of an iteration out among so many goroutines, each
// of which takes size of them at a time.
func callers(n, size int, f func(first, size int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				first := int(next.Add(int64(size))) - size
				if first >= benchMessages {
					return
				}
				f(first, min(size, benchMessages-first))
			}
		})
	}
	wg.Wait()
}

// bareBatches publishes with nothing but the client library: batches of 1000,
// sent one after another, four under way.
func bareBatches(b *testing.B, nc *nats.Conn) {
	var sending sync.Mutex
	callers(4, 1000, func(first, size int) {
		header := nats.Header{"Nats-Batch-Id": {nuid.Next()}, "Paldies-Message-Uuid": {"0123456789012345678901"}}
		msg := &nats.Msg{Header: header, Data: benchPayload}
		sending.Lock()
		for i := range size - 1 {
			msg.Subject = "votes." + strconv.Itoa(first+i)
			header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
			if err := nc.PublishMsg(msg); err != nil {
				b.Error(err)
			}
		}
		sending.Unlock()
		msg.Subject = "votes." + strconv.Itoa(first+size-1)
		header["Nats-Batch-Sequence"] = []string{strconv.Itoa(size)}
		header["Nats-Batch-Commit"] = []string{"1"}
		if answer, err := nc.RequestMsg(msg, patience); err != nil || strings.Contains(string(answer.Data), "error") {
			b.Error(err, answer)
		}
	})
}

// pipelinedMax is how many asynchronous publishes are under way.
const pipelinedMax = 4000

// pipelined publishes with the client library's asynchronous publishes.
func pipelined(b *testing.B, js jetstream.JetStream) {
	for i := range benchMessages {
		if i%pipelinedMax == 0 {
			<-js.PublishAsyncComplete()
		}
		if _, err := js.PublishMsgAsync(&nats.Msg{Subject: "votes." + strconv.Itoa(i), Data: benchPayload}); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

// BenchmarkPublish compares, in one run on one server, the Publisher with bare
// atomic batches, and once with pipelined publishes.
//
//	go test -run '^$' -bench Publish -benchtime 5x ./eventstore/pubsub
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct{ callers, size int }{{64, 1}, {256, 1}, {4096, 1}, {16, 100}, {4, 1000}, {1, benchMessages}} {
		b.Run(fmt.Sprintf("callers=%d/messages=%d", c.callers, c.size), func(b *testing.B) {
			bench := newBench(b, pubsub.Keep)
			p, err := pubsub.NewPublisher(bench.nc, pubsub.PublisherConfig{
				Subject: func(_ string, m *message.Message) string { return m.Metadata["subject"] },
			})
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			var own, bare float64
			for b.Loop() {
				bare += rate(func() { bareBatches(b, bench.nc) })
				own += rate(func() {
					callers(c.callers, c.size, func(first, size int) { publishVotesFrom(b, p, first, size) })
				})
			}
			b.ReportMetric(own/float64(b.N), "messages/s")
			b.ReportMetric(own/bare, "of-bare")
		})
	}
}

// BenchmarkPipelined shows what asynchronous publishes reach on the same server.
func BenchmarkPipelined(b *testing.B) {
	bench := newBench(b, pubsub.Keep)
	js, err := jetstream.New(bench.nc, jetstream.WithPublishAsyncMaxPending(pipelinedMax))
	if err != nil {
		b.Fatal(err)
	}
	defer js.CleanupPublisher()
	var plain, bare float64
	for b.Loop() {
		bare += rate(func() { bareBatches(b, bench.nc) })
		plain += rate(func() { pipelined(b, js) })
	}
	b.ReportMetric(plain/float64(b.N), "messages/s")
	b.ReportMetric(plain/bare, "of-bare")
}

func publishVotesFrom(b *testing.B, p *pubsub.Publisher, first, size int) {
	messages := make([]*message.Message, size)
	for i := range messages {
		messages[i] = message.NewMessage("0123456789012345678901", benchPayload)
		messages[i].Metadata["subject"] = "votes." + strconv.Itoa(first+i)
	}
	if err := p.Publish("votes", messages...); err != nil {
		b.Error(err)
	}
}

// BenchmarkSubscribe compares, in one run on one server, a Subscriber whose
// handlers are goroutines, as those of Watermill's router, with the client
// library's Consume and an ack for each message.
//
//	go test -run '^$' -bench Subscribe -benchtime 5x ./eventstore/pubsub
func BenchmarkSubscribe(b *testing.B) {
	for _, retention := range []pubsub.Retention{pubsub.Keep, pubsub.WorkQueue} {
		for _, ordered := range []bool{false, true} {
			b.Run(fmt.Sprintf("retention=%d/ordered=%v", retention, ordered), func(b *testing.B) {
				var own, bare float64
				for b.Loop() {
					b.StopTimer()
					bench := newBench(b, retention)
					bareBatches(b, bench.nc)
					b.StartTimer()
					own += rate(func() { subscribeAll(b, bench, ordered) })
					if retention == pubsub.Keep {
						bare += rate(func() { consumeAll(b, bench) })
					}
				}
				b.ReportMetric(own/float64(b.N), "messages/s")
				if bare > 0 {
					b.ReportMetric(own/bare, "of-bare")
				}
			})
		}
	}
}

func subscribeAll(b *testing.B, bench *bench, ordered bool) {
	c := pubsub.SubscriberConfig{Group: "own", InFlight: 1024}
	if ordered {
		c.OrderBy = pubsub.LastToken
	}
	s, err := pubsub.NewSubscriber(bench.nc, c)
	if err != nil {
		b.Fatal(err)
	}
	messages, err := s.Subscribe(context.Background(), "votes.>")
	if err != nil {
		b.Fatal(err)
	}
	for range benchMessages {
		m := <-messages
		go m.Ack()
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	bench.allAcked("own")
}

func consumeAll(b *testing.B, bench *bench) {
	js, err := jetstream.New(bench.nc)
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := js.CreateConsumer(context.Background(), "VOTES", jetstream.ConsumerConfig{
		Durable: "bare", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 4096,
	})
	if err != nil {
		b.Fatal(err)
	}
	done, acked := make(chan struct{}), 0
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if err := m.Ack(); err != nil {
			b.Error(err)
		}
		if acked++; acked == benchMessages {
			close(done)
		}
	}, jetstream.PullMaxMessages(4096))
	if err != nil {
		b.Fatal(err)
	}
	<-done
	consuming.Stop()
	<-consuming.Closed()
	bench.allAcked("bare")
}

package pubsub_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/eventstore/pubsub"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// On three servers that replicate to each other, the stream's leader is stopped
// twice while an ordered group works: nothing is lost or overtaken.
func TestOrderSurvivesAChangeOfLeader(t *testing.T) {
	const voters, each = 300, 20
	c := storetest.NewCluster(t)
	b := &bench{t: t, server: c.Servers[0]}
	urls := c.Servers[0].URL() + "," + c.Servers[1].URL() + "," + c.Servers[2].URL()
	b.nc = storetest.Connect(t, urls)
	config := pubsub.StreamConfig{Name: "VOTES", Subjects: []string{"votes.>"}, Replicas: 3}
	if err := pubsub.CreateStream(t.Context(), b.nc, config); err != nil {
		t.Fatal(err)
	}
	b.publishVotes(voters, each)
	var j journal
	random := newRandom(t)
	subscribers := make([]*pubsub.Subscriber, 2)
	var wait []func()
	for i := range subscribers {
		subscribers[i] = b.subscriber(storetest.Connect(t, urls, nats.DontRandomize()), pubsub.SubscriberConfig{
			OrderBy: pubsub.LastToken, InFlight: 4, AckWait: 2 * time.Second, TakeoverAfter: time.Second,
			NackDelayMin: time.Millisecond, NackDelayMax: 10 * time.Millisecond,
		})
		work := consume(b.subscribe(subscribers[i], "votes.>"), &j, random2(random))
		wait = append(wait, work.Wait)
	}
	for round := range 2 {
		storetest.Eventually(t, "some messages are seen", func() bool { return j.seen() >= (round+1)*voters*each/3 })
		leader := c.StreamLeader(t, "VOTES")
		leader.Stop()
		if j.seen() == voters*each {
			t.Error("everything was seen before the leader stopped")
		}
		c.StreamLeader(t, "VOTES")
		leader.Start(t)
	}
	storetest.Eventually(t, "all messages are seen", func() bool { return j.seen() >= voters*each })
	for i, s := range subscribers {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wait[i]()
	}
	j.check(t, voters, each)
}

// A subscriber that stands by costs the active one nothing, and becomes active
// when the group's pin is taken away by an operator.
func TestAnOperatorMovesTheWork(t *testing.T) {
	b := newBench(t, pubsub.Keep)
	c := pubsub.SubscriberConfig{OrderBy: pubsub.LastToken, TakeoverAfter: time.Second}
	first := b.subscribe(b.subscriber(b.nc, c), "votes.>")
	p := b.publisher()
	b.publish(p, "votes.anna", "1")
	receive(t, first).Ack()
	b.allAcked("workers")
	second := b.subscribe(b.subscriber(b.nc, c), "votes.>")
	if _, err := b.nc.RequestWithContext(context.Background(), "$JS.API.CONSUMER.UNPIN.VOTES.workers", []byte(`{"group":"order"}`)); err != nil {
		t.Fatal(err)
	}
	b.publish(p, "votes.anna", "2", "3")
	for range 2 {
		select {
		case m := <-first:
			m.Ack()
		case m := <-second:
			m.Ack()
		case <-time.After(patience):
			t.Fatal("nobody works")
		}
	}
	b.allAcked("workers")
}

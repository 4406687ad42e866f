package pubsub

import (
	"context"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// The words of JetStream's acknowledgements.
var (
	wordAck      = []byte("+ACK")
	wordNak      = []byte("-NAK")
	wordProgress = []byte("+WPI")
)

// prepare gives a message the context that its handler sees.
func (s *subscription) prepare(it *item) {
	if it.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.handlers)
	it.message.SetContext(ctx)
	it.cancel = cancel
}

// handOver follows a message that was taken from the channel until its ack.
func (s *subscription) handOver(it *item) {
	s.dispatch.handOver(it)
	go s.await(it, it.message)
}

// await waits for the handler's word. When handlers are waited for no longer the
// message is nacked here, so that a late Ack tells the handler that it was late.
func (s *subscription) await(it *item, m *message.Message) {
	acked := false
	select {
	case <-m.Acked():
		acked = true
	case <-m.Nacked():
	case <-s.giveUp:
		acked = !m.Nack()
	}
	s.settled <- settlement{item: it, acked: acked}
}

// poison publishes a malformed message to the poison topic. Only when that is
// durable is the message done with.
func (s *subscription) poison(it *item) {
	copied := it.message.Copy()
	copied.SetContext(s.handlers)
	copied.Metadata[MetadataPoisonReason] = it.malformed.Error()
	copied.Metadata[MetadataPoisonTopic] = copied.Metadata[MetadataSubject]
	copied.Metadata[MetadataPoisonHandler] = s.config.Group
	done := settlement{item: it, acked: true, term: it.malformed.Error()}
	if err := s.config.Poison.Publisher.Publish(s.config.Poison.Topic, copied); err != nil {
		s.config.Logger.Error("a malformed message could not be moved to the poison topic and is tried again",
			"group", s.config.Group, "topic", s.topic, "sequence", it.sequence, "error", err)
		done.acked = false
	}
	s.settled <- done
}

// settle tells the server what became of a message. When that word is lost the
// server delivers the message again, and an acked one is known then.
func (s *subscription) settle(done settlement) {
	it := done.item
	switch {
	case done.term != "" && done.acked:
		s.answer(it.reply, termWord(done.term))
	case done.acked:
		s.answer(it.reply, wordAck)
	default:
		s.answer(it.reply, nakWord(s.nackDelay(it)))
	}
	if it.cancel != nil {
		it.cancel()
		it.cancel = nil
	}
	s.dispatch.settle(it, done.acked)
}

// nackDelay is how long a nacked message rests: not at all when this
// subscription ends, so that others get it at once.
func (s *subscription) nackDelay(it *item) time.Duration {
	if s.ending() {
		return 0
	}
	return s.config.nackDelay(it.deliveries)
}

// nakWord asks for the message again after a delay.
func nakWord(delay time.Duration) []byte {
	if delay <= 0 {
		return wordNak
	}
	return []byte(`-NAK {"delay": ` + strconv.FormatInt(int64(delay), 10) + `}`)
}

// termWord says that a message is done with, and why.
func termWord(reason string) []byte {
	return []byte("+TERM " + reason[:min(len(reason), poisonReasonBytesMax)])
}

// answer sends one of the words. It fails only without a connection, and then
// the server delivers the message again.
func (s *subscription) answer(reply string, word []byte) {
	if s.orphaned {
		return // it would be about somebody else's message
	}
	_ = s.nc.Publish(reply, word)
}

// keep tells the server about messages that have been held for long, so that it
// gives them to nobody else.
func (s *subscription) keep() {
	now := time.Now()
	for _, it := range s.dispatch.items {
		if it.state != itemNacked && now.Sub(it.touched) >= s.config.AckWait/beatsPerAckWait/2 {
			s.answer(it.reply, wordProgress)
			it.touched = now
		}
	}
}

// drain stops the requests and takes in what is on its way, so that it can be
// given back.
func (s *subscription) drain(p *puller) {
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	if err := p.sub.Drain(); err != nil {
		return // without a connection nothing comes any more
	}
	_ = s.nc.FlushWithContext(ctx) // what it was to bring comes again after AckWait
	for _, e := range s.early {
		s.giveBack(e.msg)
	}
	for {
		select {
		case msg := <-p.arrived:
			s.giveBack(msg)
		default:
			return
		}
	}
}

func (s *subscription) giveBack(msg *nats.Msg) {
	if msg.Reply != "" {
		s.answer(msg.Reply, wordNak)
	}
}

// finish gives back what was not handed over, waits for what is in hand, and
// makes way for another subscriber.
func (s *subscription) finish() {
	for _, it := range s.dispatch.dropHeld() {
		s.answer(it.reply, wordNak)
	}
	timer := time.NewTimer(s.config.CloseTimeout)
	defer timer.Stop()
	beat := time.NewTicker(s.config.AckWait / beatsPerAckWait)
	defer beat.Stop()
	for s.dispatch.inHand > 0 {
		select {
		case done := <-s.settled:
			s.settle(done)
		case <-beat.C:
			s.keep()
		case <-timer.C:
			s.abandoned = s.dispatch.inHand
			s.cancel()
			close(s.giveUp)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	s.makeWay(ctx)
	_ = s.nc.FlushWithContext(ctx) // acks that do not arrive make the server deliver again
}

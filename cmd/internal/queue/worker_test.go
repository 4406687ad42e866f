package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/cmd/internal/schema/schematest"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// A voter's day: submissions are decided in their order, whatever the channel.
func TestOutcomes(t *testing.T) {
	w := newWorld(t)
	w.start()
	mobile := vote("lv-pk:010180-12345", "ilze-berzina", "2")
	mobile.Channel = "mobile"
	late := vote("Pēteris Kļava", "ilze-berzina", "7")
	late.Channel, late.CastAt = "in_person", domain.FormatTime(time.Now().AddDate(-1, 0, 0))
	slip := func(id string) queue.Item {
		it := vote("", "zanete-kirsone", id)
		it.Channel = "slip"
		return it
	}
	elsewhere := vote("kāds", "ilze-berzina", "10")
	elsewhere.Channel = "pasts"
	submissions := w.follow("submissions.>")
	outcomes, poison := w.decided(
		vote("lv-pk:010180-12345", "ilze-berzina", "1"),
		mobile,
		retraction("lv-pk:010180-12345", "ilze-berzina", "3"),
		vote("lv-pk:010180-12345", "ilze-berzina", "4"),
		retraction("lv-pk:010180-12345", "zane-cirule", "5"),
		vote("lv-pk:010180-12345", "nav-tada", "6"),
		late, slip("8"), slip("9"), elsewhere,
	)
	want := map[string]string{
		"vote 1": "accepted", "vote 2": "already_voted", "retract 3": "accepted", "vote 4": "accepted", "retract 5": "unknown_vote",
		"vote 6": "unknown_specialist", "vote 7": "too_early", "vote 8": "accepted", "vote 9": "accepted", "vote 10": "channel_not_accepted",
	}
	got := make(map[string]string)
	for id, o := range outcomes {
		got[id] = o.CountedAs()
	}
	if !maps.Equal(got, want) || len(poison) > 0 {
		t.Errorf("the outcomes are %v, want %v; poisoned: %v", got, want, poison)
	}
	if o := outcomes["vote 2"]; o.Sequence != outcomes["vote 1"].Sequence || o.EventID != "" {
		t.Errorf("the vote that stands in the way is %d: %+v", outcomes["vote 1"].Sequence, o)
	}
	if outcomes["vote 1"].Sequence >= outcomes["retract 3"].Sequence || outcomes["retract 3"].Sequence >= outcomes["vote 4"].Sequence {
		t.Errorf("not in their order: %+v", outcomes)
	}
	w.fit("submission", submissions, len(want))
	w.fit("outcome", w.follow("outcomes.>"), len(want))
}

// follow is a look at the messages of the stream that stores the subjects.
func (w *world) follow(filter string) jetstream.Consumer {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	check(w.t, err)
	stream, err := js.StreamNameBySubject(w.t.Context(), filter)
	check(w.t, err)
	c, err := js.OrderedConsumer(w.t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	check(w.t, err)
	return c
}

// fit wants so many published messages to fit a schema.
func (w *world) fit(name string, published jetstream.Consumer, n int) {
	w.t.Helper()
	s := schematest.Read(w.t, name)
	batch, err := published.Fetch(n, jetstream.FetchMaxWait(closeTimeout))
	check(w.t, err)
	seen := 0
	for m := range batch.Messages() {
		seen++
		if err := s.Check(m.Data()); err != nil {
			w.t.Errorf("%s %s: %v", m.Subject(), m.Data(), err)
		}
	}
	if check(w.t, batch.Error()); seen != n {
		w.t.Errorf("%d messages of %s were seen, want %d", seen, name, n)
	}
}

// A submission has one outcome, however often and by whatever key it comes: a
// repeat that was refused is not accepted because the vote was taken back since.
func TestOneOutcome(t *testing.T) {
	w := newWorld(t)
	w.start()
	first, _ := w.decided(vote("kāds", "ilze-berzina", "a"), vote("kāds", "ilze-berzina", "b"), retraction("kāds", "ilze-berzina", "c"))
	again := []queue.Item{vote("kāds", "ilze-berzina", "b"), vote("kāds", "ilze-berzina", "a"), vote(" kāds ", "ilze-berzina", "b")}
	w.submit(again...)
	body, err := again[0].Encode()
	check(t, err)
	for i := range 20 {
		w.publish(queue.Subject(campaign, "web", fmt.Sprint("cita-", i%4)), string(body))
	}
	w.drained()
	if events := w.voterEvents(); events != 2 {
		t.Errorf("%d events of voters are in the ledger", events)
	}
	counts, err := queue.CountOutcomes(t.Context(), w.nc, campaign)
	check(t, err)
	if want := map[string]int{"accepted": 2, "already_voted": 1}; !maps.Equal(counts, want) {
		t.Errorf("the outcomes are %v, want %v", counts, want)
	}
	if first["vote b"].Code != domain.AlreadyVoted {
		t.Errorf("the first outcome was %+v", first["vote b"])
	}
	// The same id of another voter is another submission; with another content it
	// is a mistake, which must not vanish.
	w.submit(vote("cits", "ilze-berzina", "a"))
	w.drained()
	counts, err = queue.CountOutcomes(t.Context(), w.nc, campaign)
	check(t, err)
	if n := w.voterEvents(); n != 3 || counts["accepted"] != 3 {
		t.Errorf("with another voter's there are %d events, and the outcomes %v", n, counts)
	}
	w.submit(vote("kāds", "zane-cirule", "a"))
	if q := w.poisoned(1)[0]; !strings.Contains(q.Reason, "used before with another content") {
		t.Errorf("the reason is %q", q.Reason)
	}
}

// Who waits for an outcome is not answered with that of another content, which
// somebody has handed in under the same id.
func TestAwaitedByContent(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.decided(vote("kāds", "ilze-berzina", "a"), vote("kāds", "ilze-berzina", "b"))
	outcomes, poison := w.decided(vote("cits", "zane-cirule", "b"))
	if o := outcomes["vote b"]; o.Status != queue.Accepted || len(poison) > 0 {
		t.Errorf("another voter's with another content: %+v, %v", o, poison)
	}
	outcomes, poison = w.decided(vote("kāds", "zanete-kirsone", "a"))
	if len(outcomes) > 0 || !strings.Contains(poison["vote a"], "used before with another content") {
		t.Errorf("the same voter's with another content: %+v, %v", outcomes, poison)
	}
}

// Who waits for one outcome is not sent those of the whole campaign.
func TestAwaitOne(t *testing.T) {
	const others = 2_000
	w := newWorld(t)
	w.start()
	items := make([]queue.Item, others)
	for n := range items {
		items[n] = vote(fmt.Sprint("balsotājs ", n), "ilze-berzina", fmt.Sprint(n))
	}
	w.decided(items...)
	w.nc = w.server.Connect(t)
	w.decided(vote("kāds", "ilze-berzina", "a"), retraction("kāds", "ilze-berzina", "a"))
	if got := w.nc.Stats().InMsgs; got > others/10 {
		t.Errorf("%d messages came because of two submissions", got)
	}
}

// All spellings of a voter's id have one key, and with it one order.
func TestKeyOfSpellings(t *testing.T) {
	want := queue.Key(queue.Submission{Voter: "lv-pk:01018012345"})
	for _, voter := range []string{"lv-pk:010180-12345", " LV-PK:010180-12345 "} {
		if key := queue.Key(queue.Submission{Voter: voter}); key != want {
			t.Errorf("the key of %q is %s, want %s", voter, key, want)
		}
	}
	if queue.Key(queue.Submission{Voter: "Pe\u0304teris"}) != queue.Key(queue.Submission{Voter: "Pēteris"}) {
		t.Error("the key depends on how Unicode is composed")
	}
}

// The ledger may know a submission that has no outcome: it came over HTTP, or its
// outcome has expired. Its id with another content takes nothing from it.
func TestOtherContentThanRecorded(t *testing.T) {
	w := newWorld(t)
	w.start()
	receipt, err := w.intake(w.ledger(w.nc, campaign), campaign).Submit(t.Context(),
		intake.Command{Action: domain.Vote, Voter: "kāds", Specialist: "ilze-berzina", Channel: "web", SubmissionID: "a"})
	check(t, err)
	w.submit(vote("kāds", "zane-cirule", "a"))
	if q := w.poisoned(1)[0]; !strings.Contains(q.Reason, "used before with another content") {
		t.Errorf("the reason is %q", q.Reason)
	}
	if n := w.count(); n != 0 {
		t.Errorf("%d outcomes of the other content", n)
	}
	outcomes, _ := w.decided(vote("kāds", "ilze-berzina", "a"))
	if o := outcomes["vote a"]; o.Status != queue.Accepted || o.Sequence != receipt.Sequence {
		t.Errorf("the one that is recorded as %d: %+v", receipt.Sequence, o)
	}
}

// Workers crash with submissions in hand, the server is restarted, and channels
// publish what they have published before.
func TestCrashes(t *testing.T) {
	const voters, crashes = 300, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	hasty := func(c *queue.Config) { c.TakeoverAfter = time.Second }
	var items []queue.Item
	for v := range voters {
		name := fmt.Sprintf("balsotājs %d", v)
		items = append(items, vote(name, "ilze-berzina", fmt.Sprintf("%d-1", v)), vote(name, "ilze-berzina", fmt.Sprintf("%d-2", v)),
			retraction(name, "ilze-berzina", fmt.Sprintf("%d-3", v)), vote(name, "ilze-berzina", fmt.Sprintf("%d-4", v)))
	}
	for i := range crashes {
		r := w.start(hasty)
		part := items[i*len(items)/crashes : (i+1)*len(items)/crashes]
		w.submit(part...)
		target := w.count() + random.IntN(len(part))
		storetest.Eventually(t, "some more are decided", func() bool { return w.count() >= target })
		if i%3 == 2 {
			w.server.Stop()
			w.server.Start(t)
		}
		r.crash()
		repeated := random.IntN((i + 1) * len(items) / crashes)
		w.submit(items[repeated/4*4 : repeated/4*4+4]...)
	}
	w.start(hasty)
	w.drained()
	counts, err := queue.CountOutcomes(t.Context(), w.nc, campaign)
	check(t, err)
	if want := map[string]int{"accepted": 3 * voters, "already_voted": voters}; !maps.Equal(counts, want) {
		t.Errorf("the outcomes are %v, want %v", counts, want)
	}
	if events := w.voterEvents(); events != 3*voters {
		t.Errorf("%d events of voters are in the ledger, want %d", events, 3*voters)
	}
}

// A worker that is asked to stop brings to its end what it has in hand, and no
// more: what has an outcome is acked, and what has none is not.
func TestStopUnderLoad(t *testing.T) {
	const votes = 30_000
	w := newWorld(t)
	items := make([]queue.Item, votes)
	for n := range items {
		items[n] = vote(fmt.Sprint("balsotājs ", n), "ilze-berzina", fmt.Sprint(n))
	}
	w.submit(items...)
	for round := 1; round <= 3; round++ {
		r := w.start()
		target := min(w.count()+votes/10, votes) // a worker that is fast decides more than a part
		storetest.Eventually(t, "a part is decided", func() bool { return w.count() >= target })
		r.end()
		decided := w.count()
		storetest.Eventually(t, fmt.Sprintf("the server has seen the acks of all %d that are decided, and no other", decided), func() bool {
			b, err := queue.ReadBacklog(t.Context(), w.nc)
			check(t, err)
			return int(b.Pending)+b.InFlight == votes-decided
		})
		if events := w.voterEvents(); events != w.count() {
			t.Errorf("%d are recorded and %d are told", events, w.count())
		}
	}
	w.start()
	w.drained()
	if events := w.voterEvents(); events != votes || w.count() != votes {
		t.Errorf("%d votes: %d events, %d outcomes", votes, events, w.count())
	}
}

// What is decided leaves the queue, and the outcomes hold nothing of voters.
func TestNothingOfVotersIsKept(t *testing.T) {
	w := newWorld(t)
	r := w.start()
	w.decided(vote("lv-pk:010180-12345", "ilze-berzina", "1"), vote("lv-pk:010180-12345", "ilze-berzina", "2"))
	r.end() // It removes what is decided, as it does every few seconds.
	js, err := jetstream.New(w.nc)
	check(t, err)
	// The server may not have seen the last ack when it removed what is decided; then
	// the next worker does.
	storetest.Eventually(t, "what is decided has left the queue", func() bool {
		stream, err := js.Stream(t.Context(), queue.SubmissionsStream)
		check(t, err)
		if stream.CachedInfo().State.Msgs == 0 {
			return true
		}
		w.start().end()
		return false
	})
	outcomes, err := js.OrderedConsumer(t.Context(), queue.OutcomesStream(campaign), jetstream.OrderedConsumerConfig{})
	check(t, err)
	batch, err := outcomes.FetchNoWait(2)
	check(t, err)
	n := 0
	for m := range batch.Messages() {
		n++
		for _, secret := range []string{"12345", queue.Key(queue.Submission{Voter: "lv-pk:010180-12345"}), queue.Key(queue.Submission{Voter: "lv-pk:01018012345"})} {
			if strings.Contains(m.Subject()+string(m.Data())+fmt.Sprint(m.Headers()), secret) {
				t.Errorf("%s of a voter is in %s %s", secret, m.Subject(), m.Data())
			}
		}
	}
	if n != 2 {
		t.Errorf("%d outcomes", n)
	}
}

// Somebody deletes the durable consumer: the workers say that they are not ready,
// and end, so that whoever runs them starts them again.
func TestAConsumerThatIsDeletedEndsTheWorker(t *testing.T) {
	w := newWorld(t)
	nc := w.server.Connect(t)
	campaigns := intake.NewCampaigns(opener{w, nc})
	worker := queue.NewWorker(queue.Config{Conn: nc, Replicas: 1, Campaigns: campaigns, Metrics: queue.NewMetrics(), Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(t.Context()) }()
	storetest.Eventually(t, "the worker is ready", func() bool {
		_, err := worker.Ready(t.Context())
		return err == nil
	})
	js, err := jetstream.New(w.nc)
	check(t, err)
	check(t, js.DeleteConsumer(t.Context(), queue.SubmissionsStream, "intake"))
	if detail, err := worker.Ready(t.Context()); err == nil {
		t.Errorf("without a consumer the worker is ready: %s", detail)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the worker has ended without a word")
		}
	case <-time.After(closeTimeout):
		t.Error("the worker goes on")
	}
	check(t, campaigns.Close())
}

// onWrite is called for all that is written.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// A worker begins while the servers cannot answer, in an election for example: it
// waits for them, and says that it is not ready. Asked to stop meanwhile, it does.
func TestWorkerBeginsWithoutLeader(t *testing.T) {
	w := newWorld(t)
	w.server.Stop()
	w.server.Start(t, func(o *server.Options) { o.JetStream = false }) // as good as no leader
	tried := make(chan struct{}, 1)
	r := w.start(func(c *queue.Config) {
		c.Logger = slog.New(slog.NewTextHandler(onWrite(func() {
			select {
			case tried <- struct{}{}:
			default:
			}
		}), nil))
	})
	select {
	case <-tried:
	case err := <-r.ended:
		r.ended <- err // for the end of the test
		t.Fatalf("the worker has ended: %v", err)
	}
	if _, err := r.Ready(t.Context()); !errors.Is(err, queue.ErrNotBegun) {
		t.Errorf("whether it is ready: %v", err)
	}
	w.start().end()
	w.server.Stop()
	w.server.Start(t)
	storetest.Eventually(t, "the worker is ready", func() bool {
		_, err := r.Ready(t.Context())
		return err == nil
	})
	outcomes, _ := w.decided(vote("kāds", "ilze-berzina", "1"))
	if o := outcomes["vote 1"]; o.Status != queue.Accepted {
		t.Errorf("then: %+v", o)
	}
}

// What the servers refuse for good ends the worker, which says why.
func TestWorkerThatIsRefused(t *testing.T) {
	for name, refuse := range map[string]func(*server.Options, *queue.Config){
		"consumer max ack pending exceeds": func(o *server.Options, _ *queue.Config) { o.JetStreamLimits.MaxAckPending = 100 },
		"replicas > 1 not supported":       func(_ *server.Options, c *queue.Config) { c.Replicas = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			var c queue.Config
			s := storetest.NewServer(t, func(o *server.Options) { refuse(o, &c) })
			c.Conn, c.Replicas, c.Metrics, c.Logger = s.Connect(t), max(c.Replicas, 1), queue.NewMetrics(), slog.New(slog.DiscardHandler)
			ctx, stop := context.WithTimeout(t.Context(), closeTimeout)
			defer stop()
			if err := queue.NewWorker(c).Run(ctx); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A worker whose connection is closed before it begins has nothing to wait for.
func TestWorkerOnAClosedConnection(t *testing.T) {
	w := newWorld(t)
	nc := w.server.Connect(t)
	nc.Close()
	err := queue.NewWorker(queue.Config{Conn: nc, Replicas: 1, Metrics: queue.NewMetrics(), Logger: slog.New(slog.DiscardHandler)}).Run(t.Context())
	if !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("the error is %v", err)
	}
}

// drained waits until nothing is in the queue any more.
func (w *world) drained() {
	w.t.Helper()
	storetest.Eventually(w.t, "the queue is empty", func() bool {
		b, err := queue.ReadBacklog(w.t.Context(), w.nc)
		return err == nil && b.Pending == 0 && b.InFlight == 0
	})
}

// count is how many outcomes there are.
func (w *world) count() int {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	check(w.t, err)
	stream, err := js.Stream(w.t.Context(), queue.OutcomesStream(campaign))
	check(w.t, err)
	return int(stream.CachedInfo().State.Msgs)
}

// voterEvents is how many events of voters the ledger has.
func (w *world) voterEvents() int {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	check(w.t, err)
	stream, err := js.Stream(w.t.Context(), domain.StreamName(campaign))
	check(w.t, err)
	info, err := stream.Info(w.t.Context(), jetstream.WithSubjectFilter("ledger."+campaign+".voter.*"))
	check(w.t, err)
	n := 0
	for _, events := range info.State.Subjects {
		n += int(events)
	}
	return n
}

// poisoned waits until so many submissions are in the poison.
func (w *world) poisoned(n int) (list []queue.Poisoned) {
	w.t.Helper()
	storetest.Eventually(w.t, fmt.Sprintf("%d submissions are in the poison", n), func() bool {
		var err error
		list, err = queue.NewPoison(w.nc).List(w.t.Context())
		check(w.t, err)
		return len(list) >= n
	})
	if len(list) > n {
		w.t.Errorf("%d submissions are in the poison, want %d", len(list), n)
	}
	return list
}

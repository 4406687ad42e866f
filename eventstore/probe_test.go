package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// TestHistoriesAtOnce lets many ask for the histories of subjects that have one
// and of subjects that have none, some of whom give up; everybody else gets the
// right answer, and nobody waits for who has left.
func TestHistoriesAtOnce(t *testing.T) {
	const subjects, readers, reads = 200, 64, 50
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_probes", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	l := open(t, nc, config)
	var work sync.WaitGroup
	for i := range subjects / 2 {
		work.Go(func() {
			subject := storetest.Subject(config.Stream, 2*i)
			first, err := l.Append(t.Context(), storetest.Event(subject), 0)
			if err == nil && i%2 == 0 {
				_, err = l.Append(t.Context(), storetest.Event(subject), first.Sequence)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	for _, patience := range []time.Duration{0, 100 * time.Microsecond} { // the second is always overtaken
		if patience > 0 {
			l.HoldProbes(patience)
		}
		readAtOnce(t, l, config.Stream, subjects, readers, reads)
	}
}

// readAtOnce reads histories of which every fourth has two events, every fourth
// one, and the others none.
func readAtOnce(t *testing.T, l *eventstore.Ledger, stream string, subjects, readers, reads int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var work sync.WaitGroup
	var left atomic.Int64
	for reader := range readers {
		random := rand.New(rand.NewPCG(seed, uint64(reader)))
		work.Go(func() {
			for range reads {
				n := random.IntN(subjects)
				ctx, stop := context.WithCancel(t.Context())
				if random.IntN(10) == 0 {
					go stop()
				}
				events, err := l.History(ctx, storetest.Subject(stream, n), 0, eventstore.AnyReplica)
				stop()
				switch want := [4]int{2, 0, 1, 0}[n%4]; {
				case errors.Is(err, context.Canceled):
					left.Add(1)
				case err != nil:
					t.Error(err)
				case len(events) != want:
					t.Errorf("subject %d has %d events, want %d", n, len(events), want)
				}
			}
		})
	}
	work.Wait()
	t.Logf("%d of %d gave up", left.Load(), readers*reads)
}

// TestHistoryBesideAReplicaThatIsBehind: the leader is asked until it knows of
// nothing more, whatever a replica lacks.
func TestHistoryBesideAReplicaThatIsBehind(t *testing.T) {
	const events = 4
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_behind", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	l := open(t, nc, config)
	var last uint64
	for range events {
		recorded, err := l.Append(t.Context(), storetest.Event(storetest.Subject(config.Stream, 1)), last)
		if err != nil {
			t.Fatal(err)
		}
		last = recorded.Sequence
	}
	for known := range uint64(events) {
		replica := l.ReadFrom("replica.behind")
		var asked atomic.Int64
		sub, err := nc.Subscribe("replica.behind", func(m *nats.Msg) {
			asked.Add(1)
			var get struct {
				Sequence uint64 `json:"seq"`
				Next     string `json:"next_by_subj"`
				Batch    int    `json:"batch"`
			}
			err := json.Unmarshal(m.Data, &get)
			if get.Batch = 1; get.Sequence > known { // knows nothing of it
				get.Sequence = 1 << 40
			}
			body, _ := json.Marshal(get)
			if err = errors.Join(err, nc.PublishRequest(replica, m.Reply, body)); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, after := range []uint64{0, 1} {
			list, err := l.History(t.Context(), storetest.Subject(config.Stream, 1), after, eventstore.Leader)
			if err != nil || len(list) != events-int(after) {
				t.Errorf("after %d, beside a replica that knows %d events: %d events, %v", after, known, len(list), err)
			}
			for i, e := range list {
				if e.Sequence != after+uint64(i)+1 {
					t.Errorf("event %d of the history is %d", i, e.Sequence)
				}
			}
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Error(err)
		}
		if asked.Load() == 0 {
			t.Error("the replica was not asked")
		}
		l.ReadFrom(replica)
	}
}

// histories asks for the histories of so many new subjects at once, and returns
// when all have their answers.
func histories(t *testing.T, l *eventstore.Ledger, stream string, n int) (wait func()) {
	t.Helper()
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			events, err := l.History(t.Context(), storetest.Subject(stream, i), 0, eventstore.AnyReplica)
			if err != nil || len(events) > 0 {
				t.Errorf("a new subject: %d events, %v", len(events), err)
			}
		})
	}
	return work.Wait
}

// TestProbesAreGathered: who comes while somebody reads is asked about together
// with all the others, by one message.
func TestProbesAreGathered(t *testing.T) {
	const readers = 64
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_gathered", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	l := open(t, nc, config)
	letGo := l.HoldProbes(time.Minute)
	wait := histories(t, l, config.Stream, readers)
	storetest.Eventually(t, "all of them wait", func() bool { return l.Probing() == readers })
	before := nc.Stats().OutMsgs
	letGo()
	wait()
	if sent := nc.Stats().OutMsgs - before; sent != 1 {
		t.Errorf("%d messages were sent, want 1", sent)
	}
}

// TestProbesAreNotHeldUp: nobody waits long for a reader whose answer does not
// come, as from a replica that is gone. They are asked about together all the same:
// when many are late, questions one by one make them later.
func TestProbesAreNotHeldUp(t *testing.T) {
	const readers = 256
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_held", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	l := open(t, nc, config)
	l.HoldProbes(100 * time.Millisecond) // and never lets go
	before := nc.Stats().OutMsgs
	histories(t, l, config.Stream, readers)()
	if sent := nc.Stats().OutMsgs - before; sent > readers/4 {
		t.Errorf("%d messages were sent for %d questions", sent, readers)
	}
}

package queue_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// halting are the outcomes of a worker that is halted just after it has looked
// for one.
type halting struct {
	queue.Ledger
	once    sync.Once
	subject string        // of the outcome begins with this
	halted  chan struct{} // closed when it is
	resume  chan struct{}
}

func (h *halting) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	events, err := h.Ledger.History(ctx, subject, after, read)
	if strings.HasPrefix(subject, h.subject) {
		h.once.Do(func() {
			close(h.halted)
			<-h.resume
		})
	}
	return events, err
}

// A worker looks for an outcome, finds none, and is halted and cut off. The next
// one refuses the submission and goes on with the voter's later ones. What the
// first one then does must not come after them: the voter was told no.
func TestRelievedWorker(t *testing.T) {
	w := newWorld(t)
	// The first vote stands before either worker has seen the voter.
	first := w.start()
	w.decided(vote("kāds", "ilze-berzina", "1"))
	first.end()

	proxy := storetest.NewProxy(t, strings.TrimPrefix(w.server.URL(), "nats://"))
	cutOff := storetest.Connect(t, proxy.URL(), nats.IgnoreDiscoveredServers())
	place := strings.TrimSuffix(queue.OutcomeFilter(campaign, "web", "2"), "*")
	h := &halting{subject: place, halted: make(chan struct{}), resume: make(chan struct{})}
	metrics := queue.NewMetrics()
	hasty := func(c *queue.Config) { c.TakeoverAfter = time.Second }
	relieved := w.start(hasty, func(c *queue.Config) {
		c.Metrics = metrics
		c.Conn = cutOff // its ledgers have another one
		c.OpenLedger = func(ctx context.Context, ec eventstore.Config) (queue.Ledger, error) {
			l, err := eventstore.Open(ctx, w.nc, ec)
			h.Ledger = l
			return h, err
		}
	})
	w.submit(vote("kāds", "ilze-berzina", "2"), retraction("kāds", "ilze-berzina", "3"))
	<-h.halted
	proxy.DropRequests()
	w.start(hasty)
	storetest.Eventually(t, "the next worker has decided both", func() bool { return w.count() == 3 })
	close(h.resume)
	storetest.Eventually(t, "the first worker has come to its end", func() bool { return counted(t, metrics, "paldies_queue_known_total") == 1 })
	cutOff.Close()
	relieved.crash()

	counts, err := queue.CountOutcomes(t.Context(), w.nc, campaign)
	check(t, err)
	if counts["accepted"] != 2 || counts[string(domain.AlreadyVoted)] != 1 {
		t.Errorf("the outcomes are %v", counts)
	}
	if n := w.voterEvents(); n != 2 {
		t.Errorf("%d events of the voter, want the vote and its retraction", n)
	}
}

// counted is a counter without labels.
func counted(t testing.TB, c prometheus.Collector, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	check(t, registry.Register(c))
	families, err := registry.Gather()
	check(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no counter %s", name)
	return 0
}

package cli

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/eventstore"
)

// queueLine is what a banner says of the queue.
var queueLine = [2]string{"queue", "submissions of channels that do not wait for an answer (paldies vote submit)"}

// queueIntake takes votes from the queue, for the campaigns of one node at a
// time.
type queueIntake struct {
	app      *app
	metrics  *queue.Metrics
	takeover time.Duration
	worker   atomic.Pointer[queue.Worker] // nil while there is no node
}

func (a *app) newQueueIntake(takeover time.Duration) *queueIntake {
	return &queueIntake{app: a, metrics: queue.NewMetrics(), takeover: takeover}
}

// run takes votes for a node's campaigns until the context ends and what is in
// hand is decided. The node and the campaigns may be closed when it has returned.
func (q *queueIntake) run(ctx context.Context, n *node.Node, campaigns queue.Campaigns) error {
	if n.Embedded() { // so that it is staged; of other servers the worker waits for a leader
		if err := createQueue(ctx, n); ctx.Err() != nil {
			return nil // it was asked to end
		} else if err != nil {
			return err
		}
	}
	w := queue.NewWorker(queue.Config{Conn: n.Conn(), Replicas: replicas(n), Campaigns: campaigns, Metrics: q.metrics,
		Logger: q.app.logger(), Now: q.app.now, TakeoverAfter: q.takeover, OpenLedger: func(ctx context.Context, c eventstore.Config) (queue.Ledger, error) {
			l, err := n.OpenLedger(ctx, c)
			if err != nil {
				return nil, err // not a nil *eventstore.Ledger in an interface
			}
			return l, nil
		}})
	q.worker.Store(w)
	defer q.worker.Store(nil)
	return n.Explain(w.Run(ctx))
}

// createQueue makes the queue on a node, unless it is there.
func createQueue(ctx context.Context, n *node.Node) error {
	if err := queue.CreateStreams(ctx, n.Conn(), replicas(n)); err != nil {
		return n.Explain(err)
	}
	n.Stage(queue.SubmissionsStream)
	return nil
}

// addQueue adds what taking votes from the queue depends on.
func (s *readiness) addQueue(ctx context.Context, q *queueIntake) {
	w := q.worker.Load()
	if w == nil {
		s.add("queue", errNodeGone, "")
		return
	}
	detail, err := w.Ready(ctx)
	s.add("queue", err, detail)
}

var (
	queuePendingMetric = prometheus.NewDesc("paldies_queue_pending",
		"Submissions that no worker has taken yet.", nil, nil)
	queueInFlightMetric = prometheus.NewDesc("paldies_queue_in_flight",
		"Submissions that a worker holds.", nil, nil)
	queueOldestMetric = prometheus.NewDesc("paldies_queue_oldest_seconds",
		"Age of the oldest submission that is not decided; 0 when there is none.", nil, nil)
	queuePoisonMetric = prometheus.NewDesc("paldies_queue_poison",
		"Submissions in the poison.", nil, nil)
	queueAwayMetric = prometheus.NewDesc("paldies_queue_copies_away",
		"NATS servers whose copy of the queue is offline or behind.", nil, nil)
)

// queueCollector asks for the backlog whenever somebody scrapes. Every worker
// says the same.
type queueCollector struct{ queue *queueIntake }

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queuePendingMetric, queueInFlightMetric, queueOldestMetric, queuePoisonMetric, queueAwayMetric} {
		out <- d
	}
}

// Collect implements prometheus.Collector, which has no context.
func (c queueCollector) Collect(out chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), readyTimeout)
	defer stop()
	w := c.queue.worker.Load()
	if w == nil {
		return
	}
	b, err := w.Backlog(ctx)
	if err != nil {
		return // /readyz says why
	}
	out <- gauge(queuePendingMetric, float64(b.Pending))
	out <- gauge(queueInFlightMetric, float64(b.InFlight))
	out <- gauge(queueOldestMetric, b.Age(c.queue.app.now()).Seconds())
	out <- gauge(queuePoisonMetric, float64(b.Poison))
	out <- gauge(queueAwayMetric, float64(b.Away))
}

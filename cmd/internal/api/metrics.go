package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sakipaldies.lv/ledger/eventstore"
)

// Metrics count what the API does, and the commits of intake's ledgers. They say
// nothing of campaigns, specialists, channels and voters: who may read them may
// not know yet how a campaign goes.
type Metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	intake    []prometheus.Collector // nil: nothing is handed in here
	batch     prometheus.Histogram
	commit    prometheus.Histogram
	conflicts prometheus.Counter
	retries   prometheus.Counter
}

var _ eventstore.Observer = (*Metrics)(nil)

// accepted is the code of answers that are no problem.
const accepted = "accepted"

// NewMetrics are metrics that count from zero. Pending says how many events
// wait in the queues of all ledgers; it is nil where there is no intake.
func NewMetrics(pending func() int) *Metrics {
	const namespace, requests = "paldies_intake", "paldies_api"
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: requests, Name: "requests_total",
			Help: "Requests by operation and by what became of them: accepted, or the code of the problem."}, []string{"operation", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: requests, Name: "request_seconds",
			Help: "Time from a request to its answer.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"operation"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "commit_events",
			Help: "Events that were committed together.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "commit_seconds",
			Help: "Time of a commit until all its events are answered.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "conflicts_total",
			Help: "Appends before which another event of the same ballot came."}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "retries_total",
			Help: "Appends that were tried once more."}),
	}
	if pending != nil {
		queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "queue_events",
			Help: "Events that wait to be committed."}, func() float64 { return float64(pending()) })
		m.intake = []prometheus.Collector{m.batch, m.commit, m.conflicts, m.retries, queue}
	}
	return m
}

func (m *Metrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.requests, m.durations}, m.intake...)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(out)
	}
}

// Committed implements eventstore.Observer.
func (m *Metrics) Committed(events int, took time.Duration) {
	m.batch.Observe(float64(events))
	m.commit.Observe(took.Seconds())
}

// Conflicted implements eventstore.Observer.
func (m *Metrics) Conflicted() { m.conflicts.Inc() }

// Retried implements eventstore.Observer.
func (m *Metrics) Retried(events int) { m.retries.Add(float64(events)) }

func (m *Metrics) answered(operation string, a answer, took time.Duration) {
	code := string(a.code)
	if code == "" {
		code = accepted
	}
	m.requests.WithLabelValues(operation, code).Inc()
	m.durations.WithLabelValues(operation).Observe(took.Seconds())
}

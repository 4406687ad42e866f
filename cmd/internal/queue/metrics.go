package queue

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what a worker does with submissions. They say nothing of
// specialists and voters.
type Metrics struct {
	outcomes *prometheus.CounterVec
	known    prometheus.Counter
	poisoned prometheus.Counter
	faults   prometheus.Counter
	took     prometheus.Histogram
}

// NewMetrics are metrics that count from zero.
func NewMetrics() *Metrics {
	const namespace = "paldies_queue"
	return &Metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "outcomes_total",
			Help: "Submissions that were decided, by what became of them: accepted, or the code of the refusal."}, []string{"code"}),
		known: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "known_total",
			Help: "Submissions that had been decided before."}),
		poisoned: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "poisoned_total",
			Help: "Submissions that went to the poison."}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "faults_total",
			Help: "Times that a submission was given back because something was not there."}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "submission_seconds",
			Help: "Time in which a worker has a submission in hand.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.outcomes, m.known, m.poisoned, m.faults, m.took}
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

func (m *Metrics) settled(o Outcome, known bool) {
	if known {
		m.known.Inc()
		return
	}
	m.outcomes.WithLabelValues(o.CountedAs()).Inc()
}

// CountedAs is what an outcome is counted by: accepted, or the code of a refusal.
func (o Outcome) CountedAs() string {
	if o.Status == Accepted {
		return string(Accepted)
	}
	return string(o.Code)
}

// pseudonyms are in the subjects that errors of the ledger name.
var pseudonyms = regexp.MustCompile(`[0-9a-f]{32}`)

func hidePseudonyms(err error) string { return pseudonyms.ReplaceAllString(err.Error(), "(voter)") }

package cli

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sakipaldies.lv/ledger/projections"
)

// Read models in metrics are told apart by where they are.
const (
	modelInMemory   = "memory"
	modelInPostgres = "postgres"
)

var (
	positionMetric = prometheus.NewDesc("paldies_read_model_position",
		"Sequence of the last event in the read model.", []string{"model", "campaign"}, nil)
	lastMetric = prometheus.NewDesc("paldies_ledger_last",
		"Sequence of the last event in the ledger, as far as is known here.", []string{"model", "campaign"}, nil)
	lagMetric = prometheus.NewDesc("paldies_read_model_lag_events",
		"Events by which the read model is behind the ledger.", []string{"model", "campaign"}, nil)
	statusMetric = prometheus.NewDesc("paldies_read_model_status",
		"1 for what the read model is at the moment, 0 for what it is not.", []string{"model", "campaign", "status"}, nil)
	leadingMetric = prometheus.NewDesc("paldies_projector_leading",
		"1 while this process writes the read models in Postgres.", nil, nil)
	sealedMetric = prometheus.NewDesc("paldies_log_sealed",
		"Events of the ledger that the newest checkpoint covers.", []string{"campaign"}, nil)
	unsealedMetric = prometheus.NewDesc("paldies_log_halted",
		"1 while the log of a campaign is not sealed because something is wrong.", []string{"campaign"}, nil)
	interruptedMetric = prometheus.NewDesc("paldies_projector_interrupted",
		"1 while the projector can neither work nor wait.", nil, nil)
)

// statuses are all that a read model can be.
var statuses = []projections.Status{projections.Lagging, projections.Running, projections.Interrupted, projections.Halted}

// metrics serves what /readyz says as numbers, and those of the process.
func (h *health) metrics() http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(modelCollector{h}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if h.intake != nil {
		registry.MustRegister(h.intake.metrics)
		if h.intake.queue != nil {
			registry.MustRegister(h.intake.queue.metrics, queueCollector{h.intake.queue})
		}
	}
	if h.reading != nil {
		registry.MustRegister(h.reading.metrics)
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxReadyChecks, Timeout: 2 * readyTimeout})
}

// modelCollector asks for the states whenever somebody scrapes.
type modelCollector struct{ health *health }

// Describe implements prometheus.Collector.
func (c modelCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{positionMetric, lastMetric, lagMetric, statusMetric, leadingMetric, interruptedMetric, sealedMetric, unsealedMetric} {
		out <- d
	}
}

// Collect implements prometheus.Collector, which has no context.
func (c modelCollector) Collect(out chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), readyTimeout)
	defer stop()
	if c.health.follower != nil {
		states, _ := c.health.follower.States(ctx) // which are there in spite of an error
		list, _ := campaignStates(states)
		collectModels(out, modelInMemory, list)
	}
	if c.health.logs != nil {
		for _, log := range c.health.logs.list() {
			out <- gauge(sealedMetric, float64(log.Events), log.Campaign)
			out <- gauge(unsealedMetric, truth(log.Error != ""), log.Campaign)
		}
	}
	if c.health.projector != nil {
		state := c.health.projector.state(ctx)
		collectModels(out, modelInPostgres, state.Campaigns)
		out <- gauge(leadingMetric, truth(state.State == projectorLeading))
		out <- gauge(interruptedMetric, truth(state.State == projectorInterrupted))
	}
}

func collectModels(out chan<- prometheus.Metric, model string, list []campaignState) {
	for _, c := range list {
		out <- gauge(positionMetric, float64(c.Position), model, c.Campaign)
		out <- gauge(lastMetric, float64(c.Last), model, c.Campaign)
		out <- gauge(lagMetric, float64(c.Lag), model, c.Campaign)
		for _, status := range statuses {
			out <- gauge(statusMetric, truth(c.Status == status), model, c.Campaign, string(status))
		}
	}
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// truth is a condition as metrics have it.
func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

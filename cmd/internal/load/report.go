package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run did and found. Figures are those after the warm-up.
type Report struct {
	Parameters Parameters `json:"parameters"`
	StartedAt  time.Time  `json:"started_at"`
	Ended      string     `json:"ended"`      // what ended it: duration, votes, or a lack of pairs
	Seconds    float64    `json:"measured_s"` // that were measured

	RequestsPerSecond float64   `json:"requests_per_s"` // answered within that time
	AcceptedPerSecond float64   `json:"accepted_per_s"` // new votes acknowledged within that time
	Counts            Counts    `json:"counts"`
	Resent            Resent    `json:"resent"` // the warm-up's and the check's too
	Latency           Latencies `json:"latency"`

	Check         *Check        `json:"check,omitempty"`
	Discrepancies Discrepancies `json:"discrepancies"`
}

// Parameters are what the run was asked for, defaults filled in. The token is
// not among them.
type Parameters struct {
	URL         string  `json:"url"`
	Campaign    string  `json:"campaign"`
	Run         string  `json:"run"`
	Seed        uint64  `json:"seed,string"` // too large for a JSON number
	Clients     int     `json:"clients"`
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate_per_s,omitempty"` // 0 in a closed loop
	Poisson     bool    `json:"poisson,omitempty"`
	WarmUp      float64 `json:"warm_up_s"`
	Duration    float64 `json:"duration_s,omitempty"`
	Votes       int     `json:"votes,omitempty"`
	Voters      int     `json:"voters"`
	Specialists int     `json:"specialists"`
	Repeats     float64 `json:"repeats"`
	Retries     float64 `json:"retries"`
	Attempts    int     `json:"attempts"`
	Timeout     float64 `json:"timeout_s"`
	SkipCheck   bool    `json:"skip_check"`
}

// Counts are of requests that were measured. Those that are resent count once.
type Counts struct {
	Votes      int64            `json:"votes"`      // new ones
	Repeats    int64            `json:"repeats"`    // earlier votes with new keys
	Retries    int64            `json:"retries"`    // earlier requests with their keys
	Accepted   int64            `json:"accepted"`   // new votes
	Refused    map[string]int64 `json:"refused"`    // by code, the expected ones of repeats too
	GivenUp    int64            `json:"given_up"`   // not answered for good in all attempts
	Unexpected int64            `json:"unexpected"` // refused or answered as the contract does not say
}

// Resent counts attempts of the whole run that had no answer for good.
type Resent struct {
	Throttled int64 `json:"throttled"` // 429
	Busy      int64 `json:"busy"`      // 502, 503, 504
	NoAnswer  int64 `json:"no_answer"` // no or broken connection, timeout
}

// Latencies are times to the last answer, waits for retries included: from the
// planned time in an open loop, from the first attempt in a closed one.
// Requests that were given up have none.
type Latencies struct {
	All     Latency `json:"all"`
	Votes   Latency `json:"votes"`
	Repeats Latency `json:"repeats"`
	Retries Latency `json:"retries"`
	// SendDelay is how late requests left, which is part of their latency. It
	// grows when all clients wait for answers: is that the server's doing, or
	// are there too few? Timers alone are up to a millisecond late.
	SendDelay Latency `json:"send_delay"`
}

// Latency is a distribution, in milliseconds with three right digits.
type Latency struct {
	Requests int64   `json:"requests"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P90      float64 `json:"p90_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p99_9_ms"`
	Max      float64 `json:"max_ms"`
}

// Check is what was compared with the ledger.
type Check struct {
	Voters   int64 `json:"voters"`   // whose votes were read
	Votes    int64 `json:"votes"`    // that were acknowledged, the warm-up's too
	Resolved int64 `json:"resolved"` // votes of unknown outcome that are in the ledger
	Unknown  int64 `json:"unknown"`  // votes of unknown outcome that are not
	Complete bool  `json:"complete"` // all voters were read
}

// report is all but the check.
func (r *run) report() Report {
	f := r.figures
	f.mu.Lock()
	defer f.mu.Unlock()
	report := Report{
		Parameters: r.parameters(), StartedAt: r.started, Ended: r.source.ended,
		Seconds: f.seconds(r.source.ended), Counts: f.counts,
		Latency: Latencies{
			All: latency(f.all), Votes: latency(f.kinds[newVote]), Repeats: latency(f.kinds[repeat]),
			Retries: latency(f.kinds[retry]), SendDelay: latency(f.delays),
		},
		Resent:        r.resent(),
		Discrepancies: r.findings.report(),
	}
	if report.Seconds > 0 {
		report.RequestsPerSecond = float64(f.answered) / report.Seconds
		report.AcceptedPerSecond = float64(f.accepted) / report.Seconds
	}
	return report
}

func (r *run) parameters() Parameters {
	c := r.cfg
	return Parameters{
		URL: c.URL, Campaign: c.Campaign, Run: c.Run, Seed: c.Seed,
		Clients: c.Clients, Connections: c.Connections, Rate: c.Rate, Poisson: c.Poisson,
		WarmUp: c.WarmUp.Seconds(), Duration: c.Duration.Seconds(), Votes: c.Votes,
		Voters: c.Voters, Specialists: len(c.Specialists), Repeats: c.Repeats, Retries: c.Retries,
		Attempts: c.Attempts, Timeout: c.Timeout.Seconds(), SkipCheck: c.SkipCheck,
	}
}

func (r *run) resent() Resent {
	n := &r.api.resent
	return Resent{Throttled: n.throttled.Load(), Busy: n.busy.Load(), NoAnswer: n.noAnswer.Load()}
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(percentile float64) float64 { return float64(h.ValueAtQuantile(percentile)) / 1000 }
	return Latency{
		Requests: h.TotalCount(), Mean: h.Mean() / 1000,
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000,
	}
}

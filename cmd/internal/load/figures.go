package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// shortest and longest are the latencies that are told apart, in
	// microseconds; longer ones count as the longest.
	shortest = 1
	longest  = int64(time.Hour / time.Microsecond)
	// digits are those of a latency that are right.
	digits = 3
	// maxCodes bounds how many different codes of refusals are counted apart,
	// and maxCodeBytes how long they may be.
	maxCodes     = 64
	maxCodeBytes = 64
	otherCode    = "other"
)

// measurement is what one request adds to the figures.
type measurement struct {
	kind       kind
	latency    time.Duration // from when it was due
	delay      time.Duration // of its sending, from when it was due
	at         time.Time     // when it was answered
	accepted   bool
	givenUp    bool
	unexpected bool
	code       string // of a refusal
}

// figures are the counts and latencies of a run. One mutex for all clients
// costs less than histograms for each of them: some 200 KiB a client.
type figures struct {
	done        counter // requests, those of the warm-up too
	measureFrom time.Time
	end         time.Time // zero: measured until the last answer

	mu         sync.Mutex // guards all below
	all        *hdrhistogram.Histogram
	kinds      [kinds]*hdrhistogram.Histogram
	delays     *hdrhistogram.Histogram
	answered   int64 // until the end of what is measured
	accepted   int64 // new votes, until then
	counts     Counts
	lastAnswer time.Time
}

func newFigures(measureFrom, end time.Time) *figures {
	histogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }
	f := &figures{measureFrom: measureFrom, end: end, all: histogram(), delays: histogram()}
	f.counts.Refused = make(map[string]int64)
	for k := range f.kinds {
		f.kinds[k] = histogram()
	}
	return f
}

// record adds a request. What is not measured counts as done only.
func (f *figures) record(m measurement, measured bool) {
	f.done.Add(1)
	if !measured {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(m)
	recordDuration(f.delays, m.delay)
	if m.givenUp {
		return
	}
	recordDuration(f.all, m.latency)
	recordDuration(f.kinds[m.kind], m.latency)
	if m.at.After(f.lastAnswer) {
		f.lastAnswer = m.at
	}
	if f.end.IsZero() || !m.at.After(f.end) {
		f.answered++
		if m.accepted && m.kind == newVote {
			f.accepted++
		}
	}
}

// count needs the mutex.
func (f *figures) count(m measurement) {
	c := &f.counts
	switch m.kind {
	case newVote:
		c.Votes++
	case repeat:
		c.Repeats++
	case retry:
		c.Retries++
	}
	switch {
	case m.givenUp:
		c.GivenUp++
	case m.accepted && m.kind == newVote:
		c.Accepted++
	case m.code != "":
		c.Refused[f.known(m.code)]++
	}
	if m.unexpected {
		c.Unexpected++
	}
}

// known is the name under which a code is counted: who sends ever new ones
// does not fill the memory.
func (f *figures) known(code string) string {
	if _, is := f.counts.Refused[code]; !is && (len(f.counts.Refused) >= maxCodes || len(code) > maxCodeBytes) {
		return otherCode
	}
	return code
}

// seconds is how long was measured: to the end by time, or to the last answer.
func (f *figures) seconds(ended string) float64 {
	end := f.lastAnswer
	if ended == endedByTime {
		end = f.end
	}
	return max(0, end.Sub(f.measureFrom).Seconds())
}

// recordDuration rounds up, so that no latency is shorter than it was.
func recordDuration(h *hdrhistogram.Histogram, d time.Duration) {
	us := int64((d + time.Microsecond - 1) / time.Microsecond)
	if err := h.RecordValue(min(max(us, shortest), longest)); err != nil {
		panic(err) // The value is within the bounds.
	}
}

package load_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
)

// BenchmarkRun is the load that the generator alone can send: the handler only
// decodes. Client and server share the processors.
func BenchmarkRun(b *testing.B) {
	var sequence atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Voter      string `json:"voter"`
			Specialist string `json:"specialist_id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"sequence":%d,"specialist_id":%q}`, sequence.Add(1), body.Specialist)
	})
	c := onSockets(b, handler)
	c.Clients, c.Votes, c.Voters, c.Repeats, c.Retries, c.SkipCheck = 64, b.N, 0, 0, 0, true
	c.Specialists = []string{"spec-1", "spec-2", "spec-3"}
	b.ReportAllocs()
	b.ResetTimer()
	r := run(b, c)
	b.ReportMetric(r.RequestsPerSecond, "requests/s")
	b.ReportMetric(r.Latency.All.P99, "p99-ms")
}

// BenchmarkClient is what one request costs the client, without a server or
// connections: all that is not net/http's.
func BenchmarkClient(b *testing.B) {
	c := parameters(b)
	c.URL, c.Transport = "http://nobody", createdAlways{}
	c.Clients, c.Votes, c.Voters, c.Repeats, c.Retries, c.SkipCheck = 1, b.N, 0, 0, 0, true
	c.Specialists = []string{"spec-1", "spec-2", "spec-3"}
	b.ReportAllocs()
	run(b, c)
}

type createdAlways struct{}

var created = http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}

func (createdAlways) RoundTrip(*http.Request) (*http.Response, error) { return &created, nil }

// BenchmarkMemory is what stays in memory of each new vote.
func BenchmarkMemory(b *testing.B) {
	const votes = 1 << 17 // whole pages
	for b.Loop() {
		c := parameters(b)
		c.URL, c.Transport = "http://nobody", createdAlways{}
		c.Votes, c.Voters, c.Repeats, c.Retries, c.SkipCheck = votes, 0, 0, 0, true
		c.Specialists = []string{"spec-1", "spec-2", "spec-3"}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c.Progress = func(string, int64, func() int64) func() {
			return func() {
				runtime.GC()
				runtime.ReadMemStats(&after)
			}
		}
		run(b, c)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/votes, "B/vote")
	}
}

package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/cmd/internal/load"
)

func TestHonestServer(t *testing.T) {
	f := newFakeAPI()
	r := run(t, onSockets(t, f.handler()))
	honest(t, r)
	c := r.Counts
	if c.Votes != 300 || c.Accepted != 300 || f.recorded() != 300 || r.Check.Votes != 300 {
		t.Errorf("%d votes, %d accepted, %d recorded, %d checked", c.Votes, c.Accepted, f.recorded(), r.Check.Votes)
	}
	if c.Repeats == 0 || c.Retries == 0 || c.Refused["already_voted"] != c.Repeats || len(c.Refused) != 1 {
		t.Errorf("%+v", c)
	}
	if all := c.Votes + c.Repeats + c.Retries; r.Latency.All.Requests != all || r.Latency.Repeats.Requests != c.Repeats {
		t.Errorf("%d requests, latencies %+v", all, r.Latency)
	}
	if r.RequestsPerSecond <= r.AcceptedPerSecond || r.AcceptedPerSecond <= 0 || r.Ended != "votes" {
		t.Errorf("%+v", r)
	}
	if r.Parameters.Specialists != 7 || r.Parameters.Connections != 8 {
		t.Errorf("%+v", r.Parameters)
	}
}

// TestSamePairs sends the same load twice: seeds decide, and runs have voters
// of their own.
func TestSamePairs(t *testing.T) {
	f := newFakeAPI()
	c := onSockets(t, f.handler())
	c.Repeats, c.Retries = 0, 0
	for range 2 {
		honest(t, run(t, c))
	}
	byRun := make(map[string][]string)
	for voter, votes := range f.votes {
		name, number, _ := strings.Cut(strings.TrimPrefix(voter, "bench:"), "-")
		for _, v := range votes {
			byRun[name] = append(byRun[name], number+" "+v.Specialist)
		}
	}
	var all [][]string
	for _, pairs := range byRun {
		slices.Sort(pairs)
		all = append(all, pairs)
	}
	if len(all) != 2 || len(all[0]) != 300 || !slices.Equal(all[0], all[1]) {
		t.Errorf("%d runs: %v", len(all), all)
	}
}

// sometimes is true in a share of the calls.
func sometimes(t *testing.T, share float64) func() bool {
	seed := rand.Uint64()
	t.Logf("seed of the server %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	return func() bool { return random.Float64() < share }
}

// TestHonestInTrouble has servers that fail in every way that the contract
// allows. None may be accused.
func TestHonestInTrouble(t *testing.T) {
	troubles := map[string]func(*fakeAPI, func() bool){
		"busy before": func(f *fakeAPI, now func() bool) { f.before = whenever(now, busy) },
		"busy after":  func(f *fakeAPI, now func() bool) { f.after = whenever(now, busy) },
		"throttled":   func(f *fakeAPI, now func() bool) { f.before = whenever(now, throttled) },
		"drop before": func(f *fakeAPI, now func() bool) { f.before = whenever(now, drop) },
		"drop after":  func(f *fakeAPI, now func() bool) { f.after = whenever(now, drop) },
	}
	for name, trouble := range troubles {
		for _, attempts := range []int{1, 100} {
			t.Run(fmt.Sprintf("%s/%d attempts", name, attempts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { inTrouble(t, trouble, attempts) })
			})
		}
	}
}

func inTrouble(t *testing.T, trouble func(*fakeAPI, func() bool), attempts int) {
	f := newFakeAPI()
	trouble(f, sometimes(t, 0.5))
	c := config(t, f.handler())
	c.Attempts = attempts
	c.Retries /= 2 // a retry of a vote that is not known cannot be sent
	r := run(t, c)
	honest(t, r)
	if n := r.Resent; n.Busy+n.NoAnswer+n.Throttled == 0 {
		t.Error("there was no trouble")
	}
	if given := r.Counts.GivenUp > 0; given != (attempts == 1) {
		t.Errorf("%d given up", r.Counts.GivenUp)
	}
	if r.Check.Votes+r.Check.Resolved != f.recorded() {
		t.Errorf("%d recorded; check %+v", f.recorded(), r.Check)
	}
}

func whenever(now func() bool, answer func(http.ResponseWriter)) func(http.ResponseWriter) bool {
	return func(w http.ResponseWriter) bool {
		if !now() {
			return false
		}
		answer(w)
		return true
	}
}

func busy(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, "busy", 0)
}

func throttled(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "2")
	refuse(w, http.StatusTooManyRequests, "throttled", 0)
}

func drop(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// TestLies has servers that break the contract once in a while. Each must be
// found, by its name.
func TestLies(t *testing.T) {
	at := func(v vote) bool { return v.Sequence%100 == 50 } // three of 300
	changed := func(change func(*vote)) func(*testing.T, *fakeAPI) {
		return func(_ *testing.T, f *fakeAPI) {
			f.lie = func(v vote) []vote {
				if at(v) {
					change(&v)
				}
				return []vote{v}
			}
		}
	}
	often := func(n int) bool { return n%3 == 0 }
	lies := map[string]struct {
		kind load.DiscrepancyKind
		tell func(*testing.T, *fakeAPI)
	}{
		"lost": {load.Missing, func(_ *testing.T, f *fakeAPI) {
			f.lie = func(v vote) []vote {
				if at(v) {
					return nil
				}
				return []vote{v}
			}
		}},
		"doubled": {load.Doubled, func(_ *testing.T, f *fakeAPI) {
			f.lie = func(v vote) []vote {
				if !at(v) {
					return []vote{v}
				}
				twin := v
				twin.Sequence, twin.EventID = v.Sequence+1_000_000, uuid.NewString()
				return []vote{v, twin}
			}
		}},
		"listed twice": {load.Doubled, func(_ *testing.T, f *fakeAPI) {
			f.lie = func(v vote) []vote {
				if at(v) {
					return []vote{v, v}
				}
				return []vote{v}
			}
		}},
		"other sequence":   {load.Altered, changed(func(v *vote) { v.Sequence += 1_000_000 })},
		"other event":      {load.Altered, changed(func(v *vote) { v.EventID = uuid.NewString() })},
		"other specialist": {load.Altered, changed(func(v *vote) { v.Specialist = "kāda-cita" })},
		"annulled":         {load.Altered, changed(func(v *vote) { v.Status = "annulled" })},
		"surplus": {load.Surplus, func(_ *testing.T, f *fakeAPI) {
			f.list = func(votes []vote) []vote {
				return append(votes, vote{Sequence: 9_999_999, EventID: uuid.NewString(), Specialist: "kāda-cita", Status: "active"})
			}
		}},
		"accepts repeats":        {load.AcceptedRepeat, func(_ *testing.T, f *fakeAPI) { f.acceptRepeat = often }},
		"changes bodies":         {load.OtherAnswer, func(_ *testing.T, f *fakeAPI) { f.otherBody = often }},
		"names another vote":     {load.Unexpected, func(_ *testing.T, f *fakeAPI) { f.otherSequence = true }},
		"fails":                  {load.Unexpected, func(t *testing.T, f *fakeAPI) { f.before = whenever(sometimes(t, 0.1), fail) }},
		"refuses without a code": {load.Unexpected, func(t *testing.T, f *fakeAPI) { f.before = whenever(sometimes(t, 0.1), refuseBare) }},
		"refuses what is new":    {load.Unexpected, func(t *testing.T, f *fakeAPI) { f.before = whenever(sometimes(t, 0.1), refuseNew) }},
		"answers with nothing":   {load.Unexpected, func(t *testing.T, f *fakeAPI) { f.before = whenever(sometimes(t, 0.1), createNothing) }},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeAPI()
				lie.tell(t, f)
				r := run(t, config(t, f.handler()))
				if r.Discrepancies.ByKind[lie.kind] == 0 {
					t.Errorf("not found: %+v", r.Discrepancies)
				}
				listed := func(d load.Discrepancy) bool { return d.Kind == lie.kind && d.Voter != "" && d.Detail != "" }
				if !slices.ContainsFunc(r.Discrepancies.Listed, listed) {
					t.Errorf("not listed: %+v", r.Discrepancies.Listed)
				}
			})
		})
	}
}

func fail(w http.ResponseWriter)          { w.WriteHeader(http.StatusInternalServerError) }
func refuseBare(w http.ResponseWriter)    { w.WriteHeader(http.StatusConflict) }
func refuseNew(w http.ResponseWriter)     { refuse(w, http.StatusConflict, "already_voted", 1) }
func createNothing(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated) }

// TestOnlyListed counts every discrepancy and lists the first hundred.
func TestOnlyListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		f.lie = func(vote) []vote { return nil }
		r := run(t, config(t, f.handler()))
		if d := r.Discrepancies; d.Total != 300 || d.ByKind[load.Missing] != 300 || len(d.Listed) != 100 {
			t.Errorf("%d in all, %v, %d listed", d.Total, d.ByKind, len(d.Listed))
		}
	})
}

// TestReplicaBehind has a server whose lists lack their newest vote at the
// first reading.
func TestReplicaBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		read := make(map[string]bool)
		f.list = func(votes []vote) []vote {
			if n := len(votes); n > 0 && !read[votes[0].EventID] {
				read[votes[0].EventID] = true
				return votes[:n-1]
			}
			return votes
		}
		honest(t, run(t, config(t, f.handler())))
	})
}

// TestRules has a campaign that is closed in the middle of the run: that is
// nobody's lie, unless what was refused is in the ledger.
func TestRules(t *testing.T) {
	closing := func(t *testing.T, record bool) load.Report {
		f := newFakeAPI()
		shut := func(w http.ResponseWriter) bool {
			if f.requests > 200 {
				refuse(w, http.StatusConflict, "campaign_closed", 0)
			}
			return f.requests > 200
		}
		if record {
			f.after = shut
		} else {
			f.before = shut
		}
		c := config(t, f.handler())
		c.Retries = 0
		return run(t, c)
	}
	synctest.Test(t, func(t *testing.T) {
		r := closing(t, false)
		honest(t, r)
		if r.Counts.Refused["campaign_closed"] == 0 {
			t.Errorf("%+v", r.Counts)
		}
		if d := closing(t, true).Discrepancies; d.ByKind[load.Surplus] == 0 {
			t.Errorf("%+v", d)
		}
	})
}

// TestOpenLoopStall has a server that stands still for two seconds of ten. In
// an open loop all that were due in this time waited; a closed loop hides it.
func TestOpenLoopStall(t *testing.T) {
	stalled := func(t *testing.T, change func(*load.Config)) load.Report {
		f := newFakeAPI()
		f.pause = 20 * time.Millisecond
		begin := time.Now()
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if at := time.Since(begin); at >= 4*time.Second && at < 6*time.Second {
				time.Sleep(6*time.Second - at)
			}
			f.handler().ServeHTTP(w, r)
		})
		c := config(t, handler)
		c.Votes, c.Duration, c.Voters, c.Clients = 0, 10*time.Second, 100_000, 8
		c.SkipCheck = true
		change(&c)
		return run(t, c)
	}
	for name, poisson := range map[string]bool{"even": false, "poisson": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := stalled(t, func(c *load.Config) { c.Rate, c.Poisson = 100, poisson })
				l := r.Latency
				if l.All.P99 < 1500 || l.All.P90 < 700 || l.All.P50 > 21 || l.All.Max > 2500 {
					t.Errorf("%+v", l.All)
				}
				if l.SendDelay.P99 < 1500 {
					t.Errorf("send delay %+v", l.SendDelay)
				}
				if n := l.All.Requests; n < 900 || n > 1100 || !poisson && n != 1000 || r.Ended != "duration" || r.Seconds != 10 {
					t.Errorf("%d requests in %f s, ended by %s", n, r.Seconds, r.Ended)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := stalled(t, func(c *load.Config) {})
		if r.Latency.All.P99 > 21 || r.Latency.All.Max < 1900 {
			t.Errorf("closed loop: %+v", r.Latency.All)
		}
	})
}

// TestWarmUp has a server that is slow in its first second.
func TestWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		begin := time.Now()
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			pause := 10 * time.Millisecond
			if time.Since(begin) < time.Second {
				pause = 200 * time.Millisecond
			}
			time.Sleep(pause)
			f.handler().ServeHTTP(w, r)
		})
		c := config(t, handler)
		c.Votes, c.WarmUp, c.Duration, c.Voters = 0, 2*time.Second, time.Second, 10_000
		r := run(t, c)
		honest(t, r)
		if r.Latency.All.Max > 11 || r.Counts.Votes >= f.recorded() || r.Check.Votes != f.recorded() {
			t.Errorf("%+v; %d votes measured, %d checked, %d recorded", r.Latency.All, r.Counts.Votes, r.Check.Votes, f.recorded())
		}
		if r.RequestsPerSecond < 780 || r.RequestsPerSecond > 800 { // 8 clients, 10 ms
			t.Errorf("%f requests/s", r.RequestsPerSecond)
		}
	})
}

// TestPairsRunOut ends a run that has nobody left.
func TestPairsRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		c := config(t, f.handler())
		c.Votes, c.Duration, c.Voters = 0, time.Minute, 20
		r := run(t, c)
		honest(t, r)
		if f.recorded() != 140 || !strings.HasPrefix(r.Ended, "no pairs") {
			t.Errorf("%d recorded, ended by %s", f.recorded(), r.Ended)
		}
	})
}

func TestTooFewPairs(t *testing.T) {
	c := onSockets(t, newFakeAPI().handler())
	c.Voters = 42
	if _, err := load.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "more voters") {
		t.Error(err)
	}
}

func TestRejected(t *testing.T) {
	c := onSockets(t, newFakeAPI().handler())
	c.Token = "wrong"
	if _, err := load.Run(t.Context(), c); !errors.Is(err, load.ErrRejected) || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	c.Specialists = []string{"spec-1", "spec-2", "spec-3"}
	if _, err := load.Run(t.Context(), c); !errors.Is(err, load.ErrRejected) {
		t.Error(err)
	}
}

func TestUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { busy(w) }))
		if _, err := load.Run(t.Context(), c); !errors.Is(err, load.ErrUnavailable) {
			t.Error(err)
		}
	})
}

// TestUnavailableForCheck loses the server when the check begins: the figures
// are there, and nobody is accused.
func TestUnavailableForCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		c := config(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Paldies-Voter") != "" {
				busy(w)
				return
			}
			f.handler().ServeHTTP(w, r)
		}))
		r, err := load.Run(t.Context(), c)
		if !errors.Is(err, load.ErrUnavailable) || r.Counts.Accepted != 300 || r.Check == nil || r.Check.Complete || r.Discrepancies.Total != 0 {
			t.Errorf("%v: %+v", err, r)
		}
	})
}

func TestInterrupted(t *testing.T) {
	f := newFakeAPI()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var n atomic.Int64
	c := onSockets(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 100 {
			interrupt()
		}
		f.handler().ServeHTTP(w, r)
	}))
	if _, err := load.Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestWithoutCheck runs against a handler that only decodes.
func TestWithoutCheck(t *testing.T) {
	c := onSockets(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
	}))
	c.Specialists, c.Repeats, c.Retries, c.SkipCheck = []string{"a", "b", "c", "d"}, 0, 0, true
	r := run(t, c)
	if r.Check != nil || r.Counts.Accepted != 300 || r.Discrepancies.Total != 0 {
		t.Errorf("%+v", r)
	}
}

func TestProgress(t *testing.T) {
	c := onSockets(t, newFakeAPI().handler())
	var stages []string
	c.Progress = func(title string, total int64, done func() int64) func() {
		return func() { stages = append(stages, fmt.Sprintf("%s %t", title, done() > 0 && total > 0)) }
	}
	run(t, c)
	if !slices.Equal(stages, []string{"requests true", "check true"}) {
		t.Error(stages)
	}
}

func TestValidate(t *testing.T) {
	good := load.Config{URL: "http://127.0.0.1:1", Campaign: "c", Votes: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]func(*load.Config){
		"http://HOST":         func(c *load.Config) { c.URL = "127.0.0.1:1" },
		"no user":             func(c *load.Config) { c.URL = "http://a:b@host" },
		"campaign's id":       func(c *load.Config) { c.Campaign = "" },
		"token has":           func(c *load.Config) { c.Token = "a\nb" },
		"run's name":          func(c *load.Config) { c.Run = "ā" },
		"clients are":         func(c *load.Config) { c.Clients = -1 },
		"connections are":     func(c *load.Config) { c.Connections = 1 << 20 },
		"the rate is":         func(c *load.Config) { c.Rate = -1 },
		"need a rate":         func(c *load.Config) { c.Poisson = true },
		"duration or a":       func(c *load.Config) { c.Votes = 0 },
		"warm-up are":         func(c *load.Config) { c.WarmUp = -1 },
		"attempts are":        func(c *load.Config) { c.Attempts = 1 << 20 },
		"timeout is":          func(c *load.Config) { c.Timeout = -1 },
		"votes are":           func(c *load.Config) { c.Votes = -1 },
		"voters are":          func(c *load.Config) { c.Voters = -1 },
		"shares of":           func(c *load.Config) { c.Repeats = 1.5 },
		"room for new":        func(c *load.Config) { c.Repeats, c.Retries = 0.5, 0.5 },
		"specialists are":     func(c *load.Config) { c.Specialists = make([]string, 1<<21) },
		"https://HOST: parse": func(c *load.Config) { c.URL = "http://[" },
	}
	for words, change := range wrong {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

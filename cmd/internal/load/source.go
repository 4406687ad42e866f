package load

import (
	"math/rand/v2"
	"sync"
	"time"
)

// maxDraws is how often an earlier vote is drawn until one is found that was
// acknowledged. Then a new vote is sent instead.
const maxDraws = 16

// request is one that a client is to send.
type request struct {
	kind     kind
	vote     uint32 // its number in the run
	number   uint64 // of the request
	due      time.Time
	measured bool
}

// reasons for the end of a run.
const (
	endedByTime   = "duration"
	endedByVotes  = "votes"
	endedByVoters = "no pairs of voter and specialist left"
)

// source hands out the requests of a run, in the order in which they are due.
type source struct {
	cfg         Config
	plan        *plan
	book        *book
	measureFrom time.Time
	end         time.Time // zero: no end by time

	mu      sync.Mutex // guards all below
	random  *rand.Rand
	due     arrivals
	number  uint64
	counted int    // new votes that are measured
	ended   string // why, when it is over
}

func newSource(cfg Config, p *plan, b *book, now time.Time) *source {
	s := &source{
		cfg: cfg, plan: p, book: b, measureFrom: now.Add(cfg.WarmUp),
		random: rand.New(rand.NewPCG(cfg.Seed, 1)),
		due:    arrivals{start: now, rate: cfg.Rate},
	}
	if cfg.Poisson {
		s.due.random = rand.New(rand.NewPCG(cfg.Seed, 2))
	}
	if cfg.Duration > 0 {
		s.end = s.measureFrom.Add(cfg.Duration)
	}
	return s
}

// expected is how many requests there will be, or 0 if nobody knows.
func (s *source) expected() int64 {
	switch {
	case s.cfg.Rate > 0 && s.cfg.Votes == 0:
		return int64(s.cfg.Rate * (s.cfg.WarmUp + s.cfg.Duration).Seconds())
	case s.cfg.Votes > 0 && s.cfg.WarmUp == 0 && s.cfg.Duration == 0:
		return int64(float64(s.cfg.Votes) / (1 - s.cfg.Repeats - s.cfg.Retries))
	}
	return 0
}

// next is the next request, or false when the run is over. In an open loop it
// may be due later; who gets it waits.
func (s *source) next(now time.Time) (request, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		return request{}, false
	}
	q := request{due: now, number: s.number}
	if s.cfg.Rate > 0 {
		q.due = s.due.next()
	}
	q.measured = !q.due.Before(s.measureFrom)
	switch {
	case !s.end.IsZero() && !q.due.Before(s.end):
		s.ended = endedByTime
	case s.cfg.Votes > 0 && s.counted == s.cfg.Votes:
		s.ended = endedByVotes
	case !s.fill(&q):
		s.ended = endedByVoters
	}
	s.number++
	return q, s.ended == ""
}

// fill decides what a request carries.
func (s *source) fill(q *request) bool {
	q.kind = s.plan.kindOf(q.number)
	if q.kind != newVote {
		if vote, ok := s.book.draw(s.random); ok {
			q.vote = vote
			return true
		}
	}
	q.kind = newVote
	if n := s.book.votes(); uint64(n) >= min(s.plan.pairs.size, maxVotes) {
		return false
	}
	q.vote = s.book.add()
	if q.measured {
		s.counted++
	}
	return true
}

// arrivals are the planned times of an open loop.
type arrivals struct {
	start  time.Time
	rate   float64 // per second
	n      uint64
	random *rand.Rand // of a Poisson process; nil: at even distances
	waited float64    // seconds since start, of a Poisson process
}

func (a *arrivals) next() time.Time {
	seconds := float64(a.n) / a.rate
	if a.random != nil {
		a.waited += a.random.ExpFloat64() / a.rate
		seconds = a.waited
	}
	a.n++
	return a.start.Add(time.Duration(seconds * float64(time.Second)))
}

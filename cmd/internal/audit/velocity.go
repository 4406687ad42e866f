package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// Velocity counts how fast votes came in: for each specialist and channel, hour
// by hour. It is a fold over all events that keeps hours, not votes.
//
// Votes count as they came in, whatever became of them later: somebody who looks
// for stuffed votes wants to see also those that were taken back or annulled. The
// specialist is the one that the vote names, not whom that one was merged into.
// It counts what `paldies vote list` lists.
//
// An hour is one of UTC: when the clocks are put back, the hour that comes twice
// is two.
type Velocity struct {
	moment   Moment
	register domain.Register
	votes    map[velocityKey]map[int32]int64 // by hour since 1970
}

// velocityKey is where votes go and whence they come.
type velocityKey struct{ specialist, channel string }

// Moment says by which of a vote's times Velocity counts it.
type Moment string

// The times of a vote. Votes by a channel that hands over at once have one time.
// Paper slips that somebody enters in the evening were recorded in one burst; when
// they were cast is what that somebody says.
const (
	RecordedAt Moment = "recorded_at"
	CastAt     Moment = "cast_at"
)

// ParseMoment accepts "recorded_at" and "cast_at".
func ParseMoment(s string) (Moment, error) {
	switch m := Moment(s); m {
	case RecordedAt, CastAt:
		return m, nil
	}
	return "", fmt.Errorf("use %s or %s", RecordedAt, CastAt)
}

// NewVelocity has counted nothing yet.
func NewVelocity(by Moment) *Velocity {
	return &Velocity{moment: by, votes: make(map[velocityKey]map[int32]int64)}
}

// Register is the register as of the last event. It must not be changed.
func (v *Velocity) Register() *domain.Register { return &v.register }

// Apply folds one event. An error names its sequence and leaves the counts as
// they were.
func (v *Velocity) Apply(sequence uint64, e domain.Event) error {
	if err := v.register.Apply(sequence, e); err != nil {
		return err
	}
	d, ok := e.Data.(domain.VoteCast)
	if !ok {
		return nil
	}
	at := e.Time
	if v.moment == CastAt && !d.CastAt.IsZero() {
		at = d.CastAt
	}
	key := velocityKey{d.Specialist, d.Channel}
	if v.votes[key] == nil {
		v.votes[key] = make(map[int32]int64)
	}
	v.votes[key][hourOf(at.UnixMilli())]++
	return nil
}

// Limits of a BurstRule.
const (
	MaxBurstHours = 7 * 24
	MaxBursts     = 1000
)

// maxChance is how probable it may be that among all windows of a campaign even
// one is taken for a burst by accident.
const maxChance = 0.01

// BurstRule says which votes are a burst.
type BurstRule struct {
	Hours      int     // length of a window in hours, 1 to MaxBurstHours
	Minimum    int64   // votes in it, at least 1
	Factor     float64 // how many times as many votes as expected, more than 1
	Top        int     // bursts wanted, 1 to MaxBursts
	Specialist string  // only bursts for this one, or ""
}

// Validate names what is out of its limits.
func (r BurstRule) Validate() error {
	switch {
	case r.Hours < 1 || r.Hours > MaxBurstHours:
		return fmt.Errorf("a window of %d hours: use 1 to %d", r.Hours, MaxBurstHours)
	case r.Minimum < 1:
		return fmt.Errorf("a minimum of %d votes: use 1 or more", r.Minimum)
	case !(r.Factor > 1): // nor NaN
		return errors.New("the factor must be more than 1")
	case r.Top < 1 || r.Top > MaxBursts:
		return fmt.Errorf("%d bursts: use 1 to %d", r.Top, MaxBursts)
	}
	return nil
}

// Burst is more votes for a specialist by a channel within a window than both its
// own history and its peers let expect.
type Burst struct {
	Specialist string
	Channel    string
	From, To   time.Time // UTC; To is not included
	Votes      int64
	Own        float64 // votes expected by the specialist's own other hours
	Peers      float64 // votes expected by what the peers have in the window
	Log10P     float64 // logarithm of the larger one of the two probabilities
}

// Found is what Bursts has found.
type Found struct {
	Bursts  []Burst
	Windows int64 // that were looked at
	// Cut says that the search ended at its limit, MaxBursts bursts for anybody,
	// before it had seen all for the one specialist who was asked for.
	Cut bool
}

// Bursts are the windows with more votes than expected, the least probable
// first. What they hold is for a person to judge: a burst is no proof.
//
// A window is held against two expectations, each with the exact conditional
// test for it:
//
//   - Its own history. Of the S votes that the specialist has by the channel, o
//     lie in the window, which has a of the H hours in which anybody voted by that
//     channel. Were they spread evenly, o would be binomial (S, a/H): the test of
//     two Poisson rates by Przyborowski and Wilenski (Biometrika 31, 1940).
//     Expected are (S−o)·a/(H−a).
//   - Its peers, all others on the same channel, who have m of their M votes in
//     the window. Were the specialist's votes spread like theirs, o would be
//     hypergeometric (S+M, S, o+m): Fisher's exact test, one-sided (The Design of
//     Experiments, 1935). Expected are (S−o)·m/(M−m).
//
// The larger probability counts and the larger expectation (the
// intersection-union test of Berger, Technometrics 24, 1982): a rush of the whole
// campaign after a broadcast is none against the peers, and somebody praised
// around the clock is none against the own history. Where there is nothing to
// compare with, as in a campaign that was imported within one hour, the
// probability is 1.
//
// The window must have rule.Minimum votes and rule.Factor times the larger
// expectation, and its probability times the number of windows must be at most
// maxChance (Bonferroni).
//
// One burst must not hide another by raising what is expected, nor make honest
// hours of others look like one. So the least probable window is taken first, its
// votes are taken out of all histories, and the rest is looked at again (Zhang,
// Assunção and Kulldorff, Journal of Probability and Statistics 2010, on scan
// statistics). Windows for one specialist by one channel do not overlap.
//
// Votes of real people come in bunches, so that the probabilities are smaller
// than the truth and good for the order only. They are no odds of guilt.
func (v *Velocity) Bursts(ctx context.Context, rule BurstRule) (found Found, err error) {
	if err := rule.Validate(); err != nil {
		return found, err
	}
	s := v.scan(rule)
	found.Windows = s.windows
	for range MaxBursts {
		least, err := s.least(ctx)
		if err != nil || least.series == nil {
			return found, err
		}
		s.take(least)
		if rule.Specialist == "" || least.series.specialist == rule.Specialist {
			found.Bursts = append(found.Bursts, least.burst(rule))
		}
		if len(found.Bursts) == rule.Top {
			return found, nil
		}
	}
	found.Cut = true
	return found, nil
}

// series is the votes for one specialist by one channel.
type series struct {
	velocityKey
	hours []int32 // those with votes, in order
	votes []int64 // in each; 0 once they were taken
	total int64   // of votes
	peers *traffic
}

// traffic is the votes by one channel.
type traffic struct {
	votes  map[int32]int64 // by hour; every hour in which anybody voted stays
	total  int64
	series []*series // by specialist
	// least is the channel's least probable window, as long as nothing was taken
	// since judged was set.
	least  window
	judged bool
}

// wanted says whether the channel can still have a burst for a specialist, or for
// anybody if none is named.
func (t *traffic) wanted(rule BurstRule) bool {
	return slices.ContainsFunc(t.series, func(one *series) bool {
		return one.total >= rule.Minimum && (rule.Specialist == "" || one.specialist == rule.Specialist)
	})
}

// scan is a search for bursts.
type scan struct {
	rule     BurstRule
	windows  int64 // how many begin with votes
	channels map[string]*traffic
}

func (v *Velocity) scan(rule BurstRule) *scan {
	s := &scan{rule: rule, channels: make(map[string]*traffic)}
	keys := slices.SortedFunc(maps.Keys(v.votes), func(a, b velocityKey) int {
		return cmp.Or(cmp.Compare(a.specialist, b.specialist), cmp.Compare(a.channel, b.channel))
	})
	for _, key := range keys {
		all := s.channels[key.channel]
		if all == nil {
			all = &traffic{votes: make(map[int32]int64)}
			s.channels[key.channel] = all
		}
		one := &series{velocityKey: key, hours: slices.Sorted(maps.Keys(v.votes[key])), peers: all}
		for _, hour := range one.hours {
			n := v.votes[key][hour]
			one.votes = append(one.votes, n)
			one.total += n
			all.votes[hour] += n
			all.total += n
		}
		all.series = append(all.series, one)
		s.windows += int64(len(one.hours))
	}
	return s
}

// window is some hours of a series, and what is expected of them.
type window struct {
	series     *series
	begin, end int // of series.hours
	votes      int64
	own, peers float64
	log10P     float64
}

func (w window) burst(rule BurstRule) Burst {
	from := time.Unix(int64(w.series.hours[w.begin])*3600, 0).UTC()
	return Burst{Specialist: w.series.specialist, Channel: w.series.channel,
		From: from, To: from.Add(time.Duration(rule.Hours) * time.Hour),
		Votes: w.votes, Own: w.own, Peers: w.peers, Log10P: w.log10P}
}

// compare is below 0 if w is the less probable one. Of equals it is the one with
// more votes, then the one whose specialist and channel come first; a window
// without a series comes last.
func (w window) compare(other window) int {
	switch {
	case w.series == nil:
		return +1
	case other.series == nil:
		return -1
	}
	return cmp.Or(cmp.Compare(w.log10P, other.log10P), cmp.Compare(other.votes, w.votes),
		cmp.Compare(w.series.specialist, other.series.specialist), cmp.Compare(w.series.channel, other.series.channel))
}

// least is the least probable window that is a burst, or one without a series.
// What a window is held against is of its channel, so that only the channel is
// looked at again of which votes were taken.
func (s *scan) least(ctx context.Context) (least window, err error) {
	for _, all := range s.channels {
		if !all.wanted(s.rule) {
			continue
		}
		if !all.judged {
			if all.least, err = s.leastOf(ctx, all); err != nil {
				return window{}, err
			}
			all.judged = true
		}
		if all.least.compare(least) < 0 {
			least = all.least
		}
	}
	return least, nil
}

func (s *scan) leastOf(ctx context.Context, all *traffic) (least window, err error) {
	for _, one := range all.series {
		if err := ctx.Err(); err != nil {
			return window{}, err
		}
		if one.total < s.rule.Minimum {
			continue
		}
		for begin := range one.hours {
			if w, ok := s.judge(one, begin); ok && w.compare(least) < 0 {
				least = w
			}
		}
	}
	return least, nil
}

// judge says whether the window that begins with an hour is a burst.
func (s *scan) judge(one *series, begin int) (window, bool) {
	w := window{series: one, begin: begin, end: begin}
	first := one.hours[begin]
	for w.end < len(one.hours) && int(one.hours[w.end]-first) < s.rule.Hours {
		if one.votes[w.end] == 0 {
			return w, false // it is part of a burst that was found before
		}
		w.votes += one.votes[w.end]
		w.end++
	}
	if w.votes < s.rule.Minimum {
		return w, false
	}
	var active, inWindow int64
	for hour := first; int(hour-first) < s.rule.Hours; hour++ {
		if n, ok := one.peers.votes[hour]; ok {
			active, inWindow = active+1, inWindow+n
		}
	}
	elsewhere, hours := one.total-w.votes, int64(len(one.peers.votes))
	peersIn := inWindow - w.votes
	peersElsewhere := one.peers.total - one.total - peersIn
	if active == hours || peersElsewhere == 0 {
		return w, false // there is nothing to compare with
	}
	w.own = float64(elsewhere) * float64(active) / float64(hours-active)
	w.peers = float64(elsewhere) * float64(peersIn) / float64(peersElsewhere)
	if float64(w.votes) < s.rule.Factor*max(w.own, w.peers) {
		return w, false
	}
	w.log10P = max(
		log10Binomial(w.votes, one.total, float64(active)/float64(hours)),
		log10Hypergeometric(w.votes, one.peers.total, one.total, inWindow))
	return w, w.log10P <= math.Log10(maxChance/float64(s.windows))
}

// take takes a window's votes out of all histories.
func (s *scan) take(w window) {
	for i := w.begin; i < w.end; i++ {
		w.series.peers.votes[w.series.hours[i]] -= w.series.votes[i]
		w.series.votes[i] = 0
	}
	w.series.total -= w.votes
	w.series.peers.total -= w.votes
	w.series.peers.judged = false
}

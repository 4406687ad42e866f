package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// readings is how often the votes of a voter are read before anything is held
// against the ledger, and rereadPause the first pause between, which doubles. A
// replica that answers may be a moment behind what was acknowledged.
const (
	readings    = 4
	rereadPause = 100 * time.Millisecond
)

// check reads the votes of every voter of the run and compares them with the
// book. The error says why it is not complete.
func (r *run) check(ctx context.Context) (*Check, error) {
	voters := newVoterList(r.plan, r.book.votes())
	c := checker{run: r}
	defer r.cfg.progress("check", voters.count(), c.voters.Load)()
	err := parallel(ctx, r.cfg.Clients, func(ctx context.Context) error {
		client := r.api.client()
		for {
			voter, votes, ok := voters.next()
			if !ok {
				return nil
			}
			if err := c.checkVoter(ctx, client, voter, votes); err != nil {
				return err
			}
		}
	})
	report := &Check{
		Voters: c.voters.Load(), Votes: c.votes.Load(),
		Resolved: c.resolved.Load(), Unknown: c.unknown.Load(), Complete: err == nil,
	}
	return report, err
}

// voterList hands out the voters of a run with the votes of each.
type voterList struct {
	plan  *plan
	mu    sync.Mutex // guards pairs
	pairs []uint64   // of voter and specialist, in order
}

func newVoterList(p *plan, votes int) *voterList {
	l := &voterList{plan: p, pairs: make([]uint64, votes)}
	for vote := range l.pairs {
		l.pairs[vote] = p.pair(uint32(vote))
	}
	slices.Sort(l.pairs)
	return l
}

func (l *voterList) count() (voters int64) {
	last := uint64(0)
	for i, pair := range l.pairs {
		if voter, _ := l.plan.split(pair); i == 0 || voter != last {
			voters, last = voters+1, voter
		}
	}
	return voters
}

// next is one more voter and the votes that the run has of it.
func (l *voterList) next() (voter uint64, votes []uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pairs) == 0 {
		return 0, nil, false
	}
	voter, _ = l.plan.split(l.pairs[0])
	for len(l.pairs) > 0 {
		if v, _ := l.plan.split(l.pairs[0]); v != voter {
			break
		}
		votes = append(votes, uint32(l.plan.pairs.find(l.pairs[0])))
		l.pairs = l.pairs[1:]
	}
	return voter, votes, true
}

// checker counts what is compared.
type checker struct {
	run                              *run
	voters, votes, resolved, unknown counter
}

// checkVoter reads the votes of one voter until they fit, or have not fitted
// often enough.
func (c *checker) checkVoter(ctx context.Context, client *client, voter uint64, votes []uint32) error {
	expected := c.expected(votes)
	for reading := range readings {
		if reading > 0 {
			if err := sleep(ctx, rereadPause<<(reading-1)); err != nil {
				return err
			}
		}
		list, err := client.votesOf(ctx, c.run.plan.voterID(voter))
		if errors.Is(err, errMalformed) {
			c.run.findings.add(Discrepancy{Kind: Unexpected, Voter: c.run.plan.voterID(voter), Detail: err.Error()})
			break
		}
		if err != nil {
			return fmt.Errorf("the check is not complete: %w", err)
		}
		found := compare(expected, list)
		if len(found.discrepancies) == 0 || reading == readings-1 {
			c.close(voter, found)
			break
		}
	}
	c.voters.Add(1)
	return nil
}

// expectation is what the book says of one vote.
type expectation struct {
	entry
	specialist string
}

func (c *checker) expected(votes []uint32) []expectation {
	expected := make([]expectation, len(votes))
	for i, vote := range votes {
		_, specialist := c.run.plan.split(c.run.plan.pair(vote))
		expected[i] = expectation{c.run.book.get(vote), c.run.plan.specialists[specialist]}
	}
	return expected
}

// close counts what was found for good.
func (c *checker) close(voter uint64, found comparison) {
	c.votes.Add(found.acknowledged)
	c.resolved.Add(found.resolved)
	c.unknown.Add(found.unknown)
	for _, d := range found.discrepancies {
		d.Voter = c.run.plan.voterID(voter)
		c.run.findings.add(d)
	}
}

// comparison is what the votes of one voter come to.
type comparison struct {
	acknowledged, resolved, unknown int64
	discrepancies                   []Discrepancy
}

// compare holds the votes of a voter, as the ledger has them, against what was
// answered. Every vote of the ledger is claimed by at most one expectation; who
// knows it exactly comes before who knows less of it.
func compare(expected []expectation, list []recorded) comparison {
	var c comparison
	l := ledgerVotes{list: list, claimed: make([]bool, len(list))}
	var open []expectation // acknowledged, and not in the ledger as they were
	for _, e := range expected {
		if e.state != acknowledged {
			continue
		}
		c.acknowledged++
		if _, ok := l.claim(e.exactly); !ok {
			open = append(open, e)
		}
	}
	for _, e := range open {
		v, ok := l.claim(func(v recorded) bool { return v.Sequence == e.sequence || v.EventID == e.eventID })
		if !ok {
			v, ok = l.claim(func(v recorded) bool { return v.Specialist == e.specialist })
		}
		if !ok {
			c.add(Missing, e, "it was acknowledged and is not in the ledger")
			continue
		}
		c.add(Altered, e, fmt.Sprintf("acknowledged as event %s at %d, in the ledger as event %s at %d for %q, %q",
			e.eventID, e.sequence, v.EventID, v.Sequence, v.Specialist, v.Status))
	}
	for _, e := range expected {
		if e.state != unknown {
			continue
		}
		if _, ok := l.claim(func(v recorded) bool { return v.Specialist == e.specialist && v.Status == active }); ok {
			c.resolved++
		} else {
			c.unknown++
		}
	}
	c.rest(expected, l)
	return c
}

// ledgerVotes are the votes of a voter, and which of them are explained.
type ledgerVotes struct {
	list    []recorded
	claimed []bool
}

// claim finds a vote that nobody claims yet.
func (l ledgerVotes) claim(fits func(recorded) bool) (recorded, bool) {
	for i, v := range l.list {
		if !l.claimed[i] && fits(v) {
			l.claimed[i] = true
			return v, true
		}
	}
	return recorded{}, false
}

// exactly says whether a vote of the ledger is the one that was acknowledged.
func (e expectation) exactly(v recorded) bool {
	return v.Sequence == e.sequence && v.EventID == e.eventID && v.Specialist == e.specialist && v.Status == active
}

// rest accuses what nobody claims.
func (c *comparison) rest(expected []expectation, l ledgerVotes) {
	for i, v := range l.list {
		if l.claimed[i] {
			continue
		}
		kind, detail := Surplus, "it is in the ledger and was never acknowledged"
		for _, e := range expected {
			if e.specialist == v.Specialist && e.state != refused {
				kind, detail = Doubled, "it is in the ledger once more"
			}
		}
		c.add(kind, expectation{entry{sequence: v.Sequence}, v.Specialist}, fmt.Sprintf("%s: event %s, %q", detail, v.EventID, v.Status))
	}
}

func (c *comparison) add(kind DiscrepancyKind, e expectation, detail string) {
	c.discrepancies = append(c.discrepancies, Discrepancy{Kind: kind, Specialist: e.specialist, Sequence: e.sequence, Detail: detail})
}

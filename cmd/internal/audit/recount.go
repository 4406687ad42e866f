package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// count is a count of the votes in force, by ballots.
type count struct {
	voters int64
	totals map[string]total // by specialist
	cells  map[cell]int64

	affiliations map[domain.Affiliation]int32 // numbers instead of texts in cells
	specialists  map[string]int32
}

type total struct{ votes, voters int64 }

// cell is domain.Cell in 16 bytes: there may be nearly as many as votes.
type cell struct {
	specialist, affiliation int32
	hour                    int32 // since 1970
	channel                 int16 // index into the campaign's channels
}

// recount compares the results with the votes that are in force by ballots.
func (a *auditor) recount() {
	c := a.count()
	if counted := a.tally.Voters(); counted != c.voters {
		a.mismatch(CheckRecount, 0, "the results say %d voters, the ballots %d", counted, c.voters)
	}
	for _, s := range a.tally.Register().Specialists() {
		votes, voters := a.tally.Total(s.ID)
		if own := c.totals[s.ID]; own != (total{votes, voters}) {
			a.mismatch(CheckRecount, 0, "specialist %s (%s): the results say %d votes and %d voters, the ballots %d and %d",
				s.ID, s.Name, votes, voters, own.votes, own.voters)
		}
	}
	a.compareCells(c)
}

func (a *auditor) count() *count {
	c := &count{totals: make(map[string]total), cells: make(map[cell]int64),
		affiliations: make(map[domain.Affiliation]int32), specialists: make(map[string]int32)}
	channels := a.tally.Register().Campaign().Channels
	totals := make([]total, len(a.specialists)) // by vote.specialist
	places := make([]cell, len(a.specialists))  // the same for all votes for one
	for i, s := range a.specialists {
		places[i] = cell{specialist: number(c.specialists, s.ID), affiliation: number(c.affiliations, s.Affiliation())}
	}
	for b := range a.ballots.all() {
		votes := 0
		for _, v := range b.votes {
			if v.state != inForce || v.forged {
				continue
			}
			votes++
			totals[v.specialist].votes++
			if channels[v.channel].Identity != domain.NoIdentity {
				totals[v.specialist].voters++
			}
			key := places[v.specialist]
			key.hour, key.channel = hourOf(v.castAt), v.channel
			c.cells[key]++
		}
		if b.known && votes > 0 {
			c.voters++
		}
	}
	for i, s := range a.specialists {
		t := c.totals[s.ID]
		c.totals[s.ID] = total{t.votes + totals[i].votes, t.voters + totals[i].voters}
	}
	return c
}

// hourOf is the hour since 1970 in which a moment in milliseconds lies.
func hourOf(milliseconds int64) int32 {
	hour := milliseconds / time.Hour.Milliseconds()
	if milliseconds%time.Hour.Milliseconds() < 0 {
		hour-- // before 1970
	}
	return int32(hour)
}

// cell is where a vote belongs.
func (c *count) cell(specialist string, affiliation domain.Affiliation, channel int16, at time.Time) cell {
	return cell{number(c.specialists, specialist), number(c.affiliations, affiliation), hourOf(at.UnixMilli()), channel}
}

// number gives every value a number of its own.
func number[T comparable](known map[T]int32, value T) int32 {
	n, ok := known[value]
	if !ok {
		n = int32(len(known))
		known[value] = n
	}
	return n
}

// compareCells compares the finest counts: the totals may agree although votes
// were moved to another place, channel or hour.
func (a *auditor) compareCells(c *count) {
	for _, counted := range a.tally.Cells() {
		key := c.cell(counted.Specialist, counted.Affiliation, a.channelIndex(counted.Channel), counted.Hour)
		if own := c.cells[key]; own != counted.Votes {
			a.cellMismatch(counted, own)
		}
		delete(c.cells, key)
	}
	specialists, affiliations := inverse(c.specialists), inverse(c.affiliations)
	var missing []domain.Cell // in the results
	for key, votes := range c.cells {
		missing = append(missing, domain.Cell{Specialist: specialists[key.specialist], Affiliation: affiliations[key.affiliation],
			Channel: a.tally.Register().Campaign().Channels[key.channel].Name, Hour: time.Unix(int64(key.hour)*3600, 0), Votes: votes})
	}
	slices.SortFunc(missing, func(a, b domain.Cell) int {
		return cmp.Or(cmp.Compare(a.Specialist, b.Specialist), a.Hour.Compare(b.Hour), cmp.Compare(place(a), place(b)))
	})
	for _, m := range missing {
		votes := m.Votes
		m.Votes = 0
		a.cellMismatch(m, votes)
	}
}

func (a *auditor) cellMismatch(counted domain.Cell, own int64) {
	a.mismatch(CheckRecount, 0, "specialist %s, %s, in the hour from %s: the results say %d votes, the ballots %d",
		counted.Specialist, place(counted), domain.FormatTime(counted.Hour), counted.Votes, own)
}

// place is where a cell's votes belong, in words.
func place(c domain.Cell) string {
	parts := []string{c.Institution, c.Branch, c.Region, "channel " + c.Channel}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

func inverse[T comparable](numbers map[T]int32) map[int32]T {
	values := make(map[int32]T, len(numbers))
	for value, n := range numbers {
		values[n] = value
	}
	return values
}

package domain

import "slices"

// Doubles finds votes that count beside an earlier one of the same voter for the
// same specialist, who was registered twice. A merge has to annul them.
//
// It is for one goroutine. It keeps the votes of those who are part of a merge,
// and nothing of others.
type Doubles struct {
	campaign *Campaign
	into     map[string]string   // by id: whom its votes count for
	votes    map[choice][]uint64 // sequences, ascending
}

// choice is a voter's of a specialist.
type choice struct {
	voter      Pseudonym
	specialist string
}

// NewDoubles looks for doubles by the merges that a register knows.
func NewDoubles(r *Register) *Doubles {
	d := &Doubles{campaign: r.Campaign(), into: make(map[string]string), votes: make(map[choice][]uint64)}
	for _, s := range r.Specialists() {
		if canonical := r.Canonical(s.ID); canonical != s.ID {
			d.into[s.ID], d.into[canonical] = canonical, canonical
		}
	}
	return d
}

// Possible says whether there can be any: without a merge there are none, and no
// event has to be looked at.
func (d *Doubles) Possible() bool { return len(d.into) > 0 }

// Apply takes one event. What is void is passed over, as in a ballot.
func (d *Doubles) Apply(sequence uint64, e Event) {
	switch p := e.Data.(type) {
	case VoteCast:
		if into, merged := d.into[p.Specialist]; merged && !d.campaign.Void(sequence) {
			c := choice{p.Voter, into}
			d.votes[c] = append(d.votes[c], sequence)
		}
	case VoteRetracted:
		d.take(sequence, e, p.Voter, p.Specialist, p.Vote.Sequence)
	case VoteAnnulled:
		d.take(sequence, e, p.Voter, p.Specialist, p.Vote.Sequence)
	}
}

func (d *Doubles) take(sequence uint64, e Event, voter Pseudonym, specialist string, vote uint64) {
	into, merged := d.into[specialist]
	if !merged {
		return
	}
	b, err := Ballot(nil).Evolve(sequence, e)
	if err != nil || b[0].Void(d.campaign) {
		return
	}
	c := choice{voter, into}
	d.votes[c] = slices.DeleteFunc(d.votes[c], func(s uint64) bool { return s == vote })
}

// Surplus are all votes but the first of each voter, for one specialist or, for
// "", for all. Decision and reason are left empty.
func (d *Doubles) Surplus(specialist string) (list []Annulment) {
	for c, votes := range d.votes {
		if specialist != "" && c.specialist != specialist {
			continue
		}
		for i, vote := range votes {
			if i > 0 {
				list = append(list, Annulment{Voter: c.voter, Vote: vote})
			}
		}
	}
	slices.SortFunc(list, func(a, b Annulment) int {
		if a.Vote < b.Vote {
			return -1
		}
		return 1
	})
	return list
}

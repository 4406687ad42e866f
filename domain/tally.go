package domain

import (
	"cmp"
	"slices"
	"time"
)

// Tally counts. It is a pure fold over all events of a ledger, in their order:
// the read models, the auditor's recount and the oracle in tests are this
// code. It knows no ballot: events carry what is needed to count.
//
// An event of a voter counts for nothing ("void") when it lies above the
// fence, or is about a vote that names a specialist or a channel that the
// campaign did not have below it. Annulments after the close and events of
// specialists have a fence of their own, the archiving. Intake lets none of them
// through on purpose; the recount must not trust it.
//
// The zero value is an empty tally. Methods that read may run at the same
// time; Apply may not run beside anything.
type Tally struct {
	register Register
	totals   []total // by Specialist.index
	cells    map[cellKey]int64
	votes    int64
	voters   int64
	void     int64
	asOf     time.Time
}

type total struct{ votes, voters int64 }

// cellKey is Cell without its texts.
type cellKey struct {
	specialist, affiliation, channel int32 // indices into register
	hour                             int32 // since 1970
}

// Cell is the finest count: votes for a specialist, by the affiliation at the
// time of the vote, the channel and the hour in which they were cast.
type Cell struct {
	Specialist string
	Affiliation
	Channel string
	Hour    time.Time // UTC, the beginning of the hour
	Votes   int64
}

// Delta is what one event changes.
type Delta struct {
	Cell          // Votes is +1, -1, or 0 where nothing changes
	Voters  int64 // change of the specialist's voters: votes by channels with an identity
	Ballots int64 // change of the campaign's distinct voters
	Void    bool
}

// Register is the register as of the last event. It must not be changed.
func (t *Tally) Register() *Register { return &t.register }

// Position is the sequence of the last event.
func (t *Tally) Position() uint64 { return t.register.Position() }

// AsOf is when the last event was recorded.
func (t *Tally) AsOf() time.Time { return t.asOf }

// Votes counts all votes in force.
func (t *Tally) Votes() int64 { return t.votes }

// Voters counts the distinct voters with at least one vote in force, among
// those that channels with an identity know.
func (t *Tally) Voters() int64 { return t.voters }

// Total is what one specialist has, without what was merged into it.
func (t *Tally) Total(specialist string) (votes, voters int64) {
	s, ok := t.register.Specialist(specialist)
	if !ok {
		return 0, 0
	}
	return t.totals[s.index].votes, t.totals[s.index].voters
}

// Void counts the events that were passed over.
func (t *Tally) Void() int64 { return t.void }

// Apply folds one event. An error leaves the tally as it was.
func (t *Tally) Apply(sequence uint64, e Event) (Delta, error) {
	if err := t.register.Apply(sequence, e); err != nil {
		return Delta{}, err
	}
	for len(t.totals) < len(t.register.order) {
		t.totals = append(t.totals, total{})
	}
	t.asOf = e.Time
	delta, key := t.register.delta(sequence, e)
	switch {
	case delta.Void:
		t.void++
	case delta.Votes != 0:
		t.add(delta, key)
	}
	return delta, nil
}

func (t *Tally) add(d Delta, key cellKey) {
	if t.cells == nil {
		t.cells = make(map[cellKey]int64)
	}
	if t.cells[key] += d.Votes; t.cells[key] == 0 {
		delete(t.cells, key)
	}
	t.totals[key.specialist].votes += d.Votes
	t.totals[key.specialist].voters += d.Voters
	t.votes += d.Votes
	t.voters += d.Ballots
}

// Delta is what an event changes in the counts. The register must be as of
// that event, which Apply took last; then the sum of all deltas is the tally.
func (r *Register) Delta(sequence uint64, e Event) Delta {
	d, _ := r.delta(sequence, e)
	return d
}

func (r *Register) delta(sequence uint64, e Event) (Delta, cellKey) {
	switch d := e.Data.(type) {
	case VoteCast:
		ref := VoteRef{Sequence: sequence, Channel: d.Channel, CastAt: statedOr(d.CastAt, e.Time)}
		return r.count(sequence, d.Specialist, ref, +1, d.Active == 1)
	case VoteRetracted:
		return r.count(sequence, d.Specialist, d.Vote, -1, d.Active == 0)
	case VoteAnnulled:
		if d.AfterClose && r.campaign.VoidAnnulment(sequence, d.Vote.Sequence) {
			return Delta{Void: true}, cellKey{}
		}
		if d.AfterClose { // lies above the fence by right
			sequence = d.Vote.Sequence
		}
		return r.count(sequence, d.Specialist, d.Vote, -1, d.Active == 0)
	case SpecialistRegistered, SpecialistUpdated, SpecialistWithdrawn, SpecialistMerged:
		return Delta{Void: r.campaign.Over(sequence)}, cellKey{}
	}
	return Delta{}, cellKey{}
}

// count adds n votes to where the vote belongs. The ballot's first vote and
// the loss of its last one change the number of voters.
func (r *Register) count(sequence uint64, specialist string, vote VoteRef, n int64, edge bool) (Delta, cellKey) {
	c := &r.campaign
	channel, exists := c.channelAt(vote.Channel, vote.Sequence)
	s, ok := r.specialists[specialist]
	if !ok || !exists || c.Void(sequence) {
		return Delta{Void: true}, cellKey{}
	}
	affiliation, ok := s.affiliationAt(vote.Sequence)
	if !ok {
		return Delta{Void: true}, cellKey{}
	}
	d := Delta{Cell: Cell{Specialist: s.ID, Affiliation: s.affiliations[affiliation].Affiliation,
		Channel: vote.Channel, Hour: vote.CastAt.Truncate(time.Hour), Votes: n}}
	if c.Channels[channel].Identity != NoIdentity {
		d.Voters = n
		if edge {
			d.Ballots = n
		}
	}
	return d, cellKey{int32(s.index), int32(affiliation), int32(channel), int32(d.Hour.Unix() / 3600)}
}

// Cells are all counts that are not zero, in the order of their keys.
func (t *Tally) Cells() []Cell {
	cells := make([]Cell, 0, len(t.cells))
	for key, n := range t.cells {
		cells = append(cells, t.cell(key, n))
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		return cmp.Or(
			cmp.Compare(a.Specialist, b.Specialist),
			cmp.Compare(a.Institution, b.Institution),
			cmp.Compare(a.Branch, b.Branch),
			cmp.Compare(a.Region, b.Region),
			cmp.Compare(a.Channel, b.Channel),
			a.Hour.Compare(b.Hour))
	})
	return cells
}

func (t *Tally) cell(key cellKey, n int64) Cell {
	s := t.register.order[key.specialist]
	return Cell{Specialist: s.ID, Affiliation: s.affiliations[key.affiliation].Affiliation,
		Channel: t.register.campaign.Channels[key.channel].Name,
		Hour:    time.Unix(int64(key.hour)*3600, 0).UTC(), Votes: n}
}

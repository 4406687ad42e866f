package audit

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// ballot is what one voter did, in as little memory as the rules need.
type ballot struct {
	active int32 // votes less what took votes away, forged or not: what intake sees
	known  bool  // by a channel with an identity
	votes  []vote
}

// vote takes 32 bytes; there may be millions.
type vote struct {
	sequence   uint64
	id         uint64 // the first 64 bits of the event's id
	castAt     int64  // milliseconds since 1970
	specialist int32  // index into auditor.specialists: as of the vote, and so with the affiliation at that time
	channel    int16  // index into the campaign's channels
	state      state
	forged     bool // it breaks a rule so that it must not count
}

type state int8

const (
	inForce state = iota
	retracted
	annulled
)

// number is the index of a specialist as of now.
func (a *auditor) number(s *domain.Specialist) int32 {
	n := number(a.numbers, s)
	if int(n) == len(a.specialists) {
		a.specialists = append(a.specialists, s)
	}
	return n
}

// whom says whom a vote is for, as of the vote.
func (a *auditor) whom(v vote) *domain.Specialist { return a.specialists[v.specialist] }

// ballotsPiece is how many ballots lie side by side in memory.
const ballotsPiece = 4096

// ballots are all ballots, in the order in which they began. There may be
// millions: the index has no pointers, which the garbage collector would follow,
// and whoever goes through all ballots reads memory from one end to the other.
type ballots struct {
	index  map[domain.Pseudonym]int32
	pieces [][]ballot
	count  int
}

// of returns a voter's ballot, a new one if there is none. It stays where it is.
func (b *ballots) of(voter domain.Pseudonym) *ballot {
	i, ok := b.index[voter]
	if !ok {
		if b.count%ballotsPiece == 0 {
			b.pieces = append(b.pieces, make([]ballot, ballotsPiece))
		}
		if b.index == nil {
			b.index = make(map[domain.Pseudonym]int32)
		}
		i = int32(b.count)
		b.index[voter] = i
		b.count++
	}
	return &b.pieces[i/ballotsPiece][i%ballotsPiece]
}

// all goes through the ballots. What is behind the last one is empty.
func (b *ballots) all() iter.Seq[*ballot] {
	return func(yield func(*ballot) bool) {
		for _, piece := range b.pieces {
			for i := range piece {
				if !yield(&piece[i]) {
					return
				}
			}
		}
	}
}

// above says whether a voter's event lies above the fence, and lists it.
func (a *auditor) above(sequence uint64, e domain.Event) bool {
	if !a.tally.Register().Campaign().Void(sequence) {
		return false
	}
	if e.Time.After(a.closed.at.Add(maxRace)) {
		a.mismatch(CheckFence, sequence, "recorded at %s, long after the close at %s (event %d)",
			domain.FormatTime(e.Time), domain.FormatTime(a.closed.at), a.closed.sequence)
		return true
	}
	a.void = append(a.void, Mismatch{Sequence: sequence, Text: "it was under way when the campaign was closed"})
	return true
}

// specialist finds whom a vote is for. Who was never registered gets a
// stand-in, so that the vote can be kept in its ballot all the same.
func (a *auditor) specialist(sequence uint64, id string) (s *domain.Specialist, ok bool) {
	if s, ok = a.tally.Register().Specialist(id); !ok {
		a.mismatch(CheckSpecialists, sequence, "specialist %s is not registered", id)
		s = &domain.Specialist{ID: id}
	}
	return s, ok
}

// channel finds the index of a vote's channel.
func (a *auditor) channel(sequence uint64, name string) (index int16, ok bool) {
	i := a.channelIndex(name)
	if i < 0 {
		a.mismatch(CheckChannels, sequence, "channel %s is not one of the campaign's", name)
	}
	return i, i >= 0
}

func (a *auditor) channelIndex(name string) int16 {
	return int16(slices.IndexFunc(a.tally.Register().Campaign().Channels, func(ch domain.Channel) bool { return ch.Name == name }))
}

// window checks when the voter acted.
func (a *auditor) window(sequence uint64, stated, recorded time.Time) time.Time {
	c := a.tally.Register().Campaign()
	at := stated
	if at.IsZero() {
		at = recorded
	}
	if at.Before(c.OpensAt) || !at.Before(c.ClosesAt) || at.After(recorded.Add(domain.MaxClockSkew)) {
		a.mismatch(CheckWindow, sequence, "cast at %s and recorded at %s; voting is open from %s to %s",
			domain.FormatTime(at), domain.FormatTime(recorded), domain.FormatTime(c.OpensAt), domain.FormatTime(c.ClosesAt))
	}
	return at
}

// wasUnderWay says whether an event may have been decided before its intake
// heard of what lies below it, and then lists it.
func (a *auditor) wasUnderWay(sequence uint64, e domain.Event, below moment, what string) bool {
	if e.Time.After(below.at.Add(maxRace)) {
		return false
	}
	if n := len(a.raced); n == 0 || a.raced[n-1].Sequence != sequence { // once is enough
		a.raced = append(a.raced, Mismatch{Sequence: sequence, Text: fmt.Sprintf("it was under way when %s (event %d)", what, below.sequence)})
	}
	return true
}

// available checks that votes for the specialist were possible.
func (a *auditor) available(sequence uint64, e domain.Event, s *domain.Specialist) {
	end, ended := a.ended[s.ID]
	if !ended {
		return
	}
	what := fmt.Sprintf("%s (%s) %s", s.ID, s.Name, end.how)
	if !a.wasUnderWay(sequence, e, end.moment, what) {
		a.mismatch(CheckSpecialists, sequence, "recorded at %s, long after %s at %s (event %d)",
			domain.FormatTime(e.Time), what, domain.FormatTime(end.at), end.sequence)
	}
}

// once checks that no earlier vote of the ballot stands in the way of a vote.
// Only the voter's own retraction makes room for another one.
func (a *auditor) once(sequence uint64, e domain.Event, b *ballot, v vote) bool {
	if len(b.votes) == 0 {
		return true
	}
	r, whom := a.tally.Register(), a.whom(v)
	canonical := r.Canonical(whom.ID)
	for _, other := range b.votes {
		otherID := a.whom(other).ID
		same := otherID == whom.ID
		switch {
		case other.id == v.id:
			a.mismatch(CheckOnce, sequence, "it has the id of event %d", other.sequence)
			return false
		case other.state == retracted:
		case same:
			a.mismatch(CheckOnce, sequence, "a second vote for %s (%s); the first is event %d", whom.ID, whom.Name, other.sequence)
			return false
		case r.Canonical(otherID) != canonical:
		case !a.wasUnderWay(sequence, e, a.merged[canonical], fmt.Sprintf("%s and %s were merged", otherID, whom.ID)):
			a.mismatch(CheckOnce, sequence, "a second vote for %s (%s), which has been one with %s since event %d; the first is event %d",
				whom.ID, whom.Name, otherID, a.merged[canonical].sequence, other.sequence)
			return false
		}
	}
	return true
}

func (a *auditor) vote(sequence uint64, e domain.Event, d domain.VoteCast) {
	if a.above(sequence, e) {
		return
	}
	at := a.window(sequence, d.CastAt, e.Time)
	s, registered := a.specialist(sequence, d.Specialist)
	channel, exists := a.channel(sequence, d.Channel)
	a.available(sequence, e, s)
	v := vote{sequence: sequence, id: binary.BigEndian.Uint64(e.ID[:]), castAt: at.UnixMilli(), specialist: a.number(s), channel: channel}
	b := a.ballots.of(d.Voter)
	v.forged = !a.once(sequence, e, b, v) || !registered || !exists
	b.votes = append(b.votes, v)
	c := a.tally.Register().Campaign()
	b.known = b.known || exists && c.Channels[channel].Identity != domain.NoIdentity
	b.active++
	if limit := c.VotesPerVoter; limit != 0 && int(b.active) > limit {
		a.mismatch(CheckLimit, sequence, "%d votes in force, %d are allowed", b.active, limit)
	}
	a.active(sequence, d.Active, b)
}

func (a *auditor) retraction(sequence uint64, e domain.Event, d domain.VoteRetracted) {
	if a.above(sequence, e) {
		return
	}
	a.window(sequence, d.RetractedAt, e.Time)
	a.channel(sequence, d.Channel)
	a.take(sequence, d.Voter, d.Specialist, d.Vote, retracted, d.Active)
}

func (a *auditor) annulment(sequence uint64, e domain.Event, d domain.VoteAnnulled) {
	switch {
	case !d.AfterClose && a.above(sequence, e), d.AfterClose && a.archived.sequence != 0:
		return
	case d.AfterClose && a.closed.sequence == 0:
		a.mismatch(CheckFence, sequence, "it is an annulment after the close, and there is no close below it")
	}
	if e.ID != domain.AnnulmentEventID(a.campaign, d.Vote.Sequence) {
		a.mismatch(CheckTaken, sequence, "its id is not that of an annulment of event %d", d.Vote.Sequence)
	}
	a.take(sequence, d.Voter, d.Specialist, d.Vote, annulled, d.Active)
}

// take removes a vote that must be in force and be the one that is described.
func (a *auditor) take(sequence uint64, voter domain.Pseudonym, specialist string, ref domain.VoteRef, by state, active int) {
	b := a.ballots.of(voter)
	b.active--
	i := slices.IndexFunc(b.votes, func(v vote) bool { return v.sequence == ref.Sequence })
	if i < 0 {
		a.mismatch(CheckTaken, sequence, "event %d is not a vote of this voter", ref.Sequence)
		return
	}
	v := &b.votes[i]
	if v.state != inForce {
		a.mismatch(CheckTaken, sequence, "event %d was taken away before", ref.Sequence)
		return
	}
	// Of a forged vote the channel may be none that could be compared.
	if a.whom(*v).ID != specialist || v.castAt != ref.CastAt.UnixMilli() || !v.forged && v.channel != a.channelIndex(ref.Channel) {
		a.mismatch(CheckTaken, sequence, "it does not describe event %d as it is", ref.Sequence)
	}
	v.state = by
	a.active(sequence, active, b)
}

// active checks the number that an event states.
func (a *auditor) active(sequence uint64, stated int, b *ballot) {
	if int(b.active) != stated {
		a.mismatch(CheckActive, sequence, "it states %d votes in force, the ballot has %d", stated, b.active)
	}
}

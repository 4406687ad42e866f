package domain

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// MaxBallotEvents bounds a ballot: no voter with whom something is wrong makes
// every decision on one ballot slower and slower.
const MaxBallotEvents = 1000

// Ballot is everything that one voter did in one campaign, in the order of the
// ledger. It is the consistency boundary. What holds at an earlier moment is
// the ballot before it: a prefix.
//
// A ballot is never changed in place, so that several goroutines may decide on
// the same one; the ledger then lets one of them win.
type Ballot []Entry

// Entry is one event of a ballot, as far as decisions need it.
type Entry struct {
	Sequence   uint64
	ID         uuid.UUID
	Specialist string
	Channel    string
	RecordedAt time.Time
	ActedAt    time.Time // when the voter, or the auditor, acted
	Digest     Digest
	Takes      uint64 // sequence of the vote that this entry takes away; 0 for a vote
	Annuls     bool   // an auditor's decision, not the voter's own
	AfterClose bool   // recorded above the fence by right
}

// Evolve is the ballot after one more event of the voter.
func (b Ballot) Evolve(sequence uint64, e Event) (Ballot, error) {
	entry, err := b.next(sequence, e)
	if err != nil {
		return nil, err
	}
	return append(slices.Clip(b), entry), nil
}

// Fold is the ballot after more events of the voter, each with its sequence. It
// copies the ballot once, however many there are.
func (b Ballot) Fold(n int, events iter.Seq2[uint64, Event]) (Ballot, error) {
	b = slices.Grow(slices.Clip(b), n)
	for sequence, e := range events {
		entry, err := b.next(sequence, e)
		if err != nil {
			return nil, err
		}
		b = append(b, entry)
	}
	return b, nil
}

// next is the entry of an event that follows the ballot.
func (b Ballot) next(sequence uint64, e Event) (Entry, error) {
	if n := len(b); n > 0 && sequence <= b[n-1].Sequence {
		return Entry{}, fmt.Errorf("event %d after event %d: events are folded in order", sequence, b[n-1].Sequence)
	}
	entry := Entry{Sequence: sequence, ID: e.ID, RecordedAt: e.Time, ActedAt: e.Time}
	switch d := e.Data.(type) {
	case VoteCast:
		entry.Specialist, entry.Channel, entry.Digest = d.Specialist, d.Channel, d.Digest
		entry.ActedAt = statedOr(d.CastAt, e.Time)
	case VoteRetracted:
		entry.Specialist, entry.Channel, entry.Digest = d.Specialist, d.Channel, d.Digest
		entry.Takes, entry.ActedAt = d.Vote.Sequence, statedOr(d.RetractedAt, e.Time)
	case VoteAnnulled:
		entry.Specialist, entry.Channel = d.Specialist, d.Vote.Channel
		entry.Takes, entry.Annuls, entry.AfterClose = d.Vote.Sequence, true, d.AfterClose
	default:
		return Entry{}, fmt.Errorf("event %d: %s is not an event of a ballot", sequence, e.Data.kind())
	}
	return entry, nil
}

// statedOr is when a voter acted: as stated, else when it was recorded.
func statedOr(stated, recorded time.Time) time.Time {
	if stated.IsZero() {
		return recorded
	}
	return stated
}

// Before is the ballot as it was before sequence.
func (b Ballot) Before(sequence uint64) Ballot {
	for i, e := range b {
		if e.Sequence >= sequence {
			return b[:i]
		}
	}
	return b
}

// Find is the entry with an event id.
func (b Ballot) Find(id uuid.UUID) (Entry, bool) {
	i := slices.IndexFunc(b, func(e Entry) bool { return e.ID == id })
	if i < 0 {
		return Entry{}, false
	}
	return b[i], true
}

// At is the entry at a sequence.
func (b Ballot) At(sequence uint64) (Entry, bool) {
	i := slices.IndexFunc(b, func(e Entry) bool { return e.Sequence == sequence })
	if i < 0 {
		return Entry{}, false
	}
	return b[i], true
}

// Active counts the votes that are in force. An event that takes away what is
// not there, as only a forgery does, changes nothing: the voter's next vote must
// not be spoiled by it.
func (b Ballot) Active() int {
	var inForce []uint64
	for _, e := range b {
		if e.Takes == 0 {
			inForce = append(inForce, e.Sequence)
		} else if i := slices.Index(inForce, e.Takes); i >= 0 {
			inForce = slices.Delete(inForce, i, i+1)
		}
	}
	return len(inForce)
}

// Counting is the ballot without what the fence makes void. Specialists and
// channels are not looked at: the register may be older than the ballot.
func (b Ballot) Counting(c *Campaign) Ballot {
	void := func(e Entry) bool { return e.Void(c) }
	if !slices.ContainsFunc(b, void) {
		return b
	}
	return slices.DeleteFunc(slices.Clone(b), void)
}

// Void says whether the entry counts for nothing, by the rule of Tally.Apply: an
// annulment after the close lies above the fence by right.
func (e Entry) Void(c *Campaign) bool {
	if e.AfterClose {
		return c.VoidAnnulment(e.Sequence, e.Takes)
	}
	return c.Void(e.Sequence)
}

// about is the part of the ballot that is about a specialist, under any of the
// ids that count for the same one.
func (b Ballot) about(r *Register, specialist string) Ballot {
	canonical := r.Canonical(specialist)
	var about Ballot
	for _, e := range b {
		if r.Canonical(e.Specialist) == canonical {
			about = append(about, e)
		}
	}
	return about
}

// of is one vote and what took it away.
func (b Ballot) of(vote uint64) Ballot {
	var of Ballot
	for _, e := range b {
		if e.Sequence == vote || e.Takes == vote {
			of = append(of, e)
		}
	}
	return of
}

// Taker is the entry that took a vote away, the voter's retraction or an
// auditor's annulment.
func (b Ballot) Taker(vote uint64) (Entry, bool) {
	i := slices.IndexFunc(b, func(e Entry) bool { return e.Takes == vote && vote != 0 })
	if i < 0 {
		return Entry{}, false
	}
	return b[i], true
}

// vote is the latest vote in force.
func (b Ballot) vote() (Entry, bool) {
	for i, e := range slices.Backward(b) {
		taken := func(later Entry) bool { return later.Takes == e.Sequence }
		if e.Takes == 0 && !slices.ContainsFunc(b[i+1:], taken) {
			return e, true
		}
	}
	return Entry{}, false
}

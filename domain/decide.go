package domain

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// MaxClockSkew is how far in the future a stated time may lie, because clocks
// differ.
const MaxClockSkew = 5 * time.Minute

// Submission is a voter's command as Decide needs it: the identity is replaced
// by the pseudonym, and the time of recording is given.
type Submission struct {
	Action     Action
	Voter      Pseudonym
	Specialist string
	Vote       uint64 // a retraction may name the vote by its sequence instead of the specialist; else 0
	Channel    string
	ID         string    // the channel's own id of the submission, never empty
	At         time.Time // when the voter acted, where the channel states it; else zero
	RecordedAt time.Time // Timestamp of now
}

// EventID is the id of the event that the submission becomes.
func (s Submission) EventID(campaign string) uuid.UUID {
	return SubmissionEventID(campaign, s.Channel, s.Voter, s.ID, s.Action)
}

// Decision is the answer to a command that is not refused: either a new event
// to record, or the place where the same command was recorded before.
type Decision struct {
	Event    Event
	Recorded uint64 // sequence, 0 when Event is to be recorded
}

// Decide says what becomes of a submission, given everything that the voter
// did before; what lies above the fence is passed over. A refusal comes as
// *Refusal; any other error means that the submission is malformed.
func Decide(r *Register, b Ballot, s Submission) (Decision, error) {
	c := r.Campaign()
	b = b.Counting(c)
	if s.Vote != 0 && s.Action == Retract {
		vote, ok := b.At(s.Vote)
		if !ok || vote.Takes != 0 {
			return Decision{}, refuse(UnknownVote)
		}
		s.Specialist = vote.Specialist
	}
	if err := s.Validate(); err != nil {
		return Decision{}, err
	}
	id, digest := s.EventID(c.ID), SubmissionDigest(s.Specialist, s.At)
	if earlier, ok := b.Find(id); ok {
		if earlier.Digest != digest || s.Vote != 0 && earlier.Takes != s.Vote {
			return Decision{}, &Refusal{Code: IdempotencyMismatch, Sequence: earlier.Sequence}
		}
		return Decision{Recorded: earlier.Sequence}, nil
	}
	if refusal := admissible(r, s); refusal != nil {
		return Decision{}, refusal
	}
	var data Payload
	var refusal *Refusal
	if s.Action == Vote {
		data, refusal = decideVote(r, b, s, digest)
	} else {
		data, refusal = decideRetraction(r, b, s, digest)
	}
	if refusal != nil {
		return Decision{}, refusal
	}
	return Decision{Event: Event{ID: id, Campaign: c.ID, Time: s.RecordedAt, Data: data}}, nil
}

// admissible checks what does not depend on the ballot.
func admissible(r *Register, s Submission) *Refusal {
	c := r.Campaign()
	if c.Status != StatusOpen {
		return &Refusal{Code: ClosedCampaign, Sequence: c.ClosedAt}
	}
	if _, ok := c.Channel(s.Channel); !ok {
		return refuse(ChannelNotAccepted)
	}
	if _, ok := r.Specialist(s.Specialist); !ok {
		return refuse(UnknownSpecialist)
	}
	at := s.At
	if at.IsZero() {
		at = s.RecordedAt
	}
	switch {
	case at.After(s.RecordedAt.Add(MaxClockSkew)):
		return refuse(CastInFuture)
	case at.Before(c.OpensAt):
		return refuse(TooEarly)
	case !at.Before(c.ClosesAt):
		return refuse(TooLate)
	}
	return nil
}

func decideVote(r *Register, b Ballot, s Submission, digest Digest) (Payload, *Refusal) {
	about := b.about(r, s.Specialist)
	if vote, ok := about.vote(); ok {
		return nil, &Refusal{Code: AlreadyVoted, Sequence: vote.Sequence}
	}
	// An annulled vote keeps its place: only the voter's own retraction makes
	// room for another vote for the same specialist.
	if i := slices.IndexFunc(about, func(e Entry) bool { return e.Annuls }); i >= 0 {
		return nil, &Refusal{Code: AlreadyVoted, Sequence: about[i].Sequence}
	}
	if sp, _ := r.Specialist(s.Specialist); sp.Withdrawn || sp.MergedInto != "" {
		return nil, refuse(WithdrawnSpecialist)
	}
	active := b.Active()
	if limit := r.Campaign().VotesPerVoter; limit != 0 && active >= limit || len(b) >= MaxBallotEvents {
		return nil, refuse(VoteLimitReached)
	}
	return VoteCast{Voter: s.Voter, Specialist: s.Specialist, Channel: s.Channel,
		CastAt: s.At, Digest: digest, Active: active + 1}, nil
}

func decideRetraction(r *Register, b Ballot, s Submission, digest Digest) (Payload, *Refusal) {
	about := b.about(r, s.Specialist)
	if s.Vote != 0 {
		about = about.of(s.Vote)
	}
	vote, ok := about.vote()
	if !ok {
		if n := len(about); n > 0 && !about[n-1].Annuls {
			return nil, &Refusal{Code: AlreadyRetracted, Sequence: about[n-1].Sequence}
		}
		return nil, refuse(UnknownVote)
	}
	return VoteRetracted{Voter: s.Voter, Specialist: vote.Specialist, Channel: s.Channel,
		RetractedAt: s.At, Vote: vote.ref(), Digest: digest, Active: b.Active() - 1}, nil
}

func (e Entry) ref() VoteRef {
	return VoteRef{Sequence: e.Sequence, Channel: e.Channel, CastAt: e.ActedAt}
}

// Validate says whether the submission is well formed.
func (s Submission) Validate() error {
	if _, err := ParseAction(string(s.Action)); err != nil {
		return err
	}
	switch {
	case s.RecordedAt.IsZero():
		return fmt.Errorf("submission without a time of recording")
	case s.Vote != 0 && s.Action != Retract:
		return fmt.Errorf("only a retraction names a vote by its sequence")
	}
	return firstError(ValidateSpecialistID(s.Specialist), ValidateChannelName(s.Channel),
		ValidateSubmissionID(s.ID), validTime("time of recording", s.RecordedAt), validTime("stated time", s.At))
}

// Annulment is an auditor's command to remove one vote.
type Annulment struct {
	Voter      Pseudonym
	Vote       uint64 // sequence
	Decision   string // reference of the published decision
	Reason     string
	RecordedAt time.Time
}

// DecideAnnulment says what becomes of an annulment. The vote must be in force;
// an annulment that is recorded already is found again. It is possible until
// the campaign is archived.
func DecideAnnulment(r *Register, b Ballot, a Annulment) (Decision, error) {
	c := r.Campaign()
	b = b.Counting(c)
	id := AnnulmentEventID(c.ID, a.Vote)
	if earlier, ok := b.Find(id); ok {
		return Decision{Recorded: earlier.Sequence}, nil
	}
	if c.Status == StatusArchived {
		return Decision{}, &Refusal{Code: ClosedCampaign, Sequence: c.ArchivedAt}
	}
	var vote Entry
	for _, e := range b {
		switch {
		case e.Sequence == a.Vote && e.Takes == 0:
			vote = e
		case e.Takes == a.Vote && e.Takes != 0:
			return Decision{}, &Refusal{Code: AlreadyRetracted, Sequence: e.Sequence}
		}
	}
	if vote.Sequence == 0 {
		return Decision{}, refuse(UnknownVote)
	}
	return Decision{Event: Event{ID: id, Campaign: c.ID, Time: a.RecordedAt, Data: VoteAnnulled{
		Voter: a.Voter, Specialist: vote.Specialist, Vote: vote.ref(), Decision: a.Decision, Reason: a.Reason,
		Active: b.Active() - 1, AfterClose: c.Status != StatusOpen,
	}}}, nil
}

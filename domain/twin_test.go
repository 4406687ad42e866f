package domain_test

import (
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/domain"
)

// twin is a campaign kept the dumb way: a list of votes, looked through as a
// whole whenever something is asked. It knows the rules from the design, not
// from the package.
type twin struct {
	votes       map[uint64]*twinVote // by sequence; void ones are not in it
	accepted    map[uuid.UUID]twinEvent
	affiliation map[string]domain.Affiliation
	withdrawn   map[string]bool
	into        map[string]string
	channels    map[string]bool
	closed      bool
	archived    bool
	void        int64
	decided     map[domain.Award]domain.ResultsDecided // the newest ones
}

type twinVote struct {
	sequence    uint64
	voter       domain.Pseudonym
	specialist  string
	affiliation domain.Affiliation
	channel     string
	castAt      time.Time
	state       string // "in force", "retracted", "annulled"
	endedAt     uint64 // sequence of what changed the state
}

type twinEvent struct {
	sequence uint64
	digest   domain.Digest
}

func newTwin() twin {
	return twin{votes: make(map[uint64]*twinVote), accepted: make(map[uuid.UUID]twinEvent),
		affiliation: make(map[string]domain.Affiliation), withdrawn: make(map[string]bool),
		into: make(map[string]string), channels: make(map[string]bool), decided: make(map[domain.Award]domain.ResultsDecided)}
}

func (w *twin) fold(sequence uint64, e domain.Event) {
	switch d := e.Data.(type) {
	case domain.SpecialistRegistered, domain.SpecialistUpdated, domain.SpecialistWithdrawn, domain.SpecialistMerged:
		if w.archived {
			w.void++
		} else {
			w.specialist(e)
		}
	case domain.CampaignOpened:
		w.addChannels(d.Channels)
	case domain.CampaignAmended:
		w.addChannels(d.AddChannels)
	case domain.CampaignClosed:
		w.closed = true
	case domain.CampaignArchived:
		w.archived = true
	case domain.ResultsDecided:
		w.decided[d.Award] = d
	case domain.VoteCast:
		w.cast(sequence, e, d)
	case domain.VoteRetracted:
		if w.end(sequence, d.Vote.Sequence, "retracted", w.closed) {
			w.accepted[e.ID] = twinEvent{sequence, d.Digest}
		}
	case domain.VoteAnnulled:
		w.end(sequence, d.Vote.Sequence, "annulled", w.closed && !d.AfterClose)
	}
}

func (w *twin) specialist(e domain.Event) {
	switch d := e.Data.(type) {
	case domain.SpecialistRegistered:
		w.affiliation[d.Specialist] = d.Affiliation()
	case domain.SpecialistUpdated:
		w.affiliation[d.Specialist] = d.Affiliation()
	case domain.SpecialistWithdrawn:
		w.withdrawn[d.Specialist] = true
	case domain.SpecialistMerged:
		if w.canonical(d.Into) != d.Specialist {
			w.into[d.Specialist] = d.Into
		}
	}
}

func (w *twin) addChannels(channels []domain.Channel) {
	for _, ch := range channels {
		w.channels[ch.Name] = true
	}
}

func (w *twin) cast(sequence uint64, e domain.Event, d domain.VoteCast) {
	where, registered := w.affiliation[d.Specialist]
	if w.closed || !registered || !w.channels[d.Channel] {
		w.void++
		return
	}
	v := &twinVote{sequence: sequence, voter: d.Voter, specialist: d.Specialist, affiliation: where,
		channel: d.Channel, castAt: d.CastAt, state: "in force"}
	if v.castAt.IsZero() {
		v.castAt = e.Time
	}
	w.votes[sequence] = v
	w.accepted[e.ID] = twinEvent{sequence, d.Digest}
}

// end says whether the vote was in force.
func (w *twin) end(sequence, vote uint64, state string, void bool) bool {
	v, ok := w.votes[vote]
	if void || !ok {
		w.void++
		return false
	}
	v.state, v.endedAt = state, sequence
	return true
}

func (w *twin) inForce() []*twinVote {
	var list []*twinVote
	for _, v := range w.votes {
		if v.state == "in force" {
			list = append(list, v)
		}
	}
	return list
}

func (w *twin) canonical(id string) string {
	for w.into[id] != "" {
		id = w.into[id]
	}
	return id
}

// verdict is the code with which a submission is to be refused, or the event
// as which it was recorded before, or nothing.
func (w *twin) verdict(c *domain.Campaign, s domain.Submission) (domain.Code, uint64) {
	if before, ok := w.accepted[s.EventID(campaignID)]; ok {
		if before.digest != domain.SubmissionDigest(s.Specialist, s.At) {
			return domain.IdempotencyMismatch, 0
		}
		return "", before.sequence
	}
	acted := s.At
	if acted.IsZero() {
		acted = s.RecordedAt
	}
	_, registered := w.affiliation[s.Specialist]
	switch {
	case w.closed:
		return domain.ClosedCampaign, 0
	case !w.channels[s.Channel]:
		return domain.ChannelNotAccepted, 0
	case !registered:
		return domain.UnknownSpecialist, 0
	case acted.Sub(s.RecordedAt) > 5*time.Minute:
		return domain.CastInFuture, 0
	case acted.Before(c.OpensAt):
		return domain.TooEarly, 0
	case !acted.Before(c.ClosesAt):
		return domain.TooLate, 0
	}
	return w.ballotVerdict(c.VotesPerVoter, s), 0
}

func (w *twin) ballotVerdict(limit int, s domain.Submission) domain.Code {
	active := 0
	state := make(map[string]bool) // of the voter's votes for the specialist
	var last twinVote              // the one of these that ended last
	for _, v := range w.votes {
		if v.voter != s.Voter {
			continue
		}
		if v.state == "in force" {
			active++
		}
		if w.canonical(v.specialist) == w.canonical(s.Specialist) {
			state[v.state] = true
			if v.endedAt > last.endedAt {
				last = *v
			}
		}
	}
	switch {
	case s.Action == domain.Retract && state["in force"]:
		return ""
	case s.Action == domain.Retract && last.state == "retracted":
		return domain.AlreadyRetracted
	case s.Action == domain.Retract:
		return domain.UnknownVote
	case state["in force"] || state["annulled"]:
		return domain.AlreadyVoted
	case w.withdrawn[s.Specialist] || w.into[s.Specialist] != "":
		return domain.WithdrawnSpecialist
	case limit != 0 && active >= limit:
		return domain.VoteLimitReached
	}
	return ""
}

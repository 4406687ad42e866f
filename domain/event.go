package domain

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Event is one entry of the ledger, decoded.
type Event struct {
	ID       uuid.UUID
	Campaign string
	Time     time.Time // recorded_at: UTC, to the millisecond, set by intake
	Data     Payload
}

// Payload is what an event says. The set is closed: its kinds are in the list
// payloads of codec.go.
type Payload interface {
	kind() string                   // "vote.cast.v1": the type without its prefix
	subject(campaign string) string // where it belongs
	validate() error                // of the payload alone
}

// CampaignOpened is the first event of every ledger.
type CampaignOpened struct {
	Title         string    `json:"title"`
	OpensAt       time.Time `json:"opens_at"`
	ClosesAt      time.Time `json:"closes_at"`
	Timezone      string    `json:"timezone"`
	Channels      []Channel `json:"channels"`
	VotesPerVoter int       `json:"votes_per_voter"` // 0 means no limit
	KeyID         string    `json:"key_id"`          // PseudonymKey.ID
}

// CampaignAmended loosens a campaign's rules. What is left out stays.
type CampaignAmended struct {
	Title         string    `json:"title,omitzero"`
	OpensAt       time.Time `json:"opens_at,omitzero"`
	ClosesAt      time.Time `json:"closes_at,omitzero"`
	VotesPerVoter *int      `json:"votes_per_voter,omitzero"`
	AddChannels   []Channel `json:"add_channels,omitempty"`
	Reason        string    `json:"reason,omitzero"`
}

// CampaignClosed is the fence: events of voters above it are void.
type CampaignClosed struct {
	Reason string `json:"reason,omitzero"`
}

// CampaignArchived ends corrections: annulments above it are void.
type CampaignArchived struct{}

// SpecialistRegistered makes a specialist known; votes may follow.
type SpecialistRegistered struct {
	Specialist string `json:"specialist_id"`
	Profile
}

// SpecialistUpdated replaces the profile. Votes keep the affiliation that was
// in force when they were recorded.
type SpecialistUpdated struct {
	Specialist string `json:"specialist_id"`
	Profile
}

// SpecialistWithdrawn ends voting for a specialist. Votes so far stay.
type SpecialistWithdrawn struct {
	Specialist string `json:"specialist_id"`
	Reason     string `json:"reason,omitzero"`
}

// SpecialistMerged says that a specialist was registered twice; what counted
// for it counts for Into from here on.
type SpecialistMerged struct {
	Specialist string `json:"specialist_id"`
	Into       string `json:"into"`
	Decision   string `json:"decision"`
}

// VoteCast is one vote.
type VoteCast struct {
	Voter      Pseudonym `json:"voter"`
	Specialist string    `json:"specialist_id"`
	Channel    string    `json:"channel"`
	CastAt     time.Time `json:"cast_at,omitzero"` // where it was stated; else the event's time
	Digest     Digest    `json:"digest"`
	Active     int       `json:"active"` // the ballot's active votes after this event
}

// VoteRef names a vote and what a count needs to take it back without knowing
// the ballot.
type VoteRef struct {
	Sequence uint64    `json:"sequence"`
	Channel  string    `json:"channel"`
	CastAt   time.Time `json:"cast_at"`
}

// VoteRetracted takes the voter's own active vote back.
type VoteRetracted struct {
	Voter       Pseudonym `json:"voter"`
	Specialist  string    `json:"specialist_id"`
	Channel     string    `json:"channel"`
	RetractedAt time.Time `json:"retracted_at,omitzero"` // where it was stated; else the event's time
	Vote        VoteRef   `json:"vote"`
	Digest      Digest    `json:"digest"`
	Active      int       `json:"active"`
}

// VoteAnnulled removes a vote under a published decision. The voter cannot
// vote for that specialist again. After the close it lies on a subject of its
// own, because voters' subjects end at the fence.
type VoteAnnulled struct {
	Voter      Pseudonym `json:"voter"`
	Specialist string    `json:"specialist_id"`
	Vote       VoteRef   `json:"vote"`
	Decision   string    `json:"decision"`
	Reason     string    `json:"reason"`
	Active     int       `json:"active"`
	AfterClose bool      `json:"after_close,omitzero"`
}

// ResultsDecided says who of those who tie at the boundary of an award gets it.
// It is about exactly these and so many places: if others tie later, or there
// are more places or fewer, it chooses nobody.
type ResultsDecided struct {
	Award    Award       `json:"award"`
	Places   int         `json:"places"` // that are left for all who tie
	Winners  []Candidate `json:"winners"`
	Others   []Candidate `json:"others,omitempty"` // who tie and do not get it
	Decision string      `json:"decision"`
	Reason   string      `json:"reason"`
}

// ResultsCertified binds results to a place in the ledger. LogSize and LogRoot
// name the Merkle tree at that place where there is one. A correction names
// the sequence of the certification that it supersedes. With the award rule,
// where there is one, anybody can say who is honoured: see Tally.Awards.
type ResultsCertified struct {
	Sequence    uint64     `json:"sequence"` // the results are those of events 1 to Sequence
	AwardRule   *AwardRule `json:"award_rule,omitzero"`
	TallyDigest string     `json:"tally_digest"`
	LogSize     uint64     `json:"log_size,omitzero"`
	LogRoot     string     `json:"log_root,omitzero"`
	Supersedes  uint64     `json:"supersedes,omitzero"`
	Reason      string     `json:"reason,omitzero"`
}

// ResultsPublished lifts the embargo from certified results.
type ResultsPublished struct {
	Certified uint64 `json:"certified"` // sequence of the results.certified event
}

func (CampaignOpened) kind() string       { return "campaign.opened.v1" }
func (CampaignAmended) kind() string      { return "campaign.amended.v1" }
func (CampaignClosed) kind() string       { return "campaign.closed.v1" }
func (CampaignArchived) kind() string     { return "campaign.archived.v1" }
func (SpecialistRegistered) kind() string { return "specialist.registered.v1" }
func (SpecialistUpdated) kind() string    { return "specialist.updated.v1" }
func (SpecialistWithdrawn) kind() string  { return "specialist.withdrawn.v1" }
func (SpecialistMerged) kind() string     { return "specialist.merged.v1" }
func (VoteCast) kind() string             { return "vote.cast.v1" }
func (VoteRetracted) kind() string        { return "vote.retracted.v1" }
func (VoteAnnulled) kind() string         { return "vote.annulled.v1" }
func (ResultsDecided) kind() string       { return "results.decided.v1" }
func (ResultsCertified) kind() string     { return "results.certified.v1" }
func (ResultsPublished) kind() string     { return "results.published.v1" }

func (d CampaignOpened) validate() error {
	if err := validateText("title", d.Title, MaxTextBytes, false); err != nil {
		return err
	}
	switch {
	case d.OpensAt.IsZero() || d.ClosesAt.IsZero():
		return fmt.Errorf("opens_at and closes_at are needed")
	case !d.OpensAt.Before(d.ClosesAt):
		return fmt.Errorf("opens_at (%s) must be before closes_at (%s)", FormatTime(d.OpensAt), FormatTime(d.ClosesAt))
	case len(d.Channels) == 0 || len(d.Channels) > MaxChannels:
		return fmt.Errorf("%d channels, need 1 to %d", len(d.Channels), MaxChannels)
	case len(d.KeyID) != 16:
		return fmt.Errorf("key_id has %d characters instead of 16", len(d.KeyID))
	}
	if err := validateChannels(d.Channels); err != nil {
		return err
	}
	return firstError(
		validateText("timezone", d.Timezone, MaxTextBytes, true),
		validTime("opens_at", d.OpensAt), validTime("closes_at", d.ClosesAt),
		validVotesPerVoter(d.VotesPerVoter))
}

func (d CampaignAmended) validate() error {
	if d.VotesPerVoter != nil {
		if err := validVotesPerVoter(*d.VotesPerVoter); err != nil {
			return err
		}
	}
	return firstError(
		validateText("title", d.Title, MaxTextBytes, false),
		validateText("reason", d.Reason, MaxTextBytes, false),
		validTime("opens_at", d.OpensAt), validTime("closes_at", d.ClosesAt),
		validateChannels(d.AddChannels),
	)
}

func validVotesPerVoter(n int) error {
	if n < 0 || n > MaxVotesPerVoter {
		return fmt.Errorf("votes_per_voter is %d, use 0 (no limit) to %d", n, MaxVotesPerVoter)
	}
	return nil
}

func validateChannels(channels []Channel) error {
	for i, ch := range channels {
		if err := ValidateChannelName(ch.Name); err != nil {
			return err
		}
		if _, err := ParseIdentity(string(ch.Identity)); err != nil {
			return fmt.Errorf("channel %s: %w", ch.Name, err)
		}
		if slices.ContainsFunc(channels[:i], func(other Channel) bool { return other.Name == ch.Name }) {
			return fmt.Errorf("channel %s is named twice", ch.Name)
		}
	}
	return nil
}

func (d CampaignClosed) validate() error {
	return validateText("reason", d.Reason, MaxTextBytes, false)
}
func (CampaignArchived) validate() error { return nil }

func (d SpecialistRegistered) validate() error {
	return firstError(ValidateSpecialistID(d.Specialist), d.Profile.Validate())
}

func (d SpecialistUpdated) validate() error {
	return firstError(ValidateSpecialistID(d.Specialist), d.Profile.Validate())
}

func (d SpecialistWithdrawn) validate() error {
	return firstError(ValidateSpecialistID(d.Specialist), validateText("reason", d.Reason, MaxTextBytes, false))
}

func (d SpecialistMerged) validate() error {
	if d.Specialist == d.Into {
		return fmt.Errorf("specialist %s is merged into itself", d.Specialist)
	}
	return firstError(ValidateSpecialistID(d.Specialist), ValidateSpecialistID(d.Into),
		validateText("decision", d.Decision, MaxDecisionRefBytes, true))
}

func (d VoteCast) validate() error {
	if d.Active < 1 {
		return fmt.Errorf("active is %d after a vote", d.Active)
	}
	return firstError(validVoter(d.Voter), ValidateSpecialistID(d.Specialist), validChannelRef(d.Channel), validTime("cast_at", d.CastAt))
}

func (d VoteRetracted) validate() error {
	if d.Active < 0 {
		return fmt.Errorf("active is %d", d.Active)
	}
	return firstError(validVoter(d.Voter), ValidateSpecialistID(d.Specialist), validChannelRef(d.Channel),
		validTime("retracted_at", d.RetractedAt), d.Vote.validate())
}

func (d VoteAnnulled) validate() error {
	if d.Active < 0 {
		return fmt.Errorf("active is %d", d.Active)
	}
	return firstError(validVoter(d.Voter), ValidateSpecialistID(d.Specialist), d.Vote.validate(),
		validateText("decision", d.Decision, MaxDecisionRefBytes, true),
		validateText("reason", d.Reason, MaxTextBytes, true))
}

func (v VoteRef) validate() error {
	if v.Sequence == 0 || v.CastAt.IsZero() {
		return fmt.Errorf("vote: sequence and cast_at are needed")
	}
	return firstError(validChannelRef(v.Channel), validTime("vote.cast_at", v.CastAt))
}

func (d ResultsDecided) validate() error {
	if _, err := ParseAward(string(d.Award)); err != nil {
		return err
	}
	about := slices.Concat(d.Winners, d.Others)
	if len(d.Winners) == 0 || len(about) > MaxTied {
		return fmt.Errorf("%d winners of %d who tie, need at least 1 of at most %d", len(d.Winners), len(about), MaxTied)
	}
	if d.Places < 1 || d.Places > len(d.Winners) {
		return fmt.Errorf("%d winners for %d places, need at least as many as there are places", len(d.Winners), d.Places)
	}
	for i, c := range about {
		if err := c.validate(d.Award); err != nil {
			return err
		}
		if slices.Contains(about[:i], c) {
			return fmt.Errorf("%s is named twice", quote(c.String()))
		}
	}
	return firstError(validateText("decision", d.Decision, MaxDecisionRefBytes, true), validateText("reason", d.Reason, MaxTextBytes, true))
}

func (d ResultsCertified) validate() error {
	if d.Sequence == 0 || d.TallyDigest == "" {
		return fmt.Errorf("sequence and tally_digest are needed")
	}
	if d.AwardRule != nil {
		if err := d.AwardRule.Validate(); err != nil {
			return err
		}
	}
	return firstError(
		validateText("tally_digest", d.TallyDigest, MaxTextBytes, true),
		validateText("log_root", d.LogRoot, MaxTextBytes, false),
		validateText("reason", d.Reason, MaxTextBytes, false))
}

func (d ResultsPublished) validate() error {
	if d.Certified == 0 {
		return fmt.Errorf("certified is needed: the sequence of the certification")
	}
	return nil
}

// validVoter notices an event that leaves its voter out: JSON has no required
// members, and all who are left out would share one ballot.
func validVoter(p Pseudonym) error {
	if p == (Pseudonym{}) {
		return fmt.Errorf("voter is needed")
	}
	return nil
}

func validChannelRef(name string) error {
	if name == "" || len(name) > MaxChannelBytes {
		return fmt.Errorf("channel has %d bytes, need 1 to %d", len(name), MaxChannelBytes)
	}
	return nil
}

// validTime accepts a moment in UTC, to the millisecond.
func validTime(what string, t time.Time) error {
	if t.Location() != time.UTC || t.Nanosecond()%int(time.Millisecond) != 0 {
		return fmt.Errorf("%s must be in UTC and to the millisecond", what)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Timestamp is a moment as events hold it: UTC, to the millisecond.
func Timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// FormatTime writes a moment as people and files get it: RFC 3339, UTC, always
// with milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Kind is an event's type without the prefix that all have: "vote.cast.v1".
func Kind(e Event) string { return e.Data.kind() }

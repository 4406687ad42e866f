package domain

import (
	"fmt"
	"slices"
	"time"
)

// Identity says how a channel knows who votes.
type Identity string

const (
	// Verified: the channel has checked who the person is.
	Verified Identity = "verified"
	// Declared: the person has said who they are.
	Declared Identity = "declared"
	// NoIdentity: slips without a name. Every slip is its own voter; its votes
	// count, but not towards the number of voters.
	NoIdentity Identity = "none"
)

// ParseIdentity accepts "verified", "declared" and "none".
func ParseIdentity(s string) (Identity, error) {
	switch i := Identity(s); i {
	case Verified, Declared, NoIdentity:
		return i, nil
	}
	return "", fmt.Errorf("identity %s: use %q, %q or %q", quote(s), Verified, Declared, NoIdentity)
}

// Channel is a way by which submissions come in.
type Channel struct {
	Name     string   `json:"name"`
	Identity Identity `json:"identity"`
}

// Limits of a campaign.
const (
	MaxChannels      = 32
	MaxVotesPerVoter = 10_000
)

// Status is where a campaign is in its life. It only moves forward.
type Status string

// The life of a campaign: closing ends recording, certifying fixes the
// results, publishing lifts the embargo, archiving ends corrections.
const (
	StatusNone      Status = ""
	StatusOpen      Status = "open"
	StatusClosed    Status = "closed"
	StatusCertified Status = "certified"
	StatusPublished Status = "published"
	StatusArchived  Status = "archived"
)

// Campaign is what the events on a campaign's control subject say.
type Campaign struct {
	ID            string
	Title         string
	OpensAt       time.Time // the first moment at which a vote may be cast
	ClosesAt      time.Time // the first moment at which none may be cast any more
	Timezone      string    // IANA name; days of results are days there
	Channels      []Channel
	VotesPerVoter int    // most active votes in one ballot; 0 means no limit
	KeyID         string // PseudonymKey.ID of the campaign's key
	Status        Status
	ClosedAt      uint64 // sequence of campaign.closed, 0 while there is none: the fence
	Control       uint64 // sequence of the last event on the control subject

	channelSince []uint64 // of each channel: sequence of the event that added it
}

// Channel finds a channel by its name.
func (c *Campaign) Channel(name string) (Channel, bool) {
	i := slices.IndexFunc(c.Channels, func(ch Channel) bool { return ch.Name == name })
	if i < 0 {
		return Channel{}, false
	}
	return c.Channels[i], true
}

// channelAt is the index of a channel that existed below sequence.
func (c *Campaign) channelAt(name string, sequence uint64) (int, bool) {
	i := slices.IndexFunc(c.Channels, func(ch Channel) bool { return ch.Name == name })
	return i, i >= 0 && c.channelSince[i] < sequence
}

// Void says whether a voter's event at sequence lies above the fence. Such an
// event counts for nothing, whoever wrote it.
func (c *Campaign) Void(sequence uint64) bool {
	return c.ClosedAt != 0 && sequence > c.ClosedAt
}

// errorf names the campaign.
func (c *Campaign) errorf(format string, args ...any) error {
	return fmt.Errorf("campaign %s: %w", c.ID, fmt.Errorf(format, args...))
}

// apply moves the campaign on by one of its own events.
func (c *Campaign) apply(sequence uint64, e Event) error {
	if open, ok := e.Data.(CampaignOpened); ok {
		if c.Status != StatusNone {
			return c.errorf("opened a second time at sequence %d", sequence)
		}
		*c = Campaign{
			ID: e.Campaign, Title: open.Title, OpensAt: open.OpensAt, ClosesAt: open.ClosesAt,
			Timezone: open.Timezone, Channels: slices.Clone(open.Channels),
			VotesPerVoter: open.VotesPerVoter, KeyID: open.KeyID,
			Status: StatusOpen, Control: sequence,
			channelSince: slices.Repeat([]uint64{sequence}, len(open.Channels)),
		}
		return nil
	}
	if c.Status == StatusNone {
		return fmt.Errorf("campaign %s: %s at sequence %d before campaign.opened", e.Campaign, e.Data.kind(), sequence)
	}
	switch d := e.Data.(type) {
	case CampaignAmended:
		if err := c.CheckAmendment(d); err != nil {
			return err
		}
		c.amend(sequence, d)
	case CampaignClosed:
		if c.Status != StatusOpen {
			return c.errorf("closed at sequence %d though it was %s", sequence, c.Status)
		}
		c.Status, c.ClosedAt = StatusClosed, sequence
	case ResultsCertified:
		if c.Status == StatusOpen || c.Status == StatusArchived {
			return c.errorf("certified at sequence %d though it was %s", sequence, c.Status)
		}
		if c.Status == StatusClosed { // a correction leaves a later status as it is
			c.Status = StatusCertified
		}
	case ResultsPublished:
		if c.Status != StatusCertified {
			return c.errorf("published at sequence %d though it was %s", sequence, c.Status)
		}
		c.Status = StatusPublished
	case CampaignArchived:
		if c.Status != StatusPublished {
			return c.errorf("archived at sequence %d though it was %s", sequence, c.Status)
		}
		c.Status = StatusArchived
	default:
		return c.errorf("%s is not an event of a campaign", e.Data.kind())
	}
	c.Control = sequence
	return nil
}

// CheckAmendment says why an amendment is not possible. Amendments only
// loosen, see the package comment.
func (c *Campaign) CheckAmendment(a CampaignAmended) error {
	if err := a.validate(); err != nil {
		return c.errorf("%w", err)
	}
	switch {
	case c.Status != StatusOpen:
		return c.errorf("it is %s; only an open campaign can be amended", c.Status)
	case !a.OpensAt.IsZero() && a.OpensAt.After(c.OpensAt):
		return c.errorf("opens_at can only become earlier than %s", FormatTime(c.OpensAt))
	case !a.ClosesAt.IsZero() && a.ClosesAt.Before(c.ClosesAt):
		return c.errorf("closes_at can only become later than %s; to end a campaign sooner, close it", FormatTime(c.ClosesAt))
	case a.VotesPerVoter != nil && *a.VotesPerVoter != 0 && (c.VotesPerVoter == 0 || *a.VotesPerVoter < c.VotesPerVoter):
		return c.errorf("votes_per_voter can only be raised (now %d, where 0 is no limit)", c.VotesPerVoter)
	case len(c.Channels)+len(a.AddChannels) > MaxChannels:
		return c.errorf("at most %d channels are possible", MaxChannels)
	}
	for _, ch := range a.AddChannels {
		if _, ok := c.Channel(ch.Name); ok {
			return c.errorf("channel %s exists already", ch.Name)
		}
	}
	return nil
}

func (c *Campaign) amend(sequence uint64, a CampaignAmended) {
	if a.Title != "" {
		c.Title = a.Title
	}
	if !a.OpensAt.IsZero() {
		c.OpensAt = a.OpensAt
	}
	if !a.ClosesAt.IsZero() {
		c.ClosesAt = a.ClosesAt
	}
	if a.VotesPerVoter != nil {
		c.VotesPerVoter = *a.VotesPerVoter
	}
	c.Channels = append(slices.Clip(c.Channels), a.AddChannels...)
	c.channelSince = append(slices.Clip(c.channelSince), slices.Repeat([]uint64{sequence}, len(a.AddChannels))...)
}

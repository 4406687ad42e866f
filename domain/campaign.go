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
	ArchivedAt    uint64 // sequence of campaign.archived, 0 while there is none: the fence of all that the close lets pass
	Control       uint64 // sequence of the last event on the control subject

	Decisions      []Decided   // on ties, in their order
	Certifications []Certified // in their order; the last one is in force
	Published      []Published // in their order

	Public PublicResults // zero under the embargo

	channelSince []uint64 // of each channel: sequence of the event that added it
}

// Decided is a decision on a tie, and the sequence of its event.
type Decided struct {
	Event uint64
	ResultsDecided
}

// Certified is a certification, and the sequence of its event.
type Certified struct {
	Event uint64
	ResultsCertified
}

// Published says which certification was published, and by which event.
type Published struct {
	Event uint64
	ResultsPublished
}

// Certification is the newest certification, and false while there is none.
func (c *Campaign) Certification() (Certified, bool) { return last(c.Certifications) }

// Publication is the newest publication, and false while there is none. A
// certification that corrects a published one may be waiting for its own.
func (c *Campaign) Publication() (Published, bool) { return last(c.Published) }

// decision is the newest decision about an award.
func (c *Campaign) decision(a Award) (Decided, bool) {
	for _, d := range slices.Backward(c.Decisions) {
		if d.Award == a {
			return d, true
		}
	}
	return Decided{}, false
}

func last[T any](list []T) (T, bool) {
	if n := len(list); n > 0 {
		return list[n-1], true
	}
	var none T
	return none, false
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

// VoidAnnulment is Void for an annulment after the close, which counts if its
// vote does and if it lies below the archiving.
func (c *Campaign) VoidAnnulment(sequence, vote uint64) bool {
	return c.Void(vote) || c.Over(sequence)
}

// Over says whether an event at sequence lies above the archiving. Nothing
// counts there: no annulment, and nothing about a specialist.
func (c *Campaign) Over(sequence uint64) bool {
	return c.ArchivedAt != 0 && sequence > c.ArchivedAt
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
	case ResultsDecided:
		if c.Status == StatusOpen || c.Status == StatusArchived {
			return c.errorf("a tie was decided at sequence %d though it was %s", sequence, c.Status)
		}
		c.Decisions = append(slices.Clip(c.Decisions), Decided{sequence, d})
	case ResultsCertified:
		if c.Status == StatusOpen || c.Status == StatusArchived {
			return c.errorf("certified at sequence %d though it was %s", sequence, c.Status)
		}
		if c.Status == StatusClosed { // a correction leaves a later status as it is
			c.Status = StatusCertified
		}
		c.Certifications = append(slices.Clip(c.Certifications), Certified{sequence, d})
	case ResultsPublished:
		if c.Status != StatusCertified && !c.corrected() {
			return c.errorf("published at sequence %d though it was %s", sequence, c.Status)
		}
		c.Status = StatusPublished
		c.Published = append(slices.Clip(c.Published), Published{sequence, d})
		c.disclose(d.Certified)
	case CampaignArchived:
		if c.Status != StatusPublished {
			return c.errorf("archived at sequence %d though it was %s", sequence, c.Status)
		}
		c.Status, c.ArchivedAt = StatusArchived, sequence
	default:
		return c.errorf("%s is not an event of a campaign", e.Data.kind())
	}
	c.Control = sequence
	return nil
}

// corrected says that the results were certified anew since they were published.
func (c *Campaign) corrected() bool {
	published, _ := c.Publication()
	certified, _ := c.Certification()
	return c.Status == StatusPublished && certified.Event > published.Event
}

// CheckDecision says why a tie cannot be decided now. Who ties is not looked at:
// see Tally.DecideTie.
func (c *Campaign) CheckDecision(d ResultsDecided) error {
	if err := d.validate(); err != nil {
		return c.errorf("%w", err)
	}
	switch c.Status {
	case StatusOpen:
		return c.errorf("it is open; close it before a tie is decided")
	case StatusArchived:
		return c.errorf("it is archived; nothing can be decided any more")
	}
	return nil
}

// DecidedSo is the sequence of the newest decision about an award when it is
// this one.
func (c *Campaign) DecidedSo(d ResultsDecided) (uint64, bool) {
	newest, ok := c.decision(d.Award)
	same := ok && newest.Decision == d.Decision && newest.Reason == d.Reason && newest.Places == d.Places &&
		slices.Equal(newest.Winners, d.Winners) && slices.Equal(newest.Others, d.Others)
	return newest.Event, same
}

// CheckCertification says why results cannot be certified so. A certification
// after the first names the one that it corrects, and why.
func (c *Campaign) CheckCertification(d ResultsCertified) error {
	if err := d.validate(); err != nil {
		return c.errorf("%w", err)
	}
	newest, again := c.Certification()
	switch {
	case c.Status == StatusOpen:
		return c.errorf("it is open; close it before its results are certified")
	case c.Status == StatusArchived:
		return c.errorf("it is archived; nothing can be corrected any more")
	case d.Sequence < c.ClosedAt:
		return c.errorf("results as of event %d are not those of the close, event %d", d.Sequence, c.ClosedAt)
	case !again && d.Supersedes != 0:
		return c.errorf("nothing is certified that could be superseded")
	case again && d.Supersedes != newest.Event:
		return c.errorf("its results are certified by event %d; a correction must supersede that one", newest.Event)
	case again && d.Reason == "":
		return c.errorf("a correction needs a reason")
	case again && d.Sequence < newest.Event:
		return c.errorf("results as of event %d are older than the certification, event %d", d.Sequence, newest.Event)
	}
	return nil
}

// CheckPublication says why a certification cannot be published.
func (c *Campaign) CheckPublication(certified uint64) error {
	newest, ok := c.Certification()
	switch {
	case !ok:
		return c.errorf("it is %s; certify its results before they are published", c.Status)
	case c.Status == StatusArchived:
		return c.errorf("it is archived")
	case certified != newest.Event:
		return c.errorf("event %d is not the newest certification, that is event %d", certified, newest.Event)
	case c.Status == StatusPublished && !c.corrected():
		return c.errorf("the certification, event %d, is published", newest.Event)
	}
	return nil
}

// CheckArchiving says why a campaign cannot be archived.
func (c *Campaign) CheckArchiving() error {
	switch {
	case c.Status != StatusPublished:
		return c.errorf("it is %s; only a campaign whose results are published can be archived", c.Status)
	case c.corrected():
		newest, _ := c.Certification()
		return c.errorf("its results were corrected by event %d, which is not published", newest.Event)
	}
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

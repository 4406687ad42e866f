package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// ErrDigest says that the results that were certified are not those that the
// ledger gives.
var ErrDigest = errors.New("the certified results are not those of the ledger; run `paldies audit verify`")

// protocolPlaces is how many places a protocol lists, more where the last of
// them tie. A page has room for no more; `paldies results` has all.
const protocolPlaces = 10

// Protocol is a campaign on one page: what happened, what came of it, and how
// anybody can check it.
type Protocol struct {
	Campaign     string        `json:"campaign"`
	Title        string        `json:"title"`
	Status       domain.Status `json:"status"`
	Timezone     string        `json:"timezone"`
	OpensAt      time.Time     `json:"opens_at"`
	ClosesAt     time.Time     `json:"closes_at"`
	ClosedBy     uint64        `json:"closed_by,omitzero"` // sequence of campaign.closed
	ClosedAt     time.Time     `json:"closed_at,omitzero"` // when that was recorded
	AsOfSequence uint64        `json:"as_of_sequence"`
	AsOfTime     time.Time     `json:"as_of_time"`
	MadeAt       time.Time     `json:"made_at,omitzero"`
	TallyDigest  string        `json:"tally_digest"`

	Votes        VoteTotals     `json:"votes"`
	Channels     []ChannelVotes `json:"channels"`
	Annulments   []Annulments   `json:"annulments"`
	Decided      int            `json:"queue_outcomes,omitzero"` // submissions that were decided in the queue, refused or not
	Refusals     []Refused      `json:"refusals,omitzero"`       // of the queue; left out where nothing is known of them
	Specialists  []Place        `json:"specialists"`
	Institutions []Place        `json:"institutions"`
	// Certifications are in their order, and the last one is in force.
	Certifications []Certification `json:"certifications"`
	Published      uint64          `json:"published_by,omitzero"` // sequence of the newest results.published
	// ChangedBy is the last event that changed the results, or decided on a tie,
	// after the newest certification, or 0.
	ChangedBy uint64 `json:"changed_by,omitzero"`
	// Awards are by the rule of the newest certification, or null.
	Awards *Awards `json:"awards"`
	Log    *Log    `json:"log"` // null where nothing is signed

	zone *time.Location
}

// Reproducible says whether everything is as of the event, so that the same protocol
// can be made at any later time.
func (p *Protocol) Reproducible() bool { return p.MadeAt.IsZero() }

// KnowsRefusals says whether there is anything to say about refusals.
func (p *Protocol) KnowsRefusals() bool { return p.Refusals != nil }

// VoteTotals are the votes by what became of them.
type VoteTotals struct {
	Cast      int64 `json:"cast"`
	Active    int64 `json:"active"`
	Retracted int64 `json:"retracted"`
	Annulled  int64 `json:"annulled"`
	Void      int64 `json:"void"`
	Voters    int64 `json:"voters"`
}

// ChannelVotes are the active votes of a channel.
type ChannelVotes struct {
	Channel  string          `json:"channel"`
	Identity domain.Identity `json:"identity"`
	Votes    int64           `json:"votes"`
}

// Annulments are all under one decision.
type Annulments struct {
	Decision    string     `json:"decision"`
	Reasons     []string   `json:"reasons"`
	Votes       int64      `json:"votes"`
	First       uint64     `json:"first_sequence"`
	Last        uint64     `json:"last_sequence"`
	FirstAt     time.Time  `json:"first_at"`
	LastAt      time.Time  `json:"last_at"`
	Specialists []Affected `json:"specialists"` // those with most annulled votes first
}

// Affected is a specialist who lost votes under a decision: the votes just before
// the first of them was annulled and just after the last. Who was registered twice
// and merged is one, by the id under which the votes counted then.
type Affected struct {
	Specialist string `json:"specialist_id"`
	Name       string `json:"name"`
	Annulled   int64  `json:"annulled"`
	Before     int64  `json:"before"`
	After      int64  `json:"after"`
}

// Refused are submissions that the rules refused.
type Refused struct {
	Code        domain.Code `json:"code"`
	Submissions int         `json:"submissions"`
}

// Place is one line of the results. Rank 0 is not listed.
type Place struct {
	Rank        int    `json:"rank"`
	Specialist  string `json:"specialist_id,omitzero"`
	Name        string `json:"name,omitzero"`
	Institution string `json:"institution"`
	Branch      string `json:"branch,omitzero"`
	Votes       int64  `json:"votes"`
}

// Certification is one results.certified event.
type Certification struct {
	Event       uint64    `json:"event"`
	At          time.Time `json:"at"`
	Sequence    uint64    `json:"sequence"` // the results are those of events 1 to Sequence
	TallyDigest string    `json:"tally_digest"`
	LogSize     uint64    `json:"log_size,omitzero"`
	LogRoot     string    `json:"log_root,omitzero"`
	Supersedes  uint64    `json:"supersedes,omitzero"`
	Reason      string    `json:"reason,omitzero"`
	Public      bool      `json:"public"` // the published results are these
}

// Log is what was signed of the ledger.
type Log struct {
	Origin string   `json:"origin"`
	Size   uint64   `json:"size"`
	Root   string   `json:"root"` // base64
	Keys   []string `json:"keys"` // verifier keys; none where the log is on another computer
}

// ProtocolConfig is what the ledger does not say. All of it is of the moment of
// making; the zero value leaves it out.
type ProtocolConfig struct {
	// Outcomes counts those of the queue by code. Nil where there is no queue.
	Outcomes map[string]int
	Log      *Log // nil where nothing is signed
	Now      time.Time
}

// MakeProtocol reads the ledger, and twice where results are certified: they are
// counted again, and it is ErrDigest when they are others.
func MakeProtocol(ctx context.Context, s Source, c ProtocolConfig) (*Protocol, error) {
	f := protocolFold{count: new(count), protocol: new(Protocol), decisions: make(map[string]*decisionFold)}
	if err := s.replay(ctx, f.take); err != nil {
		return nil, err
	}
	if err := f.finish(); err != nil {
		return nil, err
	}
	p, tally := f.protocol, &f.tally
	if err := p.addResults(tally); err != nil {
		return nil, err
	}
	for _, certified := range tally.Register().Campaign().Certifications {
		counted, err := s.recount(ctx, certified)
		if err != nil {
			return nil, err
		}
		p.Awards = nil // by an earlier certification
		if certified.AwardRule == nil {
			continue
		}
		if p.Awards, err = awardsOf(counted, tally.Register(), *certified.AwardRule, certified.Event); err != nil {
			return nil, err
		}
	}
	if !c.Now.IsZero() {
		p.Log, p.MadeAt, p.Refusals = c.Log, domain.Timestamp(c.Now), refused(c.Outcomes)
		for _, n := range c.Outcomes {
			p.Decided += n
		}
	}
	return p, nil
}

// recount counts certified results again.
func (s Source) recount(ctx context.Context, c domain.Certified) (*domain.Tally, error) {
	if c.Sequence >= c.Event {
		return nil, fmt.Errorf("event %d: %w: it certifies up to event %d", c.Event, ErrDigest, c.Sequence)
	}
	s.Last = c.Sequence
	tally, err := s.tally(ctx)
	if err == nil && tally.Digest() != c.TallyDigest {
		err = fmt.Errorf("event %d: %w", c.Event, ErrDigest)
	}
	return tally, err
}

// tally counts and notes nothing else.
func (s Source) tally(ctx context.Context) (*domain.Tally, error) {
	t := new(domain.Tally)
	return t, s.replay(ctx, func(sequence uint64, e domain.Event) error {
		_, err := t.Apply(sequence, e)
		return err
	})
}

// refused sorts by code; what was accepted is no refusal.
func refused(outcomes map[string]int) []Refused {
	if outcomes == nil {
		return nil
	}
	list := []Refused{}
	for code, n := range outcomes {
		if (&domain.Refusal{Code: domain.Code(code)}).English() != "" {
			list = append(list, Refused{domain.Code(code), n})
		}
	}
	slices.SortFunc(list, func(a, b Refused) int { return cmp.Compare(a.Code, b.Code) })
	return list
}

// protocolFold is the first reading.
type protocolFold struct {
	*count
	protocol   *Protocol
	decisions  map[string]*decisionFold
	merged     map[string][]string // ids whose votes count under one, as far as they were asked for since the last merge
	lastChange uint64              // of the results or of who is honoured
}

// decisionFold are the annulments of a decision, as far as they were read.
type decisionFold struct {
	Annulments
	affected map[string]*Affected
}

func (f *protocolFold) take(sequence uint64, e domain.Event) error {
	delta, err := f.tally.Apply(sequence, e)
	if err != nil {
		return err
	}
	f.note(sequence, e, delta)
	if delta.Votes != 0 {
		f.lastChange = sequence
	}
	p := f.protocol
	switch d := e.Data.(type) {
	case domain.VoteAnnulled:
		if !delta.Void {
			f.annul(sequence, e.Time, d)
		}
	case domain.SpecialistRegistered, domain.SpecialistUpdated, domain.SpecialistWithdrawn, domain.SpecialistMerged, domain.ResultsDecided:
		if !delta.Void {
			f.lastChange, f.merged = sequence, nil
		}
	case domain.CampaignClosed:
		p.ClosedBy, p.ClosedAt = sequence, e.Time
	case domain.ResultsCertified:
		p.Certifications = append(p.Certifications, Certification{Event: sequence, At: e.Time, Sequence: d.Sequence, TallyDigest: d.TallyDigest,
			LogSize: d.LogSize, LogRoot: d.LogRoot, Supersedes: d.Supersedes, Reason: d.Reason})
	case domain.ResultsPublished:
		p.Published = sequence
	}
	return nil
}

func (f *protocolFold) annul(sequence uint64, at time.Time, d domain.VoteAnnulled) {
	under, ok := f.decisions[d.Decision]
	if !ok {
		under = &decisionFold{Annulments{Decision: d.Decision, First: sequence, FirstAt: at}, make(map[string]*Affected)}
		f.decisions[d.Decision] = under
	}
	under.Votes++
	under.Last, under.LastAt = sequence, at
	if !slices.Contains(under.Reasons, d.Reason) {
		under.Reasons = append(under.Reasons, d.Reason)
	}
	id := f.tally.Register().Canonical(d.Specialist)
	votes := f.votes(id)
	a, ok := under.affected[id]
	if !ok {
		a = &Affected{Specialist: id, Before: votes + 1}
		under.affected[id] = a
	}
	a.Annulled++
	a.After = votes
}

// votes are all that count under an id, with those of who was merged into it.
func (f *protocolFold) votes(canonical string) (sum int64) {
	ids, ok := f.merged[canonical]
	if !ok {
		register := f.tally.Register()
		for _, s := range register.Specialists() {
			if register.Canonical(s.ID) == canonical {
				ids = append(ids, s.ID)
			}
		}
		if f.merged == nil {
			f.merged = make(map[string][]string)
		}
		f.merged[canonical] = ids
	}
	for _, id := range ids {
		votes, _ := f.tally.Total(id)
		sum += votes
	}
	return sum
}

// finish says what is known at the end of the reading.
func (f *protocolFold) finish() error {
	if err := f.check(); err != nil {
		return err
	}
	c, p, t := f.tally.Register().Campaign(), f.protocol, f.totals
	p.Campaign, p.Title, p.Status, p.Timezone, p.zone = c.ID, c.Title, c.Status, c.Timezone, f.zone
	p.OpensAt, p.ClosesAt = c.OpensAt, c.ClosesAt
	p.AsOfSequence, p.AsOfTime, p.TallyDigest = f.tally.Position(), f.tally.AsOf(), f.tally.Digest()
	p.Votes = VoteTotals{t.Cast, t.Active, t.Retracted, t.Annulled, t.Void, t.Voters}
	p.Annulments = []Annulments{}
	for _, under := range f.decisions {
		for _, a := range under.affected {
			if s, ok := f.tally.Register().Specialist(a.Specialist); ok {
				a.Name = s.Name
			}
			under.Specialists = append(under.Specialists, *a)
		}
		slices.SortFunc(under.Specialists, func(a, b Affected) int {
			return cmp.Or(cmp.Compare(b.Annulled, a.Annulled), cmp.Compare(a.Specialist, b.Specialist))
		})
		p.Annulments = append(p.Annulments, under.Annulments)
	}
	slices.SortFunc(p.Annulments, func(a, b Annulments) int { return cmp.Compare(a.First, b.First) })
	for i := range p.Certifications {
		p.Certifications[i].Public = p.Certifications[i].Event == c.Public.Certification
	}
	if n := len(p.Certifications); n > 0 && f.lastChange > p.Certifications[n-1].Sequence {
		p.ChangedBy = f.lastChange
	}
	return nil
}

// addResults lists the best, and the votes of channels.
func (p *Protocol) addResults(t *domain.Tally) error {
	p.Specialists, p.Institutions, p.Channels = []Place{}, []Place{}, []ChannelVotes{}
	if p.Certifications == nil {
		p.Certifications = []Certification{}
	}
	for _, s := range t.Standings() {
		if s.Rank != 0 && s.Rank <= protocolPlaces && s.Votes > 0 {
			p.Specialists = append(p.Specialists, Place{Rank: s.Rank, Specialist: s.Specialist.ID, Name: s.Specialist.Name,
				Institution: s.Specialist.Institution, Branch: s.Specialist.Branch, Votes: s.Votes})
		}
	}
	institutions, err := t.Groups(domain.ByInstitution, p.zone)
	if err != nil {
		return err
	}
	for _, g := range institutions {
		if g.Rank <= protocolPlaces && g.Votes > 0 {
			p.Institutions = append(p.Institutions, Place{Rank: g.Rank, Institution: g.Keys[0], Votes: g.Votes})
		}
	}
	channels, err := t.Groups(domain.ByChannel, p.zone)
	if err != nil {
		return err
	}
	for _, g := range channels {
		ch, _ := t.Register().Campaign().Channel(g.Keys[0])
		p.Channels = append(p.Channels, ChannelVotes{Channel: ch.Name, Identity: ch.Identity, Votes: g.Votes})
	}
	return nil
}

package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// begin is when the campaigns open: the one of 2018 in Riga.
var begin = time.Date(2017, 11, 12, 22, 0, 0, 0, time.UTC)

// Profiles that specialists have, one after the other.
var profiles = []domain.Profile{
	{Name: "Zane Ģēģere", Position: "klientu apkalpošanas speciāliste", Institution: "Ziedoņu klientu centrs", Branch: "Gulbene", Region: "Vidzeme"},
	{Name: "Kaspars Ņukšs", Institution: "Ūdensrožu reģistrs", Branch: "Rēzekne", Region: "Latgale"},
	{Name: "Lāsma Čakāne", Institution: "Ūdensrožu reģistrs", Branch: "Ķekava", Region: "Rīga"},
	{Name: "Čakāne Lāsma", Institution: "Ziedoņu klientu centrs", Branch: "Cēsis", Region: "Vidzeme"},
	{Name: "Žanete Šķēle"},
	{Name: "", Institution: "Ēnu pārvalde"},
}

const (
	specialistsMax = 12 // of one campaign
	votersMax      = 24
	channelsMax    = 6
)

// Choose picks a number from 0 to n-1.
type Choose func(n int) int

// Draw chooses what rapid draws, so that a failing history gets shorter.
func Draw(t *rapid.T) Choose {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
}

// History is a campaign in the making. It decides as intake does, writes into
// a ledger, and folds everything into the oracle.
type History struct {
	Campaign string
	Ledger   *storetest.Memory
	Tally    domain.Tally // the oracle

	t       testing.TB
	codec   *domain.Codec
	clock   time.Time
	ballots map[domain.Pseudonym]domain.Ballot
	votes   []vote // every vote.cast, retracted ones too
	ids     int
}

type vote struct {
	sequence uint64
	voter    domain.Pseudonym
}

// NewHistory opens a campaign and registers three specialists. Histories of
// the same campaign begin with the same bytes.
func NewHistory(t testing.TB, campaign string) *History {
	t.Helper()
	return newHistory(t, campaign, 0)
}

// newHistory gives its events the ids behind some number.
func newHistory(t testing.TB, campaign string, ids int) *History {
	t.Helper()
	h := &History{Campaign: campaign, t: t, ids: ids, codec: Codec(t), clock: begin, ballots: make(map[domain.Pseudonym]domain.Ballot),
		Ledger: storetest.NewMemory(t, domain.ControlSubject(campaign))}
	h.Record(domain.CampaignOpened{Title: "Laba servisa kustība", OpensAt: begin, ClosesAt: begin.AddDate(1, 0, 0), Timezone: "Europe/Riga",
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "in_person", Identity: domain.NoIdentity}},
		KeyID:    domain.PseudonymKey{}.ID()})
	for range 3 {
		h.register()
	}
	return h
}

// Codec knows all events of this program.
func Codec(t rapid.TB, upcasters ...domain.Upcaster) *domain.Codec {
	t.Helper()
	codec, err := domain.NewCodec(upcasters...)
	check(t, err)
	return codec
}

func check(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Last is the sequence of the last event.
func (h *History) Last() uint64 { return h.Tally.Position() }

// Events are all events.
func (h *History) Events() (events []eventstore.Recorded) {
	h.t.Helper()
	check(h.t, h.Ledger.Replay(context.Background(), 1, 0, func(batch []eventstore.Recorded) error {
		events = append(events, batch...)
		return nil
	}))
	return events
}

// Record records what nobody has to decide.
func (h *History) Record(d domain.Payload) {
	h.t.Helper()
	h.append(domain.Event{ID: h.id(), Campaign: h.Campaign, Time: h.clock, Data: d})
}

// RecordBytes records bytes that need not be an event. The oracle does not
// see them, and nothing can be recorded after them.
func (h *History) RecordBytes(data []byte) {
	h.t.Helper()
	subject := domain.SpecialistSubject(h.Campaign, "nākotne")
	_, err := h.Ledger.Append(context.Background(), eventstore.Message{Subject: subject, Data: data}, 0)
	check(h.t, err)
}

func (h *History) id() uuid.UUID {
	h.ids++
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, h.Campaign, h.ids))
}

func (h *History) append(e domain.Event) uint64 {
	h.t.Helper()
	data, err := domain.Encode(e)
	check(h.t, err)
	ctx, subject := context.Background(), domain.Subject(e)
	last, _, err := h.Ledger.Last(ctx, subject, eventstore.Leader)
	check(h.t, err)
	appended, err := h.Ledger.Append(ctx, eventstore.Message{Subject: subject, Data: data}, last.Sequence)
	check(h.t, err)
	_, err = h.Tally.Apply(appended.Sequence, e)
	check(h.t, err)
	return appended.Sequence
}

// try records an event that may contradict the campaign's state; then nothing
// happens.
func (h *History) try(d domain.Payload) {
	h.t.Helper()
	e := domain.Event{ID: h.id(), Campaign: h.Campaign, Time: h.clock, Data: d}
	if h.Tally.Register().Clone().Apply(h.Last()+1, e) == nil {
		h.append(e)
	}
}

// Act does something that happens in campaigns, most often a vote.
func (h *History) Act(choose Choose) {
	h.t.Helper()
	h.clock = h.clock.Add(time.Duration(choose(100)) * time.Minute)
	switch choose(24) {
	case 0, 1, 2, 3:
		h.submit(choose, domain.Retract, h.voter(choose))
	case 4:
		h.annul(choose)
	case 5:
		h.register()
	case 6, 7:
		h.try(domain.SpecialistUpdated{Specialist: h.specialist(choose), Profile: profiles[choose(len(profiles))]})
	case 8:
		h.administer(choose)
	case 9:
		h.forge(choose)
	case 10, 11, 12:
		h.slip(choose)
	default:
		h.Vote(choose)
	}
}

// Vote is a vote of somebody for somebody, if the rules let it pass.
func (h *History) Vote(choose Choose) { h.submit(choose, domain.Vote, h.voter(choose)) }

func (h *History) voter(choose Choose) domain.Pseudonym {
	return domain.Pseudonym{0: byte(choose(votersMax)), 15: 1}
}

func (h *History) specialist(choose Choose) string {
	list := h.Tally.Register().Specialists()
	return list[choose(len(list))].ID
}

func (h *History) submit(choose Choose, action domain.Action, voter domain.Pseudonym) {
	h.t.Helper()
	channels := slices.DeleteFunc(slices.Clone(h.Tally.Register().Campaign().Channels),
		func(c domain.Channel) bool { return c.Identity == domain.NoIdentity })
	h.decide(domain.Submission{Action: action, Voter: voter, Specialist: h.specialist(choose), ID: h.id().String(),
		Channel: channels[choose(len(channels))].Name, RecordedAt: h.clock})
}

// slip is a vote on a piece of paper without a name.
func (h *History) slip(choose Choose) {
	h.t.Helper()
	id := h.id().String()
	voter, err := domain.PseudonymKey{}.Slip("in_person", id)
	check(h.t, err)
	h.decide(domain.Submission{Action: domain.Vote, Voter: voter, Specialist: h.specialist(choose), ID: id,
		Channel: "in_person", RecordedAt: h.clock})
}

func (h *History) decide(s domain.Submission) {
	h.t.Helper()
	d, err := domain.Decide(h.Tally.Register(), h.ballots[s.Voter], s)
	h.accept(s.Voter, d, err)
}

// accept records a decision. What the rules refuse leaves no event.
func (h *History) accept(voter domain.Pseudonym, d domain.Decision, err error) {
	h.t.Helper()
	if refusal := new(domain.Refusal); errors.As(err, &refusal) || d.Recorded != 0 {
		return
	}
	check(h.t, err)
	sequence := h.append(d.Event)
	h.ballots[voter], err = h.ballots[voter].Evolve(sequence, d.Event)
	check(h.t, err)
	if _, ok := d.Event.Data.(domain.VoteCast); ok {
		h.votes = append(h.votes, vote{sequence, voter})
	}
}

func (h *History) annul(choose Choose) {
	h.t.Helper()
	if len(h.votes) == 0 {
		return
	}
	v := h.votes[choose(len(h.votes))]
	d, err := domain.DecideAnnulment(h.Tally.Register(), h.ballots[v.voter], domain.Annulment{Voter: v.voter, Vote: v.sequence,
		Decision: "VK lēmums Nr. 12/2018", Reason: "Balsis iegūtas negodīgi.", RecordedAt: h.clock})
	if err != nil { // not in force any more, or archived
		return
	}
	h.accept(v.voter, d, err)
}

func (h *History) register() {
	n := len(h.Tally.Register().Specialists())
	if n < specialistsMax {
		h.try(domain.SpecialistRegistered{Specialist: fmt.Sprintf("s%d", n), Profile: profiles[n%len(profiles)]})
	}
}

// administer does what is rare.
func (h *History) administer(choose Choose) {
	c := h.Tally.Register().Campaign()
	switch choose(9) {
	case 0, 1:
		h.try(domain.SpecialistWithdrawn{Specialist: h.specialist(choose), Reason: "Vairs nestrādā."})
	case 2, 3:
		if from, into := h.specialist(choose), h.specialist(choose); from != into {
			h.try(domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK lēmums Nr. 3/2018"})
		}
	case 4, 5:
		if n := len(c.Channels); n < channelsMax {
			h.try(domain.CampaignAmended{Title: fmt.Sprintf("Laba servisa kustība, %d. redakcija", n),
				AddChannels: []domain.Channel{{Name: fmt.Sprintf("kiosks%d", n), Identity: domain.Declared}}})
		}
	case 6:
		h.try(domain.CampaignClosed{Reason: "Kampaņa noslēgusies."})
	case 7: // from then on events about specialists are void
		h.try(domain.CampaignArchived{})
	default:
		h.try(domain.ResultsCertified{Sequence: h.Last(), TallyDigest: h.Tally.Digest()})
		h.try(domain.ResultsPublished{Certified: h.Last()})
	}
}

// forge records a vote that no intake would let pass, and that counts nothing:
// for somebody unknown, or, once the campaign is closed, for anybody.
func (h *History) forge(choose Choose) {
	specialist := "neviens"
	if h.Tally.Register().Campaign().ClosedAt > 0 {
		specialist = h.specialist(choose)
	}
	h.try(domain.VoteCast{Voter: domain.Pseudonym{0: 255, 14: byte(h.ids >> 8), 15: byte(h.ids)}, Specialist: specialist, Channel: "web", Active: 1})
}

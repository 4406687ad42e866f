package domain_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // days are those in Riga, wherever the tests run

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

// The campaign of most tests: that of 2018, from 13 November 2017 to the end
// of 11 November 2018 in Riga.
const campaignID = "laba-servisa-kustiba-2018"

var (
	opensAt  = at("2017-11-13T00:00:00+02:00")
	closesAt = at("2018-11-12T00:00:00+02:00")
	noon     = at("2018-05-04T12:00:00+03:00") // some moment in between
)

// Specialists that newStory registers.
const (
	berzina = "anna-berzina"
	cirule  = "zane-cirule"
	skele   = "nikita-skele"
	udre    = "zanete-udre"
)

// at is the moment of an RFC 3339 text, as events hold it.
func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return domain.Timestamp(t)
}

func riga(tb testing.TB) *time.Location {
	tb.Helper()
	l, err := time.LoadLocation("Europe/Riga")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// testKey is the campaign's pseudonym key: the bytes 0 to 31.
func testKey() (k domain.PseudonymKey) {
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// voter is the pseudonym of a person in the campaign.
func voter(id string) domain.Pseudonym {
	p, err := testKey().Voter(id)
	if err != nil {
		panic(err)
	}
	return p
}

func opened() domain.CampaignOpened {
	return domain.CampaignOpened{
		Title: "Laba servisa kustība 2018", OpensAt: opensAt, ClosesAt: closesAt, Timezone: "Europe/Riga",
		Channels: []domain.Channel{
			{Name: "web", Identity: domain.Verified},
			{Name: "mobile", Identity: domain.Declared},
			{Name: "in_person", Identity: domain.NoIdentity},
		},
		KeyID: testKey().ID(),
	}
}

func profile(name, institution, branch, region string) domain.Profile {
	return domain.Profile{Name: name, Position: "klientu apkalpošanas speciāliste", Institution: institution, Branch: branch, Region: region}
}

var (
	inGulbene = profile("Anna Bērziņa", "Nodarbinātības valsts aģentūra", "Gulbenes klientu apkalpošanas centrs", "Vidzeme")
	inCesis   = profile("Anna Bērziņa", "Valsts ieņēmumu dienests", "Cēsu klientu apkalpošanas centrs", "Vidzeme")
)

// story plays a campaign the way intake does: it decides, records, and folds
// what was recorded into every view. Every event goes through its bytes.
type story struct {
	tb       rapid.TB
	codec    *domain.Codec
	log      []domain.Event // the event at index i has the sequence i + 1
	register domain.Register
	tally    domain.Tally
	ballots  map[domain.Pseudonym]domain.Ballot
	clock    time.Time
	ids      int // how many ids were given out
}

// newStory is a campaign with four specialists.
func newStory(tb rapid.TB, change ...func(*domain.CampaignOpened)) *story {
	tb.Helper()
	open := opened()
	for _, f := range change {
		f(&open)
	}
	s := &story{tb: tb, codec: newCodec(tb), ballots: make(map[domain.Pseudonym]domain.Ballot), clock: noon}
	s.admin(open)
	s.admin(domain.SpecialistRegistered{Specialist: berzina, Profile: inGulbene})
	s.admin(domain.SpecialistRegistered{Specialist: cirule, Profile: profile("Zane Cīrule", "Nodarbinātības valsts aģentūra", "Gulbenes klientu apkalpošanas centrs", "Vidzeme")})
	s.admin(domain.SpecialistRegistered{Specialist: skele, Profile: profile("Ņikita Šķēle", "Valsts sociālās apdrošināšanas aģentūra", "Rēzeknes nodaļa", "Latgale")})
	s.admin(domain.SpecialistRegistered{Specialist: udre, Profile: profile("Žanete Ūdre", "Ceļu satiksmes drošības direkcija", "Ķekavas nodaļa", "Rīga")})
	return s
}

func votesPerVoter(n int) func(*domain.CampaignOpened) {
	return func(d *domain.CampaignOpened) { d.VotesPerVoter = n }
}

func newCodec(tb rapid.TB, upcasters ...domain.Upcaster) *domain.Codec {
	tb.Helper()
	c, err := domain.NewCodec(upcasters...)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// record takes an event into the ledger, whoever decided it.
func (s *story) record(e domain.Event) uint64 {
	s.tb.Helper()
	e = roundTrip(s.tb, s.codec, e)
	s.log = append(s.log, e)
	sequence := uint64(len(s.log))
	if err := s.register.Apply(sequence, e); err != nil {
		s.tb.Fatal(err)
	}
	if _, err := s.tally.Apply(sequence, e); err != nil {
		s.tb.Fatal(err)
	}
	if v, ok := voterOf(e.Data); ok {
		b, err := s.ballots[v].Evolve(sequence, e)
		if err != nil {
			s.tb.Fatal(err)
		}
		s.ballots[v] = b
	}
	return sequence
}

// roundTrip is the event as it comes back from the ledger, which must be the
// event that went in.
func roundTrip(tb rapid.TB, c *domain.Codec, e domain.Event) domain.Event {
	tb.Helper()
	data, err := domain.Encode(e)
	if err != nil {
		tb.Fatal(err)
	}
	decoded, err := c.Decode(data)
	if err != nil {
		tb.Fatalf("decode %s: %v", data, err)
	}
	if !reflect.DeepEqual(decoded, e) {
		tb.Fatalf("%s\ndecodes to %+v\ninstead of %+v", data, decoded, e)
	}
	return decoded
}

// voterOf is whose ballot an event belongs to.
func voterOf(p domain.Payload) (domain.Pseudonym, bool) {
	switch d := p.(type) {
	case domain.VoteCast:
		return d.Voter, true
	case domain.VoteRetracted:
		return d.Voter, true
	case domain.VoteAnnulled:
		return d.Voter, true
	}
	return domain.Pseudonym{}, false
}

// event is one that is recorded now.
func (s *story) event(p domain.Payload) domain.Event {
	return domain.Event{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(s.newID())), Campaign: campaignID, Time: s.clock, Data: p}
}

// admin records an event that needs no decision.
func (s *story) admin(p domain.Payload) uint64 {
	s.tb.Helper()
	return s.record(s.event(p))
}

// firstSubmission is the id of the first submission after newStory, which used
// five ids.
const firstSubmission = "pieteikums-6"

func (s *story) newID() string {
	s.ids++
	return fmt.Sprintf("pieteikums-%d", s.ids)
}

// submission is a new one, on the web and now.
func (s *story) submission(action domain.Action, person, specialist string) domain.Submission {
	return domain.Submission{Action: action, Voter: voter(person), Specialist: specialist,
		Channel: "web", ID: s.newID(), RecordedAt: s.clock}
}

// slip is a vote on a piece of paper without a name.
func (s *story) slip(specialist string) domain.Submission {
	sub := s.submission(domain.Vote, "nav vārda", specialist)
	sub.Channel = "in_person"
	p, err := testKey().Slip(sub.Channel, sub.ID)
	if err != nil {
		s.tb.Fatal(err)
	}
	sub.Voter = p
	return sub
}

// decide asks the rules, and records nothing.
func (s *story) decide(sub domain.Submission) (domain.Decision, error) {
	return domain.Decide(&s.register, s.ballots[sub.Voter], sub)
}

// accept decides a submission that must be accepted, and records it.
func (s *story) accept(sub domain.Submission) uint64 {
	s.tb.Helper()
	d, err := s.decide(sub)
	if err != nil {
		s.tb.Fatalf("%s for %s: %v", sub.Action, sub.Specialist, err)
	}
	if d.Recorded != 0 {
		s.tb.Fatalf("%s for %s: recorded as event %d before", sub.Action, sub.Specialist, d.Recorded)
	}
	return s.record(d.Event)
}

// refuse decides a submission that must be refused.
func (s *story) refuse(sub domain.Submission, want domain.Code) *domain.Refusal {
	s.tb.Helper()
	d, err := s.decide(sub)
	return wantRefusal(s.tb, d, err, want)
}

func wantRefusal(tb rapid.TB, d domain.Decision, err error, want domain.Code) *domain.Refusal {
	tb.Helper()
	var refusal *domain.Refusal
	if !errors.As(err, &refusal) || refusal.Code != want {
		tb.Fatalf("got %+v, %v, want the refusal %s", d, err, want)
	}
	return refusal
}

func (s *story) vote(person, specialist string) uint64 {
	s.tb.Helper()
	return s.accept(s.submission(domain.Vote, person, specialist))
}

func (s *story) retract(person, specialist string) uint64 {
	s.tb.Helper()
	return s.accept(s.submission(domain.Retract, person, specialist))
}

// annulment is an auditor's command about the vote at a sequence.
func (s *story) annulment(vote uint64) domain.Annulment {
	v, _ := voterOf(s.log[vote-1].Data)
	return domain.Annulment{Voter: v, Vote: vote, Decision: "VK lēmums Nr. 12/2018",
		Reason: "Balsis iegūtas negodīgi.", RecordedAt: s.clock}
}

func (s *story) annul(vote uint64) uint64 {
	s.tb.Helper()
	a := s.annulment(vote)
	d, err := domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a)
	if err != nil {
		s.tb.Fatal(err)
	}
	return s.record(d.Event)
}

func (s *story) close() uint64 {
	s.tb.Helper()
	return s.admin(domain.CampaignClosed{Reason: "Kampaņa noslēgusies."})
}

// votesOf is what a specialist has in the standings.
func (s *story) votesOf(specialist string) (votes, voters int64) {
	for _, st := range s.tally.Standings() {
		if st.Specialist.ID == specialist {
			return st.Votes, st.Voters
		}
	}
	return 0, 0
}

// wantErr wants an error that says something.
func wantErr(tb testing.TB, err error, says string) {
	tb.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		tb.Errorf("error is %v, want one that says %q", err, says)
	}
}

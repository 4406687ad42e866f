package schema_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/cmd/internal/schema"
	"sakipaldies.lv/ledger/cmd/internal/schema/schematest"
	"sakipaldies.lv/ledger/domain"
)

// Every type of event as the ledger encodes it, with as little and as much as it
// can have, fits its schema, and nothing else does.
func TestEvents(t *testing.T) {
	at := time.Date(2018, 3, 1, 8, 0, 0, 0, time.UTC)
	limit, ref := 3, domain.VoteRef{Sequence: 7, Channel: "web", CastAt: at}
	profile := domain.Profile{Name: "Zane Cīrule", Position: "vecākā speciāliste", Institution: "NVA", Branch: "Gulbene", Region: "Vidzeme"}
	channels := []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "in_person", Identity: domain.NoIdentity}}
	voter := domain.Pseudonym{'a', 't', 's'}
	seen := make(map[string]bool)
	for _, data := range []domain.Payload{
		domain.CampaignOpened{Title: "Saki paldies", OpensAt: at, ClosesAt: at.AddDate(0, 1, 0), Timezone: "Europe/Riga", Channels: channels, VotesPerVoter: 3, KeyID: "0123456789abcdef"},
		domain.CampaignAmended{}, domain.CampaignAmended{Title: "Paldies", OpensAt: at, ClosesAt: at, VotesPerVoter: &limit, AddChannels: channels, Reason: "lūgums"},
		domain.CampaignClosed{}, domain.CampaignClosed{Reason: "beigas"}, domain.CampaignArchived{},
		domain.SpecialistRegistered{Specialist: "zane", Profile: domain.Profile{Name: "Zane"}}, domain.SpecialistRegistered{Specialist: "zane", Profile: profile},
		domain.SpecialistUpdated{Specialist: "zane", Profile: profile},
		domain.SpecialistWithdrawn{Specialist: "zane"}, domain.SpecialistWithdrawn{Specialist: "zane", Reason: "aizgāja"},
		domain.SpecialistMerged{Specialist: "zane", Into: "zane-2", Decision: "2018/3"},
		domain.VoteCast{Voter: voter, Specialist: "zane", Channel: "web", Active: 1}, domain.VoteCast{Voter: voter, Specialist: "zane", Channel: "web", CastAt: at, Active: 1},
		domain.VoteRetracted{Voter: voter, Specialist: "zane", Channel: "web", Vote: ref}, domain.VoteRetracted{Voter: voter, Specialist: "zane", Channel: "web", RetractedAt: at, Vote: ref, Active: 2},
		domain.VoteAnnulled{Voter: voter, Specialist: "zane", Vote: ref, Decision: "2018/4", Reason: "negodīga vākšana"}, domain.VoteAnnulled{Voter: voter, Specialist: "zane", Vote: ref, Decision: "2018/4", Reason: "negodīga vākšana", AfterClose: true},
		domain.ResultsCertified{Sequence: 9, TallyDigest: strings.Repeat("0f", 32)},
		domain.ResultsCertified{Sequence: 9, AwardRule: &domain.AwardRule{Specialists: 3, Institutions: 1, InstitutionsBy: domain.ByBranch, LettersFrom: 10, MinimumVotes: 2, WithoutIdentity: true}, TallyDigest: strings.Repeat("0f", 32), LogSize: 9, LogRoot: strings.Repeat("0f", 32), Supersedes: 8, Reason: "labojums"},
		domain.ResultsPublished{Certified: 10},
		domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: "zane"}}, Decision: "2018/5", Reason: "žūrija"},
		domain.ResultsDecided{Award: domain.InstitutionAward, Places: 1, Winners: []domain.Candidate{{Institution: "NVA", Branch: "Gulbene"}}, Others: []domain.Candidate{{Institution: "LAD"}}, Decision: "2018/5", Reason: "žūrija"},
	} {
		e := domain.Event{ID: uuid.Must(uuid.NewV7()), Campaign: "2018", Time: at, Data: data}
		kind := domain.Kind(e)
		text, err := domain.Encode(e)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		s := schematest.Read(t, kind)
		if err := s.Check(text); err != nil {
			t.Errorf("%s: %s: %v", kind, text, err)
		}
		for _, wrong := range []string{strings.Replace(string(text), `"data":{`, `"data":{"voters_name":"Anna"`+comma(text)+``, 1),
			strings.Replace(string(text), `"data":`, `"datum":`, 1), strings.Replace(string(text), kind, "vote.doubled.v1", 1)} {
			if err := s.Check([]byte(wrong)); err == nil {
				t.Errorf("%s lets pass %s", kind, wrong)
			}
		}
		seen[kind] = true
	}
	for _, name := range schema.Names() {
		if !seen[name] && name != "submission" && name != "outcome" {
			t.Errorf("%s is no event of this test", name)
		}
	}
	if len(seen) != 14 {
		t.Errorf("%d types of events", len(seen))
	}
}

// comma is what must stand between a new member of data and the next one.
func comma(text []byte) string {
	if strings.Contains(string(text), `"data":{}`) {
		return ""
	}
	return ","
}

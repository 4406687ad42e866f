package domain_test

import (
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

func TestSubjects(t *testing.T) {
	const prefix = "ledger." + campaignID + "."
	anna := "7f5c3795c65ad3c7b00cc829e5b3ae15"
	for _, e := range samples() {
		var want string
		switch d := e.Data.(type) {
		case domain.SpecialistRegistered:
			want = "specialist." + d.Specialist
		case domain.SpecialistUpdated:
			want = "specialist." + d.Specialist
		case domain.SpecialistWithdrawn:
			want = "specialist." + d.Specialist
		case domain.SpecialistMerged:
			want = "specialist." + d.Specialist
		case domain.VoteCast, domain.VoteRetracted:
			want = "voter." + anna
		case domain.VoteAnnulled:
			want = "voter." + anna
			if d.AfterClose {
				want = "annulment." + anna
			}
		default:
			want = "campaign"
		}
		got := domain.Subject(e)
		if got != prefix+want {
			t.Errorf("subject of %T is %s, want %s", e.Data, got, prefix+want)
		}
		matches := 0
		for _, s := range domain.StreamSubjects(campaignID) {
			if s == got || strings.HasSuffix(s, ".*") && strings.HasPrefix(got, s[:len(s)-1]) && !strings.Contains(got[len(s)-1:], ".") {
				matches++
			}
		}
		if matches != 1 {
			t.Errorf("%d of the stream's subjects match %s", matches, got)
		}
	}
	if want := []string{prefix + "campaign", prefix + "specialist.*", prefix + "voter.*", prefix + "annulment.*"}; !slices.Equal(domain.StreamSubjects(campaignID), want) {
		t.Errorf("subjects are %q, want %q", domain.StreamSubjects(campaignID), want)
	}
	anyone := voter("lv-pk:010190-12345")
	for got, want := range map[string]string{
		domain.ControlSubject(campaignID):           prefix + "campaign",
		domain.SpecialistSubject(campaignID, skele): prefix + "specialist.nikita-skele",
		domain.VoterSubject(campaignID, anyone):     prefix + "voter." + anna,
		domain.AnnulmentSubject(campaignID, anyone): prefix + "annulment." + anna,
		domain.StreamName(campaignID):               "LEDGER_" + campaignID,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if id, ok := domain.CampaignOfStream(domain.StreamName(campaignID)); !ok || id != campaignID {
		t.Errorf("campaign of the stream is %q, %v", id, ok)
	}
	if id, ok := domain.CampaignOfStream("PIETEIKUMI"); ok {
		t.Errorf("a foreign stream is that of campaign %q", id)
	}
}

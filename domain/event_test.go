package domain_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// spoil makes bad payloads of a good one, each by one change.
func spoil[P domain.Payload](good func() P, changes ...func(*P)) []domain.Payload {
	var bad []domain.Payload
	for _, change := range changes {
		d := good()
		change(&d)
		bad = append(bad, d)
	}
	return bad
}

// tooLong is one byte too long for a text, and most of it takes two.
var tooLong = strings.Repeat("ķ", domain.MaxTextBytes/2) + "k"

func badCampaigns(t *testing.T) []domain.Payload {
	negative, huge := -1, domain.MaxVotesPerVoter+1
	bad := spoil(opened,
		func(d *domain.CampaignOpened) { d.Title = tooLong },
		func(d *domain.CampaignOpened) { d.Title = "Laba\nservisa" },
		func(d *domain.CampaignOpened) { d.OpensAt = time.Time{} },
		func(d *domain.CampaignOpened) { d.ClosesAt = time.Time{} },
		func(d *domain.CampaignOpened) { d.ClosesAt = d.OpensAt },
		func(d *domain.CampaignOpened) { d.OpensAt = d.OpensAt.In(riga(t)) },
		func(d *domain.CampaignOpened) { d.ClosesAt = d.ClosesAt.Add(time.Nanosecond) },
		func(d *domain.CampaignOpened) { d.Timezone = "" },
		func(d *domain.CampaignOpened) { d.Timezone = "Europe/\x1b[31mRiga" },
		func(d *domain.CampaignOpened) { d.Timezone = tooLong },
		func(d *domain.CampaignOpened) { d.Channels = nil },
		func(d *domain.CampaignOpened) { d.Channels = manyChannels(domain.MaxChannels + 1) },
		func(d *domain.CampaignOpened) { d.Channels[1].Name = "web" },
		func(d *domain.CampaignOpened) { d.Channels[1].Name = "klātiene" },
		func(d *domain.CampaignOpened) { d.Channels[1].Identity = "zināma" },
		func(d *domain.CampaignOpened) { d.VotesPerVoter = negative },
		func(d *domain.CampaignOpened) { d.VotesPerVoter = huge },
		func(d *domain.CampaignOpened) { d.KeyID = d.KeyID[1:] })
	return append(bad,
		domain.CampaignAmended{VotesPerVoter: &negative}, domain.CampaignAmended{VotesPerVoter: &huge},
		domain.CampaignAmended{Reason: tooLong}, domain.CampaignAmended{Title: "\u200b"},
		domain.CampaignAmended{OpensAt: opensAt.In(riga(t))}, domain.CampaignAmended{ClosesAt: closesAt.Add(1)},
		domain.CampaignAmended{AddChannels: []domain.Channel{{Name: "Kiosks", Identity: domain.Verified}}},
		domain.CampaignClosed{Reason: tooLong})
}

func badSpecialists() []domain.Payload {
	return []domain.Payload{
		domain.SpecialistRegistered{Specialist: "anna bērziņa", Profile: inGulbene},
		domain.SpecialistRegistered{Specialist: berzina, Profile: domain.Profile{Name: tooLong}},
		domain.SpecialistRegistered{Specialist: berzina, Profile: domain.Profile{Name: "Anna", Position: tooLong}},
		domain.SpecialistRegistered{Specialist: berzina, Profile: domain.Profile{Name: "Anna", Institution: "a\tb"}},
		domain.SpecialistUpdated{Specialist: berzina, Profile: domain.Profile{Name: "Anna", Branch: "\xc4"}},
		domain.SpecialistUpdated{Specialist: berzina, Profile: domain.Profile{Name: "Anna", Region: "\u202e"}},
		domain.SpecialistUpdated{Specialist: "", Profile: inGulbene},
		domain.SpecialistWithdrawn{Specialist: ">"},
		domain.SpecialistWithdrawn{Specialist: berzina, Reason: "\r\n"},
		domain.SpecialistMerged{Specialist: berzina, Into: berzina, Decision: "Nr. 1"},
		domain.SpecialistMerged{Specialist: berzina, Into: "", Decision: "Nr. 1"},
		domain.SpecialistMerged{Specialist: berzina, Into: cirule},
	}
}

// Good payloads to spoil.
var (
	goodRef = domain.VoteRef{Sequence: 6, Channel: "web", CastAt: noon}

	goodVote = func() domain.VoteCast {
		return domain.VoteCast{Voter: voter("Žanete"), Specialist: berzina, Channel: "web", Active: 1}
	}
	goodRetraction = func() domain.VoteRetracted {
		return domain.VoteRetracted{Voter: voter("Žanete"), Specialist: berzina, Channel: "web", Vote: goodRef}
	}
	goodAnnulment = func() domain.VoteAnnulled {
		return domain.VoteAnnulled{Voter: voter("Žanete"), Specialist: berzina, Vote: goodRef, Decision: "Nr. 12", Reason: "Negodīgi."}
	}
	goodResults  = func() domain.ResultsCertified { return domain.ResultsCertified{Sequence: 1, TallyDigest: "00"} }
	goodDecision = func() domain.ResultsDecided {
		return domain.ResultsDecided{Award: domain.SpecialistAward, Places: 1, Winners: []domain.Candidate{{Specialist: berzina}},
			Others: []domain.Candidate{{Specialist: cirule}}, Decision: "VK lēmums Nr. 14/2018", Reason: "Žūrijas balsojums."}
	}
)

func badVotes(t *testing.T) []domain.Payload {
	return slices.Concat(
		spoil(goodVote,
			func(d *domain.VoteCast) { d.Voter = domain.Pseudonym{} },
			func(d *domain.VoteCast) { d.Specialist = "anna.berzina" },
			func(d *domain.VoteCast) { d.Channel = "" },
			func(d *domain.VoteCast) { d.Channel = tooLong },
			func(d *domain.VoteCast) { d.CastAt = noon.In(riga(t)) },
			func(d *domain.VoteCast) { d.Active = 0 }),
		spoil(goodRetraction,
			func(d *domain.VoteRetracted) { d.Voter = domain.Pseudonym{} },
			func(d *domain.VoteRetracted) { d.Specialist = "" },
			func(d *domain.VoteRetracted) { d.Channel = "" },
			func(d *domain.VoteRetracted) { d.RetractedAt = noon.Add(1) },
			func(d *domain.VoteRetracted) { d.Active = -1 },
			func(d *domain.VoteRetracted) { d.Vote.Sequence = 0 },
			func(d *domain.VoteRetracted) { d.Vote.Channel = "" },
			func(d *domain.VoteRetracted) { d.Vote.CastAt = time.Time{} },
			func(d *domain.VoteRetracted) { d.Vote.CastAt = noon.Add(1) }),
		spoil(goodAnnulment,
			func(d *domain.VoteAnnulled) { d.Voter = domain.Pseudonym{} },
			func(d *domain.VoteAnnulled) { d.Specialist = "*" },
			func(d *domain.VoteAnnulled) { d.Vote.Sequence = 0 },
			func(d *domain.VoteAnnulled) { d.Decision = "" },
			func(d *domain.VoteAnnulled) { d.Decision = strings.Repeat("ņ", domain.MaxDecisionRefBytes) },
			func(d *domain.VoteAnnulled) { d.Reason = "" },
			func(d *domain.VoteAnnulled) { d.Reason = tooLong },
			func(d *domain.VoteAnnulled) { d.Active = -1 }))
}

func badResults() []domain.Payload {
	bad := spoil(goodResults,
		func(d *domain.ResultsCertified) { d.Sequence = 0 },
		func(d *domain.ResultsCertified) { d.TallyDigest = "" },
		func(d *domain.ResultsCertified) { d.AwardRule = &domain.AwardRule{} },
		func(d *domain.ResultsCertified) { d.AwardRule = &domain.AwardRule{Specialists: -1} },
		func(d *domain.ResultsCertified) { d.LogRoot = "\x00" },
		func(d *domain.ResultsCertified) { d.Reason = tooLong })
	bad = append(bad, spoil(goodDecision,
		func(d *domain.ResultsDecided) { d.Award = "goda balva" },
		func(d *domain.ResultsDecided) { d.Winners = nil },
		func(d *domain.ResultsDecided) { d.Winners = append(d.Winners, d.Winners[0]) },
		func(d *domain.ResultsDecided) { d.Others = d.Winners },
		func(d *domain.ResultsDecided) { d.Others = manyCandidates(domain.MaxTied) },
		func(d *domain.ResultsDecided) { d.Winners[0] = domain.Candidate{} },
		func(d *domain.ResultsDecided) { d.Winners[0].Institution = "Lauku atbalsta dienests" },
		func(d *domain.ResultsDecided) { d.Winners[0].Specialist = "zane cīrule" },
		func(d *domain.ResultsDecided) { d.Award = domain.InstitutionAward },
		func(d *domain.ResultsDecided) {
			d.Award, d.Others = domain.InstitutionAward, nil
			d.Winners[0] = domain.Candidate{Branch: tooLong}
		},
		func(d *domain.ResultsDecided) {
			d.Award, d.Others = domain.InstitutionAward, nil
			d.Winners[0] = domain.Candidate{}
		},
		func(d *domain.ResultsDecided) { d.Decision = "" },
		func(d *domain.ResultsDecided) { d.Decision = strings.Repeat("ņ", domain.MaxDecisionRefBytes) },
		func(d *domain.ResultsDecided) { d.Reason = "" },
		func(d *domain.ResultsDecided) { d.Reason = tooLong })...)
	return append(bad, domain.ResultsPublished{})
}

func manyCandidates(n int) (list []domain.Candidate) {
	for i := range n {
		list = append(list, domain.Candidate{Specialist: fmt.Sprintf("specialists-%d", i)})
	}
	return list
}

func TestPayloadsAreValidated(t *testing.T) {
	event := func(p domain.Payload) domain.Event {
		return domain.Event{ID: samples()[0].ID, Campaign: campaignID, Time: noon, Data: p}
	}
	nameless := domain.SpecialistRegistered{Specialist: "c53"} // real lists have such rows
	for _, good := range []domain.Payload{goodVote(), goodRetraction(), goodAnnulment(), goodResults(), opened(), nameless} {
		encode(t, event(good))
	}
	for _, p := range slices.Concat(badCampaigns(t), badSpecialists(), badVotes(t), badResults()) {
		if data, err := domain.Encode(event(p)); err == nil {
			t.Errorf("%T is encoded as %.300s", p, data)
		}
	}
}

func manyChannels(n int) []domain.Channel {
	var list []domain.Channel
	for i := range n {
		list = append(list, domain.Channel{Name: fmt.Sprintf("kanals_%d", i), Identity: domain.Declared})
	}
	return list
}

func TestFormatTime(t *testing.T) {
	moment, err := time.Parse(time.RFC3339Nano, "2018-11-11T23:59:59.9999+02:00")
	if err != nil {
		t.Fatal(err)
	}
	for want, in := range map[string]time.Time{
		"2018-11-11T21:59:59.999Z": domain.Timestamp(moment), // never rounded up: that might be after the close
		"2018-11-11T22:00:00.000Z": closesAt.In(riga(t)),
	} {
		if got := domain.FormatTime(in); got != want {
			t.Errorf("%v is written as %s, want %s", in, got, want)
		}
	}
	if l := domain.Timestamp(moment).Location(); l != time.UTC {
		t.Errorf("a timestamp is in %v", l)
	}
}

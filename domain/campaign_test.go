package domain_test

import (
	"fmt"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// TestAmendmentsOnlyLoosen: otherwise a vote that was decided before an
// amendment and recorded after it would break the rules.
func TestAmendmentsOnlyLoosen(t *testing.T) {
	n := func(votes int) *int { return &votes }
	for _, c := range []struct {
		name  string
		limit int // votes_per_voter before
		amend domain.CampaignAmended
		says  string // "" where it is possible
	}{
		{"nothing", 5, domain.CampaignAmended{}, ""},
		{"title", 5, domain.CampaignAmended{Title: "Saki paldies!"}, ""},
		{"opens earlier", 5, domain.CampaignAmended{OpensAt: opensAt.Add(-time.Millisecond)}, ""},
		{"opens at the same time", 5, domain.CampaignAmended{OpensAt: opensAt}, ""},
		{"opens later", 5, domain.CampaignAmended{OpensAt: opensAt.Add(time.Millisecond)}, "opens_at can only become earlier"},
		{"closes later", 5, domain.CampaignAmended{ClosesAt: closesAt.Add(time.Hour)}, ""},
		{"closes at the same time", 5, domain.CampaignAmended{ClosesAt: closesAt}, ""},
		{"closes earlier", 5, domain.CampaignAmended{ClosesAt: closesAt.Add(-time.Millisecond)}, "closes_at can only become later"},
		{"more votes", 5, domain.CampaignAmended{VotesPerVoter: n(6)}, ""},
		{"as many votes", 5, domain.CampaignAmended{VotesPerVoter: n(5)}, ""},
		{"fewer votes", 5, domain.CampaignAmended{VotesPerVoter: n(4)}, "votes_per_voter can only be raised"},
		{"limit taken away", 5, domain.CampaignAmended{VotesPerVoter: n(0)}, ""},
		{"no limit as before", 0, domain.CampaignAmended{VotesPerVoter: n(0)}, ""},
		{"a limit where there was none", 0, domain.CampaignAmended{VotesPerVoter: n(10_000)}, "votes_per_voter can only be raised"},
		{"another channel", 5, domain.CampaignAmended{AddChannels: []domain.Channel{{Name: "kiosks", Identity: domain.Declared}}}, ""},
		{"a channel that exists", 5, domain.CampaignAmended{AddChannels: []domain.Channel{{Name: "web", Identity: domain.NoIdentity}}}, "channel web exists already"},
		{"too many channels", 5, domain.CampaignAmended{AddChannels: manyChannels(domain.MaxChannels - 2)}, "at most 32 channels"},
		{"as many channels as possible", 5, domain.CampaignAmended{AddChannels: manyChannels(domain.MaxChannels - 3)}, ""},
		{"malformed", 5, domain.CampaignAmended{Reason: "a\nb"}, "reason has the invisible character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t, votesPerVoter(c.limit))
			err := s.register.Campaign().CheckAmendment(c.amend)
			applied := s.register.Apply(99, s.event(c.amend))
			if c.says == "" {
				if err != nil || applied != nil {
					t.Errorf("refused: %v, %v", err, applied)
				}
				return
			}
			wantErr(t, err, c.says)
			wantErr(t, err, "campaign "+campaignID)
			wantErr(t, applied, c.says)
		})
	}
}

func TestAmend(t *testing.T) {
	s := newStory(t, votesPerVoter(5))
	limit := 7
	s.admin(domain.CampaignAmended{Title: "Saki paldies!", OpensAt: opensAt.Add(-time.Hour), ClosesAt: closesAt.Add(time.Hour),
		VotesPerVoter: &limit, AddChannels: []domain.Channel{{Name: "kiosks", Identity: domain.NoIdentity}}})
	sequence := s.admin(domain.CampaignAmended{Reason: "nekas nemainās"})
	c := s.register.Campaign()
	if c.Title != "Saki paldies!" || !c.OpensAt.Equal(opensAt.Add(-time.Hour)) || !c.ClosesAt.Equal(closesAt.Add(time.Hour)) ||
		c.VotesPerVoter != 7 || len(c.Channels) != 4 || c.Control != sequence || c.Timezone != "Europe/Riga" || c.Status != domain.StatusOpen {
		t.Errorf("after the amendments the campaign is %+v", c)
	}
	if ch, ok := c.Channel("kiosks"); !ok || ch.Identity != domain.NoIdentity {
		t.Errorf("the new channel is %+v, %v", ch, ok)
	}
	if ch, ok := c.Channel("pasts"); ok {
		t.Errorf("an unknown channel is %+v", ch)
	}
}

// steps of a campaign's life. Each is tried in every status.
var steps = []domain.Payload{
	opened(), domain.CampaignAmended{}, domain.CampaignClosed{},
	domain.ResultsCertified{Sequence: 1, TallyDigest: "00"}, domain.ResultsPublished{Certified: 1}, domain.CampaignArchived{},
}

func TestLifeOfACampaign(t *testing.T) {
	const none, open, closed, certified, published, archived = domain.StatusNone, domain.StatusOpen,
		domain.StatusClosed, domain.StatusCertified, domain.StatusPublished, domain.StatusArchived
	const no = domain.Status("no")
	for _, c := range []struct {
		status domain.Status
		way    []int            // the steps that lead there
		next   [6]domain.Status // the status after each of steps
	}{
		{none, nil, [6]domain.Status{open, no, no, no, no, no}},
		{open, []int{0}, [6]domain.Status{no, open, closed, no, no, no}},
		{closed, []int{0, 2}, [6]domain.Status{no, no, no, certified, no, no}},
		{certified, []int{0, 2, 3}, [6]domain.Status{no, no, no, certified, published, no}},
		{published, []int{0, 2, 3, 4}, [6]domain.Status{no, no, no, published, no, archived}},
		{archived, []int{0, 2, 3, 4, 5}, [6]domain.Status{no, no, no, no, no, no}},
	} {
		for i, want := range c.next {
			t.Run(fmt.Sprintf("%s then %T", c.status, steps[i]), func(t *testing.T) {
				var r domain.Register
				sequence := uint64(0)
				for _, step := range c.way {
					sequence++
					if err := r.Apply(sequence, domain.Event{Campaign: campaignID, Time: noon, Data: steps[step]}); err != nil {
						t.Fatal(err)
					}
				}
				before := *r.Campaign()
				if before.Status != c.status {
					t.Fatalf("status is %q, want %q", before.Status, c.status)
				}
				err := r.Apply(sequence+1, domain.Event{Campaign: campaignID, Time: noon, Data: steps[i]})
				after := r.Campaign()
				switch {
				case want != no && (err != nil || after.Status != want || after.Control != sequence+1):
					t.Errorf("%v, %+v, want status %s", err, after, want)
				case want == no && (err == nil || after.Status != before.Status || after.Control != before.Control || r.Position() != sequence):
					t.Errorf("%v, %+v, want an error and no change", err, after)
				case want == no:
					wantErr(t, err, fmt.Sprintf("event %d", sequence+1))
				}
			})
		}
	}
}

func TestFence(t *testing.T) {
	s := newStory(t)
	c := s.register.Campaign()
	if c.ClosedAt != 0 || c.Void(1<<62) {
		t.Errorf("an open campaign has a fence at %d", c.ClosedAt)
	}
	fence := s.close()
	if c.ClosedAt != fence || c.Void(fence-1) || c.Void(fence) || !c.Void(fence+1) {
		t.Errorf("closed at %d, the fence is at %d", fence, c.ClosedAt)
	}
}

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
	goodDecision(),
}

func TestLifeOfACampaign(t *testing.T) {
	const none, open, closed, certified, published, archived = domain.StatusNone, domain.StatusOpen,
		domain.StatusClosed, domain.StatusCertified, domain.StatusPublished, domain.StatusArchived
	const no = domain.Status("no")
	for _, c := range []struct {
		status domain.Status
		way    []int            // the steps that lead there
		next   [7]domain.Status // the status after each of steps
	}{
		{none, nil, [7]domain.Status{open, no, no, no, no, no, no}},
		{open, []int{0}, [7]domain.Status{no, open, closed, no, no, no, no}},
		{closed, []int{0, 2}, [7]domain.Status{no, no, no, certified, no, no, closed}},
		{certified, []int{0, 2, 3}, [7]domain.Status{no, no, no, certified, published, no, certified}},
		{published, []int{0, 2, 6, 3, 6, 4, 6}, [7]domain.Status{no, no, no, published, no, archived, published}},
		{published, []int{0, 2, 3, 4, 3}, [7]domain.Status{no, no, no, published, published, archived, published}},
		{archived, []int{0, 2, 3, 4, 5}, [7]domain.Status{no, no, no, no, no, no, no}},
	} {
		for i, want := range c.next {
			t.Run(fmt.Sprintf("%s by %v then %T", c.status, c.way, steps[i]), func(t *testing.T) {
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

// TestLastSteps: what an organiser is told who takes a step too early, twice or
// in the wrong order.
func TestLastSteps(t *testing.T) {
	s := newStory(t)
	c := s.register.Campaign()
	certified := func(sequence, supersedes uint64, reason string) domain.ResultsCertified {
		return domain.ResultsCertified{Sequence: sequence, TallyDigest: s.tally.Digest(), Supersedes: supersedes, Reason: reason}
	}
	wantErr(t, c.CheckCertification(certified(s.tally.Position(), 0, "")), "it is open; close it")
	wantErr(t, c.CheckPublication(1), "it is open; certify its results")
	wantErr(t, c.CheckDecision(goodDecision()), "it is open; close it before a tie is decided")
	wantErr(t, c.CheckArchiving(), "it is open; only a campaign whose results are published")
	closed := s.close()
	wantErr(t, c.CheckCertification(certified(closed-1, 0, "")), fmt.Sprintf("results as of event %d are not those of the close, event %d", closed-1, closed))
	wantErr(t, c.CheckCertification(certified(closed, closed, "Labojums.")), "nothing is certified that could be superseded")
	wantErr(t, c.CheckCertification(domain.ResultsCertified{Sequence: closed}), "tally_digest")
	wantErr(t, c.CheckDecision(domain.ResultsDecided{}), "award")
	if err := c.CheckDecision(goodDecision()); err != nil {
		t.Error(err)
	}
	decided := s.admin(goodDecision())
	if at, ok := c.DecidedSo(goodDecision()); !ok || at != decided {
		t.Errorf("the same decision is event %d, %v", at, ok)
	}
	other := goodDecision()
	other.Reason = "Cits."
	if _, ok := c.DecidedSo(other); ok {
		t.Error("another decision is taken for the same")
	}
	first := certified(closed, 0, "")
	if err := c.CheckCertification(first); err != nil {
		t.Error(err)
	}
	one := s.admin(first)
	wantErr(t, c.CheckArchiving(), "it is certified; only")
	wantErr(t, c.CheckPublication(closed), fmt.Sprintf("event %d is not the newest certification, that is event %d", closed, one))
	wantErr(t, c.CheckCertification(certified(one, 0, "")), fmt.Sprintf("its results are certified by event %d; a correction must supersede that one", one))
	wantErr(t, c.CheckCertification(certified(one, one, "")), "a correction needs a reason")
	if err := c.CheckPublication(one); err != nil {
		t.Error(err)
	}
	s.admin(domain.ResultsPublished{Certified: one})
	wantErr(t, c.CheckPublication(one), fmt.Sprintf("the certification, event %d, is published", one))
	correction := certified(s.tally.Position(), one, "Labojums.")
	if err := c.CheckCertification(correction); err != nil {
		t.Error(err)
	}
	two := s.admin(correction)
	wantErr(t, c.CheckArchiving(), fmt.Sprintf("its results were corrected by event %d, which is not published", two))
	wantErr(t, c.CheckPublication(one), fmt.Sprintf("event %d is not the newest certification", one))
	if err := c.CheckPublication(two); err != nil {
		t.Error(err)
	}
	published := s.admin(domain.ResultsPublished{Certified: two})
	if got, ok := c.Publication(); !ok || got.Event != published || got.Certified != two {
		t.Errorf("the publication is %+v, %v", got, ok)
	}
	if got, ok := c.Certification(); !ok || got.Event != two || got.Supersedes != one {
		t.Errorf("the certification is %+v, %v", got, ok)
	}
	if err := c.CheckArchiving(); err != nil {
		t.Error(err)
	}
	s.admin(domain.CampaignArchived{})
	wantErr(t, c.CheckDecision(goodDecision()), "it is archived; nothing can be decided")
	wantErr(t, c.CheckCertification(certified(two, two, "Labojums.")), "it is archived; nothing can be corrected")
	wantErr(t, c.CheckPublication(two), "it is archived")
}

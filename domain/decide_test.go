package domain_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// refusals reach every code that Decide knows; the commands are Ilze's.
var refusals = []struct {
	name     string
	arrange  func(*story)
	action   domain.Action
	to       string
	change   func(*domain.Submission)
	want     domain.Code
	standing int // which event stands in the way: index from the end of the log plus one, 0 for none
}{
	{name: "a second vote", want: domain.AlreadyVoted, standing: 1,
		arrange: func(s *story) { s.vote("Ilze", berzina) }},
	{name: "a second vote by another channel", want: domain.AlreadyVoted, standing: 1,
		arrange: func(s *story) { s.vote("Ilze", berzina) },
		change:  func(sub *domain.Submission) { sub.Channel = "mobile" }},
	{name: "a second vote, other votes between", want: domain.AlreadyVoted, standing: 3,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.vote("Ilze", cirule); s.vote("Ilze", udre) }},
	{name: "an annulled vote keeps its place", want: domain.AlreadyVoted, standing: 1,
		arrange: func(s *story) { s.annul(s.vote("Ilze", berzina)) }},
	{name: "a second vote for who is withdrawn", want: domain.AlreadyVoted, standing: 2,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.admin(domain.SpecialistWithdrawn{Specialist: berzina}) }},
	{name: "a vote for the same one under another id", to: cirule, want: domain.AlreadyVoted, standing: 2,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.admin(merged(berzina, cirule)) }},
	{name: "no votes left", to: udre, want: domain.VoteLimitReached,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.vote("Ilze", cirule); s.vote("Ilze", skele) }},
	{name: "an unknown specialist", to: "nav-tadas", want: domain.UnknownSpecialist},
	{name: "a specialist in another case", to: "Anna-Berzina", want: domain.UnknownSpecialist},
	{name: "a withdrawn specialist", want: domain.WithdrawnSpecialist,
		arrange: func(s *story) { s.admin(domain.SpecialistWithdrawn{Specialist: berzina}) }},
	{name: "a merged specialist", want: domain.WithdrawnSpecialist,
		arrange: func(s *story) { s.admin(merged(berzina, cirule)) }},
	{name: "after the close", want: domain.ClosedCampaign, standing: 1,
		arrange: func(s *story) { s.close() }},
	{name: "a retraction after the close", action: domain.Retract, want: domain.ClosedCampaign, standing: 1,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.close() }},
	{name: "a vote above the fence, sent again", want: domain.ClosedCampaign, standing: 2,
		arrange: func(s *story) { s.late(s.submission(domain.Vote, "Ilze", berzina)) },
		change:  func(sub *domain.Submission) { sub.ID = firstSubmission }},
	{name: "before the opening", want: domain.TooEarly,
		change: func(sub *domain.Submission) { sub.RecordedAt = opensAt.Add(-time.Millisecond) }},
	{name: "cast before the opening", want: domain.TooEarly,
		change: func(sub *domain.Submission) { sub.At = opensAt.Add(-time.Millisecond) }},
	{name: "at the end", want: domain.TooLate,
		change: func(sub *domain.Submission) { sub.RecordedAt = closesAt }},
	{name: "cast at the end", want: domain.TooLate,
		change: func(sub *domain.Submission) { sub.At, sub.RecordedAt = closesAt, closesAt.Add(time.Hour) }},
	{name: "a retraction at the end", action: domain.Retract, want: domain.TooLate,
		arrange: func(s *story) { s.vote("Ilze", berzina) },
		change:  func(sub *domain.Submission) { sub.RecordedAt = closesAt }},
	{name: "cast in the future", want: domain.CastInFuture,
		change: func(sub *domain.Submission) { sub.At = noon.Add(domain.MaxClockSkew + time.Millisecond) }},
	{name: "nothing to retract", action: domain.Retract, want: domain.UnknownVote},
	{name: "another's vote", action: domain.Retract, want: domain.UnknownVote,
		arrange: func(s *story) { s.vote("Jānis", berzina) }},
	{name: "a vote for another", action: domain.Retract, want: domain.UnknownVote,
		arrange: func(s *story) { s.vote("Ilze", cirule) }},
	{name: "an annulled vote", action: domain.Retract, want: domain.UnknownVote,
		arrange: func(s *story) { s.annul(s.vote("Ilze", berzina)) }},
	{name: "a retracted vote", action: domain.Retract, want: domain.AlreadyRetracted, standing: 1,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.retract("Ilze", berzina) }},
	{name: "an unknown channel", want: domain.ChannelNotAccepted,
		change: func(sub *domain.Submission) { sub.Channel = "pasts" }},
	{name: "the same id for another specialist", to: cirule, want: domain.IdempotencyMismatch, standing: 1,
		arrange: func(s *story) { s.vote("Ilze", berzina) },
		change:  func(sub *domain.Submission) { sub.ID = firstSubmission }},
	{name: "the same id at another time", want: domain.IdempotencyMismatch, standing: 1,
		arrange: func(s *story) { s.vote("Ilze", berzina) },
		change:  func(sub *domain.Submission) { sub.ID, sub.At = firstSubmission, noon }},
	{name: "the same id after the close", to: cirule, want: domain.IdempotencyMismatch, standing: 2,
		arrange: func(s *story) { s.vote("Ilze", berzina); s.close() },
		change:  func(sub *domain.Submission) { sub.ID = firstSubmission }},
}

func merged(from, into string) domain.SpecialistMerged {
	return domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK lēmums Nr. 3/2018"}
}

// late closes the campaign and records what an intake that has not heard of it
// makes of a submission.
func (s *story) late(sub domain.Submission) uint64 {
	s.tb.Helper()
	d, err := s.decide(sub)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.close()
	return s.record(d.Event)
}

func TestRefusals(t *testing.T) {
	var reached []domain.Code
	for _, c := range refusals {
		reached = append(reached, c.want)
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t, votesPerVoter(3))
			if c.arrange != nil {
				c.arrange(s)
			}
			if c.action == "" {
				c.action = domain.Vote
			}
			if c.to == "" {
				c.to = berzina
			}
			sub := s.submission(c.action, "Ilze", c.to)
			if c.change != nil {
				c.change(&sub)
			}
			refusal := s.refuse(sub, c.want)
			var want uint64
			if c.standing != 0 {
				want = uint64(len(s.log) + 1 - c.standing)
			}
			if refusal.Sequence != want {
				t.Errorf("event %d stands in the way, want %d", refusal.Sequence, want)
			}
		})
	}
	for _, code := range codes(t) {
		if !slices.Contains(reached, code) {
			t.Errorf("no test reaches %s", code)
		}
	}
}

func TestMalformedSubmissions(t *testing.T) {
	s := newStory(t)
	for name, change := range map[string]func(*domain.Submission){
		"action":                 func(sub *domain.Submission) { sub.Action = "balso" },
		"no action":              func(sub *domain.Submission) { sub.Action = "" },
		"specialist":             func(sub *domain.Submission) { sub.Specialist = "anna.bērziņa" },
		"channel":                func(sub *domain.Submission) { sub.Channel = "klātiene" },
		"no id":                  func(sub *domain.Submission) { sub.ID = "" },
		"invisible id":           func(sub *domain.Submission) { sub.ID = "a\u200b" },
		"not recorded":           func(sub *domain.Submission) { sub.RecordedAt = time.Time{} },
		"recorded in Riga":       func(sub *domain.Submission) { sub.RecordedAt = noon.In(riga(t)) },
		"stated to microseconds": func(sub *domain.Submission) { sub.At = noon.Add(time.Microsecond) },
	} {
		sub := s.submission(domain.Vote, "Ilze", berzina)
		change(&sub)
		d, err := s.decide(sub)
		var refusal *domain.Refusal
		if err == nil || errors.As(err, &refusal) {
			t.Errorf("%s: got %+v, %v, want an error that is no refusal", name, d, err)
		}
	}
}

// TestRetractionByNumber: a retraction that names the vote by its sequence takes
// back that one and never another one for the same specialist.
func TestRetractionByNumber(t *testing.T) {
	s := newStory(t)
	back := func(vote uint64) domain.Submission {
		sub := s.submission(domain.Retract, "Ilze", "")
		sub.Vote = vote
		return sub
	}
	first := s.vote("Ilze", berzina)
	stranger := s.vote("Jānis", berzina)
	s.refuse(back(stranger), domain.UnknownVote)
	s.refuse(back(first+100), domain.UnknownVote)
	taking := back(first)
	taken := s.accept(taking)
	second := s.vote("Ilze", berzina)
	if refusal := s.refuse(back(first), domain.AlreadyRetracted); refusal.Sequence != taken {
		t.Errorf("event %d stands in the way, want %d", refusal.Sequence, taken)
	}
	s.refuse(back(taken), domain.UnknownVote)
	if d, err := s.decide(taking); err != nil || d.Recorded != taken {
		t.Errorf("sent again: %+v, %v, want event %d", d, err, taken)
	}
	taking.Vote = second
	if refusal := s.refuse(taking, domain.IdempotencyMismatch); refusal.Sequence != taken {
		t.Errorf("event %d stands in the way, want %d", refusal.Sequence, taken)
	}
	s.annul(second)
	s.refuse(back(second), domain.UnknownVote)

	wrong := s.submission(domain.Vote, "Ilze", cirule)
	wrong.Vote = first
	var refusal *domain.Refusal
	if _, err := s.decide(wrong); err == nil || errors.As(err, &refusal) {
		t.Errorf("a vote that names another one: %v", err)
	}
}

// TestWindow: opens_at is the first moment, closes_at the first that is too
// late, and what counts is when the vote was cast.
func TestWindow(t *testing.T) {
	for name, c := range map[string]struct{ at, recordedAt time.Time }{
		"the first moment":             {recordedAt: opensAt},
		"the last moment":              {recordedAt: closesAt.Add(-time.Millisecond)},
		"a slip that is entered later": {at: closesAt.Add(-time.Millisecond), recordedAt: closesAt.AddDate(0, 0, 20)},
		"a clock that is ahead":        {at: opensAt, recordedAt: opensAt.Add(-domain.MaxClockSkew)},
		"five minutes ahead":           {at: noon.Add(domain.MaxClockSkew), recordedAt: noon},
		"long ago":                     {at: opensAt, recordedAt: noon},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			sub := s.submission(domain.Vote, "Ilze", berzina)
			sub.At, sub.RecordedAt = c.at, c.recordedAt
			sequence := s.accept(sub)
			d := s.log[sequence-1].Data.(domain.VoteCast)
			if !d.CastAt.Equal(c.at) || !s.log[sequence-1].Time.Equal(c.recordedAt) {
				t.Errorf("recorded as %+v", s.log[sequence-1])
			}
		})
	}
}

func TestIdempotency(t *testing.T) {
	s := newStory(t)
	vote := s.submission(domain.Vote, "Ilze", berzina)
	first := s.accept(vote)
	back := s.submission(domain.Retract, "Ilze", berzina)
	back.ID = vote.ID // the action is part of the id
	second := s.accept(back)
	s.annul(s.vote("Ilze", berzina))

	again := func(sub domain.Submission, want uint64) {
		t.Helper()
		if d, err := s.decide(sub); err != nil || d.Recorded != want || d.Event.Data != nil {
			t.Errorf("sent again: %+v, %v, want event %d", d, err, want)
		}
	}
	later := vote
	later.RecordedAt = closesAt.AddDate(1, 0, 0) // when it is sent again does not matter
	again(vote, first)
	again(later, first)
	again(back, second)
	s.admin(domain.SpecialistWithdrawn{Specialist: berzina})
	again(vote, first)
	s.close()
	again(vote, first)
	again(back, second)

	elsewhere := vote
	elsewhere.Channel = "mobile" // the ids of two channels have nothing to do with each other
	s.refuse(elsewhere, domain.ClosedCampaign)
}

func TestVoteAgain(t *testing.T) {
	s := newStory(t, votesPerVoter(2))
	active := func(want int) {
		t.Helper()
		if n := s.ballots[voter("Ilze")].Active(); n != want {
			t.Fatalf("%d votes are in force, want %d", n, want)
		}
	}
	for range 3 {
		first := s.vote("Ilze", berzina)
		active(1)
		sequence := s.retract("Ilze", berzina)
		active(0)
		if d := s.log[sequence-1].Data.(domain.VoteRetracted); d.Vote.Sequence != first || d.Vote.Channel != "web" || !d.Vote.CastAt.Equal(noon) || d.Active != 0 {
			t.Errorf("the retraction of event %d is %+v", first, d)
		}
	}
	s.vote("Ilze", berzina)
	s.vote("Ilze", cirule)
	s.refuse(s.submission(domain.Vote, "Ilze", skele), domain.VoteLimitReached)
	s.retract("Ilze", berzina)
	s.vote("Ilze", skele)
	active(2)
	s.refuse(s.submission(domain.Vote, "Ilze", berzina), domain.VoteLimitReached)
	limit := 0
	s.admin(domain.CampaignAmended{VotesPerVoter: &limit})
	s.vote("Ilze", berzina)
	active(3)
}

// TestAnnulledVoteMakesRoom for a vote for somebody else: the limit is about
// votes in force.
func TestAnnulledVoteMakesRoom(t *testing.T) {
	s := newStory(t, votesPerVoter(1))
	s.annul(s.vote("Ilze", berzina))
	s.refuse(s.submission(domain.Vote, "Ilze", berzina), domain.AlreadyVoted)
	s.vote("Ilze", cirule)
	s.refuse(s.submission(domain.Vote, "Ilze", skele), domain.VoteLimitReached)
}

// TestRetractionOfTheWithdrawn: a vote can be taken back whatever became of
// the specialist.
func TestRetractionOfTheWithdrawn(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	s.admin(domain.SpecialistWithdrawn{Specialist: berzina})
	s.retract("Ilze", berzina)
	s.refuse(s.submission(domain.Vote, "Ilze", berzina), domain.WithdrawnSpecialist)
}

// TestMergedBallot: one voter praised a specialist who was registered twice.
func TestMergedBallot(t *testing.T) {
	s := newStory(t)
	first, second := s.vote("Ilze", berzina), s.vote("Ilze", cirule)
	s.admin(merged(cirule, berzina))
	s.refuse(s.submission(domain.Vote, "Ilze", berzina), domain.AlreadyVoted)
	takes := func(sequence uint64) uint64 { return s.log[sequence-1].Data.(domain.VoteRetracted).Vote.Sequence }
	if got := takes(s.retract("Ilze", berzina)); got != second {
		t.Errorf("the retraction takes event %d, want the later vote, %d", got, second)
	}
	s.refuse(s.submission(domain.Vote, "Ilze", berzina), domain.AlreadyVoted) // the first is still in force
	if got := takes(s.retract("Ilze", cirule)); got != first {
		t.Errorf("the second retraction takes event %d, want %d", got, first)
	}
	s.refuse(s.submission(domain.Retract, "Ilze", berzina), domain.AlreadyRetracted)
	s.vote("Ilze", berzina)
	if votes, _ := s.votesOf(berzina); votes != 1 {
		t.Errorf("%d votes count, want 1", votes)
	}
}

// TestAnnulledMergedVote: the annulled one of two votes for one specialist
// keeps its place although the other was taken back later.
func TestAnnulledMergedVote(t *testing.T) {
	s := newStory(t)
	first := s.vote("Ilze", berzina)
	s.vote("Ilze", cirule)
	s.admin(merged(cirule, berzina))
	s.annul(first)
	s.retract("Ilze", cirule)
	s.refuse(s.submission(domain.Vote, "Ilze", berzina), domain.AlreadyVoted)
}

func TestAnnulment(t *testing.T) {
	s := newStory(t)
	first, second := s.vote("Ilze", berzina), s.vote("Ilze", cirule)
	decide := func(vote uint64) (domain.Decision, error) {
		a := s.annulment(first)
		a.Vote = vote
		return domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a)
	}
	sequence := s.annul(first)
	got := s.log[sequence-1]
	want := domain.VoteAnnulled{Voter: voter("Ilze"), Specialist: berzina, Vote: domain.VoteRef{Sequence: first, Channel: "web", CastAt: noon},
		Decision: "VK lēmums Nr. 12/2018", Reason: "Balsis iegūtas negodīgi.", Active: 1}
	if got.Data != want || got.ID != domain.AnnulmentEventID(campaignID, first) {
		t.Errorf("the annulment is %+v, want %+v", got, want)
	}
	if d, err := decide(first); err != nil || d.Recorded != sequence {
		t.Errorf("annulled again: %+v, %v, want event %d", d, err, sequence)
	}
	back := s.retract("Ilze", cirule)
	for name, c := range map[string]struct {
		vote uint64
		code domain.Code
		at   uint64
	}{
		"a vote that was taken back": {second, domain.AlreadyRetracted, back},
		"a retraction":               {back, domain.UnknownVote, 0},
		"an annulment":               {sequence, domain.UnknownVote, 0},
		"no vote of this voter":      {1, domain.UnknownVote, 0},
		"a sequence to come":         {99, domain.UnknownVote, 0},
		"zero":                       {0, domain.UnknownVote, 0},
	} {
		d, err := decide(c.vote)
		if refusal := wantRefusal(t, d, err, c.code); refusal.Sequence != c.at {
			t.Errorf("%s: event %d stands in the way, want %d", name, refusal.Sequence, c.at)
		}
	}
}

// TestAnnulmentAfterTheClose is possible until the campaign is archived.
func TestAnnulmentAfterTheClose(t *testing.T) {
	s := newStory(t)
	var votes []uint64
	for _, specialist := range []string{berzina, cirule, skele, udre} {
		votes = append(votes, s.vote("Ilze", specialist))
	}
	for i, step := range []domain.Payload{domain.CampaignClosed{}, domain.ResultsCertified{Sequence: 1, TallyDigest: "00"}, domain.ResultsPublished{Certified: 10}} {
		s.admin(step)
		sequence := s.annul(votes[i])
		if d := s.log[sequence-1].Data.(domain.VoteAnnulled); !d.AfterClose || d.Active != 3-i {
			t.Errorf("after %T the annulment is %+v", step, d)
		}
	}
	s.admin(domain.CampaignArchived{})
	a := s.annulment(votes[3])
	d, err := domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a)
	wantRefusal(t, d, err, domain.ClosedCampaign)
	a.Vote = votes[0]
	if d, err := domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a); err != nil || d.Recorded == 0 {
		t.Errorf("an annulment that is recorded already: %+v, %v", d, err)
	}
}

// TestAnnulmentAboveTheArchiving, of an intake that had not heard of it, counts
// for nothing.
func TestAnnulmentAboveTheArchiving(t *testing.T) {
	s := newStory(t)
	vote := s.vote("Ilze", berzina)
	s.close()
	a := s.annulment(vote)
	d, err := domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []domain.Payload{domain.ResultsCertified{Sequence: 7, TallyDigest: "00"}, domain.ResultsPublished{Certified: 8}} {
		s.admin(step)
	}
	archived := s.admin(domain.CampaignArchived{})
	s.record(d.Event)
	wantCounts(t, s, 1, 1, 1)
	late, err := domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a)
	if refusal := wantRefusal(t, late, err, domain.ClosedCampaign); refusal.Sequence != archived {
		t.Errorf("event %d stands in the way, want %d", refusal.Sequence, archived)
	}
}

// TestFenceInABallot: what lies above the fence is not part of the ballot. It
// neither stands in the way of an annulment nor counts as a vote in force.
func TestFenceInABallot(t *testing.T) {
	t.Run("a late vote", func(t *testing.T) {
		s := newStory(t)
		vote := s.vote("Ilze", berzina)
		late := s.late(s.submission(domain.Vote, "Ilze", cirule))
		a := s.annulment(late)
		d, err := domain.DecideAnnulment(&s.register, s.ballots[a.Voter], a)
		wantRefusal(t, d, err, domain.UnknownVote)
		if active := s.log[s.annul(vote)-1].Data.(domain.VoteAnnulled).Active; active != 0 {
			t.Errorf("after the annulment %d votes are in force, want 0", active)
		}
		if s.tally.Voters() != 0 || s.tally.Votes() != 0 {
			t.Errorf("%d voters with %d votes are left", s.tally.Voters(), s.tally.Votes())
		}
	})
	t.Run("a late vote that somebody annulled", func(t *testing.T) {
		s := newStory(t)
		vote := s.vote("Ilze", berzina)
		late := s.late(s.submission(domain.Vote, "Ilze", cirule))
		s.admin(domain.VoteAnnulled{Voter: voter("Ilze"), Specialist: cirule, Decision: "Nr. 1", Reason: "Par vēlu.",
			Vote: domain.VoteRef{Sequence: late, Channel: "web", CastAt: noon}, AfterClose: true})
		s.annul(vote)
		wantCounts(t, s, 0, 0, 2)
	})
	t.Run("a late retraction", func(t *testing.T) {
		s := newStory(t)
		vote := s.vote("Ilze", berzina)
		s.late(s.submission(domain.Retract, "Ilze", berzina))
		s.annul(vote)
		if s.tally.Voters() != 0 || s.tally.Votes() != 0 {
			t.Errorf("%d voters with %d votes are left", s.tally.Voters(), s.tally.Votes())
		}
	})
	t.Run("a late annulment", func(t *testing.T) {
		s := newStory(t)
		vote := s.vote("Ilze", berzina)
		d, err := domain.DecideAnnulment(&s.register, s.ballots[voter("Ilze")], s.annulment(vote))
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		s.record(d.Event)
		if s.tally.Votes() != 1 || s.tally.Void() != 1 {
			t.Errorf("%d votes and %d void events, want 1 and 1", s.tally.Votes(), s.tally.Void())
		}
		s.annul(vote)
		if s.tally.Votes() != 0 {
			t.Error("a vote whose annulment came too late cannot be annulled")
		}
	})
}

func TestSlipsAreDecidedApart(t *testing.T) {
	s := newStory(t, votesPerVoter(1))
	one, two := s.slip(berzina), s.slip(berzina)
	first := s.accept(one)
	s.accept(two)
	if d, err := s.decide(one); err != nil || d.Recorded != first {
		t.Errorf("a slip that is sent again: %+v, %v, want event %d", d, err, first)
	}
}

func BenchmarkDecide(b *testing.B) {
	const ballotVotes = 10
	s := newStory(b)
	for i := range ballotVotes {
		id := manyChannels(ballotVotes)[i].Name
		s.admin(domain.SpecialistRegistered{Specialist: id, Profile: inGulbene})
		s.vote("Ilze", id)
	}
	sub := s.submission(domain.Vote, "Ilze", berzina)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.decide(sub); err != nil {
			b.Fatal(err)
		}
	}
}

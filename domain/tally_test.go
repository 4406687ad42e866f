package domain_test

import (
	"reflect"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// wantCounts wants the campaign's votes, distinct voters and void events.
func wantCounts(tb testing.TB, s *story, votes, voters, void int64) {
	tb.Helper()
	if s.tally.Votes() != votes || s.tally.Voters() != voters || s.tally.Void() != void {
		tb.Errorf("%d votes of %d voters and %d void events, want %d, %d and %d",
			s.tally.Votes(), s.tally.Voters(), s.tally.Void(), votes, voters, void)
	}
}

func TestTally(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	s.vote("Ilze", cirule)
	s.vote("Jānis", berzina)
	wantCounts(t, s, 3, 2, 0)
	s.retract("Ilze", cirule)
	wantCounts(t, s, 2, 2, 0)
	s.clock = noon.Add(time.Minute)
	s.retract("Ilze", berzina)
	wantCounts(t, s, 1, 1, 0)
	s.vote("Ilze", berzina)
	wantCounts(t, s, 2, 2, 0)
	if votes, voters := s.tally.Total(berzina); votes != 2 || voters != 2 {
		t.Errorf("%d votes of %d voters, want 2 of 2", votes, voters)
	}
	if votes, voters := s.tally.Total("nav-tadas"); votes != 0 || voters != 0 {
		t.Errorf("an unknown specialist has %d votes of %d voters", votes, voters)
	}
	if s.tally.Position() != uint64(len(s.log)) || !s.tally.AsOf().Equal(s.clock) || s.tally.Register().Campaign().ID != campaignID {
		t.Errorf("the tally is as of event %d at %v", s.tally.Position(), s.tally.AsOf())
	}
	var empty domain.Tally
	if len(empty.Standings()) != 0 || len(empty.Cells()) != 0 || empty.Position() != 0 || !empty.AsOf().IsZero() {
		t.Errorf("an empty tally is %+v", empty)
	}
}

func TestDeltas(t *testing.T) {
	s := newStory(t)
	apply := func(d domain.Payload) domain.Delta {
		t.Helper()
		delta, err := s.tally.Apply(s.tally.Position()+1, s.event(d))
		if err != nil {
			t.Fatal(err)
		}
		return delta
	}
	ilze := voter("Ilze")
	cell := domain.Cell{Specialist: berzina, Affiliation: inGulbene.Affiliation(), Channel: "web", Hour: noon, Votes: 1}
	late := noon.Add(time.Hour - time.Millisecond)
	cast := domain.VoteCast{Voter: ilze, Specialist: berzina, Channel: "web", CastAt: late, Active: 1}
	if got, want := apply(cast), (domain.Delta{Cell: cell, Voters: 1, Ballots: 1}); got != want {
		t.Errorf("a vote changes %+v, want %+v", got, want)
	}
	cast.Active = 2
	if got, want := apply(cast), (domain.Delta{Cell: cell, Voters: 1}); got != want {
		t.Errorf("a voter's second vote changes %+v, want %+v", got, want)
	}
	cast.Channel, cell.Channel = "in_person", "in_person"
	cast.Active = 1
	if got, want := apply(cast), (domain.Delta{Cell: cell}); got != want {
		t.Errorf("a slip changes %+v, want %+v", got, want)
	}
	cell.Channel, cell.Votes = "web", -1
	back := domain.VoteRetracted{Voter: ilze, Specialist: berzina, Channel: "mobile", Active: 1,
		Vote: domain.VoteRef{Sequence: 6, Channel: "web", CastAt: late}}
	if got, want := apply(back), (domain.Delta{Cell: cell, Voters: -1}); got != want {
		t.Errorf("a retraction changes %+v, want %+v", got, want)
	}
	annulled := domain.VoteAnnulled{Voter: ilze, Specialist: berzina, Vote: back.Vote, Decision: "Nr. 1", Reason: "Negodīgi."}
	if got, want := apply(annulled), (domain.Delta{Cell: cell, Voters: -1, Ballots: -1}); got != want {
		t.Errorf("an annulment changes %+v, want %+v", got, want)
	}
	cast.Specialist = "nav-tadas"
	if got, want := apply(cast), (domain.Delta{Void: true}); got != want {
		t.Errorf("a vote for nobody changes %+v, want %+v", got, want)
	}
	if got := apply(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis}); got != (domain.Delta{}) {
		t.Errorf("a move changes %+v", got)
	}
}

// TestSlipsCountApart: they count as votes, and nobody knows how many people wrote them.
func TestSlipsCountApart(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	s.accept(s.slip(berzina))
	last := s.accept(s.slip(berzina))
	wantCounts(t, s, 3, 1, 0)
	if votes, voters := s.votesOf(berzina); votes != 3 || voters != 1 {
		t.Errorf("%d votes of %d voters, want 3 of 1", votes, voters)
	}
	s.annul(last)
	wantCounts(t, s, 2, 1, 0)
}

func TestVoidEvents(t *testing.T) {
	cast := func(v string) domain.VoteCast {
		return domain.VoteCast{Voter: voter(v), Specialist: berzina, Channel: "web", Active: 1}
	}
	s := newStory(t)
	early := cast("Ilze")
	early.Specialist = "jana-klavina"
	sequence := s.admin(early) // registered only later
	s.admin(domain.SpecialistRegistered{Specialist: "jana-klavina", Profile: profile("Jāna Kļaviņa", "", "", "")})
	s.admin(domain.VoteRetracted{Voter: early.Voter, Specialist: early.Specialist, Channel: "web",
		Vote: domain.VoteRef{Sequence: sequence, Channel: "web", CastAt: noon}})
	stranger := cast("Jānis")
	stranger.Channel = "pasts"
	s.admin(stranger)
	wantCounts(t, s, 0, 0, 3)

	vote := s.vote("Līga", cirule)
	s.close()
	ref := domain.VoteRef{Sequence: vote, Channel: "web", CastAt: noon}
	s.admin(cast("Pēteris"))
	s.admin(domain.VoteRetracted{Voter: voter("Līga"), Specialist: cirule, Channel: "web", Vote: ref})
	s.admin(domain.VoteAnnulled{Voter: voter("Līga"), Specialist: cirule, Vote: ref, Decision: "Nr. 1", Reason: "Par vēlu."})
	wantCounts(t, s, 1, 1, 6)
	s.annul(vote)
	wantCounts(t, s, 0, 0, 6)
	if cells := s.tally.Cells(); len(cells) != 0 {
		t.Errorf("cells are left: %+v", cells)
	}
}

// TestAnnulmentOfALateVote counts for nothing, as the vote does.
func TestAnnulmentOfALateVote(t *testing.T) {
	s := newStory(t)
	late := s.late(s.submission(domain.Vote, "Ilze", berzina))
	s.admin(domain.VoteAnnulled{Voter: voter("Ilze"), Specialist: berzina, Decision: "Nr. 1", Reason: "Par vēlu.",
		Vote: domain.VoteRef{Sequence: late, Channel: "web", CastAt: noon}, AfterClose: true})
	wantCounts(t, s, 0, 0, 2)
}

// TestAffiliationAtTheTime: who moves takes the votes along, but the
// institution keeps its own.
func TestAffiliationAtTheTime(t *testing.T) {
	s := newStory(t)
	first := s.vote("Ilze", berzina)
	s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis})
	s.vote("Jānis", berzina)
	s.vote("Līga", berzina)
	s.admin(domain.SpecialistUpdated{Specialist: berzina, Profile: inGulbene})
	s.vote("Pēteris", berzina)

	gulbene := domain.Cell{Specialist: berzina, Affiliation: inGulbene.Affiliation(), Channel: "web", Hour: noon, Votes: 2}
	cesis := gulbene
	cesis.Affiliation = inCesis.Affiliation()
	if got, want := s.tally.Cells(), []domain.Cell{gulbene, cesis}; !reflect.DeepEqual(got, want) {
		t.Errorf("cells are %+v, want %+v", got, want)
	}
	if votes, _ := s.votesOf(berzina); votes != 4 {
		t.Errorf("the specialist has %d votes, want 4", votes)
	}
	s.annul(first) // takes it from where it was given
	gulbene.Votes = 1
	if got, want := s.tally.Cells(), []domain.Cell{gulbene, cesis}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the annulment cells are %+v, want %+v", got, want)
	}
}

// TestHours: the hour is that of casting, the whole hour that it lies in, even
// before 1970.
func TestHours(t *testing.T) {
	for cast, want := range map[string]string{
		"2018-05-04T09:00:00Z":     "2018-05-04T09:00:00Z",
		"2018-05-04T09:59:59.999Z": "2018-05-04T09:00:00Z",
		"1969-12-31T23:59:00Z":     "1969-12-31T23:00:00Z",
		"1941-06-14T02:30:00Z":     "1941-06-14T02:00:00Z",
	} {
		s := newStory(t)
		e := s.event(domain.VoteCast{Voter: voter("Ilze"), Specialist: berzina, Channel: "web", CastAt: at(cast), Active: 1})
		delta, err := s.tally.Apply(s.tally.Position()+1, e)
		if err != nil {
			t.Fatal(err)
		}
		if cells := s.tally.Cells(); !delta.Hour.Equal(at(want)) || len(cells) != 1 || !cells[0].Hour.Equal(at(want)) {
			t.Errorf("a vote at %s is counted at %v and in %+v, want %s", cast, delta.Hour, cells, want)
		}
	}
}

func TestTallyRefuses(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	again := s.event(opened())
	before, cells := s.tally.Standings(), s.tally.Cells()
	if _, err := s.tally.Apply(s.tally.Position()+1, again); err == nil {
		t.Error("a campaign is opened twice")
	}
	if _, err := s.tally.Apply(s.tally.Position(), s.log[len(s.log)-1]); err == nil {
		t.Error("an event is folded twice")
	}
	if s.tally.Position() != uint64(len(s.log)) || !reflect.DeepEqual(s.tally.Standings(), before) || !reflect.DeepEqual(s.tally.Cells(), cells) {
		t.Error("an error has changed the tally")
	}
	wantCounts(t, s, 1, 1, 0)
}

func BenchmarkTallyApply(b *testing.B) {
	s := newStory(b)
	votes := make([]domain.Event, 1<<10)
	for i := range votes {
		votes[i] = s.event(domain.VoteCast{Voter: voter("Ilze"), Specialist: []string{berzina, cirule, skele, udre}[i%4],
			Channel: "web", CastAt: noon.Add(time.Duration(i) * time.Minute), Active: 1 + i%2})
	}
	sequence := s.tally.Position()
	b.ReportAllocs()
	for b.Loop() {
		sequence++
		if _, err := s.tally.Apply(sequence, votes[sequence%uint64(len(votes))]); err != nil {
			b.Fatal(err)
		}
	}
}

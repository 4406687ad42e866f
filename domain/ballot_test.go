package domain_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/domain"
)

func TestEvolve(t *testing.T) {
	s := newStory(t)
	stated := s.submission(domain.Vote, "Ilze", berzina)
	stated.At = noon.Add(-time.Hour)
	first := s.accept(stated)
	s.clock = s.clock.Add(time.Minute)
	second := s.vote("Ilze", cirule)
	back := s.submission(domain.Retract, "Ilze", berzina)
	back.Channel = "mobile"
	third := s.accept(back)
	fourth := s.annul(second)

	b := s.ballots[voter("Ilze")]
	want := domain.Ballot{
		{Sequence: first, ID: s.log[first-1].ID, Specialist: berzina, Channel: "web", RecordedAt: noon, ActedAt: noon.Add(-time.Hour), Digest: domain.SubmissionDigest(berzina, stated.At)},
		{Sequence: second, ID: s.log[second-1].ID, Specialist: cirule, Channel: "web", RecordedAt: s.clock, ActedAt: s.clock, Digest: domain.SubmissionDigest(cirule, time.Time{})},
		{Sequence: third, ID: s.log[third-1].ID, Specialist: berzina, Channel: "mobile", RecordedAt: s.clock, ActedAt: s.clock, Digest: domain.SubmissionDigest(berzina, time.Time{}), Takes: first},
		{Sequence: fourth, ID: s.log[fourth-1].ID, Specialist: cirule, Channel: "web", RecordedAt: s.clock, ActedAt: s.clock, Takes: second, Annuls: true},
	}
	if !slices.Equal(b, want) {
		t.Fatalf("the ballot is\n%+v\nwant\n%+v", b, want)
	}
	for n, active := range []int{0, 1, 2, 1, 0} {
		if got := b[:n].Active(); got != active {
			t.Errorf("after %d events %d votes are in force, want %d", n, got, active)
		}
	}
	for _, e := range b {
		if found, ok := b.Find(e.ID); !ok || found != e {
			t.Errorf("Find(%s) is %+v, %v", e.ID, found, ok)
		}
		if found, ok := b.At(e.Sequence); !ok || found != e {
			t.Errorf("At(%d) is %+v, %v", e.Sequence, found, ok)
		}
		if before := b.Before(e.Sequence); slices.Contains(before, e) || len(before) != slices.Index(b, e) {
			t.Errorf("Before(%d) has %d entries", e.Sequence, len(before))
		}
	}
	if _, ok := b.Find(uuid.Nil); ok {
		t.Error("an unknown event is found")
	}
	if _, ok := b.At(fourth + 1); ok {
		t.Error("an unknown sequence is found")
	}
	if len(b.Before(0)) != 0 || len(b.Before(fourth+1)) != len(b) || len(domain.Ballot(nil).Before(7)) != 0 {
		t.Error("Before is wrong at the ends")
	}
}

func TestEvolveRefuses(t *testing.T) {
	s := newStory(t)
	sequence := s.vote("Ilze", berzina)
	b := s.ballots[voter("Ilze")]
	for _, earlier := range []uint64{sequence, sequence - 1, 0} {
		_, err := b.Evolve(earlier, s.log[sequence-1])
		wantErr(t, err, "folded in order")
	}
	for _, e := range samples() {
		if _, ok := voterOf(e.Data); !ok {
			_, err := b.Evolve(99, e)
			wantErr(t, err, "is not an event of a ballot")
		}
	}
}

// TestEvolveLeavesTheBallot: several goroutines decide on one ballot, and each
// goes on with its own event.
func TestEvolveLeavesTheBallot(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	b := s.ballots[voter("Ilze")]
	b = append(make(domain.Ballot, 0, 8), b...) // with room that two could share
	evolve := func(specialist string) domain.Ballot {
		d, err := domain.Decide(&s.register, b, s.submission(domain.Vote, "Ilze", specialist))
		if err != nil {
			t.Fatal(err)
		}
		after, err := b.Evolve(50, d.Event)
		if err != nil {
			t.Fatal(err)
		}
		return after
	}
	one, two := evolve(cirule), evolve(skele)
	if len(b) != 1 || one[1].Specialist != cirule || two[1].Specialist != skele {
		t.Errorf("two ballots share their memory: %+v, %+v", one, two)
	}
}

// TestForgedRetraction: an event that takes away a vote that is not there does
// not keep the voter from voting.
func TestForgedRetraction(t *testing.T) {
	b := domain.Ballot{
		{Sequence: 5, Specialist: cirule, Takes: 3},
		{Sequence: 6, Specialist: berzina},
		{Sequence: 7, Specialist: berzina, Takes: 6},
		{Sequence: 8, Specialist: berzina, Takes: 6},
		{Sequence: 9, Specialist: berzina},
	}
	for n, active := range []int{0, 0, 1, 0, 0, 1} {
		if got := b[:n].Active(); got != active {
			t.Errorf("after %d events %d votes are in force, want %d", n, got, active)
		}
	}
}

// TestFold: many events at once give the same as one after the other, and are
// copied once. A voter who votes and takes back in a loop must not make each
// look at the ballot a matter of seconds.
func TestFold(t *testing.T) {
	const events = 1000
	s := newStory(t)
	var log []domain.Event
	for i := range events {
		log = append(log, domain.Event{ID: uuid.New(), Campaign: "c", Time: noon, Data: domain.VoteCast{Voter: voter("Ilze"), Specialist: berzina, Channel: "web", Active: i + 1}})
	}
	from := func(first uint64) func(yield func(uint64, domain.Event) bool) {
		return func(yield func(uint64, domain.Event) bool) {
			for i, e := range log {
				if !yield(first+uint64(i), e) {
					return
				}
			}
		}
	}
	s.vote("Ilze", cirule)
	before := s.ballots[voter("Ilze")]
	next := before[0].Sequence + 1
	var folded domain.Ballot
	allocations := testing.AllocsPerRun(5, func() {
		var err error
		if folded, err = before.Fold(events, from(next)); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 10 {
		t.Errorf("%v allocations for %d events", allocations, events)
	}
	evolved := before
	for sequence, e := range from(next) {
		var err error
		if evolved, err = evolved.Evolve(sequence, e); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(folded, evolved) || len(before) != 1 {
		t.Error("all at once is not one after the other")
	}
	if _, err := folded.Fold(events, from(next)); err == nil {
		t.Error("events are folded again")
	}
}

package domain_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

// TestPrograms plays random campaigns: every command that there is, retries,
// events of an intake that has not heard of the close, and forgeries. After
// each step the counts are compared with a deliberately dumb twin, and at the
// end every prefix with what was counted at that time.
func TestPrograms(t *testing.T) {
	const rounds = 5 // of as many programs as rapid.checks says
	for range rounds {
		rapid.Check(t, func(t *rapid.T) {
			p := newProgram(t)
			for range rapid.IntRange(minSteps, maxSteps).Draw(t, "steps") {
				rapid.SampledFrom(actions).Draw(t, "action").play(p, t)
				p.check(t)
			}
			p.checkPrefixes(t)
		})
	}
}

// The steps of a program: enough for all that can happen to a few votes.
const minSteps, maxSteps = 20, 60

// action is a step of a program. One that is not possible does nothing.
type action struct {
	name string
	play func(*program, *rapid.T)
}

func (a action) String() string { return a.name }

// The first ones are drawn most often, and a failing program is made shorter
// by waiting.
var actions = []action{
	{"wait", (*program).wait},
	{"vote", func(p *program, t *rapid.T) { p.submit(t, domain.Vote) }},
	{"retract", func(p *program, t *rapid.T) { p.submit(t, domain.Retract) }},
	{"annul", (*program).annulOne},
	{"late", (*program).lateOne},
	{"vote", func(p *program, t *rapid.T) { p.submit(t, domain.Vote) }},
	{"specialist", (*program).specialist},
	{"campaign", (*program).campaign},
	{"retry", (*program).retry},
	{"forge", (*program).forge},
}

var (
	people   = []string{"Ilze Kļaviņa", "Jānis Bērziņš", "lv-pk:010190-12345", "Līga Žagare"}
	praised  = []string{berzina, cirule, skele, udre, "jana-klavina"} // the last one is not registered at first
	channels = []string{"web", "mobile", "in_person", "kiosks"}       // the last one is added later
)

// program is a story and its twin.
type program struct {
	*story
	twin  twin
	stale *domain.Register    // as an intake knows it that has not heard of the close
	sent  []domain.Submission // to be sent again
	then  []string            // the counts after each event
}

func newProgram(t *rapid.T) *program {
	limit := rapid.SampledFrom([]int{0, 1, 2, 3}).Draw(t, "votes per voter")
	p := &program{story: newStory(t, votesPerVoter(limit)), twin: newTwin()}
	for i, e := range p.log {
		p.twin.fold(uint64(i+1), e)
		p.then = append(p.then, "") // nobody asks for these
	}
	p.stale = p.register.Clone()
	return p
}

// add records an event in story and twin.
func (p *program) add(e domain.Event) {
	closed := p.register.Campaign().ClosedAt != 0
	p.twin.fold(p.record(e), e)
	if !closed && p.register.Campaign().ClosedAt == 0 {
		p.stale = p.register.Clone()
	}
	p.then = append(p.then, counts(&p.tally))
}

func (p *program) draw(t *rapid.T, action domain.Action) domain.Submission {
	p.tb = t
	person, specialist := rapid.SampledFrom(people).Draw(t, "voter"), rapid.SampledFrom(praised).Draw(t, "specialist")
	s := p.submission(action, person, specialist)
	s.Channel = rapid.SampledFrom(channels).Draw(t, "channel")
	if s.Channel == "in_person" {
		slip := p.slip(specialist)
		s.Voter, s.ID = slip.Voter, slip.ID
	}
	if action == domain.Retract && len(p.sent) > 0 && rapid.Bool().Draw(t, "sent before") {
		before := rapid.SampledFrom(p.sent).Draw(t, "sent")
		s.Voter, s.Specialist = before.Voter, before.Specialist
	}
	if rapid.IntRange(0, 3).Draw(t, "stated") == 0 {
		s.At = p.clock.Add(time.Duration(rapid.Int64Range(-100_000, 6).Draw(t, "minutes ago")) * time.Minute)
	}
	return s
}

// submit compares the answer with that of the twin.
func (p *program) submit(t *rapid.T, action domain.Action) {
	s := p.draw(t, action)
	p.answer(t, s)
	p.sent = append(p.sent, s)
}

// retry sends a submission again, sometimes with another content, and
// sometimes a vote's id with a retraction.
func (p *program) retry(t *rapid.T) {
	if len(p.sent) == 0 {
		return
	}
	s := rapid.SampledFrom(p.sent).Draw(t, "sent")
	s.RecordedAt = p.clock
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0:
		s.Specialist = rapid.SampledFrom(praised).Draw(t, "specialist")
	case 1:
		s.Action = domain.Retract
	}
	p.answer(t, s)
}

func (p *program) answer(t *rapid.T, s domain.Submission) {
	p.tb = t
	want, before := p.twin.verdict(p.register.Campaign(), s)
	d, err := p.decide(s)
	var refusal *domain.Refusal
	switch {
	case want != "":
		if !errors.As(err, &refusal) || refusal.Code != want {
			t.Fatalf("%+v: got %+v, %v, want %s", s, d, err, want)
		}
	case err != nil || d.Recorded != before:
		t.Fatalf("%+v: got %+v, %v, want event %d, or a new one for 0", s, d, err, before)
	case before == 0:
		p.add(d.Event)
		p.checkActive(t, s.Voter, d.Event)
	}
}

// checkActive wants an event to state the votes in force after it.
func (p *program) checkActive(t *rapid.T, v domain.Pseudonym, e domain.Event) {
	active := map[string]int{}
	total := 0
	for _, vote := range p.twin.inForce() {
		if vote.voter == v {
			total++
			active[p.twin.canonical(vote.specialist)]++
		}
	}
	switch d := e.Data.(type) {
	case domain.VoteCast:
		if d.Active != total || active[p.twin.canonical(d.Specialist)] != 1 {
			t.Fatalf("%+v, but the ballot has %v", d, active)
		}
		if limit := p.register.Campaign().VotesPerVoter; limit != 0 && total > limit {
			t.Fatalf("%d votes are in force, %d are allowed", total, limit)
		}
	case domain.VoteRetracted:
		if d.Active != total {
			t.Fatalf("%+v, but the ballot has %v", d, active)
		}
	case domain.VoteAnnulled:
		if d.Active != total {
			t.Fatalf("%+v, but the ballot has %v", d, active)
		}
	}
}

func (p *program) annulOne(t *rapid.T) {
	p.tb = t
	sequence := rapid.Uint64Range(1, uint64(len(p.log))).Draw(t, "sequence")
	if _, ok := voterOf(p.log[sequence-1].Data); !ok {
		return
	}
	a := p.annulment(sequence)
	d, err := domain.DecideAnnulment(&p.register, p.ballots[a.Voter], a)
	vote, known := p.twin.votes[sequence]
	archived := p.register.Campaign().Status == domain.StatusArchived
	switch {
	case a.Voter == forger:
		if err == nil && d.Recorded == 0 {
			p.add(d.Event) // counts for nothing, as the vote does
		}
	case known && vote.state == "annulled":
		if err != nil || d.Recorded == 0 {
			t.Fatalf("annulled again: %+v, %v", d, err)
		}
	case archived || !known || vote.state != "in force":
		if err == nil {
			t.Fatalf("the annulment of event %d is %+v, though it is %+v", sequence, d, vote)
		}
	case err != nil || d.Recorded != 0:
		t.Fatalf("the annulment of event %d: %+v, %v", sequence, d, err)
	default:
		p.add(d.Event)
		p.checkActive(t, a.Voter, d.Event)
	}
}

// lateOne is an event of an intake that has not heard of the close. It does
// not read the subject of annulments after the close either.
func (p *program) lateOne(t *rapid.T) {
	s := p.draw(t, rapid.SampledFrom([]domain.Action{domain.Vote, domain.Retract}).Draw(t, "action"))
	if p.register.Campaign().ClosedAt == 0 {
		return
	}
	b := slices.DeleteFunc(slices.Clone(p.ballots[s.Voter]), func(e domain.Entry) bool { return e.AfterClose })
	d, err := domain.Decide(p.stale, b, s)
	if rapid.Bool().Draw(t, "annulment") && len(b) > 0 {
		a := p.annulment(rapid.SampledFrom(b).Draw(t, "entry").Sequence)
		d, err = domain.DecideAnnulment(p.stale, b, a)
	}
	if err == nil && d.Recorded == 0 {
		p.add(d.Event)
		p.sent = append(p.sent, s)
	}
}

var forger = voter("viltnieks")

// forge writes a vote that no intake lets through, in a ballot of its own: the
// specialist or the channel may come to be later.
func (p *program) forge(t *rapid.T) {
	d := domain.VoteCast{Voter: forger, Specialist: rapid.SampledFrom(praised).Draw(t, "specialist"),
		Channel: rapid.SampledFrom(channels).Draw(t, "channel"), Active: 1}
	if _, registered := p.twin.affiliation[d.Specialist]; registered && p.twin.channels[d.Channel] {
		return
	}
	p.tb = t
	p.add(p.event(d))
}

// specialist changes who can be praised, if that is possible.
func (p *program) specialist(t *rapid.T) {
	p.tb = t
	id := rapid.SampledFrom(praised).Draw(t, "specialist")
	where := rapid.SampledFrom([]domain.Profile{inGulbene, inCesis}).Draw(t, "profile")
	p.try(rapid.SampledFrom([]domain.Payload{
		domain.SpecialistRegistered{Specialist: id, Profile: where},
		domain.SpecialistUpdated{Specialist: id, Profile: where},
		domain.SpecialistWithdrawn{Specialist: id},
		domain.SpecialistMerged{Specialist: id, Into: rapid.SampledFrom(slices.DeleteFunc(slices.Clone(praised),
			func(other string) bool { return other == id })).Draw(t, "into"), Decision: "Nr. 1"},
	}).Draw(t, "event"))
}

// campaign moves the campaign on, if that is possible.
func (p *program) campaign(t *rapid.T) {
	p.tb = t
	limit := rapid.IntRange(0, 5).Draw(t, "votes per voter")
	p.try(rapid.SampledFrom([]domain.Payload{
		domain.CampaignAmended{VotesPerVoter: &limit},
		domain.CampaignAmended{AddChannels: []domain.Channel{{Name: "kiosks", Identity: domain.Declared}}},
		domain.CampaignClosed{}, domain.ResultsCertified{Sequence: 1, TallyDigest: "00"},
		domain.ResultsPublished{Certified: 1}, domain.CampaignArchived{}, p.decision(t, rules().Draw(t, "decided by rule")),
	}).Draw(t, "event"))
}

// try records what the register takes.
func (p *program) try(d domain.Payload) {
	e := p.event(d)
	if p.register.Clone().Apply(uint64(len(p.log))+1, e) == nil {
		p.add(e)
	}
}

func (p *program) wait(t *rapid.T) {
	p.clock = p.clock.Add(time.Duration(rapid.Int64Range(0, 30*24*60).Draw(t, "minutes")) * time.Minute)
}

// counts are all that a tally says, as text.
func counts(t *domain.Tally) string {
	return fmt.Sprint(t.Votes(), t.Voters(), t.Void(), t.AsOf(), table(t.Standings()), t.Cells())
}

// check compares the counts with those of the twin.
func (p *program) check(t *rapid.T) {
	p.tb = t
	votes := p.twin.inForce()
	persons, cells := make(map[domain.Pseudonym]bool), make(map[domain.Cell]int64)
	total, known := make(map[string]int64), make(map[string]int64)
	for _, v := range votes {
		total[p.twin.canonical(v.specialist)]++
		cells[domain.Cell{Specialist: v.specialist, Affiliation: v.affiliation, Channel: v.channel, Hour: v.castAt.Truncate(time.Hour)}]++
		if v.channel != "in_person" {
			known[p.twin.canonical(v.specialist)]++
			persons[v.voter] = true
		}
	}
	if p.tally.Votes() != int64(len(votes)) || p.tally.Voters() != int64(len(persons)) || p.tally.Void() != p.twin.void {
		t.Fatalf("%d votes, %d voters, %d void; the twin has %d, %d, %d", p.tally.Votes(), p.tally.Voters(), p.tally.Void(), len(votes), len(persons), p.twin.void)
	}
	for _, c := range p.tally.Cells() {
		n := c.Votes
		c.Votes = 0
		if cells[c] != n {
			t.Fatalf("%+v has %d votes, the twin %d", c, n, cells[c])
		}
		delete(cells, c)
	}
	if len(cells) != 0 {
		t.Fatalf("only the twin has %+v", cells)
	}
	p.checkAwards(t, rules().Draw(t, "rule"))
	p.checkStandings(t, total, known)
}

func (p *program) checkStandings(t *rapid.T, total, known map[string]int64) {
	standings := p.tally.Standings()
	for i, s := range standings {
		better := 0
		for _, other := range standings {
			if !other.Specialist.Withdrawn && other.Votes > s.Votes {
				better++
			}
		}
		want := better + 1
		if s.Specialist.Withdrawn {
			want = 0
		}
		id := s.Specialist.ID
		if s.Rank != want || s.Votes != total[id] || s.Voters != known[id] || p.twin.canonical(id) != id {
			t.Fatalf("standing %d is %+v of %s, the twin has rank %d, %d votes, %d known", i, s, id, want, total[id], known[id])
		}
		delete(total, id)
	}
	if len(total) != 0 {
		t.Fatalf("only the twin has %v", total)
	}
}

// checkPrefixes: results as of event n are a fold of the first n events, and
// so is a ballot.
func (p *program) checkPrefixes(t *rapid.T) {
	var tally domain.Tally
	ballots := make(map[domain.Pseudonym]domain.Ballot)
	for i, e := range p.log {
		sequence := uint64(i + 1)
		if _, err := tally.Apply(sequence, e); err != nil {
			t.Fatal(err)
		}
		if got := counts(&tally); p.then[i] != "" && got != p.then[i] {
			t.Fatalf("the fold of %d events is\n%s\nthey were counted as\n%s", sequence, got, p.then[i])
		}
		v, ok := voterOf(e.Data)
		if !ok {
			continue
		}
		b, err := ballots[v].Evolve(sequence, e)
		if err != nil {
			t.Fatal(err)
		}
		ballots[v] = b
		if before := p.ballots[v].Before(sequence + 1); !slices.Equal(before, b) {
			t.Fatalf("the ballot before event %d is\n%+v\nits events are\n%+v", sequence+1, before, b)
		}
	}
	if !reflect.DeepEqual(ballots, p.ballots) {
		t.Fatal("the ballots are not those of the story")
	}
}

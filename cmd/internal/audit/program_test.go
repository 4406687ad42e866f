package audit_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

const (
	// mostDelay is how long an event may be under way in a program: as long as
	// the ledger tries to record it, and a register may be old.
	mostDelay = 50 * time.Second
	// mostSkew is how far a clock is from the world's.
	mostSkew = domain.MaxClockSkew / 2
)

// program is a campaign with several intakes, whose clocks differ and whose
// events take their time: everything races with everything else.
type program struct {
	*world
	underWay []underWay
	votes    []uint64 // sequences
}

// underWay is a voter's event between its decision and its append.
type underWay struct {
	subject  string
	data     []byte
	expected uint64
	since    time.Time
}

var people = []string{"Ilze Kļaviņa", "Jānis Bērziņš", "lv-pk:010190-12345", "Guntis Šķēle", "Līga Žagare"}

func newProgram(owner testing.TB, t *rapid.T) *program {
	p := &program{world: newWorld(owner, t)}
	for range 3 {
		p.specialist()
	}
	return p
}

// action is a step of a program. One that is not possible does nothing.
type action struct {
	name string
	play func(*program, *rapid.T)
}

func (a action) String() string { return a.name }

// open are the actions that leave a campaign open. The first ones are drawn
// most often.
var open = []action{
	{"wait", (*program).wait},
	{"deliver", (*program).deliver},
	{"vote", func(p *program, t *rapid.T) { p.submit(t, domain.Vote) }},
	{"deliver", (*program).deliver},
	{"retract", func(p *program, t *rapid.T) { p.submit(t, domain.Retract) }},
	{"annul", (*program).annulOne},
	{"vote", func(p *program, t *rapid.T) { p.submit(t, domain.Vote) }},
	{"amend", (*program).amend},
	{"withdraw", (*program).withdraw},
	{"merge", (*program).merge},
	{"move", (*program).move},
}

var all = append(slices.Clone(open), action{"go on", (*program).goOn})

// run plays random actions.
func (p *program) run(t *rapid.T, of []action) {
	p.t = t
	for range rapid.IntRange(20, 80).Draw(t, "steps") {
		rapid.SampledFrom(of).Draw(t, "action").play(p, t)
	}
}

// wait lets time pass. What would be under way for too long is given up.
func (p *program) wait(t *rapid.T) {
	p.clock = p.clock.Add(time.Duration(rapid.SampledFrom([]int{1, 20_000, 50_000, 400_000, 50_000_000}).Draw(t, "ms")) * time.Millisecond)
	p.underWay = slices.DeleteFunc(p.underWay, func(u underWay) bool { return p.clock.Sub(u.since) > mostDelay })
}

// now is a moment as one of the intakes sees it.
func (p *program) now(t *rapid.T) time.Time {
	skew := rapid.Int64Range(-mostSkew.Milliseconds(), mostSkew.Milliseconds()).Draw(t, "skew in ms")
	return domain.Timestamp(p.clock.Add(time.Duration(skew) * time.Millisecond))
}

func (p *program) send(e domain.Event) {
	subject := domain.Subject(e)
	p.underWay = append(p.underWay, underWay{subject, p.encode(e), p.last[subject], p.clock})
}

// deliver appends one of the events that are under way, unless another of the
// same ballot came first.
func (p *program) deliver(t *rapid.T) {
	if len(p.underWay) == 0 {
		return
	}
	i := rapid.IntRange(0, len(p.underWay)-1).Draw(t, "under way")
	u := p.underWay[i]
	p.underWay = slices.Delete(p.underWay, i, i+1)
	sequence, ok := p.append(u.subject, u.data, u.expected)
	if !ok {
		return
	}
	if _, cast := p.log[sequence-1].Data.(domain.VoteCast); cast {
		p.votes = append(p.votes, sequence)
	}
}

func (p *program) anySpecialist(t *rapid.T) string {
	return rapid.SampledFrom(p.register.Specialists()).Draw(t, "specialist").ID
}

func (p *program) submit(t *rapid.T, action domain.Action) {
	s := domain.Submission{Action: action, Voter: voter(rapid.SampledFrom(people).Draw(t, "voter")), Specialist: p.anySpecialist(t),
		Channel: rapid.SampledFrom(p.register.Campaign().Channels).Draw(t, "channel").Name, ID: p.newID("pieteikums"), RecordedAt: p.now(t)}
	if s.Channel == "in_person" {
		s.Voter, _ = key.Slip(s.Channel, s.ID)
	}
	if action == domain.Retract && len(p.votes) > 0 {
		vote := p.log[rapid.SampledFrom(p.votes).Draw(t, "vote")-1].Data.(domain.VoteCast)
		s.Voter, s.Specialist = vote.Voter, vote.Specialist
	}
	if rapid.IntRange(0, 3).Draw(t, "stated") == 0 {
		s.At = s.RecordedAt.Add(-time.Duration(rapid.IntRange(-6, 600).Draw(t, "minutes ago")) * time.Minute)
	}
	if d, err := domain.Decide(&p.register, p.ballot(s.Voter), s); err == nil {
		p.send(d.Event)
	}
}

func (p *program) annulOne(t *rapid.T) {
	if len(p.votes) == 0 {
		return
	}
	vote := rapid.SampledFrom(p.votes).Draw(t, "vote")
	v, _ := voterOf(p.log[vote-1].Data)
	d, err := domain.DecideAnnulment(&p.register, p.ballot(v), domain.Annulment{Voter: v, Vote: vote,
		Decision: "VK lēmums Nr. 12/2018", Reason: "Balsis iegūtas negodīgi.", RecordedAt: p.now(t)})
	if err == nil && d.Recorded == 0 {
		p.send(d.Event)
	}
}

// adminAt records an event of the campaign or of a specialist by any clock.
func (p *program) adminAt(t *rapid.T, d domain.Payload) uint64 {
	e := p.event(d)
	e.Time = p.now(t)
	return p.record(e)
}

func (p *program) amend(t *rapid.T) {
	c := p.register.Campaign()
	votes := c.VotesPerVoter + 1
	d := domain.CampaignAmended{VotesPerVoter: &votes, ClosesAt: c.ClosesAt.Add(time.Hour)}
	if len(c.Channels) == 3 {
		d.AddChannels = []domain.Channel{{Name: "kiosks", Identity: domain.Declared}}
	}
	if c.CheckAmendment(d) == nil {
		p.adminAt(t, d)
	}
}

func (p *program) withdraw(t *rapid.T) {
	p.adminAt(t, domain.SpecialistWithdrawn{Specialist: p.anySpecialist(t), Reason: "Aizgāja pensijā."})
	p.specialist()
}

func (p *program) merge(t *rapid.T) {
	from, into := p.anySpecialist(t), p.anySpecialist(t)
	s, _ := p.register.Specialist(from)
	if s.MergedInto == "" && from != into { // two organisers may close a circle
		p.adminAt(t, domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK-7"})
	}
}

func (p *program) move(t *rapid.T) {
	branch := rapid.SampledFrom([]string{"Gulbene", "Cēsis", "Rēzekne"}).Draw(t, "branch")
	p.adminAt(t, domain.SpecialistUpdated{Specialist: p.anySpecialist(t),
		Profile: domain.Profile{Name: "Žanete Ķirsone", Institution: "Nodarbinātības aģentūra", Branch: branch}})
}

// finishMerges annuls what counts beside an earlier vote for the same person, as
// a merge does in the end.
func (p *program) finishMerges() {
	type person struct {
		voter      domain.Pseudonym
		specialist string
	}
	counted := make(map[person]bool)
	for i, e := range slices.Clone(p.log) {
		d, cast := e.Data.(domain.VoteCast)
		if !cast {
			continue
		}
		vote, b := uint64(i+1), p.ballot(d.Voter).Counting(p.register.Campaign())
		if _, counts := b.At(vote); !counts {
			continue
		}
		if _, taken := b.Taker(vote); taken {
			continue
		}
		who := person{d.Voter, p.register.Canonical(d.Specialist)}
		if counted[who] {
			p.annul(vote)
		}
		counted[who] = true
	}
}

// goOn takes the campaign to the next part of its life. It is not archived:
// only annulments can race with that.
func (p *program) goOn(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "go on") > 0 {
		return // a life is longer than that
	}
	switch p.register.Campaign().Status {
	case domain.StatusOpen:
		p.adminAt(t, domain.CampaignClosed{})
	case domain.StatusClosed:
		p.finishMerges()
		last := uint64(len(p.log))
		p.adminAt(t, domain.ResultsCertified{Sequence: last, TallyDigest: p.digest(last)})
	case domain.StatusCertified:
		certified, _ := p.register.Campaign().Certification()
		p.adminAt(t, domain.ResultsPublished{Certified: certified.Event})
	}
}

// TestHonestPrograms: nobody is accused, whatever races.
func TestHonestPrograms(t *testing.T) {
	const rounds = 5 // of as many programs as rapid.checks says
	for range rounds {
		rapid.Check(t, func(rt *rapid.T) {
			p := newProgram(t, rt)
			p.run(rt, all)
			p.finishMerges()
			if r := p.verify(); len(mismatches(r)) > 0 {
				rt.Fatalf("%q", mismatches(r))
			}
		})
	}
}

// TestForgedPrograms: a forgery in the midst of honest events is found, and
// they are not accused.
func TestForgedPrograms(t *testing.T) {
	const rounds = 5
	for range rounds {
		rapid.Check(t, func(rt *rapid.T) {
			p := newProgram(t, rt)
			p.run(rt, open)
			f := rapid.SampledFrom(forgeries).Draw(rt, "forgery")
			p.clock = p.clock.Add(time.Hour) // so that it does not depend on clocks what comes before the forgery
			p.underWay = nil
			p.finishMerges() // for what is forged may come with an honest certification
			forged := f.forge(p.world)
			p.run(rt, all)
			found := false
			r := p.verify()
			for _, c := range r.Checks {
				for _, m := range c.Mismatches {
					found = found || c.Name == f.check && m.Sequence == forged
					if m.Sequence != 0 && m.Sequence != forged && !f.spreads {
						rt.Errorf("%s: an honest event is accused: %s: %s", f.name, c.Name, m)
					}
				}
			}
			if !found || r.OK() {
				rt.Errorf("%s as event %d is not found: %q", f.name, forged, mismatches(r))
			}
		})
	}
}

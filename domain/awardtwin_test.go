package domain_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

// rules are award rules of all kinds, for few votes.
func rules() *rapid.Generator[domain.AwardRule] {
	return rapid.Custom(func(t *rapid.T) domain.AwardRule {
		r := domain.AwardRule{
			Specialists: rapid.IntRange(0, 3).Draw(t, "specialists"), Letters: rapid.IntRange(0, 3).Draw(t, "letters"),
			MinimumVotes: rapid.Int64Range(0, 2).Draw(t, "minimum votes"), WithoutIdentity: rapid.Bool().Draw(t, "without identity"),
		}
		if by := rapid.SampledFrom([]domain.GroupBy{"", domain.ByInstitution, domain.ByBranch}).Draw(t, "institutions by"); by != "" {
			r.InstitutionsBy, r.Institutions = by, rapid.IntRange(1, 2).Draw(t, "institutions")
		}
		if r.Letters == 0 {
			r.LettersFrom = rapid.Int64Range(1, 3).Draw(t, "letters from")
		}
		return r
	})
}

// decision is one about those who tie, or about anybody.
func (p *program) decision(t *rapid.T, rule domain.AwardRule) domain.ResultsDecided {
	award := rapid.SampledFrom([]domain.Award{domain.SpecialistAward, domain.InstitutionAward, domain.Letter}).Draw(t, "award")
	awards, err := p.tally.Awards(rule)
	if err != nil {
		t.Fatal(err)
	}
	tied := map[domain.Award]domain.Prize{domain.SpecialistAward: awards.Specialists,
		domain.InstitutionAward: awards.Institutions, domain.Letter: awards.Letters}[award].Tied
	var winners []string
	for _, c := range tied {
		if rapid.Bool().Draw(t, "wins") {
			winners = append(winners, c.String())
		}
	}
	d, err := p.tally.DecideTie(rule, award, winners, "VK lēmums Nr. 14/2018", "Žūrijas balsojums.")
	if err == nil {
		return d
	}
	d = goodDecision() // somebody's who does not look at the results
	d.Winners[0].Specialist = rapid.SampledFrom(praised[2:]).Draw(t, "winner")
	return d
}

// twinCandidates are the votes of each candidate, without those who cannot win.
type twinCandidates map[domain.Candidate]int64

func (c twinCandidates) better(votes int64) (n int) {
	for _, v := range c {
		if v > votes {
			n++
		}
	}
	return n
}

// award says of everybody alone whether they win.
func (w *twin) award(award domain.Award, c twinCandidates, places int, minimum int64) (winners twinCandidates, tied []domain.Candidate) {
	winners = make(twinCandidates)
	lowest, above := int64(0), 0
	for who, votes := range c {
		if votes >= max(minimum, 1) && c.better(votes) < places {
			winners[who] = votes
			if lowest == 0 || votes < lowest {
				lowest = votes
			}
		}
	}
	for who, votes := range winners {
		if votes == lowest {
			tied = append(tied, who)
		} else {
			above++
		}
	}
	if len(winners) <= places {
		return winners, nil
	}
	d, decided := w.decided[award]
	if !decided || d.Places != places-above || len(d.Winners)+len(d.Others) != len(tied) {
		return winners, tied
	}
	for _, who := range slices.Concat(d.Winners, d.Others) {
		if !slices.Contains(tied, who) {
			return winners, tied
		}
	}
	for _, who := range d.Others {
		delete(winners, who)
	}
	return winners, tied
}

// candidates are counted from the votes themselves.
func (w *twin) candidates(rule domain.AwardRule) (specialists, withdrawn, institutions twinCandidates) {
	specialists, withdrawn, institutions = make(twinCandidates), make(twinCandidates), make(twinCandidates)
	for id := range w.affiliation {
		if w.into[id] == "" && !w.withdrawn[id] {
			specialists[domain.Candidate{Specialist: id}] = 0
		}
	}
	for _, v := range w.inForce() {
		if v.channel == "in_person" && !rule.WithoutIdentity {
			continue
		}
		id := w.canonical(v.specialist)
		if w.withdrawn[id] {
			withdrawn[domain.Candidate{Specialist: id}]++
		} else {
			specialists[domain.Candidate{Specialist: id}]++
		}
		where := domain.Candidate{Institution: v.affiliation.Institution}
		if rule.InstitutionsBy == domain.ByBranch {
			where.Branch = v.affiliation.Branch
		}
		if where.Institution != "" || where.Branch != "" {
			institutions[where]++
		}
	}
	return specialists, withdrawn, institutions
}

// TestAwardsOfPrograms: a few votes, so that many tie, and then decisions and
// annulments by turns under one rule.
func TestAwardsOfPrograms(t *testing.T) {
	decided, unfit := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := newProgram(t)
		p.tb = t
		var votes []uint64
		for range rapid.IntRange(0, 12).Draw(t, "votes") {
			s := p.submission(domain.Vote, p.newID(), rapid.SampledFrom(praised[:4]).Draw(t, "specialist"))
			if rapid.IntRange(0, 4).Draw(t, "slip") == 0 {
				s = p.slip(s.Specialist)
			}
			d, err := p.decide(s)
			if err != nil {
				t.Fatal(err)
			}
			p.add(d.Event)
			votes = append(votes, uint64(len(p.log)))
		}
		p.specialist(t)
		p.add(p.event(domain.CampaignClosed{}))
		rule := rules().Draw(t, "rule")
		for range rapid.IntRange(1, 4).Draw(t, "turns") {
			p.add(p.event(p.decision(t, rule)))
			decided += p.checkAwards(t, rule)
			if len(votes) == 0 || rapid.Bool().Draw(t, "annul nothing") {
				continue
			}
			a := p.annulment(rapid.SampledFrom(votes).Draw(t, "vote"))
			if d, err := domain.DecideAnnulment(&p.register, p.ballots[a.Voter], a); err == nil && d.Recorded == 0 {
				p.add(d.Event)
			}
			if p.checkAwards(t, rule) == 0 {
				unfit++
			}
		}
	})
	if decided == 0 || unfit == 0 {
		t.Errorf("decisions applied %d times, and %d times not", decided, unfit)
	}
}

// checkAwards holds awards against those of the twin, and returns how many
// decisions apply.
func (p *program) checkAwards(t *rapid.T, rule domain.AwardRule) (decided int) {
	awards, err := p.tally.Awards(rule)
	if err != nil {
		t.Fatal(err)
	}
	specialists, withdrawn, institutions := p.twin.candidates(rule)
	winners := p.samePrize(t, awards.Specialists, specialists, rule.Specialists, rule.MinimumVotes)
	p.samePrize(t, awards.Institutions, institutions, rule.Institutions, rule.MinimumVotes)
	rest, places, minimum := make(twinCandidates), rule.Letters, rule.MinimumVotes
	for who, votes := range specialists {
		if _, won := winners[who]; !won {
			rest[who] = votes
		}
	}
	if rule.LettersFrom > 0 {
		places, minimum = len(rest), max(minimum, rule.LettersFrom)
	}
	p.samePrize(t, awards.Letters, rest, places, minimum)
	for _, w := range awards.PassedOver {
		if withdrawn[w.Candidate] != w.Votes || w.Votes < max(rule.MinimumVotes, 1) || w.Award == domain.SpecialistAward && specialists.better(w.Votes) >= rule.Specialists {
			t.Fatalf("passed over is %+v, the twin has %v of %v", w, withdrawn, specialists)
		}
		delete(withdrawn, w.Candidate)
	}
	for who, votes := range withdrawn {
		if votes >= max(rule.MinimumVotes, 1) && specialists.better(votes) < rule.Specialists {
			t.Fatalf("%v with %d votes is not among the passed over: %+v", who, votes, awards.PassedOver)
		}
	}
	for _, prize := range []domain.Prize{awards.Specialists, awards.Institutions, awards.Letters} {
		if prize.Decision != 0 {
			decided++
		}
	}
	return decided
}

// samePrize returns the winners.
func (p *program) samePrize(t *rapid.T, got domain.Prize, c twinCandidates, places int, minimum int64) twinCandidates {
	winners, tied := p.twin.award(got.Award, c, places, minimum)
	what := fmt.Sprintf("%s for %d of %v at least %d votes: %+v; the twin has %v, tied %v, decided %+v", got.Award, places, c, minimum, got, winners, tied, p.twin.decided)
	if len(got.Winners) != len(winners) || len(got.Tied) != len(tied) {
		t.Fatal(what)
	}
	for i, w := range got.Winners {
		if votes, ok := winners[w.Candidate]; !ok || votes != w.Votes || i > 0 && got.Winners[i-1].Votes < votes {
			t.Fatal(what)
		}
		if got.Award != domain.Letter && w.Rank != c.better(w.Votes)+1 {
			t.Fatalf("rank %d of %v in %s", w.Rank, w.Candidate, what)
		}
	}
	for _, who := range got.Tied {
		if !slices.Contains(tied, who) {
			t.Fatal(what)
		}
	}
	lastIn, firstOut := int64(0), int64(0)
	for who, votes := range c {
		if _, won := winners[who]; won && (lastIn == 0 || votes < lastIn) {
			lastIn = votes
		} else if !won && places > 0 {
			firstOut = max(firstOut, votes)
		}
	}
	if got.LastIn != lastIn || got.FirstOut != firstOut {
		t.Fatalf("last in %d, first out %d in %s", lastIn, firstOut, what)
	}
	return winners
}

package domain

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Award is one of the kinds of award.
type Award string

// The awards, by the names that they have in an AwardRule.
const (
	SpecialistAward  Award = "specialists"
	InstitutionAward Award = "institutions"
	Letter           Award = "letters" // of gratitude
)

// ParseAward accepts "specialists", "institutions" and "letters".
func ParseAward(s string) (Award, error) {
	switch a := Award(s); a {
	case SpecialistAward, InstitutionAward, Letter:
		return a, nil
	}
	return "", fmt.Errorf("award %s: use %q, %q or %q", quote(s), SpecialistAward, InstitutionAward, Letter)
}

// Candidate is who can get an award: a specialist, by the id under which the
// votes count, or an institution, or a branch of one.
type Candidate struct {
	Specialist  string `json:"specialist_id,omitzero"`
	Institution string `json:"institution,omitzero"`
	Branch      string `json:"branch,omitzero"`
}

// String is the specialist's id, or the names of institution and branch.
func (c Candidate) String() string {
	switch {
	case c.Specialist != "":
		return c.Specialist
	case c.Branch != "":
		return c.Institution + " / " + c.Branch
	}
	return c.Institution
}

// validate says whether the candidate can get the award.
func (c Candidate) validate(a Award) error {
	if a == InstitutionAward {
		if c.Specialist != "" || c.Institution == "" && c.Branch == "" {
			return fmt.Errorf("%s: an institution or a branch is needed", a)
		}
		return firstError(validateText("institution", c.Institution, MaxTextBytes, false), validateText("branch", c.Branch, MaxTextBytes, false))
	}
	if c.Institution != "" || c.Branch != "" {
		return fmt.Errorf("%s: a specialist is needed", a)
	}
	return ValidateSpecialistID(c.Specialist)
}

// Winner is who gets an award.
type Winner struct {
	Candidate
	// Rank is the place among all by the votes that count for awards. Equals
	// share it, those too whom a decision has passed over.
	Rank    int
	Votes   int64       // that count for awards
	Voters  int64       // as in Standing; 0 for an institution or a branch
	Profile *Specialist // nil for an institution or a branch
}

// Prize is an award, who gets it and what decided that.
type Prize struct {
	Award   Award
	Places  int // by the rule; for letters from a threshold, all who are left
	Winners []Winner
	// LastIn are the fewest votes of a winner, FirstOut the most of those who come
	// next. Zero where there is nobody, or no such award.
	LastIn, FirstOut int64
	// Tied are all who tie across the boundary: they have equally many votes, and
	// Contested, the places that are left for them, are fewer. All win unless a
	// decision chose.
	Tied      []Candidate
	Contested int
	// Decision is the sequence of the decision that chose among those who tie, or 0.
	Decision uint64
	// Unfit is the sequence of the newest decision about this award where it is
	// about others than those who tie now, or 0. It chooses nobody.
	Unfit uint64
}

// PassedOver is somebody withdrawn who would have won.
type PassedOver struct {
	Award Award
	Winner
}

// Awards are who is honoured by a rule. Winners are in the order of their
// ranks, equals in that of the Latvian alphabet, then of ids.
type Awards struct {
	Rule         AwardRule
	Sequence     uint64 // the results are those of events 1 to Sequence
	Specialists  Prize
	Institutions Prize
	Letters      Prize
	PassedOver   []PassedOver
}

// Awards says who is honoured for what was counted so far, by the decisions
// that were recorded so far.
//
// Institutions and branches have the votes for their specialists at the time
// of the vote, those for a specialist who was withdrawn later too. Votes for
// specialists of no institution count for no institution.
func (t *Tally) Awards(rule AwardRule) (Awards, error) {
	if err := rule.Validate(); err != nil {
		return Awards{}, err
	}
	a := Awards{Rule: rule, Sequence: t.Position(), Specialists: Prize{Award: SpecialistAward, Places: rule.Specialists},
		Institutions: Prize{Award: InstitutionAward, Places: rule.Institutions}, Letters: Prize{Award: Letter, Places: rule.Letters}}
	ranked, withdrawn := t.candidates(rule)
	c, minimum := &t.register.campaign, rule.minimum()
	rest := a.Specialists.award(c, ranked, minimum)
	if rule.LettersFrom > 0 {
		minimum, a.Letters.Places = max(minimum, rule.LettersFrom), len(rest)
	}
	a.Letters.award(c, rest, minimum)
	a.PassedOver = passedOver(a, ranked, withdrawn)
	if rule.Institutions > 0 {
		institutions, err := t.institutions(rule)
		if err != nil {
			return Awards{}, err
		}
		a.Institutions.award(c, institutions, rule.minimum())
	}
	return a, nil
}

// candidates are the specialists, best first, and apart those who were
// withdrawn.
func (t *Tally) candidates(rule AwardRule) (ranked, withdrawn []Winner) {
	standings := t.Standings()
	for i := range standings {
		standings[i].Votes = rule.counted(standings[i])
	}
	RankStandings(standings)
	for _, s := range standings {
		w := Winner{Candidate: Candidate{Specialist: s.Specialist.ID}, Rank: s.Rank, Votes: s.Votes, Voters: s.Voters, Profile: s.Specialist}
		if s.Specialist.Withdrawn {
			withdrawn = append(withdrawn, w)
		} else {
			ranked = append(ranked, w)
		}
	}
	return ranked, withdrawn
}

// institutions are the institutions or branches with votes, best first.
func (t *Tally) institutions(rule AwardRule) ([]Winner, error) {
	channels := t.register.campaign.Channels
	groups, err := GroupCells(rule.InstitutionsBy, time.UTC, func(yield func(Cell) bool) {
		for key, n := range t.cells {
			cell := t.cell(key, n)
			nobodys := cell.Institution == "" && (cell.Branch == "" || rule.InstitutionsBy == ByInstitution)
			if nobodys || (!rule.WithoutIdentity && channels[key.channel].Identity == NoIdentity) {
				continue
			}
			if !yield(cell) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var ranked []Winner
	for _, g := range groups {
		w := Winner{Candidate: Candidate{Institution: g.Keys[0]}, Rank: g.Rank, Votes: g.Votes}
		if rule.InstitutionsBy == ByBranch {
			w.Branch = g.Keys[1]
		}
		ranked = append(ranked, w)
	}
	return ranked, nil
}

// award gives the places to the best of ranked, and returns all others.
func (p *Prize) award(c *Campaign, ranked []Winner, minimum int64) (rest []Winner) {
	if p.Places == 0 {
		return ranked // it is not given
	}
	decision, decided := c.decision(p.Award)
	if decided {
		p.Unfit = decision.Event // unless it fits
	}
	n := min(p.Places, reaching(ranked, minimum))
	if n > 0 {
		p.LastIn = ranked[n-1].Votes
		above := reaching(ranked, p.LastIn+1)
		n = reaching(ranked, p.LastIn)
		if n > p.Places {
			p.Contested = p.Places - above
			for _, w := range ranked[above:n] {
				p.Tied = append(p.Tied, w.Candidate)
			}
		}
	}
	lost := func(Winner) bool { return false }
	if decided && p.Contested > 0 && decision.chooses(p.Tied, p.Contested) {
		p.Decision, p.Unfit = decision.Event, 0
		lost = func(w Winner) bool { return slices.Contains(decision.Others, w.Candidate) }
	}
	for i, w := range ranked {
		if i < n && !lost(w) {
			p.Winners = append(p.Winners, w)
		} else {
			rest = append(rest, w)
		}
	}
	if len(rest) > 0 {
		p.FirstOut = rest[0].Votes
	}
	return rest
}

// reaching is how many have at least so many votes, of a list with the most
// votes first.
func reaching(ranked []Winner, votes int64) int {
	n, _ := slices.BinarySearchFunc(ranked, votes, func(w Winner, votes int64) int {
		if w.Votes >= votes {
			return -1
		}
		return 1
	})
	return n
}

// passedOver are those of the withdrawn for whom there would have been a place.
func passedOver(a Awards, ranked, withdrawn []Winner) (list []PassedOver) {
	for _, w := range withdrawn {
		better := reaching(ranked, w.Votes+1)
		switch {
		case w.Votes < a.Rule.minimum():
		case better < a.Rule.Specialists:
			list = append(list, PassedOver{SpecialistAward, w})
		case better < len(a.Specialists.Winners)+a.Rule.Letters, a.Rule.LettersFrom > 0 && w.Votes >= a.Rule.LettersFrom:
			list = append(list, PassedOver{Letter, w})
		}
	}
	return list
}

// prize is one of the awards.
func (a *Awards) prize(award Award) *Prize {
	switch award {
	case SpecialistAward:
		return &a.Specialists
	case InstitutionAward:
		return &a.Institutions
	default:
		return &a.Letters
	}
}

// DecideTie makes the decision by which winners, named as Candidate.String
// writes them, get an award at whose boundary more tie than there are places.
// An error says why nothing can be decided so.
func (t *Tally) DecideTie(rule AwardRule, award Award, winners []string, decision, reason string) (ResultsDecided, error) {
	awards, err := t.Awards(rule)
	if err != nil {
		return ResultsDecided{}, err
	}
	p := awards.prize(award)
	if len(p.Tied) == 0 {
		return ResultsDecided{}, fmt.Errorf("%s: nobody ties at the boundary, so that there is nothing to decide", award)
	}
	d := ResultsDecided{Award: award, Places: p.Contested, Decision: decision, Reason: reason}
	named := make(map[string]bool)
	for _, w := range winners {
		named[w] = true
	}
	for _, c := range p.Tied {
		switch left, asked := named[c.String()]; {
		case left:
			d.Winners = append(d.Winners, c)
			named[c.String()] = false
		case asked:
			return ResultsDecided{}, fmt.Errorf("%s: %s may be either of two who tie, so that the name decides nothing", award, quote(c.String()))
		default:
			d.Others = append(d.Others, c)
		}
	}
	for _, w := range winners {
		if named[w] {
			return ResultsDecided{}, fmt.Errorf("%s: %s is not one of the %d who tie with %d votes", award, quote(w), len(p.Tied), p.LastIn)
		}
	}
	if len(d.Winners) < p.Contested {
		return ResultsDecided{}, fmt.Errorf("%s: %d tie for %d places, and the decision gives only %d of them", award, len(p.Tied), p.Contested, len(d.Winners))
	}
	return d, d.validate()
}

// chooses says whether the decision is about exactly those who tie, and about as
// many places as are left for them.
func (d ResultsDecided) chooses(tied []Candidate, places int) bool {
	about := slices.Concat(d.Winners, d.Others)
	order := func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Specialist, b.Specialist), cmp.Compare(a.Institution, b.Institution), cmp.Compare(a.Branch, b.Branch))
	}
	slices.SortFunc(about, order)
	return d.Places == places && slices.Equal(about, slices.SortedFunc(slices.Values(tied), order))
}

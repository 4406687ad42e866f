package report

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sakipaldies.lv/ledger/domain"
)

// ErrNoRule says that nobody has named an award rule, and none is certified.
var ErrNoRule = errors.New("no award rule is certified")

// Awards are who is honoured by a rule, and why not others. Who that is stands in
// the results; names, positions and places of work are those of the register at the
// end of what was read, so that a misspelt name can be mended when results are
// certified already.
type Awards struct {
	Campaign string           `json:"campaign"`
	Title    string           `json:"title"`
	Timezone string           `json:"timezone"`
	Sequence uint64           `json:"as_of_sequence"` // the results are those of events 1 to Sequence
	Event    uint64           `json:"certified_by"`   // sequence of the certification; 0 where the rule was named
	Rule     domain.AwardRule `json:"rule"`
	Prizes   []Prize          `json:"prizes"`
	// PassedOver were withdrawn and would have won.
	PassedOver []Honoured `json:"passed_over"`
}

// Prize is one of the awards that the rule gives.
type Prize struct {
	Award    domain.Award `json:"award"`
	Places   int          `json:"places"` // by the rule
	Winners  []Honoured   `json:"winners"`
	LastIn   int64        `json:"last_in"`   // the fewest votes of a winner
	FirstOut int64        `json:"first_out"` // the most votes of those who come next
	Tied     []string     `json:"tied"`      // who tie at the boundary
	// Contested are the places that those who tie have among them.
	Contested int       `json:"contested_places"`
	Decision  *Decision `json:"decision"`                // that chose among them; null: all win
	Unfit     uint64    `json:"unfit_decision,omitzero"` // sequence of one about others than those who tie now
}

// Decision is one that was recorded.
type Decision struct {
	Event     uint64 `json:"event"`
	Reference string `json:"decision"`
	Reason    string `json:"reason"`
}

// Honoured is who gets an award, or would have.
type Honoured struct {
	Award       domain.Award `json:"award"`
	Rank        int          `json:"rank,omitzero"`
	Specialist  string       `json:"specialist_id,omitzero"`
	Name        string       `json:"name,omitzero"`
	Position    string       `json:"position,omitzero"`
	Institution string       `json:"institution"`
	Branch      string       `json:"branch,omitzero"`
	Region      string       `json:"region,omitzero"`
	Votes       int64        `json:"votes"` // that count for awards
}

// Who is the name of a person, or of an institution and its branch.
func (h Honoured) Who() string {
	switch {
	case h.Specialist != "" && h.Name != "":
		return h.Name
	case h.Specialist != "":
		return h.Specialist
	}
	return domain.Candidate{Institution: h.Institution, Branch: h.Branch}.String()
}

// MakeAwards says who is honoured by a rule for what was counted. Without a rule
// it is the newest certification's, for the results that it certifies; they are
// counted again, and it is ErrDigest when they are others.
func MakeAwards(ctx context.Context, s Source, rule *domain.AwardRule) (*Awards, error) {
	tally, err := s.tally(ctx)
	if err != nil {
		return nil, err
	}
	register := tally.Register()
	if rule != nil {
		return awardsOf(tally, register, *rule, 0)
	}
	certified, ok := register.Campaign().Certification()
	if !ok || certified.AwardRule == nil {
		return nil, fmt.Errorf("campaign %s: %w", register.Campaign().ID, ErrNoRule)
	}
	if tally, err = s.recount(ctx, certified); err != nil {
		return nil, err
	}
	return awardsOf(tally, register, *certified.AwardRule, certified.Event)
}

// awardsOf are those for what was counted, with the names of a register.
func awardsOf(t *domain.Tally, names *domain.Register, rule domain.AwardRule, event uint64) (*Awards, error) {
	awards, err := t.Awards(rule)
	if err != nil {
		return nil, err
	}
	c := t.Register().Campaign()
	a := &Awards{Campaign: c.ID, Title: c.Title, Timezone: c.Timezone, Sequence: awards.Sequence, Event: event, Rule: rule, PassedOver: []Honoured{}}
	for _, p := range []domain.Prize{awards.Specialists, awards.Institutions, awards.Letters} {
		if given(rule, p.Award) {
			a.Prizes = append(a.Prizes, prize(c, names, p))
		}
	}
	for _, w := range awards.PassedOver {
		a.PassedOver = append(a.PassedOver, honoured(names, w.Award, w.Winner))
	}
	return a, nil
}

// given says whether the rule gives an award at all.
func given(r domain.AwardRule, a domain.Award) bool {
	switch a {
	case domain.SpecialistAward:
		return r.Specialists > 0
	case domain.InstitutionAward:
		return r.Institutions > 0
	}
	return r.Letters > 0 || r.LettersFrom > 0
}

func prize(c *domain.Campaign, names *domain.Register, p domain.Prize) Prize {
	out := Prize{Award: p.Award, Places: p.Places, Winners: []Honoured{}, LastIn: p.LastIn, FirstOut: p.FirstOut,
		Tied: []string{}, Contested: p.Contested, Unfit: p.Unfit}
	for _, w := range p.Winners {
		out.Winners = append(out.Winners, honoured(names, p.Award, w))
	}
	for _, tied := range p.Tied {
		out.Tied = append(out.Tied, tied.String())
	}
	for _, d := range c.Decisions {
		if d.Event == p.Decision {
			out.Decision = &Decision{Event: d.Event, Reference: d.Decision, Reason: d.Reason}
		}
	}
	return out
}

func honoured(names *domain.Register, a domain.Award, w domain.Winner) Honoured {
	h := Honoured{Award: a, Rank: w.Rank, Specialist: w.Specialist, Institution: w.Institution, Branch: w.Branch, Votes: w.Votes}
	if s, ok := names.Specialist(w.Specialist); ok {
		h.Name, h.Position, h.Institution, h.Branch, h.Region = s.Name, s.Position, s.Institution, s.Branch, s.Region
	}
	return h
}

// Boundary says in words what decided who gets the award and who does not.
func (p Prize) Boundary(l Language) (string, error) {
	var parts []string
	var failed error
	say := func(name string, values ...any) {
		w, err := l.word(name)
		failed = errors.Join(failed, err)
		parts = append(parts, fmt.Sprintf(w, values...))
	}
	switch {
	case len(p.Winners) == 0:
		say("boundary_nobody")
	case p.FirstOut == 0:
		say("boundary_end", p.LastIn)
	case p.FirstOut < p.LastIn:
		say("boundary", p.LastIn, p.FirstOut)
	}
	switch {
	case p.Decision != nil:
		say("boundary_decided", p.LastIn, len(p.Tied), p.Contested, p.Decision.Reference, p.Decision.Event, p.Decision.Reason)
	case p.Contested > 0:
		say("boundary_tied", p.LastIn, len(p.Tied), p.Contested)
	}
	if p.Unfit != 0 {
		say("boundary_unfit", p.Unfit)
	}
	return strings.Join(parts, " "), failed
}

package domain

import (
	"fmt"
	"maps"
	"slices"
)

// Register is what intake must know to decide: the campaign and its
// specialists. It folds the events of the campaign's and the specialists'
// subjects, which are few, and passes over all others.
//
// The zero value is a register without a campaign. Methods that read may run
// at the same time; Apply may not run beside anything.
type Register struct {
	campaign    Campaign
	specialists map[string]*Specialist
	order       []*Specialist // by registration
	position    uint64
}

// Campaign is the campaign as of the last event. It must not be changed.
func (r *Register) Campaign() *Campaign { return &r.campaign }

// Position is the sequence of the last event that Apply took.
func (r *Register) Position() uint64 { return r.position }

// Specialist finds a specialist by id.
func (r *Register) Specialist(id string) (*Specialist, bool) {
	s, ok := r.specialists[id]
	return s, ok
}

// Specialists are all specialists in the order of their registration.
func (r *Register) Specialists() []*Specialist { return slices.Clone(r.order) }

// Canonical is the id under which a specialist's votes count: after a merge
// that of the specialist it was merged into.
func (r *Register) Canonical(id string) string {
	for range len(r.order) { // a chain of merges is shorter than that
		s, ok := r.specialists[id]
		if !ok || s.MergedInto == "" {
			break
		}
		id = s.MergedInto
	}
	return id
}

// Clone is a copy on which Apply does not touch the original.
func (r *Register) Clone() *Register {
	return &Register{campaign: r.campaign, position: r.position,
		specialists: maps.Clone(r.specialists), order: slices.Clone(r.order)}
}

// Apply folds one event. Events must come in the order of their sequences;
// gaps are allowed, because voters' events need not be shown to a register.
// An error names the sequence and leaves the register as it was.
func (r *Register) Apply(sequence uint64, e Event) error {
	if sequence <= r.position {
		return fmt.Errorf("event %d after event %d: events are folded in order", sequence, r.position)
	}
	if r.campaign.ID != "" && e.Campaign != r.campaign.ID {
		return fmt.Errorf("event %d: it belongs to campaign %s, the ledger to %s", sequence, e.Campaign, r.campaign.ID)
	}
	if err := r.apply(sequence, e); err != nil {
		return fmt.Errorf("event %d: %w", sequence, err)
	}
	r.position = sequence
	return nil
}

func (r *Register) apply(sequence uint64, e Event) error {
	switch e.Data.(type) {
	case VoteCast, VoteRetracted, VoteAnnulled:
		if r.campaign.Status == StatusNone {
			return fmt.Errorf("%s before campaign.opened", e.Data.kind())
		}
		return nil
	case SpecialistRegistered, SpecialistUpdated, SpecialistWithdrawn, SpecialistMerged:
		if r.campaign.Over(sequence) {
			return nil // void, see Tally
		}
		return r.specialist(sequence, e)
	default:
		return r.campaign.apply(sequence, e)
	}
}

func (r *Register) specialist(sequence uint64, e Event) error {
	switch d := e.Data.(type) {
	case SpecialistRegistered:
		return r.register(sequence, d)
	case SpecialistUpdated:
		return r.change(sequence, d.Specialist, func(s *Specialist) {
			s.Profile = d.Profile
			s.moveTo(d.Affiliation(), sequence)
		})
	case SpecialistWithdrawn:
		return r.change(sequence, d.Specialist, func(s *Specialist) { s.Withdrawn = true })
	case SpecialistMerged:
		return r.merge(sequence, d)
	}
	return nil
}

func (r *Register) register(sequence uint64, d SpecialistRegistered) error {
	if r.campaign.Status == StatusNone {
		return fmt.Errorf("specialist %s before campaign.opened", d.Specialist)
	}
	if _, ok := r.specialists[d.Specialist]; ok {
		return fmt.Errorf("specialist %s is registered a second time", d.Specialist)
	}
	s := &Specialist{ID: d.Specialist, Profile: d.Profile, Registered: sequence, Last: sequence, index: len(r.order)}
	s.moveTo(d.Affiliation(), sequence)
	if r.specialists == nil {
		r.specialists = make(map[string]*Specialist)
	}
	r.specialists[s.ID] = s
	r.order = append(r.order, s)
	return nil
}

func (r *Register) known(id string) (*Specialist, error) {
	s, ok := r.specialists[id]
	if !ok {
		return nil, fmt.Errorf("specialist %s is not registered", id)
	}
	return s, nil
}

// change puts a changed copy in a specialist's place, so that who holds the
// old one (a clone, a list of standings) keeps it as it was.
func (r *Register) change(sequence uint64, id string, change func(*Specialist)) error {
	old, err := r.known(id)
	if err != nil {
		return err
	}
	s := *old
	change(&s)
	s.Last = sequence
	r.specialists[id], r.order[s.index] = &s, &s
	return nil
}

// merge passes over a merge that would close a circle: two organisers may have
// decided at the same moment in which direction two specialists are merged, and
// the events of specialists lie on subjects of their own. They are one either way.
func (r *Register) merge(sequence uint64, d SpecialistMerged) error {
	from, err := r.known(d.Specialist)
	if err != nil {
		return err
	}
	into, err := r.known(d.Into)
	switch {
	case err != nil:
		return err
	case from.MergedInto != "":
		return fmt.Errorf("specialist %s was merged into %s already", from.ID, from.MergedInto)
	}
	circle := r.Canonical(into.ID) == from.ID
	return r.change(sequence, from.ID, func(s *Specialist) {
		if !circle {
			s.MergedInto, s.MergedBy = into.ID, d.Decision
		}
	})
}

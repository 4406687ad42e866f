package projections

import (
	"fmt"
	"slices"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// Fold turns a campaign's events into batches. It knows the register as of the
// last event, and nothing of what was counted before. It is for one goroutine.
type Fold struct {
	campaign string
	register domain.Register
	placed   map[string][]Placement // by the specialist's id
	pending  *pending
}

// NewFold is a Fold that begins with the first event of a campaign.
func NewFold(campaign string) *Fold {
	return newFold(campaign, Position{Stream: domain.StreamName(campaign)})
}

// newFold is a Fold that continues a position, and must be told what is known
// there.
func newFold(campaign string, at Position) *Fold {
	return &Fold{campaign: campaign, placed: make(map[string][]Placement), pending: newPending(at)}
}

// Take is the batch of the events since the last Take.
func (f *Fold) Take() *Batch {
	p := f.pending
	f.next()
	return p.batch()
}

// next begins the batch that continues the pending one.
func (f *Fold) next() { f.pending = newPending(f.pending.end()) }

// Add folds the next event, which is stored as data; data must not be changed
// any more. An error leaves everything as it was.
func (f *Fold) Add(e Event, data []byte) error {
	_, err := f.addAll([]decoded{{e, data}})
	return err
}

// addAll folds events up to the first that cannot be folded, and returns the
// number of those before it. It keeps the list.
func (f *Fold) addAll(list []decoded) (n int, err error) {
	p := f.pending
	for n < len(list) && err == nil {
		if err = f.add(list[n]); err == nil {
			n++
		}
	}
	if n > 0 {
		p.events, p.count, p.last = append(p.events, list[:n]), p.count+n, list[n-1].data
	}
	return n, err
}

func (f *Fold) add(e decoded) error {
	if last := f.pending.to.Sequence; e.Sequence != last+1 {
		return fmt.Errorf("event %d comes after event %d", e.Sequence, last)
	}
	if err := f.know(e.Event); err != nil {
		return err
	}
	p := f.pending
	switch e.Data.(type) {
	case domain.VoteCast, domain.VoteRetracted, domain.VoteAnnulled:
		f.count(e.Sequence, f.register.Delta(e.Sequence, e.Event.Event))
	case domain.SpecialistRegistered, domain.SpecialistUpdated, domain.SpecialistWithdrawn, domain.SpecialistMerged:
		if f.register.Delta(e.Sequence, e.Event.Event).Void {
			p.counts.void++
		} else {
			p.changed = e.Sequence
		}
	default:
		c := *f.register.Campaign()
		p.campaign = &c
	}
	p.to.Sequence, p.to.RecordedAt = e.Sequence, e.Time
	if e.Sequence == 1 {
		p.to.Identity = HashOf(e.data)
	}
	return nil
}

// know folds an event into what the fold must know of the campaign. Votes may
// be left out.
func (f *Fold) know(e Event) error {
	if e.Campaign != f.campaign {
		return fmt.Errorf("event %d: it belongs to campaign %s, the ledger to %s", e.Sequence, e.Campaign, f.campaign)
	}
	if err := f.register.Apply(e.Sequence, e.Event); err != nil {
		return err
	}
	if f.register.Campaign().Over(e.Sequence) {
		return nil // the register has passed over it
	}
	switch d := e.Data.(type) {
	case domain.SpecialistRegistered:
		f.place(e.Sequence, d.Specialist)
	case domain.SpecialistUpdated:
		f.place(e.Sequence, d.Specialist)
	case domain.SpecialistWithdrawn:
		f.changed(d.Specialist)
	case domain.SpecialistMerged:
		f.changed(d.Specialist)
	}
	return nil
}

// place notes where a specialist works from an event on.
func (f *Fold) place(sequence uint64, id string) {
	s := f.changed(id)
	if _, ok := f.placement(id, s.Affiliation()); ok {
		return
	}
	p := Placement{Sequence: sequence, Specialist: s.Registered, Affiliation: s.Affiliation()}
	f.placed[id] = append(f.placed[id], p)
	f.pending.placements = append(f.pending.placements, p)
}

func (f *Fold) changed(id string) *domain.Specialist {
	s, _ := f.register.Specialist(id) // the register has just taken an event about it
	f.pending.specialists[s.Registered] = s
	return s
}

func (f *Fold) placement(id string, a domain.Affiliation) (Placement, bool) {
	placed := f.placed[id]
	i := slices.IndexFunc(placed, func(p Placement) bool { return p.Affiliation == a })
	if i < 0 {
		return Placement{}, false
	}
	return placed[i], true
}

// count adds what a voter's event changes.
func (f *Fold) count(sequence uint64, d domain.Delta) {
	p := f.pending
	if d.Void {
		p.counts.void++
		return
	}
	at, _ := f.placement(d.Specialist, d.Affiliation) // the register knows no affiliation that the fold does not
	c := f.register.Campaign()
	channel := slices.IndexFunc(c.Channels, func(c domain.Channel) bool { return c.Name == d.Channel })
	p.cells[CellKey{d.Hour.Unix() / int64(time.Hour/time.Second), at.Sequence, channel}] += d.Votes
	t := p.totals[at.Sequence]
	p.totals[at.Sequence] = Total{at.Sequence, at.Specialist, t.Votes + d.Votes, t.Voters + d.Voters}
	p.timezone, p.changed = c.Timezone, sequence
	p.counts.votes += d.Votes
	p.counts.voters += d.Ballots
}

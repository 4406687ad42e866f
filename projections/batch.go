package projections

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// Event is one decoded event and its place in the ledger.
type Event struct {
	Sequence uint64
	domain.Event
}

// Batch is what a run of consecutive events changes: the events themselves,
// and the sum of what each of them does to the counts. Both say the same; a
// read model uses what suits it.
//
// Keys are sequences of the ledger. They are short, and they come out the same
// whoever folds the ledger and wherever the fold begins.
type Batch struct {
	From Position // of the event before the first one
	To   Position // of the last event

	Events iter.Seq[Event]

	Campaign    *domain.Campaign     // as of To; nil when nothing about it changes
	Specialists []*domain.Specialist // those that change, as of To, by registration
	Placements  []Placement          // new ones, by their key
	Timezone    string               // of the campaign; empty without Cells

	// Changed is the sequence of the last event that changes results, and 0
	// where none does: a vote that counts, or anything about a specialist.
	Changed uint64

	// Changes of the counts, each key once, in ascending order and without
	// those that change nothing.
	Totals []Total
	Cells  []Cell

	Votes  int64 // change of the votes in force
	Voters int64 // change of the distinct voters
	Void   int64 // events that count for nothing
}

// Placement is a specialist at an affiliation. Who comes back to an
// affiliation comes back to the same placement.
type Placement struct {
	Sequence   uint64 // the key: the event that first put the specialist there
	Specialist uint64 // sequence of the specialist's registration
	domain.Affiliation
}

// Total is a change of what a specialist has got at one placement.
type Total struct {
	Placement     uint64 // Placement.Sequence
	Specialist    uint64 // Placement.Specialist
	Votes, Voters int64
}

// CellKey is where a vote is counted.
type CellKey struct {
	Hour      int64  // in which the vote was cast, in hours since 1970
	Placement uint64 // Placement.Sequence
	Channel   int    // index in Campaign.Channels, which only grows
}

// Cell is a change of the finest count.
type Cell struct {
	CellKey
	Votes int64
}

// Begin is the beginning of the hour, in UTC.
func (k CellKey) Begin() time.Time { return time.Unix(k.Hour*int64(time.Hour/time.Second), 0).UTC() }

func (k CellKey) compare(l CellKey) int {
	return cmp.Or(cmp.Compare(k.Hour, l.Hour), cmp.Compare(k.Placement, l.Placement), cmp.Compare(k.Channel, l.Channel))
}

// pending is a batch that still grows.
type pending struct {
	from, to    Position    // to lacks the hash, see end
	events      [][]decoded // as they came
	count       int         // of events
	campaign    *domain.Campaign
	specialists map[uint64]*domain.Specialist // by registration
	placements  []Placement
	timezone    string
	changed     uint64           // the last event that changes results
	totals      map[uint64]Total // by the placement
	cells       map[CellKey]int64
	counts      struct{ votes, voters, void int64 }
	last        []byte // the last event as stored
}

// decoded is an event with its bytes.
type decoded struct {
	Event
	data []byte
}

func newPending(from Position) *pending {
	return &pending{from: from, to: from, specialists: make(map[uint64]*domain.Specialist),
		totals: make(map[uint64]Total), cells: make(map[CellKey]int64)}
}

func (p *pending) empty() bool { return p.count == 0 }
func (p *pending) full() bool  { return p.count >= maxBatchEvents }

// end is the position behind the last event.
func (p *pending) end() Position {
	to := p.to
	if p.last != nil {
		to.Hash = HashOf(p.last)
	}
	return to
}

// all are the events.
func (p *pending) all(yield func(Event) bool) {
	for _, list := range p.events {
		for _, e := range list {
			if !yield(e.Event) {
				return
			}
		}
	}
}

// batch is called when nothing is added any more.
func (p *pending) batch() *Batch {
	b := &Batch{From: p.from, To: p.end(), Events: p.all, Campaign: p.campaign, Placements: p.placements, Timezone: p.timezone, Changed: p.changed,
		Votes: p.counts.votes, Voters: p.counts.voters, Void: p.counts.void}
	for _, registered := range slices.Sorted(maps.Keys(p.specialists)) {
		b.Specialists = append(b.Specialists, p.specialists[registered])
	}
	for _, t := range p.totals {
		if t.Votes != 0 || t.Voters != 0 {
			b.Totals = append(b.Totals, t)
		}
	}
	slices.SortFunc(b.Totals, func(s, t Total) int { return cmp.Compare(s.Placement, t.Placement) })
	for key, votes := range p.cells {
		if votes != 0 {
			b.Cells = append(b.Cells, Cell{key, votes})
		}
	}
	slices.SortFunc(b.Cells, func(c, d Cell) int { return c.compare(d.CellKey) })
	return b
}

package projectiontest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
)

// Campaigns are ledgers in memory, as a Runner finds them, with faults. The
// zero value has none.
type Campaigns struct {
	mu  sync.Mutex
	all map[string]*Campaign // guarded by mu
	err error                // guarded by mu
}

// Campaign is one ledger among Campaigns. Its fields may be changed within Set.
type Campaign struct {
	Memory  *storetest.Memory
	OpenErr error  // fails opening
	InfoErr error  // fails Info of opened ledgers too
	End     uint64 // the ledger seems to end here; 0: where it ends
	Created time.Time
	Closed  int // how many opened ledgers were closed
}

// Add adds a campaign's ledger, or puts it in another's place.
func (c *Campaigns) Add(campaign string, m *storetest.Memory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[string]*Campaign)
	}
	c.all[campaign] = &Campaign{Memory: m}
}

// Set changes a campaign.
func (c *Campaigns) Set(campaign string, change func(*Campaign)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c.all[campaign])
}

// Fail makes List fail from now on, until it is nil.
func (c *Campaigns) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *Campaigns) get(campaign string) Campaign {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.all[campaign]
}

// List implements projections.Campaigns.
func (c *Campaigns) List(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.all)), c.err
}

// Open implements projections.Campaigns.
func (c *Campaigns) Open(_ context.Context, campaign string) (projections.Ledger, error) {
	state := c.get(campaign)
	if state.OpenErr != nil {
		return nil, state.OpenErr
	}
	return &ledger{c, campaign}, nil
}

// ledger is an opened one. Like a stream, it can be put in another's place
// under it; who follows the old one waits for ever.
type ledger struct {
	campaigns *Campaigns
	campaign  string
}

func (l *ledger) memory() *storetest.Memory { return l.campaigns.get(l.campaign).Memory }

// Follow implements projections.Ledger.
func (l *ledger) Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error {
	return l.memory().Follow(ctx, from, fn)
}

// History implements projections.Ledger.
func (l *ledger) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	return l.memory().History(ctx, subject, after, read)
}

// Info implements projections.Ledger.
func (l *ledger) Info(ctx context.Context) (eventstore.Info, error) {
	state := l.campaigns.get(l.campaign)
	if state.InfoErr != nil {
		return eventstore.Info{}, state.InfoErr
	}
	last, _, err := state.Memory.Last(ctx, ">", eventstore.Leader)
	if state.End > 0 {
		last.Sequence = min(last.Sequence, state.End)
	}
	return eventstore.Info{Last: last.Sequence, Created: state.Created}, err
}

// Close implements projections.Ledger.
func (l *ledger) Close(context.Context) error {
	l.campaigns.Set(l.campaign, func(c *Campaign) { c.Closed++ })
	return nil
}

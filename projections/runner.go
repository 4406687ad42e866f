// Package projections keeps read models up to date with ledgers. A read model is
// a fold of all events; it can be thrown away and built again at any time.
//
//	ledger ─ decode ─▶ fold ─▶ Batch ─ Model.Apply ─▶ read model ─ Reader ─▶ results
//
// A Runner does this for every campaign. The read model here is in memory; the
// one in projections/postgres is for everybody who reads SQL. One suite of
// tests, in projections/projectiontest, holds for both.
package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

const (
	// discoveryInterval is how often a Runner looks for new campaigns, and
	// whether what halted a campaign was mended, when nobody tells it to.
	discoveryInterval = 5 * time.Second
	// maxFollowed is how many campaigns a Runner keeps, each of them an opened
	// ledger and a few goroutines.
	maxFollowed = 1000
	// closeTimeout bounds how long a ledger may take to close. A Runner records
	// nothing, so there is nothing to wait for.
	closeTimeout = 5 * time.Second
	// retryMin and retryMax bound the time between two tries after an error
	// that may pass by itself.
	retryMin = 50 * time.Millisecond
	retryMax = 5 * time.Second
)

// Ledger is a campaign's ledger as a Runner needs it; *eventstore.Ledger is
// one. All is answered by who has every acknowledged event.
type Ledger interface {
	// Follow gives every event from a sequence on, in order and without a gap,
	// in batches of what is there, and goes on until its context ends or fn
	// fails; that error is returned as it is. The events' Data may be kept.
	Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error
	History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error)
	Info(ctx context.Context) (eventstore.Info, error)
	Close(ctx context.Context) error
}

// Campaigns is where a Runner finds ledgers. List is called by one goroutine
// at a time, Open by several; both are called again after an error.
type Campaigns interface {
	// List names the campaigns that have a ledger.
	List(ctx context.Context) ([]string, error)
	// Open opens the ledger of a campaign, which the Runner closes.
	Open(ctx context.Context, campaign string) (Ledger, error)
}

// Config is what a Runner works with. All of it is needed.
type Config struct {
	Campaigns Campaigns
	Models    Models
	Codec     *domain.Codec
	Log       *slog.Logger
}

// Runner keeps the read models of all campaigns up to date, of those too that
// are opened while it runs. Each campaign is on its own: one that cannot go on
// hinders no other.
//
// There is one way to recover, whatever went wrong: what was folded is
// forgotten, the read model is asked for its position, and the ledger is
// followed from there. Nothing depends on what became of the last batch.
type Runner struct {
	config Config

	mu       sync.Mutex
	followed map[string]*followed // by campaign; guarded by mu
	listErr  error                // of the last look for campaigns; guarded by mu
}

// NewRunner is a Runner that does nothing until it is run.
func NewRunner(c Config) *Runner {
	return &Runner{config: c, followed: make(map[string]*followed)}
}

// Run follows until the context ends, then closes what it has opened and
// waits for its goroutines. It looks for new campaigns when changed is
// received from, and every few seconds. The error is that of closing. It may
// be run again, but not beside itself.
//
// Errors that may pass are tried again with growing pauses; what a HaltError
// is about is looked at again at every look for campaigns.
func (r *Runner) Run(ctx context.Context, changed <-chan struct{}) error {
	var work sync.WaitGroup
	tick := time.NewTicker(discoveryInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.listed(ctx, r.discover(ctx, &work))
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	work.Wait()
	return r.close()
}

// RunToEnd brings all read models to where the ledgers end when it comes to
// them, one after the other, and tries nothing twice. The error tells of every
// campaign that did not get there.
func (r *Runner) RunToEnd(ctx context.Context) error {
	names, err := r.config.Campaigns.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		f := r.get(name)
		err := r.open(ctx, f)
		if err == nil && f.target > 0 {
			err = r.projection(f, f.target).Run(ctx)
		}
		if err != nil {
			f.failed(err)
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, r.close())...)
}

// listed keeps the outcome of a look for campaigns for States, and logs it
// when it was another one before.
func (r *Runner) listed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.listErr == nil {
		r.config.Log.Warn("campaigns cannot be looked for", "error", err)
	}
	r.listErr = err
}

// discover begins to work on the campaigns that are not worked on.
func (r *Runner) discover(ctx context.Context, work *sync.WaitGroup) error {
	names, err := r.config.Campaigns.List(ctx)
	if err != nil {
		return err
	}
	if len(names) > maxFollowed {
		err = fmt.Errorf("there are %d campaigns, and at most %d can be followed: archive some elsewhere", len(names), maxFollowed)
		names = names[:maxFollowed]
	}
	for _, name := range names {
		f := r.get(name)
		if working, begun := f.begin(ctx); begun {
			work.Go(func() { r.keep(ctx, working, f) })
			continue
		}
		f.look(ctx)
	}
	return err
}

// get is a campaign, a new one if need be.
func (r *Runner) get(campaign string) *followed {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.followed[campaign]
	if !ok {
		f = &followed{campaign: campaign}
		r.followed[campaign] = f
	}
	return f
}

// list is all campaigns in the order of their names.
func (r *Runner) list() []*followed {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Collect(maps.Values(r.followed))
	slices.SortFunc(list, func(f, g *followed) int { return cmp.Compare(f.campaign, g.campaign) })
	return list
}

// keep works on a campaign until the Runner's context ends or only a person can
// help. The campaign's own context ends too when a look finds something wrong.
func (r *Runner) keep(ctx, working context.Context, f *followed) {
	defer f.end()
	for try := 0; ; try++ {
		before := f.position().Sequence
		err := r.open(working, f)
		if err == nil {
			err = r.projection(f, 0).Run(working)
		}
		if ctx.Err() != nil {
			return
		}
		if working.Err() != nil {
			err = context.Cause(working)
		}
		if f.failed(err) {
			r.log(ctx, f, err)
		}
		if working.Err() != nil || halting(err) {
			return
		}
		if f.position().Sequence > before {
			try = 0
		}
		pause(working, try)
	}
}

// log says why a campaign does not go on.
func (r *Runner) log(ctx context.Context, f *followed, err error) {
	switch {
	case errors.Is(err, ErrMoved):
		r.config.Log.InfoContext(ctx, "another projector was faster", "campaign", f.campaign, "error", err)
	case halting(err):
		r.config.Log.ErrorContext(ctx, "the read model of a campaign has stopped", "campaign", f.campaign, "error", err)
	default:
		r.config.Log.WarnContext(ctx, "the read model of a campaign is interrupted", "campaign", f.campaign, "error", err)
	}
}

// halting says whether an error does not pass by itself.
func halting(err error) bool {
	var halt *HaltError
	return errors.As(err, &halt) || errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrNotFound)
}

// pause waits before the try after the given one: longer each time, and at
// random, so that those who were in each other's way are so no more.
func pause(ctx context.Context, try int) {
	d := min(retryMin<<min(try, 16), retryMax)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// open opens a campaign's ledger and read model, unless they are open.
func (r *Runner) open(ctx context.Context, f *followed) error {
	if f.opened() != nil {
		return nil
	}
	model, err := r.config.Models.Model(ctx, f.campaign)
	if err != nil {
		return fmt.Errorf("campaign %s: read model: %w", f.campaign, err)
	}
	l, err := r.config.Campaigns.Open(ctx, f.campaign)
	if err != nil {
		return fmt.Errorf("campaign %s: %w", f.campaign, err)
	}
	info, err := l.Info(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("campaign %s: %w", f.campaign, err), closeLedger(l))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger, f.model, f.target = l, model, info.Last
	return nil
}

func (r *Runner) projection(f *followed, to uint64) *Projection {
	return &Projection{Campaign: f.campaign, Ledger: f.opened(), Model: f.model, Codec: r.config.Codec, To: to,
		Stored: f.stored, resumed: f.resumed}
}

// close closes all ledgers once nobody reads them any more.
func (r *Runner) close() error {
	var errs []error
	for _, f := range r.list() {
		f.mu.Lock()
		if f.ledger != nil {
			errs = append(errs, closeLedger(f.ledger))
		}
		f.ledger = nil
		f.mu.Unlock()
	}
	return errors.Join(errs...)
}

// closeLedger has a time of its own, for it comes when the context has ended.
func closeLedger(l Ledger) error {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	return l.Close(ctx)
}

// States says how far every campaign is, in the order of their names. It asks
// each ledger for its end, within ctx. The error says that the last look for
// new campaigns failed; the states are there nevertheless.
func (r *Runner) States(ctx context.Context) ([]State, error) {
	var states []State
	for _, f := range r.list() {
		states = append(states, f.state(ctx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return states, r.listErr
}

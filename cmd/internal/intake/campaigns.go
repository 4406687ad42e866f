package intake

import (
	"context"
	"errors"
	"sync"

	"sakipaldies.lv/ledger/eventstore"
)

// Opener finds campaigns and opens them. Its methods are called by several
// goroutines, and again after an error.
type Opener interface {
	// List names the campaigns that have a ledger.
	List(ctx context.Context) ([]string, error)
	// Open makes the intake of a campaign, and what is to be called when nobody
	// uses it any more.
	Open(ctx context.Context, campaign string) (*Intake, func() error, error)
}

// Campaigns keeps an intake for every campaign that was asked for, each of
// them opened once. It is safe for concurrent use.
type Campaigns struct {
	opener Opener
	ctx    context.Context // ends with Close: what is being opened then is given up
	stop   context.CancelFunc

	mu     sync.Mutex // guards what follows
	kept   map[string]*kept
	closed bool
}

// kept is the intake of a campaign, or the attempt to open it.
type kept struct {
	done   chan struct{} // closed when the rest is set
	intake *Intake
	close  func() error
	err    error
}

// NewCampaigns are campaigns of which none is open yet.
func NewCampaigns(o Opener) *Campaigns {
	ctx, stop := context.WithCancel(context.Background())
	return &Campaigns{opener: o, ctx: ctx, stop: stop, kept: make(map[string]*kept)}
}

// List names the campaigns that there are.
func (c *Campaigns) List(ctx context.Context) ([]string, error) { return c.opener.List(ctx) }

// Get is the intake of a campaign; the first one who asks opens it. Errors are
// those of the Opener, and eventstore.ErrClosed after Close.
func (c *Campaigns) Get(ctx context.Context, campaign string) (*Intake, error) {
	for {
		k, mine, err := c.find(campaign)
		if err != nil {
			return nil, err
		}
		if mine {
			c.open(ctx, campaign, k)
		}
		select {
		case <-k.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// Who opened it for all may have had less time than this caller.
		if mine || k.err == nil || !errors.Is(k.err, context.Canceled) && !errors.Is(k.err, context.DeadlineExceeded) {
			return k.intake, k.err
		}
	}
}

// find is what is kept of a campaign, and whether the caller has to open it.
func (c *Campaigns) find(campaign string) (k *kept, mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.kept[campaign]; ok {
		return k, false, nil
	}
	if c.closed {
		return nil, false, eventstore.ErrClosed
	}
	k = &kept{done: make(chan struct{})}
	c.kept[campaign] = k
	return k, true, nil
}

// open opens a campaign. What failed is not kept: the next one tries again.
func (c *Campaigns) open(ctx context.Context, campaign string, k *kept) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.ctx, stop)()
	k.err = errNotOpened // if the opener does not return
	defer func() {
		if k.err != nil {
			c.mu.Lock()
			delete(c.kept, campaign)
			c.mu.Unlock()
		}
		close(k.done)
	}()
	k.intake, k.close, k.err = c.opener.Open(ctx, campaign)
	if k.err != nil && c.ctx.Err() != nil {
		k.err = eventstore.ErrClosed
	}
}

// errNotOpened says that the opening of a campaign ended in a panic.
var errNotOpened = errors.New("the campaign could not be opened")

// Close closes all that was opened, and gives up what is being opened. Nothing is
// opened afterwards; who still uses an intake gets eventstore.ErrClosed.
func (c *Campaigns) Close() error {
	c.stop()
	c.mu.Lock()
	c.closed = true
	var all []*kept
	for _, k := range c.kept {
		all = append(all, k)
	}
	c.mu.Unlock()
	var errs []error
	for _, k := range all {
		if <-k.done; k.err == nil {
			errs = append(errs, k.close())
		}
	}
	return errors.Join(errs...)
}

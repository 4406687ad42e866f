package dashboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// Limits of counting from the ledger.
const (
	// maxCountEvents is how many events are counted for one answer. The largest
	// ledger that is planned for has fewer.
	maxCountEvents = 3_000_000
	// maxCounting is how many of the public results are counted at a time, and how
	// many others, for each takes a processor.
	maxCounting = 2
	// maxKept is how many results are kept that are not public, those that were
	// asked for last.
	maxKept = 8
	// maxPublicKept is how many public results are kept. There is one for each
	// campaign, and a campaign takes a year.
	maxPublicKept = 32
	// countTimeout is how long one count may take, in time; a hundred thousand
	// events take a second where everything is slow.
	countTimeout = time.Minute
	// closeTimeout bounds how long a ledger may take to close. Nothing was
	// recorded in it.
	closeTimeout = 5 * time.Second
)

// Ledger is a campaign's ledger from its first event on; *eventstore.Ledger is
// one.
type Ledger interface {
	projections.Replayer
	Close(ctx context.Context) error
}

// Ledgers opens ledgers, which are closed here. It is called by several
// goroutines.
type Ledgers interface {
	OpenLedger(ctx context.Context, campaign string) (Ledger, error)
}

// moment is an event of a ledger, known by the hash of its first event.
type moment struct {
	campaign      string
	identity      projections.Hash
	sequence      uint64
	certification uint64 // sequence of the event that certifies the results as of then, if these are public, else 0
}

// past counts as of earlier events.
type past struct {
	ledgers  Ledgers
	codec    *domain.Codec
	maxKept  int
	ctx      context.Context // of all counting
	stop     context.CancelFunc
	work     sync.WaitGroup
	counting chan struct{} // holds a place for every count under way

	mu   sync.Mutex
	kept []*counted // the one that was asked for last is the last; guarded by mu
}

// counted is what was counted, or will be. Results and err are read after done
// was closed.
type counted struct {
	moment
	done    chan struct{}
	results projections.Results
	err     error
}

// settled are results that never change. Thousands of names take some twenty
// milliseconds to be put into their order, and everybody asks for the same ones
// on the day of the publication: that is done once.
type settled struct {
	projections.Results
	standings func() ([]domain.Standing, error)
}

func newSettled(t *domain.Tally) settled {
	r := projections.TallyResults(t)
	return settled{r, sync.OnceValues(func() ([]domain.Standing, error) { return r.Standings(context.Background()) })}
}

// Standings implements projections.Results. The list is everybody's, and must
// not be changed.
func (s settled) Standings(context.Context) ([]domain.Standing, error) { return s.standings() }

func newPast(ledgers Ledgers, codec *domain.Codec, maxKept int) *past {
	ctx, stop := context.WithCancel(context.Background())
	return &past{ledgers: ledgers, codec: codec, maxKept: maxKept, ctx: ctx, stop: stop, counting: make(chan struct{}, maxCounting)}
}

// close ends all counting. Nothing is begun any more afterwards.
func (p *past) close() {
	p.mu.Lock()
	p.stop()
	p.mu.Unlock()
	p.work.Wait()
}

// count is the results as of a moment, for many at once. The counting goes on
// when who asked has gone: a client that asks again finds it further on, or done.
func (p *past) count(ctx context.Context, m moment) (projections.Results, error) {
	if m.sequence > maxCountEvents {
		return nil, ErrTooFar
	}
	c, err := p.find(m)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.results, c.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrCounting, ctx.Err())
	}
}

// find is what is kept of a moment, and begins to count it if nothing is.
func (p *past) find(m moment) (*counted, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.kept, func(c *counted) bool { return c.moment == m }); i >= 0 {
		c := p.kept[i]
		p.kept = append(slices.Delete(p.kept, i, i+1), c)
		return c, nil
	}
	if err := p.ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	select {
	case p.counting <- struct{}{}:
	default:
		return nil, fmt.Errorf("%w: %d others are", ErrCounting, maxCounting)
	}
	c := &counted{moment: m, done: make(chan struct{})}
	if len(p.kept) == p.maxKept {
		p.kept = slices.Delete(p.kept, 0, 1)
	}
	p.kept = append(p.kept, c)
	p.work.Go(func() {
		defer close(c.done)
		defer func() { <-p.counting }() // before who waits asks for the next one
		tally, err := p.replay(m)
		if err != nil {
			c.err = err
			p.forget(c)
			return
		}
		c.results = newSettled(tally)
	})
	return c, nil
}

// forget makes the next one who asks count anew.
func (p *past) forget(c *counted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(k *counted) bool { return k == c })
}

// replay folds the events up to a moment. The gate has gone by the read model; so
// that it has not spoken of another ledger, this one must begin with the same
// event, and public results must be those that were certified.
func (p *past) replay(m moment) (_ *domain.Tally, err error) {
	ctx, stop := context.WithTimeout(p.ctx, countTimeout)
	defer stop()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: campaign %s as of event %d: %w", ErrUnavailable, m.campaign, m.sequence, err)
		}
	}()
	l, err := p.ledgers.OpenLedger(ctx, m.campaign)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	tally := new(domain.Tally)
	err = projections.Replay(ctx, known{l, m.identity}, p.codec, 1, m.sequence, func(sequence uint64, e domain.Event) error {
		_, err := tally.Apply(sequence, e)
		return err
	})
	if err == nil && tally.Position() != m.sequence {
		err = fmt.Errorf("%w: the ledger ends at event %d", eventstore.ErrCorrupt, tally.Position())
	}
	if err == nil && m.certification != 0 {
		err = p.compare(ctx, l, m.certification, tally)
	}
	return tally, err
}

// compare holds what was counted against its certification.
func (p *past) compare(ctx context.Context, l Ledger, certification uint64, tally *domain.Tally) error {
	var certified domain.ResultsCertified // of another event: without a digest
	err := projections.Replay(ctx, l, p.codec, certification, certification, func(_ uint64, e domain.Event) error {
		certified, _ = e.Data.(domain.ResultsCertified)
		return nil
	})
	if err == nil && certified.TallyDigest != tally.Digest() {
		err = fmt.Errorf("%w: these are not the results that event %d certifies; run `paldies audit verify`", eventstore.ErrCorrupt, certification)
	}
	return err
}

// known is a ledger that must begin with the event of a hash.
type known struct {
	projections.Replayer
	identity projections.Hash
}

// Replay implements projections.Replayer.
func (k known) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	return k.Replayer.Replay(ctx, from, to, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			if rec.Sequence == 1 && projections.HashOf(rec.Data) != k.identity {
				return fmt.Errorf("%w: the read model is of another ledger", eventstore.ErrCorrupt)
			}
		}
		return fn(batch)
	})
}

// closeLedger has a time of its own, for it comes when the context has ended.
func closeLedger(l Ledger) error {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	return l.Close(ctx)
}

// Package load sends votes to the intake API as fast as clients ask for them,
// or at a given rate, measures how long the answers take, and then looks
// whether every vote that was acknowledged stands in the ledger exactly once.
//
//	Run: specialists → requests (source → client → judgement → book, figures) → check → Report
//
// # What is sent
//
// Pairs of a voter and a specialist are drawn from a seed by a permutation, so
// that no pair comes twice without a list of those that were used. A part of
// the requests are repeats, which carry an earlier vote with a key of their own
// and must be refused with that vote's sequence, and a part are retries, which
// carry an earlier request with its own key and must be answered with the very
// body of the first time. Which pairs and which kinds of requests follow each
// other is the seed's; which earlier vote is taken up again depends also on
// what was acknowledged by then. Voters are made up: bench:<run>-<number>.
//
// # What is measured
//
// In a closed loop a client sends its next request when it has its answer, and
// the latency begins when it sends. A server that stalls then slows the load
// itself and hides how many would have had to wait. In an open loop requests
// are due at planned times, whatever the server does, and the latency begins at
// the planned time: who waits because earlier requests are still out waits in
// the figures, too. The waits for retries belong to the latency in both.
//
// # What is checked
//
// Every answer is judged when it comes, and at the end the votes of every voter
// of the run are read and compared with what was acknowledged. A vote that the
// ledger has and nobody was told of is allowed only where the outcome of its
// request stayed unknown. Whatever else differs is a [Discrepancy].
//
// # What it costs
//
// The book takes 32 bytes for each new vote and the check 8 more: 200 MB for
// five million. Nothing else grows with the run. The client shares its
// processors with the server when both run on one machine, so it builds bodies
// from prepared parts, reads answers into one buffer a client, and keeps
// connections; what is left is nearly all net/http's own.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrUnavailable says that the API did not answer what the run cannot do
	// without, however often it was asked.
	ErrUnavailable = errors.New("the API is unavailable")
	// ErrRejected says that the API lets this run do nothing: the token, the
	// campaign or the URL is wrong. Trying again changes nothing.
	ErrRejected = errors.New("the API rejects this run")
)

// Run sends the load of cfg, checks what came of it, and returns the report.
// With discrepancies the error is nil: the report lists them. The error is
// ErrRejected or ErrUnavailable, wrapped, or the context's; with ErrUnavailable
// after the load the report has all but a complete check.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	cfg = cfg.withDefaults()
	api := newAPI(cfg)
	defer api.close()
	if len(cfg.Specialists) == 0 {
		var err error
		if cfg.Specialists, err = api.client().specialists(ctx); err != nil {
			return Report{}, err
		}
	}
	plan, err := newPlan(cfg)
	if err != nil {
		return Report{}, err
	}
	r := &run{cfg: cfg, api: api, plan: plan, book: new(book), findings: newFindings()}
	if err := r.send(ctx); err != nil {
		return Report{}, err
	}
	report := r.report()
	if cfg.SkipCheck {
		return report, nil
	}
	checked, err := r.check(ctx)
	report.Check, report.Discrepancies, report.Resent = checked, r.findings.report(), r.resent()
	return report, err
}

// run is one run under way.
type run struct {
	cfg      Config
	api      *api
	plan     *plan
	book     *book
	source   *source
	figures  *figures
	findings *findings
	started  time.Time
}

// send runs all clients until the source has nothing more for them.
func (r *run) send(ctx context.Context) error {
	r.started = time.Now()
	r.source = newSource(r.cfg, r.plan, r.book, r.started)
	r.figures = newFigures(r.source.measureFrom, r.source.end)
	defer r.cfg.progress("requests", r.source.expected(), r.figures.done.Load)()
	return parallel(ctx, r.cfg.Clients, func(ctx context.Context) error {
		s := sender{run: r, client: r.api.client()}
		for {
			q, ok := r.source.next(time.Now())
			if !ok {
				return nil
			}
			if err := s.send(ctx, q); err != nil {
				return err
			}
		}
	})
}

// parallel runs n of the same worker, stops all when one fails, and waits for
// them. It returns the first error.
func parallel(ctx context.Context, n int, work func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			if err := work(ctx); err != nil {
				stop(err)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// newRunID names a run, so that its voters are nobody else's in the same
// campaign. It is not drawn from the seed: the same load can be sent twice.
func newRunID() string { return strconv.FormatUint(rand.Uint64(), 36) }

// progress shows one stage, if somebody wants to see it.
func (c Config) progress(title string, total int64, done func() int64) (stop func()) {
	if c.Progress == nil {
		return func() {}
	}
	return c.Progress(title, total, done)
}

// sleep waits for d or for the context's end.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// counter is a number that several clients raise.
type counter = atomic.Int64

func rejected(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRejected, fmt.Sprintf(format, args...))
}

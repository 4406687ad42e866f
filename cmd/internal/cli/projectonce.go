package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
)

// reachedInterval is the pause between two looks whether another process has
// brought the read models to where they are wanted.
const reachedInterval = 250 * time.Millisecond

// errReached ends waiting for what another process has done.
var errReached = errors.New("the read models are where they are wanted")

// projectOnce brings all read models to where the ledgers end now. While
// another process works it waits until that one has done it, or has ended.
func (a *app) projectOnce(cmd *cobra.Command, db *postgres.DB, where string) error {
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
		campaigns := nodeCampaigns{a, n}
		ends, err := ledgerEnds(ctx, campaigns)
		if err != nil {
			return err
		}
		p := a.newProjector(db, where)
		defer p.use(campaigns)()
		trying, stop := context.WithCancelCause(ctx)
		var watcher sync.WaitGroup
		watcher.Go(func() { waitReached(trying, p, db, ends, stop) })
		err = p.leader.Run(trying, p.runner.RunToEnd)
		reached := errors.Is(context.Cause(trying), errReached)
		stop(nil)
		watcher.Wait()
		switch {
		case reached:
		case err != nil:
			return databaseOnce(err)
		case ctx.Err() != nil:
			return ctx.Err() // It was interrupted while it waited.
		}
		return a.printEnds(ctx, db, campaigns, ends)
	})
}

// databaseOnce leaves one of the errors of several campaigns that tell of the
// database, for they have one reason and one remedy.
func databaseOnce(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var first error
	var others []error
	more := 0
	for _, err := range joined.Unwrap() {
		switch {
		case !errors.Is(err, postgres.ErrUnavailable) && !errors.Is(err, postgres.ErrRefused):
			others = append(others, err)
		case first == nil:
			first = err
		default:
			more++
		}
	}
	if more == 0 {
		return err
	}
	return errors.Join(append(others, fmt.Errorf("%w; it is the same with %d more of the campaigns", first, more))...)
}

// end is a ledger's last event.
type end struct {
	campaign string
	sequence uint64
}

func ledgerEnds(ctx context.Context, campaigns projections.Campaigns) ([]end, error) {
	names, err := campaigns.List(ctx)
	if err != nil {
		return nil, err
	}
	ends := make([]end, len(names))
	for i, name := range names {
		err := withCampaign(ctx, campaigns, name, func(l projections.Ledger) error {
			info, err := l.Info(ctx)
			ends[i] = end{name, info.Last}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("campaign %s: %w", name, err)
		}
	}
	return ends, nil
}

// withCampaign runs fn with the ledger of a campaign.
func withCampaign(ctx context.Context, campaigns projections.Campaigns, name string, fn func(projections.Ledger) error) (err error) {
	l, err := campaigns.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() {
		closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer stop()
		err = errors.Join(err, l.Close(closing))
	}()
	return fn(l)
}

// waitReached stops with errReached when the read models are at the ends while
// another process works. An error of the database is left to those who work.
func waitReached(ctx context.Context, p *projector, db *postgres.DB, ends []end, stop context.CancelCauseFunc) {
	tick := time.NewTicker(reachedInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.leader.State().Leading {
			continue
		}
		positions, err := readModels(ctx, db)
		if err == nil && allReached(positions, ends) {
			stop(errReached)
			return
		}
	}
}

func allReached(models map[string]projections.Summary, ends []end) bool {
	for _, e := range ends {
		if models[e.campaign].Position.Sequence < e.sequence {
			return false
		}
	}
	return true
}

// readModels are the read models by campaign.
func readModels(ctx context.Context, db *postgres.DB) (map[string]projections.Summary, error) {
	list, err := db.Campaigns(ctx)
	if err != nil {
		return nil, err
	}
	models := make(map[string]projections.Summary, len(list))
	for _, s := range list {
		models[s.Campaign.ID] = s
	}
	return models, nil
}

// printEnds says where the read models are. That another process has brought
// them there does not say that it was from these ledgers.
func (a *app) printEnds(ctx context.Context, db *postgres.DB, campaigns nodeCampaigns, ends []end) error {
	models, err := readModels(ctx, db)
	if err != nil {
		return err
	}
	for _, e := range ends {
		at := models[e.campaign].Position
		s, err := campaigns.modelStatus(ctx, e.campaign, at)
		switch {
		case err != nil:
			return fmt.Errorf("campaign %s: %w", e.campaign, err)
		case s.State == modelHalted:
			return fmt.Errorf("campaign %s: %s", e.campaign, s.Error)
		}
		if _, err := fmt.Fprintf(a.out, "campaign %s: %v\n", e.campaign, at); err != nil {
			return err
		}
	}
	return nil
}

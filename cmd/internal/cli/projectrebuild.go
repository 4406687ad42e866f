package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
)

// rebuilding is one run of a command about read models that are built anew.
type rebuilding struct {
	app       *app
	db        *postgres.DB
	campaigns nodeCampaigns
}

func (a *app) projectRebuildCommand() *cobra.Command {
	var campaign string
	var hold, accept bool
	cmd := &cobra.Command{
		Use:   "rebuild --database-url URL [--campaign ID]",
		Short: "Build a read model anew while the old one is read, and switch to it",
		Long: "Build the read model of a campaign anew, from its first event, while the old one is\n" +
			"read and kept up to date; compare them; and switch to the new one at once. Who reads\n" +
			"notices nothing, and `paldies project` goes on by itself.\n\n" +
			"Without --campaign it is done for all campaigns whose read model an older version of\n" +
			"paldies has built that counts differently; their projector has halted and says so.\n" +
			"Otherwise a difference means that rows were changed or lost: it is shown, nothing is\n" +
			"switched, and the exit code is 3. Look at it with `paldies projection diff`, then\n" +
			"`paldies projection switch`, or `discard`.\n\n" +
			"It can be stopped at any time and goes on from there when it is run again.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&campaign, "campaign", "", "id of the campaign; all that need it if left out")
	cmd.Flags().BoolVar(&hold, "hold", false, "build it and do not switch")
	cmd.Flags().BoolVar(&accept, "accept-differences", false, "do not compare them, switch also to one that counts differently")
	notFromEnvironment(cmd, "hold", "accept-differences")
	a.onRebuilds(cmd, func(ctx context.Context, r rebuilding) error {
		if hold && accept {
			return usagef("--hold and --accept-differences exclude each other")
		}
		all, err := r.db.RebuildState(ctx)
		if err != nil {
			return err
		}
		chosen := all.Outdated
		if campaign != "" {
			chosen = []string{campaign}
		}
		if len(chosen) == 0 {
			err = r.say("no campaign needs it; name one with --campaign to build it anew nevertheless\n")
		}
		for _, campaign := range chosen { // one hinders no other
			if ctx.Err() == nil {
				err = errors.Join(err, r.rebuild(ctx, campaign, hold, accept || slices.Contains(all.Outdated, campaign)))
			}
		}
		return errors.Join(err, r.sweep(ctx))
	})
	return cmd
}

func (a *app) projectDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff --campaign ID --database-url URL",
		Short: "Compare a read model that was built anew with the one that is read",
		Long: "Compare a read model that `paldies projection rebuild` has built with the one that is\n" +
			"read, as of one event, row by row. The exit code is 3 when they differ. Which of them\n" +
			"is right, `paldies audit verify` tells.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	format := formatFlag(cmd, asTable, asJSON)
	a.onRebuilds(cmd, func(ctx context.Context, r rebuilding) error {
		return r.onBegun(ctx, *campaign, func(b *postgres.Rebuild) error {
			count, list, err := b.Diff(ctx)
			if err != nil {
				return err
			}
			return r.printDifferences(*format, count, list)
		})
	})
	return cmd
}

func (a *app) projectSwitchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "switch --campaign ID --database-url URL",
		Short: "Let a read model that was built anew take the place of the one that is read",
		Long: "Let a read model that `paldies projection rebuild` has built take the place of the one\n" +
			"that is read, at once and at the same event, whether they differ or not.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	a.onRebuilds(cmd, func(ctx context.Context, r rebuilding) error {
		return r.onBegun(ctx, *campaign, func(b *postgres.Rebuild) error {
			return errors.Join(r.switchTo(ctx, b), r.sweep(ctx))
		})
	})
	return cmd
}

func (a *app) projectDiscardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discard --campaign ID --database-url URL",
		Short: "Throw away a read model that was built anew, and rows that nobody reads",
		Long: "Throw away what `paldies projection rebuild` has built of a campaign and not switched\n" +
			"to, and delete the rows of all read models that nobody reads any more.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	a.onRebuilds(cmd, func(ctx context.Context, r rebuilding) error {
		return r.on(ctx, *campaign, func(b *postgres.Rebuild) error {
			if err := b.Discard(ctx); err != nil {
				return err
			}
			return r.sweep(ctx)
		})
	})
	return cmd
}

// onRebuilds runs a command with the database and the ledgers.
func (a *app) onRebuilds(cmd *cobra.Command, fn func(context.Context, rebuilding) error) {
	url := databaseFlag(cmd, "the database (needed)")
	required(cmd, databaseName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd.Context(), *url, func(_ context.Context, db *postgres.DB) error {
			return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
				return fn(ctx, rebuilding{a, db, nodeCampaigns{a, n}})
			})
		})
	}
}

// on runs fn with the rebuild of a campaign, which nobody else works on meanwhile.
func (r rebuilding) on(ctx context.Context, campaign string, fn func(*postgres.Rebuild) error) error {
	return withCampaign(ctx, r.campaigns, campaign, func(l projections.Ledger) error {
		err := r.db.Rebuild(ctx, postgres.Rebuild{Campaign: campaign, Ledger: l, Codec: r.app.codec}, fn)
		if errors.Is(err, postgres.ErrNoRebuild) {
			err = fmt.Errorf("%w: begin with `paldies projection rebuild`", err)
		}
		return err
	})
}

// onBegun runs fn with a rebuild that was begun, brought to where the read model is.
func (r rebuilding) onBegun(ctx context.Context, campaign string, fn func(*postgres.Rebuild) error) error {
	return r.on(ctx, campaign, func(b *postgres.Rebuild) error {
		if err := b.Begun(ctx); err != nil {
			return err
		}
		if err := r.fold(ctx, b); err != nil {
			return err
		}
		return fn(b)
	})
}

// rebuild does all of it.
func (r rebuilding) rebuild(ctx context.Context, campaign string, hold, accept bool) error {
	return r.on(ctx, campaign, func(b *postgres.Rebuild) error {
		if err := r.fold(ctx, b); err != nil {
			return err
		}
		if hold {
			return r.say("campaign %s: built; compare it with `paldies projection diff`, then `switch` or `discard`\n", campaign)
		}
		if accept {
			return r.switchTo(ctx, b)
		}
		count, list, err := b.Diff(ctx)
		switch {
		case err != nil:
			return err
		case count > 0:
			return r.printDifferences(asTable, count, list)
		}
		return r.switchTo(ctx, b)
	})
}

// fold builds, and shows how far it is.
func (r rebuilding) fold(ctx context.Context, b *postgres.Rebuild) error {
	info, err := b.Ledger.Info(ctx)
	if err != nil {
		return err
	}
	var done atomic.Uint64
	b.Progress = done.Store
	stop := r.app.progress("building "+b.Campaign+", events", int64(info.Last), func() int64 { return int64(done.Load()) })
	err = b.Fold(ctx)
	stop()
	return err
}

// switchTo leaves the old rows to be swept.
func (r rebuilding) switchTo(ctx context.Context, b *postgres.Rebuild) error {
	at, err := b.Switch(ctx)
	if err != nil {
		return err
	}
	return r.say("campaign %s: switched to the new read model at %v\n", b.Campaign, at)
}

// sweep deletes rows that nobody reads, also those that an earlier run has left.
func (r rebuilding) sweep(ctx context.Context) error {
	if err := r.db.Sweep(ctx); err != nil {
		return fmt.Errorf("rows that nobody reads any more are left, the next rebuild deletes them: %w", err)
	}
	return nil
}

// printDifferences ends with errMismatch if there are any.
func (r rebuilding) printDifferences(f format, count int64, list []postgres.Difference) error {
	l := listing{columns: []string{"table", "only_in", "row"}, value: struct {
		Rows        int64                 `json:"rows"`
		Differences []postgres.Difference `json:"differences"`
	}{count, list}, whole: true}
	for _, d := range list {
		side := "the one that is read"
		if d.Rebuilt {
			side = "the rebuilt one"
		}
		l.rows = append(l.rows, []string{d.Table, side, d.Row})
	}
	if count > 0 || f == asJSON {
		if err := r.app.print(f, l); err != nil {
			return err
		}
	}
	switch {
	case count > 0 && f != asJSON:
		return errors.Join(errMismatch, r.say("%d rows are in one of them only; at most %d of each table and side are shown\n", count, postgres.DifferencesMax))
	case count > 0:
		return errMismatch
	case f != asJSON:
		return r.say("no row differs\n")
	}
	return nil
}

func (r rebuilding) say(format string, args ...any) error {
	_, err := fmt.Fprintf(r.app.out, format, args...)
	return err
}

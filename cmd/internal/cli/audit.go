package cli

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections/postgres"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Check a ledger without trusting who wrote it"}
	cmd.AddCommand(a.auditVerifyCommand())
	return cmd
}

func (a *app) auditVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --campaign ID",
		Short: "Replay every event from the first one, check every rule again and recount",
		Long: "Replay every event from the first one, check every rule again and recount.\n\n" +
			"Exit code 3 says that something was found; all of it is listed. A check that\n" +
			"is marked -- found nothing, but could not go on behind an event that cannot\n" +
			"be read. With --database-url the read model in Postgres, at the event up to which\n" +
			"it is built, is compared with a count of the ledger up to there.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	url := databaseFlag(cmd, "compare the read model in Postgres too")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// The ledger only grows: what is read first cannot be ahead of it.
		model, err := loadReadModel(cmd.Context(), *url, *campaign)
		if err != nil {
			return err
		}
		return a.withLedger(cmd, *campaign, func(ctx context.Context, l *eventstore.Ledger) error {
			info, err := l.Info(ctx)
			if err != nil {
				return err
			}
			deviations, err := l.CheckConfig(ctx)
			if err != nil {
				return err
			}
			var seen atomic.Uint64
			stop := a.progress("verify "+*campaign, int64(info.Last), func() int64 { return int64(seen.Load()) })
			report, err := audit.Verify(ctx, *campaign, l, a.codec, audit.Options{Progress: seen.Store})
			stop()
			if err != nil {
				return err
			}
			report.AddStream(deviations)
			if model != nil {
				if err := report.AddReadModel(ctx, l, a.codec, model); err != nil {
					return err
				}
			}
			if err := a.printAudit(*format, report); err != nil {
				return err
			}
			if !report.OK() {
				return fmt.Errorf("campaign %s: %w", *campaign, errMismatch)
			}
			return nil
		})
	}
	return cmd
}

// loadReadModel is nil without a URL.
func loadReadModel(ctx context.Context, url, campaign string) (model *audit.ReadModel, err error) {
	if url == "" {
		return nil, nil
	}
	err = withDatabase(ctx, url, func(ctx context.Context, db *postgres.DB) error {
		model, err = audit.LoadReadModel(ctx, db, campaign)
		return explainModel(err)
	})
	return model, err
}

func (a *app) printAudit(f format, r *audit.Report) error {
	if f == asJSON {
		return printJSON(a.out, r)
	}
	fmt.Fprintf(a.out, "Campaign %s (%s): %d events, %d ballots, as of %s\n\n", r.Campaign, r.Status, r.Events, r.Ballots, domain.FormatTime(r.AsOf))
	for _, c := range r.Checks {
		fmt.Fprintf(a.out, "%s  %s\n", auditMarks[c.Status], auditTitle(c))
		for _, m := range c.Mismatches {
			fmt.Fprintf(a.out, "        %s\n", m)
		}
	}
	a.printHonest("Events that count for nothing, honestly", r.Void)
	a.printHonest("Votes that count, honestly, though their specialist had just been withdrawn or merged", r.Raced)
	_, err := fmt.Fprintf(a.out, "\n%d votes of %d voters are in force.\n", r.Votes, r.Voters)
	return err
}

// auditMarks are as wide as each other, so that the titles stand in a column.
var auditMarks = map[audit.Status]string{audit.Passed: "ok  ", audit.Failed: "FAIL", audit.NotChecked: "--  "}

func auditTitle(c audit.Check) string {
	if c.Status == audit.NotChecked {
		return c.Title + ": not checked to the end"
	}
	return c.Title
}

// printHonest lists events that look odd and are held against nobody.
func (a *app) printHonest(title string, events []audit.Mismatch) {
	if len(events) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s (%d):\n", title, len(events))
	for _, m := range events {
		fmt.Fprintf(a.out, "        %s\n", m)
	}
}

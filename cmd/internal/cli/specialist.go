package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// maxShownRows is how many bad rows are printed one by one.
const maxShownRows = 20

func (a *app) specialistCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "specialist", Short: "Register, update, withdraw, merge and list specialists"}
	cmd.AddCommand(a.specialistImportCommand(), a.specialistUpdateCommand(), a.specialistWithdrawCommand(), a.specialistMergeCommand(), a.specialistListCommand())
	return cmd
}

func (a *app) specialistImportCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import --campaign ID FILE.csv",
		Short: "Register the specialists of a file, or update those that have changed",
		Long: "Register the specialists of a file, or update those that have changed.\n\n" +
			"Columns: specialist_id, name, and any of position, institution, branch, region.\n" +
			"What the file has no column for stays as it is. UTF-8, separated by commas or\nsemicolons.",
		Args: cobra.ExactArgs(1),
	}
	resumable(cmd)
	campaign := campaignFlag(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would happen")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		file, err := csvfile.Open(args[0], intake.SpecialistColumns)
		if err != nil {
			return err
		}
		rows, bad, readErr := intake.ReadSpecialists(file)
		if err := errors.Join(readErr, file.Close()); err != nil && len(rows) == 0 && len(bad) == 0 {
			return err
		}
		return a.withIntake(cmd, intakeOptions{campaign: *campaign}, func(ctx context.Context, in *intake.Intake) error {
			plan, err := intake.PlanSpecialists(in.Register(), rows)
			if err != nil {
				return err
			}
			for _, d := range intake.SuspectDuplicates(in.Register(), rows) {
				fmt.Fprintf(a.err, "%s:%d: suspected duplicate: %s (%s) looks like %s\n", args[0], d.Row.Line, d.Row.ID, d.Row.Name, d.OtherID)
			}
			if !dryRun {
				if err := in.ImportSpecialists(ctx, rows); err != nil {
					return err
				}
			}
			fmt.Fprintf(a.out, "%s%d new, %d changed, %d same, %d unreadable\n", dryRunPrefix(dryRun),
				len(plan[intake.RowNew]), len(plan[intake.RowChanged]), len(plan[intake.RowSame]), len(bad))
			return a.badRows(bad, readErr)
		})
	}
	return cmd
}

func dryRunPrefix(dryRun bool) string {
	if dryRun {
		return "dry run, nothing recorded: "
	}
	return ""
}

// badRows prints what could not be read and turns it into an error.
func (a *app) badRows(bad []*csvfile.RowError, readErr error) error {
	for i, e := range bad {
		if i == maxShownRows {
			fmt.Fprintf(a.err, "… and %d more\n", len(bad)-i)
			break
		}
		fmt.Fprintln(a.err, e)
	}
	switch {
	case readErr != nil:
		return readErr
	case len(bad) > 0:
		return fmt.Errorf("%d rows could not be read; mend them and import the file again", len(bad))
	}
	return nil
}

func (a *app) specialistUpdateCommand() *cobra.Command {
	var p domain.Profile
	cmd := &cobra.Command{
		Use:   "update --campaign ID SPECIALIST",
		Short: "Change what is known of a specialist; what is left out stays",
		Long: "Change what is known of a specialist; what is left out stays.\n\n" +
			"Votes so far stay with the institution and branch at the time they were recorded.",
		Args: cobra.ExactArgs(1),
	}
	campaign := campaignFlag(cmd)
	fields := map[string]*string{"name": &p.Name, "position": &p.Position, "institution": &p.Institution, "branch": &p.Branch, "region": &p.Region}
	for _, name := range []string{"name", "position", "institution", "branch", "region"} {
		cmd.Flags().StringVar(fields[name], name, "", "new "+name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withIntake(cmd, intakeOptions{campaign: *campaign}, func(ctx context.Context, in *intake.Intake) error {
			s, ok := in.Register().Specialist(args[0])
			if !ok {
				return &intake.NotAllowedError{Err: fmt.Errorf("specialist %.64q is not registered in campaign %s", args[0], *campaign)}
			}
			old := map[string]string{"name": s.Name, "position": s.Position, "institution": s.Institution, "branch": s.Branch, "region": s.Region}
			for name, value := range fields {
				if !cmd.Flags().Changed(name) {
					*value = old[name]
				}
			}
			receipt, err := in.SetSpecialist(ctx, s.ID, p)
			return a.specialistDone(s.ID, "updated", receipt, err)
		})
	}
	return cmd
}

func (a *app) specialistWithdrawCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "withdraw --campaign ID SPECIALIST",
		Short: "End voting for a specialist; votes so far stay, the rank goes",
		Args:  cobra.ExactArgs(1),
	}
	campaign := campaignFlag(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withIntake(cmd, intakeOptions{campaign: *campaign}, func(ctx context.Context, in *intake.Intake) error {
			receipt, err := in.WithdrawSpecialist(ctx, args[0], reason)
			return a.specialistDone(args[0], "withdrawn", receipt, err)
		})
	}
	return cmd
}

func (a *app) specialistDone(id, what string, receipt intake.Receipt, err error) error {
	switch {
	case err != nil:
		return err
	case receipt.Known:
		fmt.Fprintf(a.out, "specialist %s: nothing to do (event %d)\n", id, receipt.Sequence)
	default:
		fmt.Fprintf(a.out, "specialist %s %s (event %d)\n", id, what, receipt.Sequence)
	}
	return nil
}

func (a *app) specialistListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list --campaign ID", Short: "List the specialists", Args: cobra.NoArgs}
	campaign := campaignFlag(cmd)
	format := formatFlag(cmd, asTable, asJSON, asCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withIntake(cmd, intakeOptions{campaign: *campaign}, func(_ context.Context, in *intake.Intake) error {
			type view struct {
				ID string `json:"specialist_id"`
				domain.Profile
				Registered uint64 `json:"registered_at_sequence"`
				Status     string `json:"status"`
			}
			views := []view{}
			l := listing{columns: []string{"specialist_id", "name", "position", "institution", "branch", "region", "status"}}
			specialists := in.Register().Specialists()
			slices.SortFunc(specialists, func(a, b *domain.Specialist) int { return strings.Compare(a.ID, b.ID) })
			for _, s := range specialists {
				v := view{ID: s.ID, Profile: s.Profile, Registered: s.Registered, Status: "registered"}
				switch {
				case s.MergedInto != "":
					v.Status = "merged into " + s.MergedInto
				case s.Withdrawn:
					v.Status = "withdrawn"
				}
				views = append(views, v)
				l.rows = append(l.rows, []string{s.ID, s.Name, s.Position, s.Institution, s.Branch, s.Region, v.Status})
			}
			l.value = views
			return a.print(*format, l)
		})
	}
	return cmd
}

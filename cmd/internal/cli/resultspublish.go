package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
)

func (a *app) resultsPublishCommand() *cobra.Command {
	var certified uint64
	cmd := &cobra.Command{
		Use:   "publish --campaign ID",
		Short: "Lift the embargo from the newest certification",
		Args:  cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	cmd.Flags().Uint64Var(&certified, "certification", 0, "its event number, to be sure which one it is (default: the newest)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withIntake(cmd, intakeOptions{campaign: *campaign}, func(ctx context.Context, in *intake.Intake) error {
			receipt, err := in.Publish(ctx, certified)
			if err != nil {
				return err
			}
			done := "are published"
			if receipt.Known {
				done = "were published before"
			}
			_, err = fmt.Fprintf(a.out, "campaign %s: the certified results %s (event %d)\n", *campaign, done, receipt.Sequence)
			return err
		})
	}
	return cmd
}

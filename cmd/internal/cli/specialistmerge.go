package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// mergeSettle is how long votes may be under way that were decided by an intake
// which had not heard of a merge: its register is up to a second old.
const mergeSettle = 2 * time.Second

func (a *app) specialistMergeCommand() *cobra.Command {
	var decision, reason string
	var settle time.Duration
	cmd := &cobra.Command{
		Use:   "merge FROM INTO --campaign ID --decision REF",
		Short: "Make one of a specialist who was registered twice",
		Long: "Make one of a specialist who was registered twice: from here on the votes for FROM count\n" +
			"for INTO. Of those who voted for both, all votes but the first are annulled under the\n" +
			"decision. Results as of earlier events stay as they are.\n\n" +
			"It is possible until the campaign is archived. Running it again is safe, and finishes\n" +
			"what was interrupted.",
		Args: cobra.ExactArgs(2),
	}
	resumable(cmd)
	campaign := campaignFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&decision, "decision", "", "reference of the published decision (needed)")
	f.StringVar(&reason, "reason", "registered twice", "why, for the public record")
	f.DurationVar(&settle, "settle", mergeSettle, "how long to wait for votes under way before the last look, while the campaign is open")
	required(cmd, "decision")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if settle < 0 || settle > time.Hour {
			return usagef("--settle %v: use 0s to 1h", settle)
		}
		m := intake.Merge{SpecialistMerged: domain.SpecialistMerged{Specialist: args[0], Into: args[1], Decision: decision}, Reason: reason, Settle: settle}
		return a.withCampaign(cmd, *campaign, func(ctx context.Context, c openCampaign) error {
			result, err := c.intake.MergeSpecialist(ctx, m)
			if err != nil {
				return err
			}
			done := "merged"
			if result.Receipt.Known {
				done = "was merged before"
			}
			_, err = fmt.Fprintf(a.out, "specialist %s %s into %s (event %d), %d votes of those who voted for both annulled\n",
				args[0], done, args[1], result.Receipt.Sequence, result.Annulled)
			return err
		})
	}
	return cmd
}

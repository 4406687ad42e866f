package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

func (a *app) resultsDecideCommand() *cobra.Command {
	var award, decision, reason string
	var winners []string
	cmd := &cobra.Command{
		Use:   "decide --campaign ID --rules FILE --award AWARD --winner WHO --decision REF --reason S",
		Short: "Record who of those who tie for too few places gets an award",
		Long: "Record who of those who tie for too few places gets an award. Without a decision all of\n" +
			"them do. Whoever is named must be one of them: a specialist by the id, an institution\n" +
			"by its name, a branch as \"institution / branch\". The others who tie are recorded too.\n\n" +
			"A decision is about exactly those who tie. When an annulment changes who they are, it\n" +
			"does not apply any more, and `results certify` says so.",
		Args: cobra.NoArgs,
	}
	campaign, rules := campaignFlag(cmd), rulesFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&award, "award", "", "specialists, institutions or letters (needed)")
	f.StringArrayVar(&winners, "winner", nil, "who gets it (needed; may be repeated)")
	f.StringVar(&decision, "decision", "", "reference of the published decision (needed)")
	f.StringVar(&reason, "reason", "", "why, for the public record (needed)")
	required(cmd, "rules", "award", "winner", "decision", "reason")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		kind, err := domain.ParseAward(award)
		if err != nil {
			return usagef("--award: %v", err)
		}
		rule, err := readRule(*rules)
		if err != nil {
			return err
		}
		return a.withCampaign(cmd, *campaign, func(ctx context.Context, c openCampaign) error {
			if err := c.notArchived(); err != nil {
				return err
			}
			tally, err := a.tally(ctx, c.ledger, 0, time.Time{})
			if err != nil {
				return err
			}
			d, err := tally.DecideTie(*rule, kind, winners, decision, reason)
			if err != nil {
				return &intake.NotAllowedError{Err: fmt.Errorf("campaign %s: %w", c.id, err)}
			}
			receipt, err := c.intake.DecideTie(ctx, d)
			if err != nil {
				return err
			}
			done := "decided"
			if receipt.Known {
				done = "decided before"
			}
			_, err = fmt.Fprintf(a.out, "campaign %s: %s %s, of %d who tie: %s (event %d)\n",
				c.id, d.Award, done, len(d.Winners)+len(d.Others), candidates(d.Winners), receipt.Sequence)
			return err
		})
	}
	return cmd
}

// maxShownCandidates is how many of those who tie are named one by one.
const maxShownCandidates = 10

func candidates(list []domain.Candidate) string {
	var names []string
	for i, c := range list {
		if i == maxShownCandidates {
			names = append(names, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		names = append(names, plain(c.String()))
	}
	return strings.Join(names, ", ")
}

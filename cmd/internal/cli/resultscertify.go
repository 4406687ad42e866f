package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// rulesFlag adds --rules.
func rulesFlag(cmd *cobra.Command) *string {
	file := cmd.Flags().String("rules", "", "file with the award rule, as JSON")
	notFromEnvironment(cmd, "rules")
	return file
}

// readRule reads an award rule, or nil where no file is named.
func readRule(file string) (*domain.AwardRule, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readFile("--rules", file, domain.MaxAwardRuleBytes)
	if err != nil {
		return nil, err
	}
	rule, err := domain.ParseAwardRule(data)
	if err != nil {
		return nil, usagef("--rules %s: %v", file, err)
	}
	return &rule, nil
}

func (a *app) resultsCertifyCommand() *cobra.Command {
	var d domain.ResultsCertified
	var o sealOptions
	cmd := &cobra.Command{
		Use:   "certify --campaign ID [--rules FILE]",
		Short: "Fix the results of a closed campaign, by their digest and by the log's root",
		Long: "Fix the results of a closed campaign: record the digest of all that was counted as of\n" +
			"now, the award rule, and the size and root of the signed log where there is one.\n" +
			"Anybody who has the events can count them again and compare.\n\n" +
			"FILE is JSON with any of: specialists (how many get the award), institutions and\n" +
			"institutions_by (institution or branch), letters (of gratitude, for how many of the\n" +
			"next) or letters_from (for all others with so many votes), minimum_votes (for any of\n" +
			"them) and without_identity (true: votes of channels without identity count, too).\n\n" +
			"Annulments stay possible until the campaign is archived. Results that they change are\n" +
			"certified again, with --supersedes and --reason.",
		Args: cobra.NoArgs,
	}
	o.flags(cmd)
	rules := rulesFlag(cmd)
	cmd.Flags().Uint64Var(&d.Supersedes, "supersedes", 0, "event number of the certification that this one corrects")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "why, for the public record; needed for a correction")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if d.AwardRule, err = readRule(*rules); err != nil {
			return err
		}
		return a.withCampaign(cmd, o.campaign, func(ctx context.Context, c openCampaign) error {
			c.log = o
			return a.certify(ctx, c, d)
		})
	}
	return cmd
}

// certifyAttempts is how often results are counted when the campaign goes on
// meanwhile.
const certifyAttempts = 3

// certify counts up to a place in the ledger and certifies that. What comes
// above it meanwhile is not part of the results.
func (a *app) certify(ctx context.Context, c openCampaign, d domain.ResultsCertified) (err error) {
	if err := c.notArchived(); err != nil {
		return err
	}
	var tally *domain.Tally
	var receipt intake.Receipt
	var sealed bool
	for range certifyAttempts {
		if tally, sealed, err = a.countToCertify(ctx, c, &d); err != nil {
			return err
		}
		receipt, err = c.intake.Certify(ctx, d, tally.Register().Campaign().Control)
		if !errors.Is(err, intake.ErrOutdated) {
			break
		}
	}
	if err != nil {
		return err
	}
	if receipt.Known {
		_, err = fmt.Fprintf(a.out, "campaign %s: the results were certified before (event %d)\n", c.id, receipt.Sequence)
		return err
	}
	fmt.Fprintf(a.out, "campaign %s: the results as of event %d are certified (event %d)\n%d votes of %d voters, digest %s\n",
		c.id, d.Sequence, receipt.Sequence, tally.Votes(), tally.Voters(), d.TallyDigest)
	if sealed {
		fmt.Fprintf(a.out, "signed log of %d events, root %s\n", d.LogSize, d.LogRoot)
	} else {
		fmt.Fprintf(a.err, "the campaign has no signed log: nothing binds the results but the ledger itself; `paldies seal --campaign %s --once` makes one\n", c.id)
	}
	if d.AwardRule == nil {
		return nil
	}
	awards, err := tally.Awards(*d.AwardRule)
	if err != nil {
		return err
	}
	for _, p := range []domain.Prize{awards.Specialists, awards.Institutions, awards.Letters} {
		a.warnOfTie(c.id, p)
	}
	return nil
}

// countToCertify counts as of a place in the ledger, and says in d which place
// that is and what the log there is, if there is one.
func (a *app) countToCertify(ctx context.Context, c openCampaign, d *domain.ResultsCertified) (tally *domain.Tally, sealed bool, err error) {
	info, err := c.ledger.Info(ctx)
	if err != nil {
		return nil, false, err
	}
	head, sealed, err := a.signedHead(ctx, c, info.Last)
	if err != nil {
		return nil, false, err
	}
	d.Sequence = info.Last
	if sealed {
		d.Sequence, d.LogSize, d.LogRoot = head.Size, head.Size, head.Root.String()
		if err := compareHead(ctx, c, head); err != nil {
			return nil, false, err
		}
	}
	if tally, err = a.tally(ctx, c.ledger, d.Sequence, time.Time{}); err != nil {
		return nil, false, err
	}
	d.TallyDigest = tally.Digest()
	doubled, err := c.intake.Doubled(ctx, tally.Register(), d.Sequence)
	if err != nil {
		return nil, false, err
	}
	return tally, sealed, intake.Unmerged(doubled)
}

// compareHead holds what was signed against the events: what a certification
// binds together, nobody can take apart again.
func compareHead(ctx context.Context, c openCampaign, head transparency.Signed) error {
	info, err := c.ledger.Info(ctx)
	if err != nil {
		return err
	}
	if info.Last < head.Size {
		return fmt.Errorf("%w: the ledger of campaign %s has %d events, and %d are signed", transparency.ErrShorter, c.id, info.Last, head.Size)
	}
	rebuilt := transparency.NewRebuild(nil, []transparency.Head{{Size: head.Size, Root: head.Root, From: "the signed log"}})
	err = c.ledger.Replay(ctx, 1, head.Size, func(batch []eventstore.Recorded) error {
		rebuilt.AppendEvents(batch)
		return nil
	})
	if err != nil {
		return err
	}
	if findings := rebuilt.Finish(); len(findings) > 0 {
		return fmt.Errorf("%w: campaign %s: the events are not those that were signed; look with `paldies audit verify`", transparency.ErrFork, c.id)
	}
	return nil
}

// warnOfTie says where more win than there are places, and what can be done.
func (a *app) warnOfTie(campaign string, p domain.Prize) {
	if p.Unfit != 0 {
		fmt.Fprintf(a.err, "%s: the decision of event %d does not apply: others tie now, or for other places, or nobody\n", p.Award, p.Unfit)
	}
	if p.Contested > 0 && p.Decision == 0 {
		fmt.Fprintf(a.err, "%s: %d tie with %d votes for %d places, so that all win: %s; `paldies results decide --campaign %s` records another decision\n",
			p.Award, len(p.Tied), p.LastIn, p.Contested, candidates(p.Tied), campaign)
	}
}

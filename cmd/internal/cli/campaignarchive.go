package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

func (a *app) campaignArchiveCommand() *cobra.Command {
	var o sealOptions
	cmd := &cobra.Command{
		Use:   "archive ID",
		Short: "End a published campaign for good: sign all of it, and seal its stream",
		Long: "End a published campaign for good: from here on nothing can be corrected. The last\n" +
			"checkpoint is signed, and the stream is sealed, so that the server itself takes nothing\n" +
			"any more. After an interruption run it again.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.campaign = args[0]
			return a.withCampaign(cmd, args[0], func(ctx context.Context, c openCampaign) error {
				c.log = o
				return a.archive(ctx, c)
			})
		},
	}
	resumable(cmd)
	o.logFlags(cmd)
	return cmd
}

// archive goes in an order that can be interrupted anywhere and run again:
// event, checkpoint, seal.
func (a *app) archive(ctx context.Context, c openCampaign) error {
	receipt, err := c.intake.Archive(ctx, c.ledger.Replay)
	if err != nil {
		return err
	}
	head, signed, err := a.signedHead(ctx, c, receipt.Sequence)
	if err != nil {
		return fmt.Errorf("it is archived (event %d); run the same command again to sign and to seal it: %w", receipt.Sequence, err)
	}
	if err := c.ledger.Seal(ctx); err != nil {
		return fmt.Errorf("it is archived (event %d); run the same command again to seal it: %w", receipt.Sequence, err)
	}
	done := "archived"
	if receipt.Known {
		done = "was archived before"
	}
	fmt.Fprintf(a.out, "campaign %s %s (event %d), its stream is sealed\n", c.id, done, receipt.Sequence)
	if signed {
		fmt.Fprintf(a.out, "signed log of %d events, root %v\n", head.Size, head.Root)
	} else {
		fmt.Fprintf(a.err, "the campaign has no signed log: `paldies seal --campaign %s --once` makes one of what is there\n", c.id)
	}
	_, err = fmt.Fprintf(a.err, "Nobody needs the pseudonym key any more. To forget who voted, destroy it with all its backups: %s\n"+
		"  Then no pseudonym can be linked to a person, not even with the person's id in hand: nobody can be told how they voted,\n"+
		"  and no list of voters can be compared. Counting, receipts and audits need no key. The log cannot be erased in part.\n",
		keyring.Path(a.dataDir, c.id))
	return err
}

// archived says whether the last of the campaign's own events archived it.
func (a *app) archived(ctx context.Context, l *eventstore.Ledger, campaign string) (bool, error) {
	last, found, err := l.Last(ctx, domain.ControlSubject(campaign), eventstore.Leader)
	if err != nil || !found {
		return false, err
	}
	e, err := a.codec.Decode(last.Data)
	if err != nil {
		return false, fmt.Errorf("campaign %s: event %d: %w", campaign, last.Sequence, err)
	}
	_, archived := e.Data.(domain.CampaignArchived)
	return archived, nil
}

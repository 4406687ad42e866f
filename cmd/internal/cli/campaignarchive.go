package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

func (a *app) campaignArchiveCommand() *cobra.Command {
	var o sealOptions
	cmd := &cobra.Command{
		Use:   "archive ID",
		Short: "End a published campaign for good: seal its stream, and sign all of it",
		Long: "End a published campaign for good: from here on nothing can be corrected. The stream\n" +
			"is sealed, so that the server itself takes nothing any more, and the last checkpoint is\n" +
			"signed. After an interruption run it again.\n\n" +
			"What could not be mended afterwards is refused: a merge that is not finished, and\n" +
			"changes that are not certified and published.",
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
// event, seal, checkpoint. What a stream takes until it is sealed is covered by
// the checkpoint, too.
func (a *app) archive(ctx context.Context, c openCampaign) error {
	receipt, err := c.intake.Archive(ctx)
	if err != nil {
		return err
	}
	if err := c.ledger.Seal(ctx); err != nil {
		return fmt.Errorf("it is archived (event %d); run the same command again to seal and to sign it: %w", receipt.Sequence, err)
	}
	head, signed, err := a.lastHead(ctx, c)
	if err != nil {
		return fmt.Errorf("it is archived (event %d) and sealed; run the same command again to sign it: %w", receipt.Sequence, err)
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
	key := keyring.Path(a.dataDir, c.id)
	if !fileExists(key) {
		key += " is not there, look where it is kept"
	}
	_, err = fmt.Fprintf(a.err, "Nobody needs the pseudonym key any more. To forget who voted, destroy it with all its backups: %s\n"+
		"  Then no pseudonym can be linked to a person, not even with the person's id in hand: nobody can be told how they voted,\n"+
		"  and no list of voters can be compared. Counting, receipts and audits need no key. The log cannot be erased in part.\n", key)
	return err
}

// lastHead is the signed head of all that a sealed stream has taken.
func (a *app) lastHead(ctx context.Context, c openCampaign) (transparency.Signed, bool, error) {
	info, err := c.ledger.Info(ctx)
	if err != nil {
		return transparency.Signed{}, false, err
	}
	return a.signedHead(ctx, c, info.Last)
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

// notSealed is what there is to say while an archiving is not finished: it is on
// its way, or was interrupted.
const notSealed = "the campaign is archived, and its stream is not sealed yet"

// finishArchiving is the remedy for that.
func finishArchiving(campaign string) string {
	return "`paldies campaign archive " + campaign + "` again"
}

// checkStream compares the stream's configuration with what keeps every event,
// and of an archived campaign lets none follow. Archived says what the caller has
// read; that it is archived and not sealed is no deviation.
func (a *app) checkStream(ctx context.Context, l *eventstore.Ledger, campaign string, archived bool) (deviations []eventstore.Deviation, unsealed bool, err error) {
	deviations, err = l.CheckConfig(ctx, archived)
	isSealed := func(d eventstore.Deviation) bool { return d.Field == "sealed" }
	if err != nil || !slices.ContainsFunc(deviations, isSealed) {
		return deviations, false, err
	}
	if archived {
		return slices.DeleteFunc(deviations, isSealed), true, nil
	}
	// It may have been archived since the caller has read.
	if archived, err = a.archived(ctx, l, campaign); err != nil || !archived {
		return deviations, false, err
	}
	deviations, err = l.CheckConfig(ctx, true)
	return deviations, false, err
}

// warnUnsealed says that an archiving is not finished.
func (a *app) warnUnsealed(campaign string) {
	a.logger().Warn(notSealed, "campaign", campaign, "remedy", "run "+finishArchiving(campaign))
}

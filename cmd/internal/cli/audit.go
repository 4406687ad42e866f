package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/projections/postgres"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Check a ledger without trusting who wrote it"}
	cmd.AddCommand(a.auditVerifyCommand(), a.auditExportCommand(), a.auditReplayCommand(), a.auditVelocityCommand())
	return cmd
}

// auditOptions are the flags of `audit verify`.
type auditOptions struct {
	campaign   string
	dir        string // of a log; empty for the ledger itself
	key        string
	checkpoint string // a file
	database   string
	format     format
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "verify --campaign ID | verify --log DIR --key VKEY",
		Short: "Check every event, every rule, every proof again, and recount",
		Long: "Replay every event from the first one, check every rule again, hold the events\n" +
			"against what was signed, and recount: from the ledger (--campaign), or without any\n" +
			"server from a copy of the log (--log and --key), of which every file is checked too.\n\n" +
			"--checkpoint takes a checkpoint that you have kept, or got from somebody else: the\n" +
			"log must have grown from it. Keep the newest one after each audit.\n\n" +
			"Exit code 3 says that something was found; all of it is listed. A check that\n" +
			"is marked -- found nothing, but could not go on behind an event that cannot\n" +
			"be read. With --database-url the read model in Postgres, at the event up to which\n" +
			"it is built, is compared with a count of the ledger up to there.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&o.campaign, "campaign", "", "id of the campaign")
	dir := logFlag(cmd, "a log's folder to check instead of the ledger; no server is needed")
	key := verifierFlag(cmd)
	cmd.Flags().StringVar(&o.checkpoint, "checkpoint", "", "file with an earlier checkpoint that the log must have grown from")
	notFromEnvironment(cmd, "checkpoint")
	url := databaseFlag(cmd, "compare the read model in Postgres too")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.dir, o.key, o.database, o.format = *dir, *key, *url, *format
		switch {
		case o.dir == "" && o.campaign == "":
			return usagef("--campaign is needed, or --log and --key; see `%s --help`", cmd.CommandPath())
		case o.key != "" && o.dir == "" && o.checkpoint == "":
			return usagef("--key is for --log and --checkpoint: the ledger itself holds no signature")
		case (o.dir != "" || o.checkpoint != "") && o.key == "":
			return usagef("--key is needed with --log and --checkpoint: the log's verifier key, from its operator and not from the folder")
		case o.dir != "":
			return a.auditFolder(cmd, o)
		}
		return a.auditLedger(cmd, o)
	}
	return cmd
}

// auditLedger checks the events where they are recorded.
func (a *app) auditLedger(cmd *cobra.Command, o auditOptions) error {
	// The ledger only grows: what is read first cannot be ahead of it.
	model, err := loadReadModel(cmd.Context(), o.database, o.campaign)
	if err != nil {
		return err
	}
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) (err error) {
		l, err := a.openLedger(ctx, n, o.campaign)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeLedger(l)) }()
		seal, err := a.ledgerSeal(ctx, n, o)
		if err != nil {
			return err
		}
		info, err := l.Info(ctx)
		if err != nil {
			return err
		}
		return a.audit(ctx, o, l, info.Last, seal, model, l)
	})
}

// ledgerSeal is what was signed about a ledger, as far as it can be known
// without the log: the signer's record, and the checkpoint that the auditor has.
func (a *app) ledgerSeal(ctx context.Context, n *node.Node, o auditOptions) (*audit.Seal, error) {
	seal := new(audit.Seal)
	signed, revision, err := transparency.LoadSigned(ctx, n.Conn(), domain.StreamName(o.campaign))
	if err != nil {
		return nil, err
	}
	if revision != 0 {
		seal.Heads = append(seal.Heads, transparency.Head{Size: signed.Size, Root: signed.Root, From: audit.SignersRecord})
	}
	if o.checkpoint != "" {
		keys, err := verifierKeys(o.key)
		if err != nil {
			return nil, err
		}
		if _, err := sameCampaign(keys, o.campaign); err != nil {
			return nil, err
		}
		if err := addCheckpoint(seal, o.checkpoint, keys); err != nil {
			return nil, err
		}
	}
	return seal, nil
}

// addCheckpoint adds what a file says. That it cannot be believed is a finding.
func addCheckpoint(seal *audit.Seal, name string, keys *transparency.Keys) error {
	data, err := readFile("--checkpoint", name, transparency.MaxReceiptBytes)
	if err != nil {
		return err
	}
	c, err := transparency.ParseCheckpoint(data, keys)
	if err != nil {
		seal.Findings = append(seal.Findings, transparency.Finding{Path: name, Text: err.Error()})
		return nil
	}
	seal.Heads = append(seal.Heads, transparency.Head{Size: c.Size, Root: c.Root, From: name})
	return nil
}

// auditFolder checks a copy of the log, without any server.
func (a *app) auditFolder(cmd *cobra.Command, o auditOptions) error {
	keys, err := verifierKeys(o.key)
	if err != nil {
		return err
	}
	if o.campaign, err = sameCampaign(keys, o.campaign); err != nil {
		return err
	}
	model, err := loadReadModel(cmd.Context(), o.database, o.campaign)
	if err != nil {
		return err
	}
	f, err := existingLog(o.dir)
	if err != nil {
		return err
	}
	newest, heads, findings, err := f.Heads(keys)
	if err != nil {
		return err
	}
	seal := &audit.Seal{Heads: heads, Findings: findings, Folder: f}
	if o.checkpoint != "" {
		if err := addCheckpoint(seal, o.checkpoint, keys); err != nil {
			return err
		}
	}
	return a.audit(cmd.Context(), o, transparency.Entries{Folder: f, Size: newest.Size}, newest.Size, seal, model, nil)
}

// audit checks events, wherever they come from, and prints what was found. The
// stream is nil where there is none.
func (a *app) audit(ctx context.Context, o auditOptions, l audit.Ledger, last uint64, seal *audit.Seal, model *audit.ReadModel, stream *eventstore.Ledger) error {
	var seen atomic.Uint64
	stop := a.progress("verify "+o.campaign, int64(last), func() int64 { return int64(seen.Load()) })
	events := l
	if stream != nil {
		events = eventstore.WithSubjects{Ledger: stream}
	}
	report, err := audit.Verify(ctx, o.campaign, events, a.codec, audit.Options{Seal: seal, Progress: seen.Store})
	stop()
	if err != nil {
		return err
	}
	if stream != nil {
		deviations, unsealed, err := a.checkStream(ctx, stream, o.campaign, report.Status == domain.StatusArchived)
		if err != nil {
			return err
		}
		if unsealed {
			a.warnUnsealed(o.campaign)
		}
		report.AddStream(deviations)
	}
	if model != nil {
		if err := report.AddReadModel(ctx, l, a.codec, model); err != nil {
			return err
		}
	}
	if err := a.printAudit(o.format, report); err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("campaign %s: %w", o.campaign, errMismatch)
	}
	return nil
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
			fmt.Fprintf(a.out, "        %s\n", plain(m.String()))
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
	if c.Status == audit.NotChecked && c.Name != audit.CheckSigned {
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
		fmt.Fprintf(a.out, "        %s\n", plain(m.String()))
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// What a protocol can be besides JSON.
const (
	asMarkdown format = "md"
	asHTML     format = "html"
)

// protocolOptions are the flags of `report protocol`.
type protocolOptions struct {
	campaign string
	log      string // folder; empty for the data directory's
	asOf     uint64
	language report.Language
	format   format
	file     string // empty for standard output
}

func (a *app) reportProtocolCommand() *cobra.Command {
	var o protocolOptions
	cmd := &cobra.Command{
		Use:   "protocol --campaign ID",
		Short: "Say on one page what happened in a campaign, and how to check it",
		Long: "Say on one page, for the press and for the file, what happened in a campaign: its\n" +
			"window, votes by what became of them and by channel, refusals where they are known,\n" +
			"annulments by decision with the votes before and after, the first places, what was\n" +
			"certified and signed, and the commands that check all of it. Certified results are\n" +
			"counted again; exit code 3 says that they are not those of the ledger.\n\n" +
			"Refusals and what is signed are of the moment of making: with --as-of-sequence they\n" +
			"are left out, and the same protocol can be made at any later time.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	dir := logFlag(cmd, "folder of the log (default: log/ID in the data directory)")
	language := languageFlag(cmd, "")
	cmd.Flags().StringVar(&o.file, "file", "", "new file to write instead of standard output")
	cmd.Flags().Uint64Var(&o.asOf, "as-of-sequence", 0, "tell what the first N events say, and nothing that is of now; 0 for all")
	notFromEnvironment(cmd, "file", "as-of-sequence")
	format := formatFlag(cmd, asMarkdown, asHTML, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		o.campaign, o.log, o.format = *campaign, *dir, *format
		if o.language, err = report.ParseLanguage(*language); err != nil {
			return usagef("--lang: %v", err)
		}
		if o.asOf != 0 && o.log != "" {
			return usagef("--log tells what is signed now; leave it out with --as-of-sequence")
		}
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error { return a.protocol(ctx, n, o) })
	}
	return cmd
}

func (a *app) protocol(ctx context.Context, n *node.Node, o protocolOptions) (err error) {
	l, err := a.openLedger(ctx, n, o.campaign)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	var c report.ProtocolConfig
	if o.asOf == 0 {
		if c, err = a.ofNow(ctx, n, o); err != nil {
			return err
		}
	}
	s, err := a.source(ctx, l, o.asOf)
	if err != nil {
		return err
	}
	stop := a.progress("count", 0, s.Read.Load) // certified results are counted again
	p, err := report.MakeProtocol(ctx, s, c)
	stop()
	if err != nil {
		return fmt.Errorf("campaign %s: %w", o.campaign, err)
	}
	return a.writeOut(o.file, func(w io.Writer) error {
		switch o.format {
		case asHTML:
			return p.HTML(w, o.language)
		case asJSON:
			return printJSON(w, p)
		}
		return p.Markdown(w, o.language)
	})
}

// ofNow is what a protocol tells of the moment in which it is made.
func (a *app) ofNow(ctx context.Context, n *node.Node, o protocolOptions) (c report.ProtocolConfig, err error) {
	c.Now = a.now()
	if c.Log, err = a.signedLog(ctx, n, o.log, o.campaign); err != nil {
		return c, err
	}
	c.Outcomes, err = queue.CountOutcomes(ctx, n.Conn(), o.campaign)
	if errors.Is(err, queue.ErrNoQueue) {
		c.Outcomes, err = nil, nil // nothing was handed in by it
	}
	return c, err
}

// signedLog is what was signed of a campaign, or nil where nothing is. What is not
// in the data directory may have been signed on another computer.
func (a *app) signedLog(ctx context.Context, n *node.Node, dir, campaign string) (*report.Log, error) {
	f, err := a.logFolder(dir, campaign)
	if err != nil {
		return nil, err
	}
	keys, err := f.Keys()
	if errors.Is(err, fs.ErrNotExist) && dir == "" {
		return signedElsewhere(ctx, n, campaign)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noLog(dir, campaign)
	}
	if err != nil {
		return nil, err
	}
	if _, err := sameCampaign(keys, campaign); err != nil {
		return nil, err
	}
	checkpoint, err := f.Checkpoint(keys)
	if errors.Is(err, transparency.ErrNotSealed) {
		return signedElsewhere(ctx, n, campaign)
	}
	if err != nil {
		return nil, err
	}
	text, err := f.Read(transparency.KeysPath)
	if err != nil {
		return nil, err
	}
	return &report.Log{Origin: checkpoint.Origin, Size: checkpoint.Size, Root: checkpoint.Root.String(),
		Keys: strings.Fields(string(text))}, nil
}

// signedElsewhere is what the signer has recorded on the servers; the verifier keys
// are where the log is.
func signedElsewhere(ctx context.Context, n *node.Node, campaign string) (*report.Log, error) {
	head, _, err := transparency.LoadSigned(ctx, n.Conn(), domain.StreamName(campaign))
	if err != nil || head == (transparency.Signed{}) {
		return nil, err
	}
	return &report.Log{Origin: originPrefix + campaign, Size: head.Size, Root: head.Root.String(), Keys: []string{}}, nil
}

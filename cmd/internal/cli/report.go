package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

func (a *app) reportCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "report", Short: "Write what leaves the ledger for people: exports, the protocol, letters"}
	cmd.AddCommand(a.reportExportCommand(), a.reportProtocolCommand(), a.reportLettersCommand())
	return cmd
}

const asXLSX format = "xlsx"

// What can be exported.
const (
	exportVotes   = "votes"
	exportResults = "results"
)

// exportOptions are the flags of `report export`.
type exportOptions struct {
	what       string
	format     format
	file       string // empty for standard output
	totals     string // a file, or empty
	separator  string
	bom        bool
	pseudonyms bool
	asOf       uint64
}

func (a *app) reportExportCommand() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export --campaign ID",
		Short: "Export votes or results for spreadsheets and programs",
		Long: "Export votes or results, as of one event, for spreadsheets and programs.\n\n" +
			"--what votes has a row for each vote, with what became of it: active, retracted,\n" +
			"annulled under a decision, or void. --what results has a row for each specialist.\n\n" +
			"Times are in the campaign's time zone with their offset; in a workbook they are\n" +
			"dates, with the offset in the next column. A workbook goes on in a further sheet\n" +
			"after 1,048,575 rows, and says in the sheet About what it is of. In csv and xlsx an\n" +
			"apostrophe is put before texts that a spreadsheet would run as a formula. JSON is\n" +
			"one object with a row on each line and the totals as the last member.\n\n" +
			"An export is complete and adds up to the results, or there is an error and no file.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.what, "what", exportVotes, exportVotes+" or "+exportResults)
	f.StringVar(&o.file, "file", "", "new file to write instead of standard output")
	f.StringVar(&o.totals, "totals", "", "new file for the control totals, as JSON")
	f.StringVar(&o.separator, "separator", ",", "between the fields of csv: a comma, a semicolon or tab; Excel in Latvia expects ;")
	f.BoolVar(&o.bom, "bom", false, "begin csv with a byte order mark, by which Excel knows UTF-8")
	f.BoolVar(&o.pseudonyms, "pseudonyms", false, "add the voters' pseudonyms: they tell which votes are of one person")
	f.Uint64Var(&o.asOf, "as-of-sequence", 0, "export what the first N events say; 0 for all")
	notFromEnvironment(cmd, "what", "file", "totals", "separator", "bom", "pseudonyms", "as-of-sequence")
	format := formatFlag(cmd, asCSV, asXLSX, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.format = *format
		if err := a.checkExport(cmd, o); err != nil {
			return err
		}
		return a.withSource(cmd, *campaign, o.asOf, func(ctx context.Context, s report.Source) error {
			return a.export(ctx, s, o)
		})
	}
	return cmd
}

func (a *app) checkExport(cmd *cobra.Command, o exportOptions) error {
	_, known := separators[o.separator]
	switch {
	case o.what != exportVotes && o.what != exportResults:
		return usagef("--what %q: use %s or %s", o.what, exportVotes, exportResults)
	case !known:
		return usagef("--separator %q: use , or ; or tab", o.separator)
	case o.format != asCSV && (o.bom || cmd.Flags().Changed("separator")):
		return usagef("--bom and --separator are for -o csv")
	case o.what != exportVotes && o.pseudonyms:
		return usagef("--pseudonyms is for --what %s", exportVotes)
	case o.format == asXLSX && o.file == "" && isTerminal(a.out):
		return usagef("a workbook is no text: name a new file with --file")
	}
	if o.file != "" && o.totals != "" {
		switch same, err := sameName(o.file, o.totals); {
		case err != nil:
			return err
		case same:
			return usagef("--file and --totals are the same file")
		}
	}
	// Before the ledger is read, which may take minutes.
	for _, name := range []string{o.file, o.totals} {
		if name != "" {
			if err := mustBeNew(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// separators are those of csv by their names on the command line.
var separators = map[string]rune{",": ',', ";": ';', "tab": '\t', "\t": '\t', `\t`: '\t'}

// withSource runs fn with the ledger of a campaign as of an event; 0 is the
// last one now.
func (a *app) withSource(cmd *cobra.Command, campaign string, asOf uint64, fn func(context.Context, report.Source) error) error {
	return a.withLedger(cmd, campaign, func(ctx context.Context, l *eventstore.Ledger) error {
		s, err := a.source(ctx, l, asOf)
		if err != nil {
			return err
		}
		return fn(ctx, s)
	})
}

func (a *app) source(ctx context.Context, l *eventstore.Ledger, asOf uint64) (report.Source, error) {
	info, err := l.Info(ctx)
	if err != nil {
		return report.Source{}, err
	}
	if err := checkAsOf(asOf, info); err != nil {
		return report.Source{}, err
	}
	if info.Last == 0 {
		campaign, _ := domain.CampaignOfStream(info.Stream)
		return report.Source{}, fmt.Errorf("campaign %s: %w", campaign, intake.ErrNotOpened)
	}
	if asOf == 0 {
		asOf = info.Last
	}
	return report.Source{Ledger: l, Codec: a.codec, Last: asOf, Read: new(atomic.Int64)}, nil
}

func (a *app) export(ctx context.Context, s report.Source, o exportOptions) error {
	passes := int64(1)
	if o.what == exportVotes {
		passes = 2
	}
	var summary report.Summary
	write := func(w io.Writer) (err error) {
		stop := a.progress("export", passes*int64(s.Last), s.Read.Load)
		defer stop()
		summary, err = a.exportTo(ctx, w, s, o)
		return err
	}
	if err := a.writeOut(o.file, write); err != nil {
		return err
	}
	if o.totals != "" {
		if err := writeNewFile(o.totals, func(w io.Writer) error { return printJSON(w, summary) }); err != nil {
			return err
		}
	}
	t := summary.Totals
	_, err := fmt.Fprintf(a.err, "%d rows of campaign %s as of event %d: %d votes active, %d retracted, %d annulled, %d void, of %d cast; %d voters; tally %s\n",
		t.Rows, summary.Campaign, summary.AsOfSequence, t.Active, t.Retracted, t.Annulled, t.Void, t.Cast, t.Voters, summary.TallyDigest)
	return err
}

// writeOut writes a new file, or standard output without a name, and says after
// an error what is left.
func (a *app) writeOut(file string, write func(io.Writer) error) error {
	if file == "" {
		if err := write(a.out); err != nil {
			return fmt.Errorf("what stands on standard output is not whole and must not be used: %w", err)
		}
		return nil
	}
	if err := writeNewFile(file, write); err != nil {
		return fmt.Errorf("%s was not written: %w", file, err)
	}
	return nil
}

func (a *app) exportTo(ctx context.Context, w io.Writer, s report.Source, o exportOptions) (summary report.Summary, err error) {
	sheet, closeSheet, err := newSheet(ctx, w, o)
	if err != nil {
		return summary, err
	}
	defer func() { err = errors.Join(err, closeSheet()) }()
	if o.what == exportResults {
		return report.Results(ctx, s, sheet, a.now())
	}
	return report.Votes(ctx, s, sheet, o.pseudonyms, a.now())
}

func newSheet(ctx context.Context, w io.Writer, o exportOptions) (report.Sheet, func() error, error) {
	nothing := func() error { return nil }
	switch o.format {
	case asXLSX:
		x, err := report.NewXLSX(ctx, w)
		if err != nil {
			return nil, nil, err
		}
		return x, x.Close, nil
	case asJSON:
		return report.NewJSON(w), nothing, nil
	}
	c, err := report.NewCSV(w, separators[o.separator], o.bom)
	return c, nothing, err
}

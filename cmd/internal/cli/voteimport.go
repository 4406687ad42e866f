package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
)

// importOptions say how a file of submissions is imported.
type importOptions struct {
	file    string
	rejects string // file for rows that were not recorded; empty for none
	dryRun  bool
	format  format
}

func (a *app) voteImportCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import --campaign ID FILE.csv[.gz]",
		Short: "Decide and record the submissions of a file",
		Long: "Decide and record the submissions of a file. Running it again is safe: rows that\n" +
			"are recorded are recognised, and refused ones are refused again.\n\n" +
			"Columns: " + strings.Join(intake.VoteColumns.Required, ", ") + ".\n" +
			"action is vote or retract; at is RFC 3339 with an offset, or empty for now.\n" +
			"UTF-8, plain or gzip. A file of rejects can be mended and imported as it is: the\n" +
			"columns " + strings.Join(intake.VoteColumns.Ignored, ", ") + " are ignored.",
		Args: cobra.ExactArgs(1),
	}
	resumable(cmd)
	campaign := campaignFlag(cmd)
	keyFile := keyFileFlag(cmd)
	cmd.Flags().StringVar(&o.rejects, "rejects", "", "file for the rows that were refused or could not be read; it holds voters' ids, and only its owner can read it")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what would happen; --rejects then lists rows, too, that the ledger already has (code known)")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.file, o.format = args[0], *format
		file, err := csvfile.Open(o.file, intake.VoteColumns)
		if err != nil {
			return err
		}
		defer file.Close() // it was only read
		if sameFile(o.file, o.rejects) {
			return usagef("--rejects %s: it is the file that is imported; name another one", o.rejects)
		}
		needs := intakeOptions{campaign: *campaign, key: true, keyFile: *keyFile, dryRun: o.dryRun}
		return a.withIntake(cmd, needs, func(ctx context.Context, in *intake.Intake) error {
			return a.importVotes(ctx, in, file, o)
		})
	}
	return cmd
}

// importVotes tells what became of the rows even when it could not go on.
func (a *app) importVotes(ctx context.Context, in *intake.Intake, file *csvfile.Reader, o importOptions) (err error) {
	rejects, err := createRejects(o.rejects)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rejects.Close()) }()
	im, readErr := intake.ReadImport(ctx, in, file)
	if im == nil {
		return fmt.Errorf("%s: %w", o.file, readErr)
	}
	im.Hopeless = node.IsDiskFull
	im.ListKnown = o.dryRun && o.rejects != ""
	start := time.Now()
	stop := a.progress(fmt.Sprintf("import %s", o.file), int64(im.Rows()), func() int64 { return int64(im.Done()) })
	result, err := im.Run(ctx)
	stop()
	told := errors.Join(a.printImport(o, result, time.Since(start)), writeRejects(rejects, file.Header(), result.Rejects))
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %d rows decided so far, import it again to go on: %w", o.file, im.Done(), err), told)
	}
	return errors.Join(a.importErrors(o.file, result, readErr), told)
}

func (a *app) printImport(o importOptions, r intake.Result, took time.Duration) error {
	if o.format == asJSON {
		return printJSON(a.out, r)
	}
	refused := 0
	for _, n := range r.Refused {
		refused += n
	}
	unanswered := ""
	if r.Unanswered > 0 {
		unanswered = fmt.Sprintf(", %d unanswered", r.Unanswered)
	}
	fmt.Fprintf(a.out, "%s%d rows: %d recorded, %d known, %d refused, %d unreadable%s\n",
		dryRunPrefix(o.dryRun), r.Rows, r.Recorded, r.Known, refused, r.Unreadable, unanswered)
	for _, code := range slices.Sorted(maps.Keys(r.Refused)) {
		fmt.Fprintf(a.out, "  %s %d\n", code, r.Refused[code])
	}
	decided := r.Rows - r.Unreadable - r.Unanswered
	fmt.Fprintf(a.err, "%d rows in %s, %.0f rows/s\n", decided, took.Round(time.Millisecond), float64(decided)/took.Seconds())
	return nil
}

// importErrors prints the rows that could not be read. Refusals are outcomes
// and no errors.
func (a *app) importErrors(file string, r intake.Result, readErr error) error {
	shown := 0
	for _, reject := range r.Rejects {
		if reject.Code != intake.Unreadable {
			continue
		}
		if shown++; shown > maxShownRows {
			fmt.Fprintf(a.err, "… and %d more\n", r.Unreadable-maxShownRows)
			break
		}
		fmt.Fprintf(a.err, "%s:%d: %s\n", file, reject.Line, reject.Reason)
	}
	switch {
	case readErr != nil:
		return fmt.Errorf("%w; the rows before it are decided", readErr)
	case r.Unreadable > 0:
		return fmt.Errorf("%d rows could not be read; mend them and import the file again", r.Unreadable)
	}
	return nil
}

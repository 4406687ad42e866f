package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/eventstore"
)

func (a *app) reportLettersCommand() *cobra.Command {
	var o lettersOptions
	cmd := &cobra.Command{
		Use:   "letters --campaign ID --out FOLDER [--rules FILE]",
		Short: "Write the letters of gratitude, ready to print and for mail merge",
		Long: "Write the letters of gratitude (Pateicības raksti) of those to whom `results awards`\n" +
			"gives them, into a new folder: letters.html, a page of A4 each, and letters.csv for\n" +
			"mail merge, in UTF-8 with a byte order mark.\n\n" +
			"--templates names a folder with a letters.html of your own, a template of Go's package\n" +
			"html/template; other *.html files of the folder can be included. It gets Title,\n" +
			"Campaign, Date and Letters, each with Number, Name, Position, Institution, Branch,\n" +
			"Region, Rank, Votes and Specialist.\n\n" +
			"With --as-of-sequence the same letters can be written at any later time, but for Date.",
		Args: cobra.NoArgs,
	}
	campaign, rules := campaignFlag(cmd), rulesFlag(cmd)
	f := cmd.Flags()
	f.Uint64Var(&o.asOf, "as-of-sequence", 0, "know only the first N events; 0 for all")
	f.StringVar(&o.out, "out", "", "new folder for the letters (needed)")
	f.StringVar(&o.templates, "templates", "", "folder of templates instead of the built-in one")
	f.StringVar(&o.separator, "separator", ",", "between the fields of letters.csv: a comma, a semicolon or tab")
	required(cmd, "out")
	notFromEnvironment(cmd, "out", "separator", "as-of-sequence")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		rule, err := readRule(*rules)
		if err != nil {
			return err
		}
		if err := o.check(); err != nil {
			return err
		}
		return a.withLedger(cmd, *campaign, func(ctx context.Context, l *eventstore.Ledger) error {
			s, err := a.source(ctx, l, o.asOf)
			if err != nil {
				return err
			}
			awards, err := a.awards(ctx, s, rule)
			if err != nil {
				return err
			}
			zone, err := time.LoadLocation(awards.Timezone)
			if err != nil {
				return fmt.Errorf("the campaign's time zone: %w", err)
			}
			letters, err := report.NewLetters(awards, zone, a.now())
			if err != nil {
				return err
			}
			if err := writeNewFolder(o.out, func(dir string) error { return o.write(dir, letters) }); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.err, "%d letters in %s, as of event %d\n", len(letters.Letters), o.out, s.Last)
			return err
		})
	}
	return cmd
}

// lettersOptions are the flags of `report letters`.
type lettersOptions struct {
	asOf      uint64
	out       string
	templates string // empty for the built-in one
	separator string
}

func (o lettersOptions) check() error {
	if _, known := separators[o.separator]; !known {
		return usagef("--separator %q: use , or ; or tab", o.separator)
	}
	if o.templates != "" {
		if info, err := os.Stat(o.templates); err != nil || !info.IsDir() {
			return usagef("--templates %s: there is no such folder", o.templates)
		}
	}
	return mustBeNew(o.out)
}

func (o lettersOptions) write(dir string, letters *report.Letters) error {
	var templates fs.FS
	if o.templates != "" {
		templates = os.DirFS(o.templates)
	}
	err := writeNewFile(filepath.Join(dir, "letters.html"), func(w io.Writer) error { return letters.HTML(w, templates) })
	if errors.Is(err, report.ErrTemplates) {
		err = fmt.Errorf("--templates %s: %w", o.templates, err)
	}
	if err != nil {
		return err
	}
	return writeNewFile(filepath.Join(dir, "letters.csv"), func(w io.Writer) error {
		table, err := report.NewCSV(w, separators[o.separator], true)
		if err != nil {
			return err
		}
		return letters.Table(table)
	})
}

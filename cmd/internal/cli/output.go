package cli

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
)

// format is how data is printed.
type format string

const (
	asTable format = "table"
	asJSON  format = "json"
	asCSV   format = "csv"
)

// formatFlag adds -o with the formats that a command has; the first is the
// default.
func formatFlag(cmd *cobra.Command, formats ...format) *format {
	f := formats[0]
	value := &formatValue{&f, formats}
	cmd.Flags().VarP(value, "output", "o", "output: "+value.list())
	return &f
}

type formatValue struct {
	format  *format
	allowed []format
}

func (v *formatValue) list() string {
	names := make([]string, len(v.allowed))
	for i, f := range v.allowed {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

func (v *formatValue) String() string { return string(*v.format) }
func (v *formatValue) Type() string   { return "format" }

func (v *formatValue) Set(s string) error {
	for _, f := range v.allowed {
		if s == string(f) {
			*v.format = f
			return nil
		}
	}
	return fmt.Errorf("use %s", v.list())
}

// maxCellWidth is how wide a text is shown in a table that has many, in
// columns of a terminal. Names may have a thousand letters; JSON and CSV have
// all of them.
const maxCellWidth = 48

// listing is rows for people and spreadsheets, and the value for programs.
type listing struct {
	columns []string
	rows    [][]string
	value   any
	whole   bool // it is about one thing, so that nothing is cut
}

func (a *app) print(f format, l listing) error {
	switch f {
	case asJSON:
		return printJSON(a.out, l.value)
	case asCSV:
		w := csv.NewWriter(a.out)
		if err := w.Write(l.columns); err != nil {
			return err
		}
		for _, row := range l.rows {
			if err := w.Write(inertRow(row)); err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.AppendHeader(tableRow(l.columns))
	for _, row := range l.rows {
		t.AppendRow(tableRow(row))
	}
	t.SetColumnConfigs(columnConfigs(l))
	_, err := fmt.Fprintln(a.out, t.Render())
	return err
}

// inertRow is fields that no spreadsheet runs as formulas. Negative numbers stay
// numbers.
func inertRow(fields []string) []string {
	row := make([]string, len(fields))
	for i, f := range fields {
		if _, err := strconv.ParseInt(f, 10, 64); err != nil {
			f = report.InertText(f)
		}
		row[i] = f
	}
	return row
}

// columnConfigs align numbers to the right and cut long texts. Ids are not cut,
// for they are copied from here into the next command.
func columnConfigs(l listing) []table.ColumnConfig {
	configs := make([]table.ColumnConfig, len(l.columns))
	for i, name := range l.columns {
		c := table.ColumnConfig{Number: i + 1}
		switch name {
		case "rank", "votes", "voters", "sequence", "events", "specialists", "position", "last", "lag",
			"requests", "p50", "p90", "p99", "p99.9", "max", "expected_own", "expected_peers", "log10_p":
			c.Align, c.AlignHeader = text.AlignRight, text.AlignRight
		case "id", "specialist_id", "voter":
		default:
			if !l.whole {
				c.WidthMax, c.WidthMaxEnforcer = maxCellWidth, cut
			}
		}
		configs[i] = c
	}
	return configs
}

// cut marks a text that it shortens.
func cut(s string, width int) string { return text.Snip(s, width, "…") }

func tableRow(fields []string) table.Row {
	row := make(table.Row, len(fields))
	for i, f := range fields {
		row[i] = f
	}
	return row
}

// jsonOptions make the same data the same text: members of maps in their
// order, and moments as everywhere in UTC with milliseconds.
var jsonOptions = json.JoinOptions(
	jsontext.WithIndent("  "),
	json.Deterministic(true),
	json.WithMarshalers(json.MarshalToFunc(func(e *jsontext.Encoder, t time.Time) error {
		return e.WriteToken(jsontext.String(domain.FormatTime(t)))
	})),
)

// plain is text of which nobody here is the author, such as a name in an event or
// of a file, made harmless: it must not write lines of its own into what a
// person reads, nor move the cursor of a terminal.
func plain(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// harmless is bytes of which nobody here is the author for a terminal: its lines
// stay lines, and everything else that is no letter, sign or space is written as
// an escape.
func harmless(body []byte) []byte {
	var out []byte
	for len(body) > 0 {
		r, n := utf8.DecodeRune(body)
		switch {
		case r == '\n', r == '\t', unicode.IsGraphic(r) && (r != utf8.RuneError || n > 1):
			out = append(out, body[:n]...)
		case r == utf8.RuneError: // no UTF-8
			out = fmt.Appendf(out, `\x%02x`, body[0])
		default:
			quoted := strconv.QuoteRune(r)
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		body = body[n:]
	}
	return out
}

// jsonValue is text that is JSON already, as it was recorded.
func jsonValue(text []byte) jsontext.Value { return jsontext.Value(text) }

func printJSON(w io.Writer, value any) error {
	if err := json.MarshalWrite(w, value, jsonOptions); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// isTerminal says whether a person reads w as it is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

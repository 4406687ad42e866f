package report

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/xuri/excelize/v2"
)

// sheetRows is how many rows a sheet of a workbook has (ECMA-376 part 1,
// 18.3.1.73). What is more goes on in the next sheet.
const sheetRows = excelize.TotalRows

// offsetSuffix is of the column beside a date: 2019-10-27 03:30 was twice.
const offsetSuffix = "_offset"

// columnWidth is that of every column, in characters.
const columnWidth = 22

// XLSX makes a workbook: the rows in sheets, and a sheet "About" with what the
// export is of and its totals. Nothing is written before End. Rows are kept in
// a temporary folder; Close removes it.
type XLSX struct {
	out     io.Writer
	file    *excelize.File
	folder  string
	limit   int // rows of a sheet, the header's included
	about   About
	zone    *time.Location
	columns []Column
	stream  *excelize.StreamWriter
	sheets  []string
	rows    int // in this sheet
	row     []any
	date    int // styles
	bold    int
}

// NewXLSX will write to w, until the context ends. The caller closes it, whatever
// happens.
func NewXLSX(ctx context.Context, w io.Writer) (x *XLSX, err error) {
	x = &XLSX{out: w, limit: sheetRows}
	// Excelize keeps the rows in memory where it can make no file.
	if x.folder, err = os.MkdirTemp("", "paldies-export-*"); err != nil {
		return nil, fmt.Errorf("a workbook's rows need a temporary folder: %w", err)
	}
	x.file = excelize.NewFile(excelize.Options{TmpDir: x.folder})
	x.file.SetZipWriter(func(w io.Writer) excelize.ZipWriter { return zipping{zip.NewWriter(w), ctx} })
	format := "yyyy-mm-dd hh:mm:ss.000"
	x.date, err = x.file.NewStyle(&excelize.Style{CustomNumFmt: &format})
	if err == nil {
		x.bold, err = x.file.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}})
	}
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

// Close removes what is temporary.
func (x *XLSX) Close() error { return errors.Join(x.file.Close(), os.RemoveAll(x.folder)) }

// zipping packs a workbook, which takes the longest of all, until the context ends.
type zipping struct {
	*zip.Writer
	ctx context.Context
}

// Create implements excelize.ZipWriter.
func (z zipping) Create(name string) (io.Writer, error) {
	if err := z.ctx.Err(); err != nil {
		return nil, err
	}
	w, err := z.Writer.Create(name)
	return untilEnd{z.ctx, w}, err
}

type untilEnd struct {
	ctx context.Context
	to  io.Writer
}

// Write implements io.Writer.
func (u untilEnd) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.to.Write(p)
}

// Begin implements Sheet.
func (x *XLSX) Begin(about About, columns []Column, zone *time.Location) error {
	x.about, x.columns, x.zone = about, columns, zone
	return nil
}

// Row implements Sheet.
func (x *XLSX) Row(values []any) error {
	if x.stream == nil || x.rows == x.limit {
		if err := x.newSheet(); err != nil {
			return err
		}
	}
	x.row = x.row[:0]
	for _, v := range values {
		x.row = x.appendCell(x.row, v)
	}
	return x.append(x.row)
}

// appendCell makes texts inert, and of a moment two cells.
func (x *XLSX) appendCell(row []any, value any) []any {
	switch v := value.(type) {
	case string:
		if v == "" {
			return append(row, nil)
		}
		return append(row, inert(v))
	case time.Time:
		local := v.In(x.zone)
		return append(row, excelize.Cell{StyleID: x.date, Value: local}, local.Format("UTC-07:00"))
	}
	return append(row, value)
}

func (x *XLSX) append(row []any, options ...excelize.RowOpts) error {
	x.rows++
	return x.stream.SetRow("A"+strconv.Itoa(x.rows), row, options...)
}

// newSheet begins the next sheet with a header that stays in sight.
func (x *XLSX) newSheet() (err error) {
	if err := x.endSheet(); err != nil {
		return err
	}
	name := x.about.What
	if n := len(x.sheets) + 1; n > 1 {
		name += " " + strconv.Itoa(n)
	}
	if err := x.addSheet(name); err != nil {
		return err
	}
	var header []any
	for _, column := range x.columns {
		header = append(header, column.Name)
		if column.Moment {
			header = append(header, column.Name+offsetSuffix)
		}
	}
	if x.stream, err = x.file.NewStreamWriter(name); err != nil {
		return err
	}
	x.rows = 0
	return errors.Join(
		x.stream.SetColWidth(1, len(header), columnWidth),
		x.stream.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}),
		x.append(header, excelize.RowOpts{StyleID: x.bold}))
}

// addSheet adds an empty sheet; a new workbook has one already.
func (x *XLSX) addSheet(name string) error {
	x.sheets = append(x.sheets, name)
	if len(x.sheets) == 1 {
		return x.file.SetSheetName(x.file.GetSheetName(0), name)
	}
	_, err := x.file.NewSheet(name)
	return err
}

func (x *XLSX) endSheet() error {
	if x.stream == nil {
		return nil
	}
	return x.stream.Flush()
}

// End implements Sheet. It writes the workbook.
func (x *XLSX) End(s Summary) error {
	if x.stream == nil { // no row, but a header all the same
		if err := x.newSheet(); err != nil {
			return err
		}
	}
	if err := x.endSheet(); err != nil {
		return err
	}
	if err := x.writeAbout(s); err != nil {
		return err
	}
	_, err := x.file.WriteTo(x.out)
	return err
}

// writeAbout is the last sheet, because programs read the first one.
func (x *XLSX) writeAbout(s Summary) (err error) {
	const name = "About"
	sheets := int64(len(x.sheets))
	if err := x.addSheet(name); err != nil {
		return err
	}
	if x.stream, err = x.file.NewStreamWriter(name); err != nil {
		return err
	}
	x.rows = 0
	errs := []error{x.stream.SetColWidth(1, 1, columnWidth), x.stream.SetColWidth(2, 2, 4*columnWidth)}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"campaign", s.Campaign}, {"title", s.Title}, {"status", string(s.Status)}, {"what", s.What},
		{"as_of_sequence", s.AsOfSequence}, {"as_of_time", s.AsOfTime}, {"timezone", s.Timezone},
		{"tally_digest", s.TallyDigest}, {"exported_at", s.ExportedAt},
		{"sheets", sheets}, {"rows", s.Totals.Rows},
		{"votes_cast", s.Totals.Cast}, {"votes_active", s.Totals.Active}, {"votes_retracted", s.Totals.Retracted},
		{"votes_annulled", s.Totals.Annulled}, {"votes_void", s.Totals.Void}, {"voters", s.Totals.Voters},
	} {
		errs = append(errs, x.append(x.appendCell([]any{line.name}, line.value)))
	}
	return errors.Join(append(errs, x.stream.Flush())...)
}

package report_test

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What other programs see in an export. Nothing here knows the package.

// table is rows by the names of their columns.
type table []map[string]string

func toTable(tb testing.TB, rows [][]string) (t table) {
	tb.Helper()
	if len(rows) == 0 {
		tb.Fatal("there is not even a header")
	}
	for _, row := range rows[1:] {
		if len(row) > len(rows[0]) {
			tb.Fatalf("the row %q has more columns than the header %q", row, rows[0])
		}
		m := make(map[string]string)
		for i, name := range rows[0] {
			if m[name] = ""; i < len(row) {
				m[name] = row[i]
			}
		}
		t = append(t, m)
	}
	return t
}

func readCSV(tb testing.TB, data []byte, separator rune) table {
	tb.Helper()
	r := csv.NewReader(bytes.NewReader(data))
	r.Comma = separator
	rows, err := r.ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	return toTable(tb, rows)
}

// jsonExport is an export as encoding/json reads it.
type jsonExport struct {
	About  map[string]any
	Rows   table
	Totals map[string]int64
}

func readJSON(tb testing.TB, data []byte) (e jsonExport) {
	tb.Helper()
	var whole struct {
		Rows   []map[string]any `json:"rows"`
		Totals map[string]int64 `json:"totals"`
	}
	for _, to := range []any{&whole, &e.About} {
		if err := json.Unmarshal(data, to); err != nil {
			tb.Fatalf("%v in %s", err, data)
		}
	}
	for _, row := range whole.Rows {
		m := make(map[string]string)
		for name, value := range row {
			if m[name] = ""; value != nil {
				m[name] = fmt.Sprint(value)
			}
		}
		e.Rows = append(e.Rows, m)
	}
	e.Totals = whole.Totals
	return e
}

// workbook is what unzip and an XML parser find in a file of Excel.
type workbook struct {
	names  []string // of the sheets, in their order
	sheets map[string][][]string
	formulas,
	dates int
}

// readXLSX gives dates as the local time that a person sees.
func readXLSX(tb testing.TB, data []byte) workbook {
	tb.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		tb.Fatal(err)
	}
	part := func(name string, to any) {
		f, err := z.Open(name)
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		if err == nil {
			err = xml.Unmarshal(text, to)
		}
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
	}
	var book struct {
		Sheets []struct {
			Name string `xml:"name,attr"`
			ID   string `xml:"http://schemas.openxmlformats.org/officeDocument/2006/relationships id,attr"`
		} `xml:"sheets>sheet"`
	}
	var relations struct {
		All []struct {
			ID     string `xml:"Id,attr"`
			Target string `xml:"Target,attr"`
		} `xml:"Relationship"`
	}
	var styles struct {
		Formats []struct {
			ID   int    `xml:"numFmtId,attr"`
			Code string `xml:"formatCode,attr"`
		} `xml:"numFmts>numFmt"`
		Cells []struct {
			Format int `xml:"numFmtId,attr"`
		} `xml:"cellXfs>xf"`
	}
	part("xl/workbook.xml", &book)
	part("xl/_rels/workbook.xml.rels", &relations)
	part("xl/styles.xml", &styles)
	isDate := func(style int) bool {
		for _, f := range styles.Formats {
			if style < len(styles.Cells) && f.ID == styles.Cells[style].Format {
				return strings.Contains(f.Code, "yyyy")
			}
		}
		return false
	}
	w := workbook{sheets: make(map[string][][]string)}
	for _, s := range book.Sheets {
		var target string
		for _, r := range relations.All {
			if r.ID == s.ID {
				target = r.Target
			}
		}
		if !path.IsAbs(target) {
			target = "/xl/" + target
		}
		var sheet struct {
			Rows []struct {
				Cells []struct {
					Ref     string  `xml:"r,attr"`
					Type    string  `xml:"t,attr"`
					Style   int     `xml:"s,attr"`
					Value   string  `xml:"v"`
					Text    string  `xml:"is>t"`
					Formula *string `xml:"f"`
				} `xml:"c"`
			} `xml:"sheetData>row"`
		}
		part(target[1:], &sheet)
		rows := [][]string{}
		for _, r := range sheet.Rows {
			var row []string
			for _, c := range r.Cells {
				column := 0
				for _, letter := range strings.TrimRight(c.Ref, "0123456789") {
					column = column*26 + int(letter-'A'+1)
				}
				for len(row) < column {
					row = append(row, "")
				}
				value := c.Value + c.Text
				switch {
				case c.Formula != nil:
					w.formulas++
				case c.Type == "" && isDate(c.Style):
					w.dates++
					value = localTime(tb, c.Value)
				}
				row[column-1] = value
			}
			rows = append(rows, row)
		}
		w.names = append(w.names, s.Name)
		w.sheets[s.Name] = rows
	}
	return w
}

// localTime is a day number of Excel: 1 is 1 January 1900, and the 29 February
// 1900 that never was is counted.
func localTime(tb testing.TB, number string) string {
	tb.Helper()
	days, err := strconv.ParseFloat(number, 64)
	if err != nil {
		tb.Fatal(err)
	}
	milliseconds := int64(math.Round(days * 24 * 3600 * 1000))
	return time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).Add(time.Duration(milliseconds) * time.Millisecond).Format("2006-01-02T15:04:05.000")
}

// writeFile makes a file and returns its path.
func writeFile(tb testing.TB, dir, name string, data []byte) string {
	tb.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return p
}

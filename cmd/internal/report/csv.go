package report

import (
	"bufio"
	"encoding/csv"
	"io"
	"time"
)

// byteOrderMark tells Excel that a file is UTF-8.
const byteOrderMark = "\ufeff"

// CSV writes RFC 4180 with LF. It has no room for what an export is of and for
// its totals: whoever calls tells the Summary.
type CSV struct {
	out  *bufio.Writer
	csv  *csv.Writer
	zone *time.Location
	row  []string
}

// NewCSV separates fields with a comma, a semicolon or a tab, and begins with a
// byte order mark if asked.
func NewCSV(w io.Writer, separator rune, bom bool) (*CSV, error) {
	c := &CSV{out: bufio.NewWriterSize(w, 64<<10)}
	if bom {
		if _, err := c.out.WriteString(byteOrderMark); err != nil {
			return nil, err
		}
	}
	c.csv = csv.NewWriter(c.out) // takes the buffer that is there
	c.csv.Comma = separator
	return c, nil
}

// Begin implements Sheet.
func (c *CSV) Begin(_ About, columns []Column, zone *time.Location) error {
	c.zone = zone
	for _, column := range columns {
		c.row = append(c.row, column.Name)
	}
	return c.csv.Write(c.row)
}

// Row implements Sheet.
func (c *CSV) Row(values []any) error {
	c.row = c.row[:0]
	for _, v := range values {
		field, err := text(v, c.zone)
		if err != nil {
			return err
		}
		if _, is := v.(string); is {
			field = InertText(field)
		}
		c.row = append(c.row, field)
	}
	return c.csv.Write(c.row)
}

// End implements Sheet.
func (c *CSV) End(Summary) error {
	c.csv.Flush()
	return c.csv.Error()
}

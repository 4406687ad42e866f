package report

import (
	"bufio"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sakipaldies.lv/ledger/domain"
)

// JSON writes one object: what the export is of, the rows, a line each, and the
// totals as the last member. Texts are as they were recorded.
type JSON struct {
	out     *bufio.Writer
	columns []Column
	zone    *time.Location
	line    []byte
	rows    int64
}

// NewJSON writes to w.
func NewJSON(w io.Writer) *JSON { return &JSON{out: bufio.NewWriterSize(w, 64<<10)} }

// jsonTimes write moments as everywhere, in UTC with milliseconds.
var jsonTimes = json.WithMarshalers(json.MarshalToFunc(func(e *jsontext.Encoder, t time.Time) error {
	return e.WriteToken(jsontext.String(domain.FormatTime(t)))
}))

// Begin implements Sheet.
func (j *JSON) Begin(about About, columns []Column, zone *time.Location) error {
	j.columns, j.zone = columns, zone
	head, err := json.Marshal(about, jsonTimes)
	if err != nil {
		return err
	}
	// The object goes on with another member.
	_, err = j.out.Write(append(head[:len(head)-1], `,"rows":[`...))
	return err
}

// Row implements Sheet.
func (j *JSON) Row(values []any) error {
	j.line = append(j.line[:0], ",\n{"...)
	if j.rows == 0 {
		j.line = append(j.line[:0], "\n{"...)
	}
	j.rows++
	for i, v := range values {
		if i > 0 {
			j.line = append(j.line, ',')
		}
		j.line = append(append(append(j.line, '"'), j.columns[i].Name...), `":`...)
		field, err := text(v, j.zone)
		if err != nil {
			return err
		}
		switch v.(type) {
		case nil:
			j.line = append(j.line, "null"...)
		case string, time.Time:
			if j.line, err = jsontext.AppendQuote(j.line, field); err != nil {
				return err
			}
		default:
			j.line = append(j.line, field...)
		}
	}
	_, err := j.out.Write(append(j.line, '}'))
	return err
}

// End implements Sheet.
func (j *JSON) End(s Summary) error {
	totals, err := json.Marshal(s.Totals)
	if err != nil {
		return err
	}
	if _, err := j.out.Write(append(append([]byte("\n],\"totals\":"), totals...), "}\n"...)); err != nil {
		return err
	}
	return j.out.Flush()
}

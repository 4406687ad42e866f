// Package csvfile reads tables as people hand them in: comma or semicolon,
// with or without a byte order mark, LF or CR LF, plain or gzip. A bad row is
// an error of its own and reading goes on behind it, so that one slip does not
// cost the rest of the file.
package csvfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxRecordBytes is the longest row in bytes.
	MaxRecordBytes = 64 << 10
	// maxRecordLines is how many lines a quoted field may span. A quote that is
	// never closed costs one row, not the rest of the file.
	maxRecordLines = 16
	// maxNameLetters is the longest name of a column that messages repeat.
	maxNameLetters = 32
)

// Columns are the names in the first row, in any order.
type Columns struct {
	Required []string
	Optional []string
	Ignored  []string // passed over, and nobody is told to write them
	Ignore   bool     // all other columns are passed over instead of refused
}

// RowError is one row that cannot be read. Reading goes on behind it.
type RowError struct {
	File string
	Line int
	Err  error
}

func (e *RowError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }
func (e *RowError) Unwrap() error { return e.Err }

// Row is one record of the file.
type Row struct {
	Line   int // the line on which it begins, 1 for the header
	fields []string
	header *header
}

type header struct {
	names  []string
	column map[string]int
}

// Get is a field by the name of its column; a column that is not there is "".
func (r Row) Get(column string) string {
	i, ok := r.header.column[column]
	if !ok {
		return ""
	}
	return r.fields[i]
}

// Fields are all fields in the order of the file.
func (r Row) Fields() []string { return r.fields }

// line is one line of a file without its end, or why there is none.
type line struct {
	number int // 1 for the first
	text   string
	err    error
}

// Reader reads one file.
type Reader struct {
	file      string
	in        *bufio.Reader
	opened    io.Closer // what Open opened, or nil
	lines     int       // read so far
	pending   []line    // behind a row that could not be read, to be read again
	separator byte
	header    header
}

// Open opens a file and reads its header. Content that is gzip is unpacked,
// whatever the file is called.
func Open(file string, columns Columns) (*Reader, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is a directory; name a file in it", file), f.Close())
	}
	r, err := NewReader(file, f, columns)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.opened = f
	return r, nil
}

// NewReader reads the header. The file is a name for messages.
func NewReader(file string, in io.Reader, columns Columns) (*Reader, error) {
	r := &Reader{file: file, in: bufio.NewReaderSize(in, MaxRecordBytes)}
	if magic, _ := r.in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r.in)
		if err != nil {
			return nil, fmt.Errorf("%s: not a gzip file: %w", file, err)
		}
		r.in = bufio.NewReaderSize(z, MaxRecordBytes) // z holds nothing that must be closed
	}
	if err := r.readHeader(columns); err != nil {
		return nil, err
	}
	return r, nil
}

// Close closes what Open opened.
func (r *Reader) Close() error {
	if r.opened == nil {
		return nil
	}
	return r.opened.Close()
}

// Header are the names of the columns in the order of the file.
func (r *Reader) Header() []string { return r.header.names }

// Has says whether the file has a column.
func (r *Reader) Has(column string) bool {
	_, ok := r.header.column[column]
	return ok
}

func (r *Reader) readHeader(columns Columns) error {
	want := append(slices.Clone(columns.Required), columns.Optional...)
	first := r.nextLine()
	if errors.Is(first.err, io.EOF) {
		return fmt.Errorf("%s: the file is empty; its first row must be %s", r.file, strings.Join(want, ","))
	}
	if first.err != nil {
		return first.err
	}
	if strings.HasPrefix(first.text, "\xff\xfe") || strings.HasPrefix(first.text, "\xfe\xff") {
		return fmt.Errorf("%s: the file is UTF-16; save it as \"CSV UTF-8\"", r.file)
	}
	text := strings.TrimPrefix(first.text, "\ufeff")
	r.separator = ','
	if strings.Count(text, ";") > strings.Count(text, ",") {
		r.separator = ';'
	}
	names, err := r.split(text)
	if err != nil {
		return r.rowError(first, err)
	}
	if err := r.header.read(names, columns); err != nil {
		return r.rowError(first, fmt.Errorf("%w; the first row must be %s", err, strings.Join(want, ",")))
	}
	return nil
}

// read takes the names of the columns. In a file without a header they are the
// first row's values, which may be somebody's personal data: what is not known
// is repeated only where it must be a name.
func (h *header) read(names []string, columns Columns) error {
	*h = header{names: make([]string, len(names)), column: make(map[string]int, len(names))}
	known := slices.Concat(columns.Required, columns.Optional, columns.Ignored)
	isHeader := false
	for i, name := range names {
		h.names[i] = strings.TrimSpace(name)
		isHeader = isHeader || slices.Contains(known, h.names[i])
	}
	if !isHeader {
		return errors.New("none of the columns is there")
	}
	for i, name := range h.names {
		if !slices.Contains(known, name) && !columns.Ignore {
			return unknownColumn(i, name)
		}
		if _, twice := h.column[name]; twice && slices.Contains(known, name) {
			return fmt.Errorf("column %q is there twice", name)
		}
		h.column[name] = i
	}
	for _, name := range columns.Required {
		if _, ok := h.column[name]; !ok {
			return fmt.Errorf("column %q is missing", name)
		}
	}
	return nil
}

// unknownColumn repeats a name that looks like one: letters and underscores.
func unknownColumn(i int, name string) error {
	foreign := func(r rune) bool { return !unicode.IsLetter(r) && r != '_' }
	if name == "" || utf8.RuneCountInString(name) > maxNameLetters || strings.IndexFunc(name, foreign) >= 0 {
		return fmt.Errorf("column %d is not a known one", i+1)
	}
	return fmt.Errorf("unknown column %q", name)
}

// Next is the next row, io.EOF behind the last one, a *RowError for a row that
// cannot be read, and any other error when the rest of the file cannot be.
func (r *Reader) Next() (Row, error) {
	first := r.nextLine()
	for first.err == nil && first.text == "" {
		first = r.nextLine()
	}
	if first.err != nil {
		return Row{}, first.err
	}
	fields, more, err := r.record(first)
	var quote *quoteError
	if errors.As(err, &quote) {
		// What seemed to be the rest of the row may be good rows. Where the
		// quotes are right it is text, whatever else is wrong with the row.
		r.pending = append(more, r.pending...)
	}
	if err != nil {
		return Row{}, r.rowError(first, err)
	}
	return Row{Line: first.number, fields: fields, header: &r.header}, nil
}

// RowError is an error in the content of a row.
func (r *Reader) RowError(row Row, err error) *RowError { return &RowError{r.file, row.Line, err} }

func (r *Reader) rowError(l line, err error) *RowError { return &RowError{r.file, l.number, err} }

// record is the fields of a row, and the lines over which its quoted fields go
// on behind the first one.
func (r *Reader) record(first line) (fields []string, more []line, err error) {
	text := first.text
	for strings.Count(text, `"`)%2 == 1 {
		if len(more) == maxRecordLines || len(text) > MaxRecordBytes {
			return nil, more, errOpenQuote
		}
		next := r.nextLine()
		more = append(more, next)
		if next.err != nil {
			return nil, more, errOpenQuote
		}
		text += "\n" + next.text
	}
	fields, err = r.split(text)
	if err == nil && len(fields) != len(r.header.names) {
		err = fmt.Errorf("%d columns instead of %d", len(fields), len(r.header.names))
	}
	return fields, more, err
}

// quoteError says that the quotes of a row are wrong, so that nobody knows
// where it ends.
type quoteError struct{ error }

func (e *quoteError) Unwrap() error { return e.error }

var errOpenQuote = &quoteError{errors.New(`a quote (") is never closed`)}

var errNotUTF8 = errors.New(`the text is not UTF-8; save the file as "CSV UTF-8", or convert it: iconv -f WINDOWS-1257 -t UTF-8`)

func (r *Reader) split(record string) (fields []string, err error) {
	if !strings.Contains(record, `"`) {
		fields = strings.Split(record, string(rune(r.separator)))
	} else if fields, err = r.splitQuoted(record); err != nil {
		return nil, err
	}
	if !utf8.ValidString(record) {
		return nil, errNotUTF8
	}
	return fields, nil
}

func (r *Reader) splitQuoted(record string) ([]string, error) {
	c := csv.NewReader(strings.NewReader(record))
	c.Comma = rune(r.separator)
	fields, err := c.Read()
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return nil, &quoteError{parse.Err} // its line counts from this record
	}
	return fields, err
}

// nextLine is the next line. One that is too long is passed over with a
// *RowError.
func (r *Reader) nextLine() line {
	if len(r.pending) > 0 {
		next := r.pending[0]
		r.pending = r.pending[1:]
		return next
	}
	text, err := r.in.ReadSlice('\n')
	if len(text) == 0 && err == io.EOF {
		return line{err: io.EOF}
	}
	r.lines++
	next := line{number: r.lines}
	tooLong := errors.Is(err, bufio.ErrBufferFull)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.in.ReadSlice('\n')
	}
	switch {
	case err != nil && err != io.EOF:
		next.err = r.broken(err)
	case tooLong:
		next.err = r.rowError(next, fmt.Errorf("the row is longer than %d KiB", MaxRecordBytes>>10))
	default:
		next.text = string(bytes.TrimRight(text, "\r\n"))
	}
	return next
}

// broken says why the rest of the file cannot be read.
func (r *Reader) broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s:%d: the gzip file is cut off; fetch it again: %w", r.file, r.lines, err)
	}
	return fmt.Errorf("%s:%d: %w", r.file, r.lines, err)
}

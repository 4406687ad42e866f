package csvfile

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// people are the columns of most tests.
var people = Columns{Required: []string{"id", "name"}, Optional: []string{"branch"}}

// readAll tells what a reader gives: a line of text for each row and error.
func readAll(t testing.TB, in io.Reader, columns Columns) []string {
	t.Helper()
	r, err := NewReader("saraksts.csv", in, columns)
	if err != nil {
		return []string{"! " + err.Error()}
	}
	defer func() { must(t, r.Close()) }()
	var told []string
	for {
		row, err := r.Next()
		var bad *RowError
		switch {
		case errors.Is(err, io.EOF):
			return told
		case errors.As(err, &bad):
			told = append(told, err.Error())
		case err != nil:
			return append(told, "! "+err.Error())
		default:
			told = append(told, fmt.Sprintf("%d %q %q %q", row.Line, row.Get("id"), row.Get("name"), row.Get("branch")))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pack(t testing.TB, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, text)
	must(t, errors.Join(err, z.Close()))
	return packed.Bytes()
}

const notUTF8 = `the text is not UTF-8; save the file as "CSV UTF-8", or convert it: iconv -f WINDOWS-1257 -t UTF-8`

func TestRows(t *testing.T) {
	long := strings.Repeat("ļ", MaxRecordBytes)
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"plain", "id,name\n1,Žanete\n2,Ķirsone\n", []string{`2 "1" "Žanete" ""`, `3 "2" "Ķirsone" ""`}},
		{"no end of the last line", "id,name\n1,Žanete", []string{`2 "1" "Žanete" ""`}},
		{"columns in any order", "branch,name,id\nGulbene,Ilze,1\n", []string{`2 "1" "Ilze" "Gulbene"`}},
		{"byte order mark", "\ufeffid,name\n1,Ilze\n", []string{`2 "1" "Ilze" ""`}},
		{"quoted header behind a byte order mark", "\ufeff\"id\",\"name\"\n1,Ilze\n", []string{`2 "1" "Ilze" ""`}},
		{"CR LF", "id,name\r\n1,Ilze\r\n\r\n2,Anna\r\n", []string{`2 "1" "Ilze" ""`, `4 "2" "Anna" ""`}},
		{"semicolons", "id;name;branch\n1;Bērziņa, Ilze;Rīga\n", []string{`2 "1" "Bērziņa, Ilze" "Rīga"`}},
		{"spaces in the header", "id , name\n1,Ilze\n", []string{`2 "1" "Ilze" ""`}},
		{"only a header", "id,name\n", nil},
		{"empty lines", "id,name\n\n\n1,Ilze\n\n", []string{`4 "1" "Ilze" ""`}},
		{"quotes", "id,name\n1,\"Ilze \"\"Ilzīte\"\", B.\"\n", []string{`2 "1" "Ilze \"Ilzīte\", B." ""`}},
		{"a field over several lines", "id,name\n1,\"Ilze\n\nBērziņa\"\n2,Anna\n", []string{`2 "1" "Ilze\n\nBērziņa" ""`, `5 "2" "Anna" ""`}},
		{"too few and too many columns", "id,name\n1\n2,Anna\n3,Jānis,x\n", []string{
			"saraksts.csv:2: 1 columns instead of 2", `3 "2" "Anna" ""`, "saraksts.csv:4: 3 columns instead of 2"}},
		{"Windows-1257", "id,name\n1,B\xe7rzi\xf2\xf0\n2,Anna\n", []string{"saraksts.csv:2: " + notUTF8, `3 "2" "Anna" ""`}},
		{"a quote inside a field", "id,name\n1,Il\"z\"e\n2,Anna\n", []string{`saraksts.csv:2: bare " in non-quoted-field`, `3 "2" "Anna" ""`}},
		{"an open quote at the end", "id,name\n1,Anna\n2,\"Ilze\n", []string{`2 "1" "Anna" ""`, `saraksts.csv:3: a quote (") is never closed`}},
		{"an open quote costs one row", "id,name\n1,\"Ilze\n2,Anna\n3,Jānis\n", []string{
			`saraksts.csv:2: a quote (") is never closed`, `3 "2" "Anna" ""`, `4 "3" "Jānis" ""`}},
		{"two open quotes cost two rows", "id,name\n1,\"Ilze\n2,Anna\n3,Jā\"nis\n4,Zane\n", []string{
			`saraksts.csv:2: extraneous or missing " in quoted-field`, `3 "2" "Anna" ""`,
			`saraksts.csv:4: a quote (") is never closed`, `5 "4" "Zane" ""`}},
		{"text over several lines in a row with too many columns", "id,name\n1,\"Ilze\n2,Zagle\n\",x\n3,Jānis\n", []string{
			"saraksts.csv:2: 3 columns instead of 2", `5 "3" "Jānis" ""`}},
		{"text over several lines that is not UTF-8", "id,name\n1,\"B\xe7rzi\xf2\xf0\n2,Zagle\n\"\n3,Jānis\n", []string{
			"saraksts.csv:2: " + notUTF8, `5 "3" "Jānis" ""`}},
		{"an open quote in text that is not UTF-8", "id,name\n1,\"B\xe7rzi\xf2\xf0\n2,Anna\n", []string{
			`saraksts.csv:2: a quote (") is never closed`, `3 "2" "Anna" ""`}},
		{"a row that is too long", "id,name\n1,Anna\n2," + long + "\n3,Zane\n", []string{
			`2 "1" "Anna" ""`, "saraksts.csv:3: the row is longer than 64 KiB", `4 "3" "Zane" ""`}},
		{"a row that is too long behind an open quote", "id,name\n1,\"Anna\n2,Ilze\n3," + long + "\n4,Zane\n", []string{
			`saraksts.csv:2: a quote (") is never closed`, `3 "2" "Ilze" ""`,
			"saraksts.csv:4: the row is longer than 64 KiB", `5 "4" "Zane" ""`}},
		{"a row that is too long at the end", "id,name\n1," + long, []string{"saraksts.csv:2: the row is longer than 64 KiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := readAll(t, strings.NewReader(c.file), people); !slices.Equal(got, c.want) {
				t.Errorf("plain:\n got %.200q\nwant %.200q", got, c.want)
			}
			if got := readAll(t, bytes.NewReader(pack(t, c.file)), people); !slices.Equal(got, c.want) {
				t.Errorf("packed:\n got %.200q\nwant %.200q", got, c.want)
			}
		})
	}
}

func TestUnusableFiles(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", "! saraksts.csv: the file is empty; its first row must be id,name,branch"},
		{"empty when unpacked", string(pack(t, "")), "! saraksts.csv: the file is empty; its first row must be id,name,branch"},
		{"missing column", "id,branch\n", `! saraksts.csv:1: column "name" is missing; the first row must be id,name,branch`},
		{"misspelt column", "id,nmae\n", `! saraksts.csv:1: unknown column "nmae"; the first row must be id,name,branch`},
		{"column twice", "id,name,id\n", `! saraksts.csv:1: column "id" is there twice; the first row must be id,name,branch`},
		{"no header", "1,Ilze\n", `! saraksts.csv:1: none of the columns is there; the first row must be id,name,branch`},
		{"UTF-16", "\xff\xfei\x00d\x00", `! saraksts.csv: the file is UTF-16; save it as "CSV UTF-8"`},
		{"UTF-16, the other way round", "\xfe\xff\x00i\x00d", `! saraksts.csv: the file is UTF-16; save it as "CSV UTF-8"`},
		{"Windows-1257 in the header", "id,v\xe2rds\n", "! saraksts.csv:1: " + notUTF8},
		{"a header that is too long", strings.Repeat("ā", MaxRecordBytes), "! saraksts.csv:1: the row is longer than 64 KiB"},
		{"only the name of gzip", "\x1f\x8bnav", "! saraksts.csv: not a gzip file: unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := readAll(t, strings.NewReader(c.file), people); !slices.Equal(got, []string{c.want}) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestForeignColumnsCanBeIgnored(t *testing.T) {
	for _, c := range []struct {
		columns Columns
		file    string
		want    string
	}{
		{Columns{Required: []string{"id"}, Ignore: true}, "x,id,x\na,1,b\n", `2 "1" "" ""`},
		{Columns{Required: []string{"id"}, Ignored: []string{"piezīmes"}}, "id,piezīmes\n1,b\n", `2 "1" "" ""`},
		{Columns{Required: []string{"id"}, Ignored: []string{"piezīmes"}}, "id,piezime\n1,b\n",
			`! saraksts.csv:1: unknown column "piezime"; the first row must be id`},
		{Columns{Required: []string{"id"}, Ignored: []string{"piezīmes"}}, "id,piezīmes,piezīmes\n1,b,c\n",
			`! saraksts.csv:1: column "piezīmes" is there twice; the first row must be id`},
	} {
		if got := readAll(t, strings.NewReader(c.file), c.columns); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%q: got %q, want %q", c.file, got, c.want)
		}
	}
}

// TestValuesAreNotRepeated: in a file without a header, or with columns in a
// wrong place, what stands in the first row may be somebody's personal code.
func TestValuesAreNotRepeated(t *testing.T) {
	for _, secret := range []string{"lv-pk:010180-12345", "01018012345", "Anna Kļaviņa", "anna@pasts.lv", "", strings.Repeat("ķ", 33)} {
		for _, file := range []string{"id,name," + secret + "\n", secret + ",1\n", secret + "," + secret + "\n", "id,\"" + secret + "\"\n"} {
			got := readAll(t, strings.NewReader(file), people)
			if len(got) != 1 || secret != "" && strings.Contains(got[0], secret) || !strings.HasSuffix(got[0], "; the first row must be id,name,branch") {
				t.Errorf("%q: %q", file, got)
			}
		}
	}
	got := readAll(t, strings.NewReader("anna,līga\n"), people)
	if len(got) != 1 || strings.Contains(got[0], "anna") {
		t.Errorf("a first row of names only: %q", got)
	}
}

// TestCutOffGzip cuts a file at every byte: the rows that come are those of
// the file, in order, whole, and the end is never taken for the file's.
func TestCutOffGzip(t *testing.T) {
	var text strings.Builder
	text.WriteString("id,name\n")
	for i := range 300 {
		fmt.Fprintf(&text, "%d,Jānis Ķēniņš nr. %d\n", i, i*i)
	}
	whole := readAll(t, strings.NewReader(text.String()), people)
	packed := pack(t, text.String())
	for n := range packed {
		got := readAll(t, bytes.NewReader(packed[:n]), people)
		if n < 2 {
			continue // not known for gzip: an empty file, or a strange header
		}
		rows, last := got[:len(got)-1], got[len(got)-1]
		if !strings.HasPrefix(last, "! saraksts.csv") {
			t.Fatalf("cut at %d of %d bytes, the end is told as %q", n, len(packed), last)
		}
		if len(rows) > len(whole) || !slices.Equal(rows, whole[:len(rows)]) {
			t.Fatalf("cut at %d bytes, other rows came than those of the file", n)
		}
		if len(rows) > 0 && !strings.Contains(last, "the gzip file is cut off; fetch it again") {
			t.Fatalf("cut at %d bytes: %s", n, last)
		}
	}
}

func TestDamagedGzip(t *testing.T) {
	packed := pack(t, "id,name\n1,Ilze\n")
	packed[len(packed)-8] ^= 0xff // its checksum
	got := readAll(t, bytes.NewReader(packed), people)
	if last := got[len(got)-1]; !strings.Contains(last, "checksum") {
		t.Errorf("got %q", got)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, people); err == nil || err.Error() != dir+" is a directory; name a file in it" {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "nav.csv"), people); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	path := filepath.Join(dir, "nosaukums bez paplašinājuma")
	must(t, os.WriteFile(path, pack(t, "id,name\n1,Ilze\n"), 0o600))
	r, err := Open(path, people)
	must(t, err)
	if want := []string{"id", "name"}; !slices.Equal(r.Header(), want) {
		t.Errorf("header %q", r.Header())
	}
	row, err := r.Next()
	must(t, err)
	if err := r.RowError(row, errors.New("nepareizi")); err.Error() != path+":2: nepareizi" || row.Line != 2 {
		t.Errorf("row %d: %v", row.Line, err)
	}
	if want := []string{"1", "Ilze"}; !slices.Equal(row.Fields(), want) {
		t.Errorf("fields %q", row.Fields())
	}
	must(t, r.Close())
}

// TestReadsWhatOthersWrite: whatever the standard library writes comes back as
// it was.
func TestReadsWhatOthersWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := rapid.StringOf(rapid.RuneFrom([]rune("abc,;\" ā\tņŽ\n'")))
		table := rapid.SliceOfN(rapid.SliceOfN(field, 3, 3), 0, 20).Draw(t, "table")
		separator := rapid.SampledFrom([]rune{',', ';'}).Draw(t, "separator")
		crlf := rapid.Bool().Draw(t, "CR LF")
		var file bytes.Buffer
		w := csv.NewWriter(&file)
		w.Comma, w.UseCRLF = separator, crlf
		var want [][]string
		if err := w.Write([]string{"id", "name", "branch"}); err != nil {
			t.Fatal(err)
		}
		for _, record := range table {
			if strings.Count(strings.Join(record, ""), "\n") > maxRecordLines {
				continue
			}
			want = append(want, record)
			if err := w.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		r, err := NewReader("saraksts.csv", &file, people)
		if err != nil {
			t.Fatal(err)
		}
		for i, record := range want {
			row, err := r.Next()
			if err != nil {
				t.Fatalf("record %d %q: %v", i, record, err)
			}
			if !slices.Equal(row.Fields(), record) {
				t.Fatalf("record %d is %q instead of %q", i, row.Fields(), record)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("behind the last record: %v", err)
		}
	})
}

// FuzzReader: whatever the bytes are, reading comes to an end, every row has
// the columns of the header, every error says where it is, and lines are told
// in ascending order.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", "id,name\n", "id;name\r\n1;Žanete\r\n", "\ufeffid,name\n1,\"Ilze\nBērziņa\"\n", "id,name\n1,\"Ilze\n2,Anna\n3,Jā\"nis\n",
		"id,name\n\"\n\"\n\"\n\"\n\"", "id,name\n1,B\xe7rzi\xf2\xf0\n", "id,name,\n,,\n", "\x1f\x8b", "\xff\xfe", "id,name\n\r\r\r\n\x00,\x1b[31m\n",
		"id,name\n" + strings.Repeat("\"", 40) + "\n" + strings.Repeat("x\"\n", 40),
		string(pack(f, "id,name\n1,Ilze\n")), string(pack(f, "id,name\n1,Ilze\n")[:20]),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader("saraksts.csv", bytes.NewReader(file), people)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "saraksts.csv:") {
				t.Fatalf("an error without the file: %v", err)
			}
			return
		}
		last := 1
		for {
			row, err := r.Next()
			var bad *RowError
			line := row.Line
			switch {
			case errors.Is(err, io.EOF):
				return
			case errors.As(err, &bad):
				line = bad.Line
			case err != nil:
				if !strings.HasPrefix(err.Error(), "saraksts.csv:") {
					t.Fatalf("an error without the file: %v", err)
				}
				return
			case len(row.Fields()) != len(r.Header()):
				t.Fatalf("%d fields under %d names", len(row.Fields()), len(r.Header()))
			}
			if line <= last {
				t.Fatalf("line %d behind line %d", line, last)
			}
			last = line
		}
	})
}

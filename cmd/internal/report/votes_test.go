package report_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
)

// exported is one ledger as all kinds of export show it.
type exported struct {
	csv, json, xlsx []byte
	summary         report.Summary
}

// export makes all kinds, and wants the same summary of each.
func export(tb testing.TB, s report.Source, write func(to report.Sheet) (report.Summary, error)) (e exported) {
	tb.Helper()
	var c, j, x bytes.Buffer
	asCSV, err := report.NewCSV(&c, ',', false)
	if err != nil {
		tb.Fatal(err)
	}
	asXLSX, err := report.NewXLSX(tb.Context(), &x)
	if err != nil {
		tb.Fatal(err)
	}
	for i, sheet := range []report.Sheet{asCSV, report.NewJSON(&j), asXLSX} {
		summary, err := write(sheet)
		if err != nil {
			tb.Fatal(err)
		}
		if i > 0 && summary != e.summary {
			tb.Errorf("one ledger has the summaries %+v and %+v", e.summary, summary)
		}
		e.summary = summary
	}
	if err := asXLSX.Close(); err != nil {
		tb.Fatal(err)
	}
	e.csv, e.json, e.xlsx = c.Bytes(), j.Bytes(), x.Bytes()
	return e
}

func exportVotes(tb testing.TB, s report.Source, pseudonyms bool) exported {
	tb.Helper()
	return export(tb, s, func(to report.Sheet) (report.Summary, error) {
		return report.Votes(tb.Context(), s, to, pseudonyms, now)
	})
}

// wantTable compares the columns that are named.
func wantTable(tb testing.TB, what string, got table, columns []string, want [][]string) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Errorf("%s has %d rows instead of %d", what, len(got), len(want))
		return
	}
	for i, row := range want {
		for k, column := range columns {
			if value, ok := got[i][column]; !ok || value != row[k] {
				tb.Errorf("%s, row %d: %s is %q (%v), want %q", what, i+1, column, value, ok, row[k])
			}
		}
	}
}

// What became of every vote, in every kind of export.
func TestVotes(t *testing.T) {
	s := wholeStory(t)
	e := exportVotes(t, s.ledger().source(t), false)
	columns := []string{"sequence", "specialist_id", "counts_for", "channel", "status", "ended_by", "decision"}
	want := [][]string{
		{"6", "ilze", "ilze", "web", "active", "", ""},
		{"7", "janis", "janis", "web", "active", "", ""},
		{"8", "ilze", "ilze", "web", "retracted", "13", ""},
		{"9", "ilze", "ilze", "slip", "active", "", ""},
		{"10", "zane", "zane", "web", "annulled", "14", "SIF-2019/7"},
		{"11", "zane-2", "zane", "web", "annulled", "19", "SIF-2019/8"},
		{"12", "zane-2", "zane", "web", "active", "", ""},
		{"16", "ilze", "ilze", "web", "active", "", ""},
		{"18", "ilze", "ilze", "web", "void", "", ""},
	}
	book := readXLSX(t, e.xlsx)
	j := readJSON(t, e.json)
	wantTable(t, "csv", readCSV(t, e.csv, ','), columns, want)
	wantTable(t, "json", j.Rows, columns, want)
	wantTable(t, "xlsx", toTable(t, book.sheets["votes"]), columns, want)
	totals := report.Totals{Rows: 9, Cast: 9, Active: 5, Retracted: 1, Annulled: 2, Void: 1, Voters: 3}
	if e.summary.Totals != totals {
		t.Errorf("the totals are %+v, want %+v", e.summary.Totals, totals)
	}
	if want := map[string]int64{"rows": 9, "votes_cast": 9, "votes_active": 5, "votes_retracted": 1, "votes_annulled": 2, "votes_void": 1, "voters": 3}; !maps.Equal(j.Totals, want) {
		t.Errorf("JSON ends with the totals %v, want %v", j.Totals, want)
	}
	if !slices.Equal(book.names, []string{"votes", "About"}) {
		t.Errorf("the sheets are %q", book.names)
	}
	about := make(map[string]string)
	for _, row := range book.sheets["About"] {
		about[row[0]] = row[1]
	}
	for name, want := range map[string]string{"campaign": "kustiba", "title": "Laba servisa kustība " + letters, "status": "closed",
		"as_of_sequence": "20", "as_of_time": "2019-11-11T08:00:00.000", "timezone": "Europe/Riga", "exported_at": "2019-12-06T09:00:00.000",
		"tally_digest": digest(t, s), "sheets": "1", "rows": "9", "votes_cast": "9", "votes_active": "5", "votes_retracted": "1",
		"votes_annulled": "2", "votes_void": "1", "voters": "3"} {
		if about[name] != want {
			t.Errorf("About says %s %q, want %q", name, about[name], want)
		}
	}
	for _, data := range [][]byte{e.csv, e.json} {
		if bytes.Contains(data, []byte(pseudonym("anna").String())) || bytes.Contains(data, []byte("voter\"")) {
			t.Errorf("a pseudonym was not asked for: %s", data)
		}
	}
}

// digest counts the story without the package.
func digest(tb testing.TB, s *story) string {
	tb.Helper()
	var tally domain.Tally
	for i, e := range s.log {
		if _, err := tally.Apply(uint64(i+1), e); err != nil {
			tb.Fatal(err)
		}
	}
	return tally.Digest()
}

func TestPseudonyms(t *testing.T) {
	e := exportVotes(t, wholeStory(t).ledger().source(t), true)
	for what, got := range map[string]table{"csv": readCSV(t, e.csv, ','), "json": readJSON(t, e.json).Rows, "xlsx": toTable(t, readXLSX(t, e.xlsx).sheets["votes"])} {
		if anna := pseudonym("anna").String(); got[0]["voter"] != anna || got[1]["voter"] != anna || got[2]["voter"] != pseudonym("bruno").String() {
			t.Errorf("%s: the voters are %q, %q, %q", what, got[0]["voter"], got[1]["voter"], got[2]["voter"])
		}
	}
}

// The hour that comes twice is told apart, and belongs to its day.
func TestHourThatComesTwice(t *testing.T) {
	e := exportVotes(t, wholeStory(t).ledger().source(t), false)
	want := [][]string{{"2019-10-26T23:59:59.999+03:00"}, {"2019-10-27T03:30:00.000+03:00"}, {"2019-10-27T03:30:00.000+02:00"}}
	wantTable(t, "csv", readCSV(t, e.csv, ',')[:3], []string{"cast_at"}, want)
	wantTable(t, "json", readJSON(t, e.json).Rows[:3], []string{"cast_at"}, want)
	book := readXLSX(t, e.xlsx)
	if want := 9*2 + 2; book.dates != want {
		t.Errorf("%d cells are dates, want %d", book.dates, want)
	}
	wantTable(t, "xlsx", toTable(t, book.sheets["votes"])[:4], []string{"cast_at", "cast_at_offset", "recorded_at", "recorded_at_offset"}, [][]string{
		{"2019-10-26T23:59:59.999", "UTC+03:00", "2019-10-26T12:00:00.000", "UTC+03:00"},
		{"2019-10-27T03:30:00.000", "UTC+03:00", "2019-10-26T12:00:00.000", "UTC+03:00"},
		{"2019-10-27T03:30:00.000", "UTC+02:00", "2019-10-26T12:00:00.000", "UTC+03:00"},
		{"2019-10-26T12:00:00.000", "UTC+03:00", "2019-10-26T12:00:00.000", "UTC+03:00"}})
}

// Names survive, and what a spreadsheet would run does not.
func TestTexts(t *testing.T) {
	e := exportVotes(t, wholeStory(t).ledger().source(t), false)
	columns := []string{"name", "institution", "branch", "region"}
	ilze := []string{letters, `Ķeguma "Ļaužu" centrs; Ogre`, "Ģibuļi", "Zemgale"}
	inert := []string{`'=HYPERLINK("http://x.lv";"Jānis")`, "'-1+1", "a;'=2+2", "'@r"}
	wantTable(t, "csv", readCSV(t, e.csv, ',')[:2], columns, [][]string{ilze, inert})
	// In a cell of its own there is no other separator to be afraid of.
	book := readXLSX(t, e.xlsx)
	wantTable(t, "xlsx", toTable(t, book.sheets["votes"])[:2], columns, [][]string{ilze, {inert[0], inert[1], "a;=2+2", inert[3]}})
	if book.formulas != 0 {
		t.Errorf("%d formulas", book.formulas)
	}
	wantTable(t, "json", readJSON(t, e.json).Rows[:2], columns, [][]string{ilze, {`=HYPERLINK("http://x.lv";"Jānis")`, "-1+1", "a;=2+2", "@r"}})
	// Where Excel expects the other separator, it finds no formula either.
	for _, row := range readOddly(t, e.csv) {
		for _, cell := range row {
			if strings.ContainsAny(cell[:min(1, len(cell))], "=+-@") {
				t.Errorf("split at semicolons, %q is a cell", cell)
			}
		}
	}
	// The institution is that at the time of the vote.
	wantTable(t, "moved", readCSV(t, e.csv, ',')[7:8], columns[:2], [][]string{{letters, "Rēzeknes nodaļa"}})
}

// Whatever a name is, no program takes a part of its row for a formula, whichever
// separator it expects, and nothing but apostrophes is added.
func TestInertTexts(t *testing.T) {
	texts := rapid.StringOfN(rapid.SampledFrom([]rune("=+-@,;\t\"'āЖ x＝")), 0, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		row := []any{texts.Draw(t, "a"), texts.Draw(t, "b")}
		separator := rapid.SampledFrom([]rune{',', ';', '\t'}).Draw(t, "separator")
		var out bytes.Buffer
		c, err := report.NewCSV(&out, separator, false)
		if err == nil {
			err = errors.Join(c.Begin(report.About{}, nil, time.UTC), c.Row(row), c.End(report.Summary{}))
		}
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimPrefix(out.String(), "\n") // there are no columns
		for _, other := range []rune{',', ';', '\t'} {
			r := csv.NewReader(strings.NewReader(line))
			r.Comma, r.LazyQuotes, r.FieldsPerRecord = other, true, -1
			rows, err := r.ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, cell := range slices.Concat(rows...) {
				cell = strings.TrimLeft(cell, "\t") // which some programs leave out
				if cell != "" && strings.ContainsAny(cell[:1], "=+-@") || strings.HasPrefix(cell, "＝") {
					t.Errorf("split at %q, %q is a cell of %q", other, cell, line)
				}
			}
		}
		r := csv.NewReader(strings.NewReader(line))
		r.Comma = separator
		got, err := r.Read()
		if err != nil || len(got) != 2 {
			t.Fatalf("%q is read as %q, %v", line, got, err)
		}
		for i, text := range row {
			if bare := strings.NewReplacer("'", ""); bare.Replace(got[i]) != bare.Replace(text.(string)) {
				t.Errorf("%q became %q", text, got[i])
			}
		}
	})
}

// readOddly splits lines as a program does that takes a comma for a letter.
func readOddly(tb testing.TB, data []byte) (rows [][]string) {
	tb.Helper()
	for line := range strings.Lines(string(data)) {
		rows = append(rows, strings.Split(strings.TrimSpace(line), ";"))
	}
	return rows
}

// As of an earlier event, a vote is what it was then.
func TestAsOf(t *testing.T) {
	s := wholeStory(t).ledger().source(t)
	s.Last = 12
	e := exportVotes(t, s, false)
	if want := (report.Totals{Rows: 7, Cast: 7, Active: 7, Voters: 5}); e.summary.Totals != want || e.summary.Status != domain.StatusOpen {
		t.Errorf("as of event 12: %+v, %s", e.summary.Totals, e.summary.Status)
	}
	s.Last = 21
	if _, err := report.Votes(t.Context(), s, discard(t), false, now); err == nil || !strings.Contains(err.Error(), "the ledger ends at event 20 instead of 21") {
		t.Errorf("an event that is not there: %v", err)
	}
}

func discard(tb testing.TB) report.Sheet {
	tb.Helper()
	c, err := report.NewCSV(io.Discard, ',', false)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestResults(t *testing.T) {
	s := wholeStory(t).ledger().source(t)
	e := export(t, s, func(to report.Sheet) (report.Summary, error) { return report.Results(t.Context(), s, to, now) })
	columns := []string{"rank", "specialist_id", "name", "institution", "withdrawn", "votes", "voters"}
	want := [][]string{
		{"1", "ilze", letters, "Rēzeknes nodaļa", "false", "3", "2"},
		{"2", "zane", "Žanete Ņukša", "'+371 klientu centrs", "false", "1", "1"},
		{"2", "janis", `'=HYPERLINK("http://x.lv";"Jānis")`, "'-1+1", "false", "1", "1"},
	}
	got := readCSV(t, e.csv, ',')
	slices.SortFunc(got[1:], func(a, b map[string]string) int { return strings.Compare(b["specialist_id"], a["specialist_id"]) })
	wantTable(t, "csv", got, columns, want)
	if total := readJSON(t, e.json).Totals; total["rows"] != 3 || total["votes_active"] != 5 || total["votes_annulled"] != 2 {
		t.Errorf("JSON ends with the totals %v", total)
	}
	if rows := readXLSX(t, e.xlsx).sheets["results"]; len(rows) != 4 || rows[1][1] != "ilze" {
		t.Errorf("the sheet is %q", rows)
	}
}

// An export of nothing is a header, and says so.
func TestNoVotes(t *testing.T) {
	e := exportVotes(t, newStory(t).ledger().source(t), false)
	if rows := readXLSX(t, e.xlsx).sheets["votes"]; len(rows) != 1 || len(rows[0]) != 15 {
		t.Errorf("the sheet is %q", rows)
	}
	if j := readJSON(t, e.json); len(j.Rows) != 0 || j.Totals["rows"] != 0 {
		t.Errorf("JSON is %+v", j)
	}
	if len(readCSV(t, e.csv, ',')) != 0 {
		t.Errorf("csv is %s", e.csv)
	}
}

func TestSeparatorAndMark(t *testing.T) {
	var out bytes.Buffer
	c, err := report.NewCSV(&out, ';', true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Votes(t.Context(), wholeStory(t).ledger().source(t), c, false, now); err != nil {
		t.Fatal(err)
	}
	data, ok := bytes.CutPrefix(out.Bytes(), []byte{0xef, 0xbb, 0xbf})
	if got := readCSV(t, data, ';'); !ok || got[0]["name"] != letters || got[0]["institution"] != `Ķeguma "Ļaužu" centrs; Ogre` {
		t.Errorf("it begins with %q", out.Bytes()[:40])
	}
}

// A sheet has as many rows as a spreadsheet can show; then comes the next one.
func TestFurtherSheets(t *testing.T) {
	var out bytes.Buffer
	x, err := report.NewXLSX(t.Context(), &out)
	if err != nil {
		t.Fatal(err)
	}
	report.SetSheetRows(x, 4)
	if _, err := report.Votes(t.Context(), wholeStory(t).ledger().source(t), x, false, now); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	book := readXLSX(t, out.Bytes())
	if want := []string{"votes", "votes 2", "votes 3", "About"}; !slices.Equal(book.names, want) {
		t.Fatalf("the sheets are %q", book.names)
	}
	var sequences []string
	for _, name := range book.names[:3] {
		for _, row := range toTable(t, book.sheets[name]) {
			sequences = append(sequences, row["sequence"])
		}
	}
	if want := []string{"6", "7", "8", "9", "10", "11", "12", "16", "18"}; !slices.Equal(sequences, want) {
		t.Errorf("the votes are %q, want %q", sequences, want)
	}
}

// Who was registered twice and merged is one everywhere: in the rows of an export,
// in the standings, in the protocol and among those who are honoured.
func TestMergedEverywhere(t *testing.T) {
	s := newStory(t)
	s.register("ilze", domain.Profile{Name: "Ilze Bērziņa", Institution: "Nodarbinātības aģentūra"})
	s.register("zane", domain.Profile{Name: "Žanete Ņukša", Institution: "Ūdensrožu reģistrs"})
	s.register("zane-2", domain.Profile{Name: "Žanete Nukša", Institution: "Nodarbinātības aģentūra"})
	for _, voter := range []string{"anna", "bruno", "cilda"} {
		s.vote(voter, "ilze", "web", time.Time{})
	}
	s.vote("anna", "zane", "web", time.Time{})
	s.vote("dace", "zane", "web", time.Time{})
	twice := s.vote("anna", "zane-2", "web", time.Time{})
	s.vote("eda", "zane-2", "web", time.Time{})
	s.vote("fricis", "zane-2", "web", time.Time{})
	s.add(domain.SpecialistMerged{Specialist: "zane-2", Into: "zane", Decision: "SIF-2019/9"})
	s.annul("anna", "zane-2", twice, "SIF-2019/9", false)
	s.add(domain.CampaignClosed{})
	s.certifyBy(domain.AwardRule{Specialists: 1, Letters: 1, Institutions: 1, InstitutionsBy: domain.ByInstitution})
	const votes = 4 // zane's two and two of zane-2's three

	exported := int64(0)
	for _, row := range readCSV(t, exportVotes(t, s.ledger().source(t), false).csv, ',') {
		if row["counts_for"] == "zane" && row["status"] == "active" {
			exported++
		}
	}
	var standings bytes.Buffer
	c, err := report.NewCSV(&standings, ',', false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Results(t.Context(), s.ledger().source(t), c, now); err != nil {
		t.Fatal(err)
	}
	rows := readCSV(t, standings.Bytes(), ',')
	if exported != votes || len(rows) != 2 || rows[0]["specialist_id"] != "zane" || rows[0]["votes"] != "4" {
		t.Errorf("%d votes are exported, and the standings are %q", exported, rows)
	}
	p := protocolOf(t, s, report.ProtocolConfig{})
	if best := p.Specialists[0]; len(p.Specialists) != 2 || best.Specialist != "zane" || best.Votes != votes {
		t.Errorf("the protocol has %+v", p.Specialists)
	}
	if a := p.Annulments; len(a) != 1 || !slices.Equal(a[0].Specialists, []report.Affected{{"zane", "Žanete Ņukša", 1, votes + 1, votes}}) {
		t.Errorf("the protocol has the annulments %+v", a)
	}
	for name, a := range map[string]*report.Awards{"awards": awardsOf(t, s, nil), "protocol": p.Awards} {
		if first, letter := a.Prizes[0].Winners[0], a.Prizes[2].Winners; first.Specialist != "zane" || first.Votes != votes || first.Institution != "Ūdensrožu reģistrs" ||
			len(letter) != 1 || letter[0].Specialist != "ilze" {
			t.Errorf("%s: %+v", name, a.Prizes)
		}
		// Institutions keep what was cast for who worked there.
		if best := a.Prizes[1].Winners[0]; best.Institution != "Nodarbinātības aģentūra" || best.Votes != 5 {
			t.Errorf("%s: the institution is %+v", name, best)
		}
	}
}

// A ledger that breaks a rule makes no export, whatever the rule is.
func TestTotalsDiffer(t *testing.T) {
	for name, breakIt := range map[string]func(*story){
		"retracted twice": func(s *story) {
			v := s.vote("anna", "ilze", "web", time.Time{})
			s.vote("anna", "janis", "web", time.Time{})
			s.retract("anna", "ilze", v)
			s.retract("anna", "ilze", v)
		},
		"no such vote": func(s *story) {
			s.vote("anna", "ilze", "web", time.Time{})
			s.retract("anna", "ilze", domain.VoteRef{Sequence: 3, Channel: "web", CastAt: s.clock})
		},
		"a vote to come": func(s *story) {
			s.vote("anna", "ilze", "web", time.Time{})
			s.retract("anna", "ilze", domain.VoteRef{Sequence: 1 << 60, Channel: "web", CastAt: s.clock})
		},
		"another specialist's": func(s *story) {
			v := s.vote("anna", "ilze", "web", time.Time{})
			s.vote("anna", "janis", "web", time.Time{})
			s.retract("anna", "janis", v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.register("ilze", domain.Profile{Name: "Ilze Bērziņa"})
			s.register("janis", domain.Profile{Name: "Jānis Čiekurs"})
			breakIt(s)
			if _, err := report.Votes(t.Context(), s.ledger().source(t), discard(t), false, now); !errors.Is(err, report.ErrTotals) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// Errors of the ledger and of what is written to are returned, and leave no
// temporary file.
func TestFaults(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	boom := errors.New("disks pilns")
	ledger := wholeStory(t).ledger()
	x, err := report.NewXLSX(t.Context(), failing{boom})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Votes(t.Context(), ledger.source(t), x, false, now); !errors.Is(err, boom) {
		t.Errorf("xlsx: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "*")); err != nil || len(left) != 0 {
		t.Errorf("%q is left, %v", left, err)
	}
	if _, err := report.Votes(t.Context(), ledger.source(t), report.NewJSON(failing{boom}), false, now); !errors.Is(err, boom) {
		t.Errorf("json: %v", err)
	}
	c, err := report.NewCSV(failing{boom}, ',', false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Votes(t.Context(), ledger.source(t), c, false, now); !errors.Is(err, boom) {
		t.Errorf("csv: %v", err)
	}
	for pass := range 2 { // the first reading breaks, and the second
		seen := 0
		ledger.broken = func(sequence uint64) error {
			if sequence == 9 {
				if seen++; seen > pass {
					return boom
				}
			}
			return nil
		}
		if _, err := report.Votes(t.Context(), ledger.source(t), discard(t), false, now); !errors.Is(err, boom) {
			t.Errorf("reading %d: %v", pass+1, err)
		}
	}
}

// endedAtEnd is a workbook whose context ends when its rows are there.
type endedAtEnd struct {
	*report.XLSX
	end context.CancelFunc
}

func (e endedAtEnd) End(s report.Summary) error {
	e.end()
	return e.XLSX.End(s)
}

// What takes longest about a workbook is to pack it; that can be interrupted, too.
func TestPackingInterrupted(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	x, err := report.NewXLSX(ctx, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Votes(ctx, wholeStory(t).ledger().source(t), endedAtEnd{x, end}, false, now); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// pythonReads prints what Python's standard library finds in an export: the
// names and institutions, one a line.
const pythonReads = `
import csv, sys, zipfile, xml.etree.ElementTree as tree
sys.stdout.reconfigure(encoding="utf-8")
with open(sys.argv[1], newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
        print(row["name"], row["institution"], sep="|")
ns = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
sheet = tree.fromstring(zipfile.ZipFile(sys.argv[2]).read("xl/worksheets/sheet1.xml"))
for row in sheet.findall(".//m:row", ns)[1:]:
    cell = {c.get("r").rstrip("0123456789"): "".join(c.itertext()) for c in row}
    print(cell["H"], cell["I"], sep="|")
`

// Another language's readers see the same texts. They are looked for, not
// needed: TestTexts reads everything without.
func TestTextsInPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("there is no python3")
		return
	}
	dir := t.TempDir()
	story := newStory(t)
	story.register("ilze", domain.Profile{Name: letters, Institution: `Ķeguma "Ļaužu" centrs; Ogre`})
	story.vote("anna", "ilze", "web", time.Time{})
	e := exportVotes(t, story.ledger().source(t), false)
	c, x := writeFile(t, dir, "balsis.csv", e.csv), writeFile(t, dir, "balsis.xlsx", e.xlsx)
	out, err := exec.CommandContext(t.Context(), python, "-c", pythonReads, c, x).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line := fmt.Sprintf("%s|%s\n", letters, `Ķeguma "Ļaužu" centrs; Ogre`)
	if got := strings.ReplaceAll(string(out), "\r", ""); got != line+line {
		t.Errorf("Python reads %s", out)
	}
}

package report_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
)

// honours is the rule of most tests.
var honours = domain.AwardRule{Specialists: 1, Institutions: 1, InstitutionsBy: domain.ByBranch, Letters: 2}

// ceremony is a campaign with a winner, a tie of three for two letters, and
// somebody withdrawn who would have won.
func ceremony(tb testing.TB) *story {
	s := newStory(tb)
	s.register("ilze", domain.Profile{Name: letters, Position: "konsultante", Institution: "Nodarbinātības aģentūra", Branch: "Gulbene", Region: "Vidzeme"})
	s.register("janis", domain.Profile{Name: "<b>Jānis</b> & dēls", Institution: "Ūdensrožu reģistrs", Branch: "Rēzekne"})
	s.register("zane", domain.Profile{Name: "=Žanete", Institution: "Ūdensrožu reģistrs", Branch: "Rēzekne"})
	s.register("anna", domain.Profile{Name: "Ādele", Institution: "Ūdensrožu reģistrs", Branch: "Rēzekne"})
	s.register("prom", domain.Profile{Name: "Aizgājusi"})
	for _, c := range []struct {
		specialist string
		votes      int
	}{{"ilze", 5}, {"janis", 2}, {"zane", 2}, {"anna", 2}, {"prom", 9}} {
		for n := range c.votes {
			s.vote(fmt.Sprintf("%s%d", c.specialist, n), c.specialist, "web", time.Time{})
		}
	}
	s.add(domain.SpecialistWithdrawn{Specialist: "prom", Reason: "Vairs nestrādā."})
	s.add(domain.CampaignClosed{})
	return s
}

// certifyBy certifies with a rule.
func (s *story) certifyBy(rule domain.AwardRule) uint64 {
	return s.add(domain.ResultsCertified{Sequence: uint64(len(s.log)), TallyDigest: digest(s.tb, s), AwardRule: &rule})
}

func awardsOf(tb testing.TB, s *story, rule *domain.AwardRule) *report.Awards {
	tb.Helper()
	a, err := report.MakeAwards(tb.Context(), s.ledger().source(tb), rule)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func who(winners []report.Honoured) (names []string) {
	for _, w := range winners {
		names = append(names, w.Who())
	}
	return names
}

func boundary(tb testing.TB, p report.Prize, l report.Language) string {
	tb.Helper()
	text, err := p.Boundary(l)
	if err != nil || strings.Contains(text, "%!") {
		tb.Errorf("%q, %v", text, err)
	}
	return text
}

func TestAwards(t *testing.T) {
	s := ceremony(t)
	a := awardsOf(t, s, &honours)
	if len(a.Prizes) != 3 || !slices.Equal(who(a.Prizes[0].Winners), []string{letters}) ||
		!slices.Equal(who(a.Prizes[1].Winners), []string{"Ūdensrožu reģistrs / Rēzekne"}) ||
		!slices.Equal(slices.Sorted(slices.Values(who(a.Prizes[2].Winners))), []string{"<b>Jānis</b> & dēls", "=Žanete", "Ādele"}) {
		t.Fatalf("the awards are %+v", a.Prizes)
	}
	if !slices.Equal(who(a.PassedOver), []string{"Aizgājusi"}) || a.PassedOver[0].Award != domain.SpecialistAward || a.PassedOver[0].Votes != 9 {
		t.Errorf("passed over are %+v", a.PassedOver)
	}
	for i, want := range []string{
		"The last one has 5 votes, the next 2.",
		"The last one has 6 votes, the next 5.",
		"The last one has 2 votes; nobody else is left. At the boundary, 3 tie with 2 votes for 2 places; all of them get it.",
	} {
		if got := boundary(t, a.Prizes[i], report.English); got != want {
			t.Errorf("%s: %q, want %q", a.Prizes[i].Award, got, want)
		}
	}
	if _, err := report.MakeAwards(t.Context(), s.ledger().source(t), nil); !errors.Is(err, report.ErrNoRule) {
		t.Errorf("without a rule: %v", err)
	}
}

// A decision chooses among those who tie, and the certified rule needs no naming.
func TestAwardsDecidedAndCertified(t *testing.T) {
	s := ceremony(t)
	others := []domain.Candidate{{Specialist: "zane"}}
	decided := s.add(domain.ResultsDecided{Award: domain.Letter, Places: 2, Winners: []domain.Candidate{{Specialist: "anna"}, {Specialist: "janis"}}, Others: others,
		Decision: "SIF-2019/11", Reason: "Lozējot."})
	certified := s.certifyBy(honours)
	s.annul("ilze0", "ilze", domain.VoteRef{Sequence: 7, Channel: "web", CastAt: s.clock}, "SIF-2019/12", true) // is not certified yet
	a := awardsOf(t, s, nil)
	if a.Event != certified || a.Sequence != decided || a.Rule != honours {
		t.Errorf("they are certified by %d as of %d, by %+v", a.Event, a.Sequence, a.Rule)
	}
	letters := a.Prizes[2]
	if names := who(letters.Winners); len(names) != 2 || slices.Contains(names, "=Žanete") || *letters.Decision != (report.Decision{decided, "SIF-2019/11", "Lozējot."}) {
		t.Errorf("letters: %+v, %+v", names, letters.Decision)
	}
	if got, want := boundary(t, letters, report.Latvian), fmt.Sprintf("Uz robežas balsu skaits 2 ir vienāds 3 kandidātiem, vietu skaits ir 2; izvēli nosaka lēmums SIF-2019/11 (notikums %d): Lozējot.", decided); got != want {
		t.Errorf("it is told as %q, want %q", got, want)
	}
	// The protocol has them too, in both kinds, and who would have won.
	p := protocolOf(t, s, report.ProtocolConfig{})
	if p.Awards == nil || p.Awards.Event != certified {
		t.Fatalf("the protocol has the awards %+v", p.Awards)
	}
	text, _, rows := readHTML(t, render(t, func(to *bytes.Buffer) error { return p.HTML(to, report.Latvian) }))
	const passedOver = "Aizgājusi (Balva speciālistiem), 9"
	if !strings.Contains(text, passedOver) {
		t.Errorf("the page lacks %q", passedOver)
	}
	if want := []string{"2", "<b>Jānis</b> & dēls", "Ūdensrožu reģistrs, Rēzekne", "2"}; !slices.ContainsFunc(rows, func(row []string) bool { return slices.Equal(row, want) }) {
		t.Errorf("the page lacks %q", want)
	}
	for _, md := range []string{
		string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, report.Latvian) })),
		string(render(t, func(to *bytes.Buffer) error { return a.Markdown(to, report.Latvian) })),
	} {
		for _, want := range []string{"\n### Pateicības raksti\n", "\n- " + passedOver + "\n", "lēmums SIF-2019/11", "\n| 1 | Ūdensrožu reģistrs / Rēzekne | 6 |\n", "| \\<b\\>Jānis\\</b\\> \\& dēls | Ūdensrožu reģistrs, Rēzekne | 2 |\n"} {
			if !strings.Contains(md, want) {
				t.Errorf("the Markdown lacks %q: %s", want, md)
			}
		}
	}
}

// A decision about others is told, and chooses nobody.
func TestUnfitDecision(t *testing.T) {
	s := ceremony(t)
	decided := s.add(domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: "anna"}}, Others: []domain.Candidate{{Specialist: "janis"}},
		Decision: "SIF-2019/11", Reason: "Lozējot."})
	p := awardsOf(t, s, &honours).Prizes[2]
	if p.Unfit != decided || p.Decision != nil || !strings.Contains(boundary(t, p, report.English), fmt.Sprintf("The decision of event %d does not apply", decided)) {
		t.Errorf("letters are %+v", p)
	}
}

func lettersOf(tb testing.TB, s *story, rule domain.AwardRule) *report.Letters {
	tb.Helper()
	riga, err := time.LoadLocation("Europe/Riga")
	if err != nil {
		tb.Fatal(err)
	}
	// In Riga it is the next day already.
	l, err := report.NewLetters(awardsOf(tb, s, &rule), riga, at("2019-10-26T21:30:00Z"))
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// A page for each, with every letter of the names, and a table for mail merge.
func TestLetters(t *testing.T) {
	l := lettersOf(t, ceremony(t), domain.AwardRule{Letters: 4})
	page := render(t, func(to *bytes.Buffer) error { return l.HTML(to, nil) })
	text, elements, _ := readHTML(t, page)
	if elements["section"] != 4 || elements["b"] != 0 || !bytes.Contains(page, []byte("@page { size: A4")) {
		t.Errorf("the elements are %v", elements)
	}
	for _, want := range []string{letters, "konsultante", "Gulbene", "<b>Jānis</b> & dēls", "=Žanete", "27.10.2019.", "„Laba servisa kustība " + letters + "”"} {
		if !strings.Contains(text, want) {
			t.Errorf("the letters lack %q", want)
		}
	}
	var out bytes.Buffer
	table, err := report.NewCSV(&out, ',', true)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Table(table); err != nil {
		t.Fatal(err)
	}
	data, marked := bytes.CutPrefix(out.Bytes(), []byte{0xef, 0xbb, 0xbf})
	rows := readCSV(t, data, ',')
	if !marked || len(rows) != 4 || rows[0]["name"] != letters || rows[0]["institution"] != "Nodarbinātības aģentūra" || rows[0]["number"] != "1" || rows[0]["rank"] != "1" || rows[0]["votes"] != "5" {
		t.Errorf("the table is %q", out.Bytes())
	}
	if !slices.ContainsFunc(rows, func(row map[string]string) bool { return row["name"] == "'=Žanete" }) {
		t.Errorf("a name is a formula: %q", out.Bytes())
	}
}

func TestOwnTemplates(t *testing.T) {
	l := lettersOf(t, ceremony(t), domain.AwardRule{Letters: 1})
	own := fstest.MapFS{
		"letters.html": {Data: []byte(`{{range .Letters}}{{template "one.html" .}}{{end}}{{.Date.Format "2006"}}`)},
		"one.html":     {Data: []byte(`<i title="{{.Name}}">{{.Number}}. {{.Name}}, {{.Votes}}</i>`)},
	}
	if got, want := string(render(t, func(to *bytes.Buffer) error { return l.HTML(to, own) })), fmt.Sprintf(`<i title="%s">1. %s, 5</i>2019`, letters, letters); got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
	for name, folder := range map[string]fstest.MapFS{
		"there is no letters.html":                 {"one.html": own["one.html"]},
		"letters.html:1: unclosed action":          {"letters.html": {Data: []byte(`{{range`)}},
		"can't evaluate field Vards":               {"letters.html": {Data: []byte(`{{range .Letters}}{{.Vards}}{{end}}`)}},
		"they have 9000000 bytes, at most 8388608": {"letters.html": {Data: make([]byte, 9_000_000)}},
	} {
		if err := l.HTML(&bytes.Buffer{}, folder); !errors.Is(err, report.ErrTemplates) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name that was mended after the certification is the one that is printed, and
// who wins stays.
func TestMendedName(t *testing.T) {
	s := newStory(t)
	s.register("ilze", domain.Profile{Name: "Ilze Bēziņa"})
	s.register("bez-varda", domain.Profile{})
	s.vote("anna", "ilze", "web", time.Time{})
	s.vote("bruno", "ilze", "web", time.Time{})
	s.vote("anna", "bez-varda", "web", time.Time{})
	s.add(domain.CampaignClosed{})
	certified := s.certifyBy(domain.AwardRule{Specialists: 1, Letters: 1})
	letters := func() (*report.Letters, error) { return report.NewLetters(awardsOf(t, s, nil), time.UTC, now) }
	if _, err := letters(); err == nil || !strings.Contains(err.Error(), "specialist update") {
		t.Fatalf("without a name: %v", err)
	}
	s.add(domain.SpecialistUpdated{Specialist: "bez-varda", Profile: domain.Profile{Name: "Žanete Šķēle", Position: "konsultante", Institution: "Cita iestāde", Branch: "Cēsis"}})
	s.add(domain.SpecialistUpdated{Specialist: "ilze", Profile: domain.Profile{Name: "Ilze Bērziņa"}})
	s.vote("fricis", "bez-varda", "web", time.Time{}) // above the fence
	l, err := letters()
	if err != nil {
		t.Fatal(err)
	}
	last := l.Letters[len(l.Letters)-1]
	if last.Name != "Žanete Šķēle" || last.Position != "konsultante" || last.Institution != "Cita iestāde" || last.Branch != "Cēsis" || last.Votes != 1 {
		t.Errorf("the letter is for %+v", last)
	}
	a := awardsOf(t, s, nil)
	if names := who(a.Prizes[0].Winners); a.Event != certified || !slices.Equal(names, []string{"Ilze Bērziņa"}) {
		t.Errorf("the awards are %q by event %d", names, a.Event)
	}
	if p := protocolOf(t, s, report.ProtocolConfig{}); !slices.Equal(who(p.Awards.Prizes[0].Winners), []string{"Ilze Bērziņa"}) {
		t.Errorf("the protocol has %+v", p.Awards.Prizes[0])
	}
}

// A letter without a name is none.
func TestLetterWithoutName(t *testing.T) {
	s := newStory(t)
	s.register("bez-varda", domain.Profile{})
	s.vote("anna", "bez-varda", "web", time.Time{})
	if _, err := report.NewLetters(awardsOf(t, s, &domain.AwardRule{Letters: 1}), time.UTC, now); err == nil || !strings.Contains(err.Error(), "specialist bez-varda has no name") {
		t.Errorf("the error is %v", err)
	}
}

package report_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
)

// certify certifies what was counted so far.
func (s *story) certify(supersedes uint64, reason string) uint64 {
	return s.add(domain.ResultsCertified{Sequence: uint64(len(s.log)), TallyDigest: digest(s.tb, s), Supersedes: supersedes, Reason: reason})
}

var signed = &report.Log{Origin: "sakipaldies.lv/ledger/kustiba", Size: 20, Root: "u3M/sDB0Ke6pgHr1dD1D5FLUSlmEJdCYhNnzOSdhSrg=", Keys: []string{"sakipaldies.lv/ledger/kustiba+5ea3a1a4+AQ=="}}

func protocolOf(tb testing.TB, s *story, c report.ProtocolConfig) *report.Protocol {
	tb.Helper()
	c.Now = now
	p, err := report.MakeProtocol(tb.Context(), s.ledger().source(tb), c)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestProtocol(t *testing.T) {
	s := wholeStory(t)
	certified := s.certify(0, "")
	published := s.add(domain.ResultsPublished{Certified: certified})
	p := protocolOf(t, s, report.ProtocolConfig{Log: signed, Outcomes: map[string]int{"accepted": 7, "already_voted": 3, "too_late": 1}})
	if want := (report.VoteTotals{Cast: 9, Active: 5, Retracted: 1, Annulled: 2, Void: 1, Voters: 3}); p.Votes != want {
		t.Errorf("the votes are %+v, want %+v", p.Votes, want)
	}
	if want := []report.ChannelVotes{{"web", domain.Verified, 4}, {"slip", domain.NoIdentity, 1}}; !slices.Equal(p.Channels, want) {
		t.Errorf("the channels are %+v, want %+v", p.Channels, want)
	}
	if want := []report.Refused{{domain.AlreadyVoted, 3}, {domain.TooLate, 1}}; !slices.Equal(p.Refusals, want) {
		t.Errorf("the refusals are %+v, want %+v", p.Refusals, want)
	}
	if len(p.Annulments) != 2 || p.Annulments[0].Decision != "SIF-2019/7" || p.Annulments[0].First != 14 ||
		!slices.Equal(p.Annulments[1].Specialists, []report.Affected{{"zane-2", "Žanete Ņukša", 1, 2, 1}}) {
		t.Errorf("the annulments are %+v", p.Annulments)
	}
	if len(p.Specialists) != 3 || p.Specialists[0].Specialist != "ilze" || p.Specialists[0].Votes != 3 || p.Specialists[2].Rank != 2 {
		t.Errorf("the first places are %+v", p.Specialists)
	}
	if len(p.Institutions) != 4 || p.Institutions[0].Institution != `Ķeguma "Ļaužu" centrs; Ogre` || p.Institutions[0].Votes != 2 {
		t.Errorf("the institutions are %+v", p.Institutions)
	}
	if p.Status != domain.StatusPublished || p.Published != published || len(p.Certifications) != 1 || p.ChangedBy != 0 || p.ClosedBy != 17 {
		t.Errorf("the protocol is %+v", p)
	}
}

// One decision may annul the votes for several, in several runs.
func TestAnnulmentsOfOneDecision(t *testing.T) {
	s := newStory(t)
	s.register("ilze", domain.Profile{Name: "Ilze Bērziņa"})
	s.register("janis", domain.Profile{Name: "Jānis Čiekurs"})
	var ilze []domain.VoteRef
	for _, voter := range []string{"anna", "bruno", "cilda"} {
		ilze = append(ilze, s.vote(voter, "ilze", "web", time.Time{}))
	}
	janis := s.vote("anna", "janis", "web", time.Time{})
	s.clock = firstHalf
	first := s.annul("anna", "ilze", ilze[0], "SIF-2019/7", false)
	s.annul("anna", "janis", janis, "SIF-2019/7", false)
	s.vote("dace", "ilze", "web", time.Time{})
	s.clock = secondHalf
	last := s.annul("bruno", "ilze", ilze[1], "SIF-2019/7", false)
	p := protocolOf(t, s, report.ProtocolConfig{})
	want := []report.Affected{{"ilze", "Ilze Bērziņa", 2, 3, 2}, {"janis", "Jānis Čiekurs", 1, 1, 0}}
	if a := p.Annulments; len(a) != 1 || a[0].Votes != 3 || a[0].First != first || a[0].Last != last || !a[0].LastAt.Equal(s.clock) || !slices.Equal(a[0].Specialists, want) {
		t.Errorf("the annulments are %+v, want of %+v", a, want)
	}
	const between = "2019-10-27 03:30:00 +03:00 – 2019-10-27 03:30:00 +02:00"
	if md := string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, report.Latvian) })); !strings.Contains(md, between) {
		t.Errorf("the hour that comes twice is not told apart: %s", md)
	}
}

// Who was merged before an annulment has one count before and after, that of the
// results.
func TestAnnulmentAfterMerge(t *testing.T) {
	s := newStory(t)
	for _, id := range []string{"zane", "zane-2", "zane-3"} {
		s.register(id, domain.Profile{Name: "Žanete Ņukša"})
	}
	first := s.vote("anna", "zane", "web", time.Time{})
	s.vote("bruno", "zane", "web", time.Time{})
	second := s.vote("cilda", "zane-2", "web", time.Time{})
	third := s.vote("dace", "zane-3", "web", time.Time{})
	s.add(domain.SpecialistMerged{Specialist: "zane-2", Into: "zane", Decision: "SIF-2019/7"})
	s.annul("anna", "zane", first, "SIF-2019/8", false)
	s.annul("cilda", "zane-2", second, "SIF-2019/8", false)
	s.add(domain.SpecialistMerged{Specialist: "zane-3", Into: "zane-2", Decision: "SIF-2019/9"})
	s.annul("dace", "zane-3", third, "SIF-2019/10", false)
	p := protocolOf(t, s, report.ProtocolConfig{})
	if len(p.Annulments) != 2 ||
		!slices.Equal(p.Annulments[0].Specialists, []report.Affected{{"zane", "Žanete Ņukša", 2, 3, 1}}) ||
		!slices.Equal(p.Annulments[1].Specialists, []report.Affected{{"zane", "Žanete Ņukša", 1, 2, 1}}) {
		t.Errorf("the annulments are %+v", p.Annulments)
	}
	if p.Specialists[0].Votes != p.Annulments[1].Specialists[0].After {
		t.Errorf("the results have %+v", p.Specialists)
	}
}

// A correction is told, what changed since, and what was never so.
func TestProtocolOfCertifications(t *testing.T) {
	s := wholeStory(t)
	first := s.certify(0, "")
	s.annul("anna", "ilze", domain.VoteRef{Sequence: 6, Channel: "web", CastAt: beforeMidnight}, "SIF-2019/10", true)
	changed := uint64(len(s.log))
	if p := protocolOf(t, s, report.ProtocolConfig{}); p.ChangedBy != changed {
		t.Errorf("changed by %d, want %d", p.ChangedBy, changed)
	}
	s.add(domain.ResultsPublished{Certified: first})
	second := s.certify(first, "Anulēta balss.")
	public := func(want uint64) {
		t.Helper()
		p := protocolOf(t, s, report.ProtocolConfig{})
		for _, c := range p.Certifications {
			if c.Public != (c.Event == want) {
				t.Errorf("public is event %d, not so: %+v", want, c)
			}
		}
		text, _, _ := readHTML(t, render(t, func(to *bytes.Buffer) error { return p.HTML(to, report.English) }))
		md := string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, report.English) }))
		for _, page := range []string{text, md} {
			if strings.Count(page, "these are the public results") != 1 || strings.Count(page, ", not public") != 1 {
				t.Errorf("it does not say which results are public: %s", page)
			}
		}
	}
	public(first) // though the status is published
	s.add(domain.ResultsPublished{Certified: second})
	public(second)
	p := protocolOf(t, s, report.ProtocolConfig{})
	if p.ChangedBy != 0 || len(p.Certifications) != 2 || p.Certifications[1].Supersedes != first {
		t.Errorf("the protocol is %+v", p)
	}
	decided := s.add(domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: "ilze"}}, Others: []domain.Candidate{{Specialist: "janis"}}, Decision: "SIF-2019/11", Reason: "Lozējot."})
	if p := protocolOf(t, s, report.ProtocolConfig{}); p.ChangedBy != decided {
		t.Errorf("after a decision on a tie it is changed by %d, want %d", p.ChangedBy, decided)
	}
	s.add(domain.ResultsCertified{Sequence: uint64(len(s.log)), TallyDigest: "sha256:00", Supersedes: 1, Reason: "Viltota."})
	if _, err := report.MakeProtocol(t.Context(), s.ledger().source(t), report.ProtocolConfig{}); !errors.Is(err, report.ErrDigest) {
		t.Errorf("a forged certification: %v", err)
	}
}

// readHTML is the text of a page as a parser finds it, its elements by name, and
// the rows of its tables.
func readHTML(tb testing.TB, page []byte) (text string, elements map[string]int, rows [][]string) {
	tb.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		tb.Fatal(err)
	}
	elements = make(map[string]int)
	var content func(n *html.Node) string
	content = func(n *html.Node) string {
		if n.Type == html.TextNode {
			return n.Data
		}
		if n.Type == html.ElementNode {
			elements[n.Data]++
		}
		var s strings.Builder
		var row []string
		for child := n.FirstChild; child != nil; child = child.NextSibling {
			part := content(child)
			s.WriteString(part)
			if child.Data == "td" || child.Data == "th" {
				row = append(row, strings.TrimSpace(part))
			}
		}
		if n.Data == "tr" {
			rows = append(rows, row)
		}
		return s.String()
	}
	return content(root), elements, rows
}

func render(tb testing.TB, write func(to *bytes.Buffer) error) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := write(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// Both languages and both kinds say the same figures, and names arrive whole.
func TestProtocolTexts(t *testing.T) {
	s := wholeStory(t)
	s.register("skripts", domain.Profile{Name: "<script>alert(1)</script>", Institution: "a|b*c_"})
	s.certify(0, "")
	p := protocolOf(t, s, report.ProtocolConfig{Log: signed, Outcomes: map[string]int{"already_voted": 3}})
	for language, sentence := range map[report.Language]string{report.Latvian: "Par šo speciālistu šis balsotājs jau ir nobalsojis.", report.English: "This voter has voted for this specialist already."} {
		page := render(t, func(to *bytes.Buffer) error { return p.HTML(to, language) })
		text, elements, rows := readHTML(t, page)
		for _, want := range [][]string{
			{"1", letters + " (ilze)", "Rēzeknes nodaļa", "3"},
			{"2", `=HYPERLINK("http://x.lv";"Jānis") (janis)`, "-1+1, a;=2+2", "1"},
			{"Žanete Ņukša (zane-2)", "2", "1", "1"},
			{"already_voted", sentence, "3"},
		} {
			if !slices.ContainsFunc(rows, func(row []string) bool { return slices.Equal(row, want) }) {
				t.Errorf("%s: the page lacks the row %q in %q", language, want, rows)
			}
		}
		if elements["script"] != 0 || !strings.Contains(text, "sakipaldies.lv/ledger/kustiba+5ea3a1a4+AQ==") || !strings.Contains(text, p.TallyDigest) ||
			!strings.Contains(text, "paldies audit verify --log kustiba --key kustiba.vkey") || !strings.Contains(text, "2019-11-11 08:00:00 +02:00") {
			t.Errorf("%s: the page is %s", language, page)
		}
		md := string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, language) }))
		for _, want := range []string{
			"| 1 | " + letters + " (ilze) | Rēzeknes nodaļa | 3 |\n",
			"| Žanete Ņukša (zane-2) | 2 | 1 | 1 |\n",
			"| `already_voted` | " + sentence + " | 3 |\n",
			"paldies audit verify --log kustiba --key kustiba.vkey\n",
		} {
			if !strings.Contains(md, want) {
				t.Errorf("%s: the Markdown lacks %q in %s", language, want, md)
			}
		}
	}
}

// A campaign of which there is nothing to say yet has a protocol too.
func TestProtocolOfNothing(t *testing.T) {
	p := protocolOf(t, newStory(t), report.ProtocolConfig{})
	md := string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, report.English) }))
	for _, want := range []string{"No vote was annulled.", "Not known: submissions are refused at once", "The results are not certified yet", "Nothing is signed yet."} {
		if !strings.Contains(md, want) {
			t.Errorf("it lacks %q: %s", want, md)
		}
	}
	p.Refusals, p.MadeAt = []report.Refused{}, now
	if md := string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, report.English) })); !strings.Contains(md, "No submission was decided in the queue.") {
		t.Errorf("a queue that nobody used: %s", md)
	}
	p.Decided = 1
	if md := string(render(t, func(to *bytes.Buffer) error { return p.Markdown(to, report.English) })); !strings.Contains(md, "Nothing was refused in the queue.") {
		t.Errorf("no refusals: %s", md)
	}
}

// Every text is there in both languages.
func TestWords(t *testing.T) {
	for name, texts := range report.Words {
		if texts[0] == "" || texts[1] == "" || texts[0] == texts[1] {
			t.Errorf("%s is %q and %q", name, texts[0], texts[1])
		}
	}
	if _, err := report.ParseLanguage("ru"); err == nil {
		t.Error("a third language is there")
	}
}

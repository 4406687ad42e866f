package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// chancellery is whose token sees everything.
const chancellery = string(domain.RoleChancellery)

// everyReading has, of every operation that reads counts, one request that is
// answered well.
var everyReading = map[string]request{
	"get-results":  {path: "results", channel: chancellery},
	"get-timeline": {path: "timeline", channel: chancellery},
}

func (s *stage) results(t *testing.T, query string) (p api.ResultsPage) {
	t.Helper()
	read(t, s.ask(request{path: "results?" + query, channel: chancellery}), &p)
	return p
}

// rows are what results say, for comparing.
func rows(p api.ResultsPage) (list []string) {
	for _, r := range p.Results {
		voters := ""
		if r.Voters != nil {
			voters = fmt.Sprintf(" of %d", *r.Voters)
		}
		words := slices.DeleteFunc([]string{r.SpecialistID, r.Name, r.Institution, r.Branch, r.Region, r.Channel}, func(s string) bool { return s == "" })
		list = append(list, fmt.Sprintf("%d. %s: %d%s", r.Rank, strings.Join(words, ", "), r.Votes, voters))
	}
	return list
}

// TestReading: results and timelines by everything, as of now and of before.
func TestReading(t *testing.T) {
	s := newStage(t, "zane-cirule")
	for by, want := range map[string][]string{
		"": {"1. zane-cirule, Zane Cīrule, Ceļu satiksmes drošības direkcija, Ķekava, Rīga: 4 of 4",
			"2. ilze-berzina, Ilze Bērziņa, Nodarbinātības valsts aģentūra, Gulbene, Vidzeme: 1 of 1",
			"2. zanete-kirsone, Žanete Ķirsone, Valsts ieņēmumu dienests, Rēzekne, Latgale: 1 of 1"},
		"institution": {"1. Ceļu satiksmes drošības direkcija: 4", "2. Nodarbinātības valsts aģentūra: 1", "2. Valsts ieņēmumu dienests: 1"},
		"branch":      {"1. Ceļu satiksmes drošības direkcija, Ķekava: 4", "2. Nodarbinātības valsts aģentūra, Gulbene: 1", "2. Valsts ieņēmumu dienests, Rēzekne: 1"},
		"region":      {"1. Rīga: 4", "2. Latgale: 1", "2. Vidzeme: 1"},
		"channel":     {"1. web: 6", "2. in_person: 0", "2. slip: 0"},
	} {
		p := s.results(t, "by="+by)
		if !slices.Equal(rows(p), want) {
			t.Errorf("by %q: %q", by, rows(p))
		}
		if c := p.Counted; c.Campaign != campaign || c.AsOfSequence != s.last() || c.AsOfTime != domain.FormatTime(begin) || c.Votes != 6 || c.Voters != 6 || c.Certification != 0 {
			t.Errorf("by %q: %+v", by, c)
		}
	}
	first := s.votes["balsotāja-0"]
	p := s.results(t, fmt.Sprintf("limit=1&as_of_sequence=%d", first))
	if p.Votes != 1 || p.AsOfSequence != first || p.Next != "1" || rows(p)[0] != "1. zane-cirule, Zane Cīrule, Ceļu satiksmes drošības direkcija, Ķekava, Rīga: 1 of 1" {
		t.Errorf("as of the first vote: %+v", p)
	}
	for by, period := range map[string]string{"": "2018-03-01", "day": "2018-03-01", "hour": "2018-03-01T10:00+02:00"} {
		var line api.TimelinePage
		read(t, s.ask(request{path: "timeline?by=" + by, channel: chancellery}), &line)
		if len(line.Timeline) != 1 || line.Timeline[0] != (api.Period{Period: period, Votes: 6}) || line.Timezone != "Europe/Riga" || line.AsOfSequence != s.last() {
			t.Errorf("by %q: %+v", by, line)
		}
	}
	for id, q := range everyReading {
		good, head := s.ask(q), q
		head.method = http.MethodHead
		if h := s.do(head); good.status != http.StatusOK || h.status != good.status || h.body != "" || h.header.Get("ETag") != good.header.Get("ETag") ||
			h.header.Get("Content-Length") != good.header.Get("Content-Length") {
			t.Errorf("HEAD of %s: %d %v, GET: %d %v", id, h.status, h.header, good.status, good.header)
		}
	}
}

// TestHourThatComesTwice: when the clocks are put back the hour after three is there
// twice, each with its own votes, and the day has 25 hours; now and as counted from
// the ledger.
func TestHourThatComesTwice(t *testing.T) {
	putBack := time.Date(2018, 10, 28, 1, 0, 0, 0, time.UTC)
	s := &stage{votes: make(map[string]uint64), desk: newDesk(t, func(o *domain.CampaignOpened) {
		o.OpensAt, o.ClosesAt = putBack.AddDate(0, -1, 0), putBack.AddDate(0, 1, 0)
	})}
	midnight := time.Date(2018, 10, 27, 21, 0, 0, 0, time.UTC) // in Riga
	s.at(midnight.Add(-time.Hour))
	_, err := s.intake.SetSpecialist(t.Context(), "zane-cirule", domain.Profile{Name: "Zane Cīrule"})
	check(t, err)
	for i, at := range []time.Time{midnight.Add(-time.Millisecond), midnight, putBack.Add(-30 * time.Minute), putBack.Add(-time.Millisecond),
		putBack, putBack.Add(20 * time.Minute), putBack.Add(time.Hour - time.Millisecond), putBack.Add(time.Hour), midnight.Add(25*time.Hour - time.Millisecond), midnight.Add(25 * time.Hour)} {
		s.at(at)
		s.cast(fmt.Sprintf("Šņore-%d", i), "zane-cirule")
	}
	last := s.last()
	s.record(domain.CampaignClosed{})
	s.project()
	for by, want := range map[string][]api.Period{
		"hour": {{Period: "2018-10-27T23:00+03:00", Votes: 1}, {Period: "2018-10-28T00:00+03:00", Votes: 1},
			{Period: "2018-10-28T03:00+03:00", Votes: 2}, {Period: "2018-10-28T03:00+02:00", Votes: 3}, {Period: "2018-10-28T04:00+02:00", Votes: 1},
			{Period: "2018-10-28T23:00+02:00", Votes: 1}, {Period: "2018-10-29T00:00+02:00", Votes: 1}},
		"day": {{Period: "2018-10-27", Votes: 1}, {Period: "2018-10-28", Votes: 8}, {Period: "2018-10-29", Votes: 1}},
	} {
		for _, query := range []string{"", fmt.Sprintf("&as_of_sequence=%d", last)} {
			var line api.TimelinePage
			read(t, s.ask(request{path: "timeline?by=" + by + query, channel: chancellery}), &line)
			if !slices.Equal(line.Timeline, want) {
				t.Errorf("by %s%s: %+v, want %+v", by, query, line.Timeline, want)
			}
		}
	}
}

// TestReadingPages: pages of any size together are the whole.
func TestReadingPages(t *testing.T) {
	s := newStage(t, "zane-cirule")
	whole := rows(s.results(t, ""))
	for size := 1; size <= len(whole)+1; size++ {
		var got []string
		for after := ""; ; {
			p := s.results(t, fmt.Sprintf("limit=%d&after=%s", size, after))
			got = append(got, rows(p)...)
			if after = p.Next; after == "" {
				break
			}
		}
		if !slices.Equal(got, whole) {
			t.Errorf("limit %d: %q", size, got)
		}
	}
	if p := s.results(t, "after=2147483647"); len(p.Results) != 0 || p.Next != "" {
		t.Errorf("behind the last page: %+v", p)
	}
}

// TestConditional: who has a version is told so, and only that; what becomes
// public under the same event is another version.
func TestConditional(t *testing.T) {
	s := newStage(t, "zane-cirule")
	q := everyReading["get-results"]
	tag := s.ask(q).header.Get("ETag")
	for header, status := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag + ` ,"y"`: 304, "*": 304, `"x"`: 200, strings.Trim(tag, `"`): 200, "": 200} {
		if r := s.ask(q.with("If-None-Match", header)); r.status != status || r.header.Get("ETag") != tag {
			t.Errorf("If-None-Match: %s: %d, %s", header, r.status, r.header.Get("ETag"))
		}
	}
	s.record(domain.CampaignClosed{})
	s.project()
	closed := s.ask(q.with("If-None-Match", tag))
	if closed.status != http.StatusOK || closed.header.Get("ETag") == tag {
		t.Errorf("after another event: %d %v", closed.status, closed.header)
	}
	s.certify()
	s.record(domain.ResultsPublished{Certified: s.certified})
	s.project()
	if r := s.ask(q.with("If-None-Match", closed.header.Get("ETag"))); r.status != http.StatusOK {
		t.Errorf("after the publication: %d", r.status)
	}
}

// TestRoles: a credential that reads hands in nothing and sees nobody's votes; it
// may know which campaigns and specialists there are.
func TestRoles(t *testing.T) {
	d := newDesk(t)
	cast(d)
	for _, role := range readers {
		for id, q := range everyOperation {
			r := d.ask(q.by(string(role)))
			if open := id == "list-campaigns" || id == "get-campaign" || id == "list-specialists"; !open {
				d.inBothLanguages(t, q.by(string(role)), api.RoleNotAllowed, 0)
			} else if r.status != http.StatusOK {
				t.Errorf("%s asks for %s: %d %s", role, id, r.status, r.body)
			}
		}
	}
	if n := len(d.votes()); n != 1 {
		t.Errorf("there are %d votes instead of one", n)
	}
}

// farther is a read model that claims to have so many events more.
type farther struct {
	projections.Reader
	events uint64
}

func (f farther) Read(ctx context.Context, campaign string, fn func(projections.Results) error) error {
	return f.Reader.Read(ctx, campaign, func(r projections.Results) error { return fn(fartherResults{r, f.events}) })
}

type fartherResults struct {
	projections.Results
	events uint64
}

func (r fartherResults) Summary(ctx context.Context) (projections.Summary, error) {
	s, err := r.Results.Summary(ctx)
	s.Position.Sequence += r.events
	return s, err
}

// brokenModel cannot be read.
type brokenModel struct{ projections.Reader }

func (brokenModel) Read(context.Context, string, func(projections.Results) error) error {
	return errors.New("kaut kas")
}

// over lets the desk read another read model.
func (d *desk) over(models projections.Reader) {
	counts := dashboard.NewCounts(models, deskLedgers{d}, d.world.codec)
	d.world.t.Cleanup(counts.Close)
	d.api.Use(&api.Backend{Credentials: d.passes, Counts: counts})
}

// TestReadingProblems: every problem of reading is answered as it is described.
func TestReadingProblems(t *testing.T) {
	type problemOf struct {
		name   string
		code   domain.Code
		before func(*stage)
		ask    func(request) request
	}
	query := func(text string) func(request) request {
		return func(q request) request { q.path += "?" + text; return q }
	}
	by := func(who string) func(request) request { return func(q request) request { return q.by(who) } }
	cases := []problemOf{
		{"no credential", api.Embargoed, nil, by("-")},
		{"an auditor", api.Embargoed, nil, by(string(domain.RoleAuditor))},
		{"a revoked credential", api.Unauthorized, nil, by("revoked")},
		{"an expired credential", api.Unauthorized, nil, by("expired")},
		{"an unknown credential", api.Unauthorized, nil, func(q request) request { return q.with("Authorization", "Bearer nav-tada") }},
		{"two credentials", api.Unauthorized, nil, func(q request) request { return q.with("Authorization", "Bearer a, Bearer b") }},
		{"an empty credential", api.Unauthorized, nil, func(q request) request { return q.with("Authorization", "") }},
		{"another campaign's credential", api.CampaignNotAllowed, nil, by("elsewhere")},
		{"another campaign", api.UnknownCampaign, nil, elsewhere("2017")},
		{"no campaign's name", api.UnknownCampaign, nil, elsewhere("Liels.Burts")},
		{"an unknown key", api.Malformed, nil, query("by=voter")},
		{"an unknown parameter", api.Malformed, nil, query("as-of=1")},
		{"a parameter twice", api.Malformed, nil, query("limit=1&limit=1")},
		{"a page of none", api.Malformed, nil, query("limit=0")},
		{"a page that is too large", api.Malformed, nil, query("limit=1001")},
		{"no page", api.Malformed, nil, query("after=-1")},
		{"event 0", api.Malformed, nil, query("as_of_sequence=0")},
		{"no number", api.Malformed, nil, query("as_of_sequence=1e3")},
		{"a word that is none", api.Malformed, nil, query("as_of=published")},
		{"two moments", api.Malformed, nil, query("as_of=latest&as_of_sequence=1")},
		{"what is not there yet", api.AsOfNotReached, nil, query("as_of_sequence=999")},
		{"too far", api.AsOfTooFar, func(s *stage) { s.over(farther{&s.models, 4_000_000}) }, query("as_of_sequence=3999999")},
		{"a read model that is away", api.ResultsUnavailable, func(s *stage) { s.over(brokenModel{}) }, nil},
		{"a ledger that is away", api.ResultsUnavailable, func(s *stage) {
			s.past = func(context.Context) error { return eventstore.ErrUnavailable }
		}, query("as_of_sequence=3")},
		{"a ledger that is shorter", api.ResultsUnavailable, func(s *stage) { s.over(farther{&s.models, 100}) }, query("as_of_sequence=99")},
		{"no counts", api.ResultsUnavailable, func(s *stage) {
			s.api.Use(&api.Backend{Credentials: s.passes})
		}, nil},
		{"two others are counted", api.Counting, (*stage).occupyCounting, query("as_of_sequence=5")},
		{"no node", api.Unavailable, func(s *stage) { s.api.Use(nil) }, nil},
		{"credentials that are not known yet", api.Unavailable, func(s *stage) {
			s.api.Use(&api.Backend{Credentials: unready{}, Counts: s.counts})
		}, nil},
		{"too much to do", api.Busy, func(s *stage) { s.world.t.Cleanup(s.api.Occupy()) }, nil},
	}
	for _, c := range cases {
		for id, q := range everyReading {
			t.Run(c.name+"/"+id, func(t *testing.T) {
				s := newStage(t, "zane-cirule")
				if c.before != nil {
					c.before(s)
				}
				if c.ask != nil {
					q = c.ask(q)
				}
				s.inBothLanguages(t, q, c.code, 0)
			})
		}
	}
	for _, missing := range described().unseen(everyReading) {
		if _, code, _ := strings.Cut(missing, " "); domain.Code(code) != api.TooManyRequests { // TestRateLimit
			t.Errorf("no test reaches what is documented: %s", missing)
		}
	}
}

// occupyCounting lets two counts be under way until the test ends.
func (s *stage) occupyCounting() {
	entered, leave := make(chan struct{}), make(chan struct{})
	s.past = func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-leave:
		case <-ctx.Done():
		}
		return nil
	}
	ended := make(chan error, 2)
	for _, sequence := range []int{3, 4} {
		go func() {
			_, err := s.try(request{path: fmt.Sprintf("results?as_of_sequence=%d", sequence), channel: chancellery})
			ended <- err
		}()
		<-entered
	}
	s.world.t.Cleanup(func() {
		close(leave)
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				s.world.t.Error(err)
			}
		}
	})
}

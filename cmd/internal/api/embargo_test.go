package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// stage is a desk whose campaign goes through its life.
type stage struct {
	*desk
	votes     map[string]uint64 // receipt numbers, by voter
	certified uint64            // sequence of the newest certification
	counted   uint64            // the results of the newest certification are those of the events up to here
}

// newStage is a campaign in which the favourite has four votes, the other two
// have one each. Whoever the favourite is, everything else is the same to the
// byte.
func newStage(t *testing.T, favourite string) *stage {
	s := &stage{votes: make(map[string]uint64)}
	s.desk = newDesk(t, func(o *domain.CampaignOpened) {
		o.OpensAt, o.ClosesAt = begin.AddDate(0, -1, 0), begin.AddDate(0, 1, 0)
	})
	s.at(begin)
	for id, p := range map[string]domain.Profile{
		"ilze-berzina":   {Name: "Ilze Bērziņa", Institution: "Nodarbinātības valsts aģentūra", Branch: "Gulbene", Region: "Vidzeme"},
		"zanete-kirsone": {Name: "Žanete Ķirsone", Institution: "Valsts ieņēmumu dienests", Branch: "Rēzekne", Region: "Latgale"},
		"zane-cirule":    {Name: "Zane Cīrule", Institution: "Ceļu satiksmes drošības direkcija", Branch: "Ķekava", Region: "Rīga"},
	} {
		_, err := s.intake.SetSpecialist(t.Context(), id, p)
		check(t, err)
	}
	for i, id := range []string{favourite, favourite, favourite, "ilze-berzina", "zane-cirule", "zanete-kirsone"} {
		s.cast(fmt.Sprintf("balsotāja-%d", i), id)
	}
	s.project()
	return s
}

// begin is when a stage's votes are cast.
var begin = time.Date(2018, 3, 1, 8, 0, 0, 0, time.UTC)

func (s *stage) cast(voter, specialist string) {
	s.world.t.Helper()
	r, err := s.intake.Submit(s.world.t.Context(), intake.Command{Action: domain.Vote, Voter: voter, Specialist: specialist, Channel: "web", SubmissionID: voter})
	check(s.world.t, err)
	s.votes[voter] = r.Sequence
}

// last is the sequence of the last event.
func (s *stage) last() uint64 {
	s.world.t.Helper()
	e, _, err := s.ledger.Reopen().Last(s.world.t.Context(), ">", eventstore.Leader)
	check(s.world.t, err)
	return e.Sequence
}

// record records an event of the campaign's life.
func (s *stage) record(p domain.Payload) uint64 {
	s.world.t.Helper()
	ctx, subject := s.world.t.Context(), domain.ControlSubject(campaign)
	before, _, err := s.ledger.Reopen().Last(ctx, subject, eventstore.Leader)
	check(s.world.t, err)
	data, err := domain.Encode(domain.Event{ID: uuid.New(), Campaign: campaign, Time: begin, Data: p})
	check(s.world.t, err)
	appended, err := s.ledger.Append(ctx, eventstore.Message{Subject: subject, Data: data}, before.Sequence)
	check(s.world.t, err)
	return appended.Sequence
}

// certify certifies the results as of now.
func (s *stage) certify() {
	s.counted = s.last()
	s.certified = s.record(domain.ResultsCertified{Sequence: s.counted, TallyDigest: s.digest(), Supersedes: s.certified})
}

// digest is that of the results as of now.
func (s *stage) digest() string {
	s.world.t.Helper()
	var tally domain.Tally
	check(s.world.t, projections.Replay(s.world.t.Context(), s.ledger.Reopen(), s.world.codec, 1, 0, func(sequence uint64, e domain.Event) error {
		_, err := tally.Apply(sequence, e)
		return err
	}))
	return tally.Digest()
}

// annul annuls a voter's vote.
func (s *stage) annul(voter string) {
	s.world.t.Helper()
	s.later()
	pseudonym, err := s.world.key.Voter(voter)
	check(s.world.t, err)
	_, err = s.world.intake(s.ledger.Reopen()).Annul(s.world.t.Context(), domain.Annulment{Voter: pseudonym, Vote: s.votes[voter],
		Decision: "VK-2018-11", Reason: "Balsis vāktas negodīgi."})
	check(s.world.t, err)
}

// acts are the life of a campaign. Public is whether results are public after
// an act, same whether to the public nothing has changed by it.
var acts = []struct {
	name         string
	play         func(*stage)
	public, same bool
}{
	{"while it is open", func(*stage) {}, false, true},
	{"after the close", func(s *stage) { s.record(domain.CampaignClosed{}) }, false, true},
	{"after the certification", (*stage).certify, false, true},
	{"after the publication", func(s *stage) { s.record(domain.ResultsPublished{Certified: s.certified}) }, true, false},
	{"after a correction", func(s *stage) { s.annul("balsotāja-0") }, true, true},
	{"after its certification", (*stage).certify, true, true},
	{"after its publication", func(s *stage) { s.record(domain.ResultsPublished{Certified: s.certified}) }, true, false},
	{"after the archiving", func(s *stage) { s.record(domain.CampaignArchived{}) }, true, true},
}

// ways are all ways to ask for counts, good and bad ones.
func ways() (all []request) {
	queries := []string{"", "limit=1&after=1", "by=hour", "as_of=latest", "as_of_sequence=13", "limit=1", "after=2147483647", "as_of=published", "as_of_sequence=0",
		"as_of_sequence=18446744073709551615", "as_of=latest&as_of_sequence=1", "by=voter", "by=specialist", "by=institution", "by=branch",
		"by=region", "by=channel", "by=day", "nav=1"}
	for sequence := 1; sequence <= 20; sequence++ { // the ledger ends before
		queries = append(queries, fmt.Sprintf("as_of_sequence=%d", sequence))
	}
	for _, path := range []string{"results", "timeline"} {
		for i, query := range queries {
			q := request{path: path + "?" + query}
			all = append(all, q)
			if i > 4 {
				continue
			}
			all = append(all, q.with("Accept-Language", "lv"))
			for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodOptions} {
				other := q
				other.method = method
				all = append(all, other)
			}
			all = append(all, q.with("If-None-Match", "*"), q.with("If-Match", "*"), q.with("Range", "bytes=0-10"), q.with("If-Modified-Since", "Thu, 01 Mar 2018 08:00:00 GMT"))
			for sequence := range 20 {
				all = append(all, q.with("If-None-Match", fmt.Sprintf(`"%d-0", W/"%d-%d"`, sequence, sequence, sequence+1)))
			}
		}
	}
	return all
}

// besides is everything else that can be asked for, of a voter who has voted for
// the same specialist on every stage, and of a stranger.
func besides() []request {
	others := []request{{path: "/openapi.json"}, {path: "/docs"}, {path: "/api/v1/campaigns"}, {path: "/api/v1/campaigns/" + campaign},
		{path: "specialists"}, {path: "specialists?q=cirule"}, {path: "results/"}, {path: "results.csv"}, {path: "standings"}, {path: "/metrics"},
		{path: "/api/v1/campaigns/2019/results"}, {path: "/api/v1/results"}}
	for _, voter := range []string{"balsotāja-5", "svešinieks"} {
		for _, path := range []string{"votes", "votes/1", "votes/11", "votes/13", "votes/99"} {
			others = append(others, request{path: path}.of(strings.ReplaceAll(voter, "ā", "%C4%81")))
		}
	}
	return others
}

// askers are all who are not the Chancellery: the public, and those with a
// credential for something else. The Chancellery's credentials of turnedAway are
// not good, or not here.
var (
	askers     = []string{"-", "web", string(domain.RoleAuditor), string(domain.RoleInstitution)}
	turnedAway = []string{"revoked", "expired", "elsewhere"}
)

// told is an answer without what says nothing.
func (s *stage) told(q request) string {
	r, err := s.try(q)
	check(s.world.t, err)
	r.header.Del("Date")
	return fmt.Sprintf("%d %v\n%s", r.status, r.header, r.body)
}

// TestEmbargo tries every way round the embargo at every step of a campaign's
// life. Two campaigns differ in nothing but who got the votes: as long as
// nothing is public, no answer to anybody but the Chancellery may tell them
// apart, by its status, its headers (the length and the version too), or its
// body. Then all are told the same, which is what was certified.
func TestEmbargo(t *testing.T) {
	a, b := newStage(t, "ilze-berzina"), newStage(t, "zane-cirule")
	before := make(map[string]string) // what the public was told after the act before
	for _, act := range acts {
		for _, s := range []*stage{a, b} {
			act.play(s)
			s.later() // what intake knows is too old to go by
			s.project()
		}
		for _, way := range ways() {
			public := a.told(way.by("-"))
			name := fmt.Sprintf("%s: %s %s %v", act.name, way.method, way.path, way.headers)
			for _, who := range askers {
				told := a.told(way.by(who))
				if told != public {
					t.Errorf("%s: %s is told %s, the public %s", name, who, told, public)
				}
				if !act.public && told != b.told(way.by(who)) {
					t.Errorf("%s: %s can tell one campaign from the other by %s", name, who, told)
				}
				if !act.public && told < "400" {
					t.Errorf("%s: %s is told %s", name, who, told)
				}
			}
			for _, who := range turnedAway {
				if told := a.told(way.by(who)); told < "400" || told != b.told(way.by(who)) {
					t.Errorf("%s: %s is told %s", name, who, told)
				}
			}
			if key := fmt.Sprint(way); act.same && before[key] != "" && before[key] != public {
				t.Errorf("%s: the public is told %s, before it was %s", name, public, before[key])
			} else {
				before[key] = public
			}
		}
		for _, q := range besides() {
			for _, who := range slices.Concat(askers, turnedAway, []string{string(domain.RoleChancellery)}) {
				if told, other := a.told(q.by(who)), b.told(q.by(who)); told != other {
					t.Errorf("%s: %s %s tells %s who got the votes:\n%s\n%s", act.name, q.path, q.headers, who, told, other)
				}
			}
		}
		a.publicIs(t, act.name, act.public)
		chancellery := request{path: "results?as_of=latest", channel: string(domain.RoleChancellery)}
		if a.told(chancellery) == b.told(chancellery) {
			t.Fatalf("%s: the Chancellery cannot tell them apart either, so that this proves nothing", act.name)
		}
	}
	a.silentMetrics(t)
}

// publicIs wants the public's results to be those of the newest published
// certification, counted otherwise.
func (s *stage) publicIs(t *testing.T, name string, public bool) {
	t.Helper()
	r := s.ask(request{path: "results", channel: "-"})
	if !public {
		refused(t, r, api.Embargoed)
		return
	}
	var got api.ResultsPage
	read(t, r, &got)
	published := s.published()
	if got.AsOfSequence != published.Sequence || got.Certification != published.Certification {
		t.Errorf("%s: public is %+v, published %+v", name, got.Counted, published)
	}
	votes := make(map[string]int64)
	s.each(published.Sequence, func(_ uint64, p domain.Payload) {
		switch d := p.(type) {
		case domain.VoteCast:
			votes[d.Specialist]++
		case domain.VoteAnnulled:
			votes[d.Specialist]--
		}
	})
	// Counts before and after a receipt's event would tell whom that voter praised.
	for sequence := uint64(1); sequence <= s.last(); sequence++ {
		for _, who := range askers {
			if sequence != published.Sequence {
				refused(t, s.ask(request{path: fmt.Sprintf("results?as_of_sequence=%d", sequence), channel: who}), api.Embargoed)
			}
		}
	}
	told := make(map[string]int64)
	for _, row := range got.Results {
		told[row.SpecialistID] = row.Votes
	}
	if !maps.Equal(told, votes) {
		t.Errorf("%s: the public is told %v, certified are %v", name, told, votes)
	}
}

// published is the newest certification that was published, as the events say.
func (s *stage) published() (p domain.PublicResults) {
	certified := make(map[uint64]uint64)
	s.each(s.last(), func(sequence uint64, e domain.Payload) {
		switch d := e.(type) {
		case domain.ResultsCertified:
			certified[sequence] = d.Sequence
		case domain.ResultsPublished:
			p = domain.PublicResults{Certification: d.Certified, Sequence: certified[d.Certified]}
		}
	})
	return p
}

// each gives the events up to one to fn.
func (s *stage) each(upto uint64, fn func(uint64, domain.Payload)) {
	s.world.t.Helper()
	check(s.world.t, s.ledger.Reopen().Replay(s.world.t.Context(), 1, upto, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := s.world.codec.Decode(rec.Data)
			if err != nil {
				return err
			}
			fn(rec.Sequence, e.Data)
		}
		return nil
	}))
}

// silentMetrics: metrics of the API have no label by which a count could be told
// of a campaign, a specialist, a place or a channel.
func (s *stage) silentMetrics(t *testing.T) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.metrics)
	families, err := registry.Gather()
	check(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			for _, label := range m.Label {
				if name := label.GetName(); name != "operation" && name != "code" {
					t.Errorf("%s has the label %s", f.GetName(), name)
				}
			}
		}
	}
}

package api_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// problemCase is a way to a problem: what happens before, and the request that
// gets it.
type problemCase struct {
	code     domain.Code
	change   func(*domain.CampaignOpened)
	before   func(*desk)
	request  request
	sequence uint64 // of the event that stands in the way; the first vote is event 5
}

// firstVote is the sequence of the first vote at a desk.
const firstVote = 5

// anna and others are voters of these tests.
const (
	anna  = "lv-pk:010180-12345"
	peter = "lv-pk:020290-54321"
)

// cast records Anna's vote for Ilze.
func cast(d *desk) { d.ask(vote(anna, "ilze-berzina", "k1")).receipt(d.world.t) }

func taking(sequence int) request {
	return request{method: http.MethodDelete, path: fmt.Sprintf("votes/%d", sequence)}.of(anna)
}

var problemCases = []problemCase{
	{code: domain.AlreadyVoted, before: cast, request: vote(anna, "ilze-berzina", "k2"), sequence: firstVote},
	{code: domain.AlreadyVoted, before: cast, request: vote("LV-PK:01018012345 ", "ilze-berzina", ""), sequence: firstVote},
	{code: domain.VoteLimitReached, change: func(o *domain.CampaignOpened) { o.VotesPerVoter = 1 }, before: cast, request: vote(anna, "zane-cirule", "k2")},
	{code: domain.UnknownSpecialist, request: vote(anna, "nav-tada", "k1")},
	{code: domain.WithdrawnSpecialist, before: func(d *desk) {
		_, err := d.intake.WithdrawSpecialist(d.world.t.Context(), "ilze-berzina", "aizgājusi")
		check(d.world.t, err)
		d.later()
	}, request: vote(anna, "ilze-berzina", "k1")},
	{code: domain.ClosedCampaign, sequence: 5, before: closeCampaign, request: vote(anna, "ilze-berzina", "k1")},
	{code: domain.ClosedCampaign, sequence: 6, before: func(d *desk) { cast(d); closeCampaign(d) }, request: taking(firstVote)},
	{code: domain.TooEarly, change: func(o *domain.CampaignOpened) { o.OpensAt = o.OpensAt.AddDate(0, 1, 1) }, request: vote(anna, "ilze-berzina", "k1")},
	{code: domain.TooEarly, before: func(d *desk) { cast(d); d.at(time.Now().AddDate(0, -2, 0)) }, request: taking(firstVote)},
	{code: domain.TooLate, before: func(d *desk) { d.at(time.Now().AddDate(0, 2, 0)) }, request: vote(anna, "ilze-berzina", "k1")},
	{code: domain.TooLate, before: func(d *desk) { cast(d); d.at(time.Now().AddDate(0, 2, 0)) }, request: taking(firstVote)},
	{code: domain.CastInFuture, request: castAt(time.Now().Add(time.Hour)).by("in_person")},
	{code: domain.UnknownVote, request: taking(firstVote)},
	{code: domain.UnknownVote, before: cast, request: taking(firstVote).of(peter)},
	{code: domain.UnknownVote, before: cast, request: request{path: "votes/5"}.of(peter)},
	{code: domain.UnknownVote, before: cast, request: request{path: "votes/4"}.of(anna)},
	{code: domain.AlreadyRetracted, before: func(d *desk) { cast(d); d.ask(taking(firstVote)) }, request: taking(firstVote), sequence: firstVote + 1},
	{code: domain.ChannelNotAccepted, request: vote(anna, "ilze-berzina", "k1").by("pasts")},
	{code: domain.ChannelNotAccepted, request: taking(firstVote).by("pasts")},
	{code: domain.ChannelNotAccepted, request: request{path: "votes/5"}.of(anna).by("pasts")},
	{code: domain.ChannelNotAccepted, request: request{path: "votes"}.of(anna).by("pasts")},
	{code: domain.IdempotencyMismatch, before: cast, request: vote(anna, "zane-cirule", "k1"), sequence: firstVote},
	{code: domain.IdempotencyMismatch, before: func(d *desk) {
		cast(d)
		d.ask(vote(anna, "zane-cirule", "k2")).receipt(d.world.t)
		d.ask(taking(firstVote).with("Idempotency-Key", "k3")).receipt(d.world.t)
	}, request: taking(firstVote+1).with("Idempotency-Key", "k3"), sequence: firstVote + 2},
	{code: api.CastAtNotAccepted, request: castAt(time.Now())},
	{code: api.NotFound, request: request{path: "/api/v1/balsis"}},
	{code: api.NotFound, request: request{path: "/"}},
	{code: api.MethodNotAllowed, request: request{method: http.MethodPut, path: "votes", body: "{}"}},
	{code: api.BodyTooLarge, request: request{path: "votes", body: strings.Repeat(" ", api.MaxBodyBytes+1)}},
	{code: api.UnsupportedMediaType, request: vote(anna, "ilze-berzina", "k1").with("Content-Type", "text/plain")},
	{code: api.OutcomeUnknown, before: func(d *desk) { d.failing(storetest.LostUnknown, storetest.None) }, request: vote(anna, "ilze-berzina", "k1")},
	{code: api.OutcomeUnknown, before: func(d *desk) { cast(d); d.failing(storetest.LostUnknown, storetest.None) }, request: taking(firstVote)},
	{code: api.Busy, before: func(d *desk) { d.failing(storetest.Busy, storetest.None) }, request: vote(anna, "ilze-berzina", "k1")},
	{code: api.Unavailable, before: func(d *desk) { d.failing(storetest.Unavailable, storetest.None) }, request: vote(anna, "ilze-berzina", "k1")},
}

func closeCampaign(d *desk) {
	_, err := d.intake.Close(d.world.t.Context(), "")
	check(d.world.t, err)
	d.later()
}

func castAt(at time.Time) request {
	return request{path: "votes", body: fmt.Sprintf(`{"voter":%q,"specialist_id":"ilze-berzina","cast_at":%q}`, anna, at.Format(time.RFC3339))}
}

// everyOperation has, of every operation of intake, one request that would be answered well if Anna's first
// vote were there.
var everyOperation = map[string]request{
	"cast-vote":        vote(anna, "zane-cirule", "k9"),
	"retract-vote":     taking(firstVote),
	"get-vote":         request{path: "votes/5"}.of(anna),
	"list-votes":       request{path: "votes"}.of(anna),
	"list-campaigns":   {path: "/api/v1/campaigns"},
	"get-campaign":     {path: "/api/v1/campaigns/" + campaign},
	"list-specialists": {path: "specialists"},
}

// commonCases are problems that every operation has; without is the operation
// that does not.
var commonCases = []struct {
	code    domain.Code
	before  func(*desk)
	ask     func(request) request
	without string
}{
	{code: api.Unauthorized, ask: func(q request) request { return q.by("-") }},
	{code: api.Unauthorized, ask: func(q request) request { return q.with("Authorization", "Basic QW5uYTpy") }},
	{code: api.Unauthorized, ask: func(q request) request { return q.with("Authorization", "Bearer nav-tada") }},
	{code: api.CampaignNotAllowed, ask: func(q request) request { return q.by("2019") }, without: "list-campaigns"},
	{code: api.UnknownCampaign, ask: elsewhere("2017"), without: "list-campaigns"},
	{code: api.UnknownCampaign, ask: elsewhere("Liels.Burts"), without: "list-campaigns"},
	{code: api.CampaignNotServed, before: getting(intake.ErrNoKey), without: "list-campaigns"},
	{code: api.CampaignNotServed, before: getting(intake.ErrWrongKey), without: "list-campaigns"},
	{code: api.UnknownCampaign, before: getting(intake.ErrNotOpened), without: "list-campaigns"},
	{code: api.Unavailable, before: getting(fmt.Errorf("atvērt: %w", eventstore.ErrUnavailable))},
	{code: api.Unavailable, before: getting(eventstore.ErrClosed)},
	{code: api.Internal, before: getting(errors.New("kaut kas")), without: "list-campaigns"},
	{code: api.Internal, before: func(d *desk) { d.get = func() error { panic("kaut kas") } }},
	{code: api.Unavailable, before: func(d *desk) { d.api.Use(nil) }},
	{code: api.Unavailable, before: func(d *desk) {
		d.api.Use(&api.Backend{Credentials: unready{}, Campaigns: deskCampaigns{d}})
	}},
	{code: api.Busy, before: func(d *desk) { d.world.t.Cleanup(d.api.Occupy()) }},
	{code: api.Unavailable, before: func(d *desk) {
		d.at(time.Now().Add(time.Minute)) // what is known is too old
		d.failing(storetest.None, storetest.Unavailable)
	}},
}

func elsewhere(id string) func(request) request {
	return func(q request) request {
		if !strings.HasPrefix(q.path, "/") {
			q.path = "/api/v1/campaigns/" + campaign + "/" + q.path
		}
		q.path = strings.Replace(q.path, campaign, id, 1)
		return q
	}
}

func getting(err error) func(*desk) {
	return func(d *desk) { d.get = func() error { return err } }
}

// unready are credentials that have not been read yet.
type unready struct{}

func (unready) Check(string) (*credential.Credential, error) { return nil, credential.ErrNotReady }

// elsewhereReached are problems that have tests of their own.
var elsewhereReached = map[domain.Code]bool{
	api.Malformed:       true, // TestMalformed
	api.TooManyRequests: true, // TestRateLimit
	api.RequestTimeout:  true, // TestSlowBody

	api.Embargoed:          true, // TestEmbargo
	api.RoleNotAllowed:     true, // TestRoles
	api.AsOfNotReached:     true, // TestReadingProblems, and those below
	api.AsOfTooFar:         true,
	api.Counting:           true,
	api.ResultsUnavailable: true,
}

// TestProblems: every problem is answered as it is described, in the language
// that is asked for, and every problem that an operation is said to have is
// one that it has.
func TestProblems(t *testing.T) {
	reached := maps.Clone(elsewhereReached)
	for _, c := range problemCases {
		t.Run(string(c.code), func(t *testing.T) {
			reached[c.code] = true
			d := newDesk(t, func(o *domain.CampaignOpened) {
				if c.change != nil {
					c.change(o)
				}
			})
			if c.before != nil {
				c.before(d)
			}
			d.inBothLanguages(t, c.request, c.code, c.sequence)
		})
	}
	for _, c := range commonCases {
		reached[c.code] = true
		for id, q := range everyOperation {
			if id == c.without {
				continue
			}
			t.Run(string(c.code)+"/"+id, func(t *testing.T) {
				d := newDesk(t)
				cast(d)
				if c.before != nil {
					c.before(d)
				}
				if c.ask != nil {
					q = c.ask(q)
				}
				d.inBothLanguages(t, q, c.code, 0)
			})
		}
	}
	for _, missing := range described().unseen(everyOperation) {
		if _, code, _ := strings.Cut(missing, " "); !elsewhereReached[domain.Code(code)] {
			t.Errorf("no test reaches what is documented: %s", missing)
		}
	}
	for code := range api.Kinds() {
		if !reached[code] {
			t.Errorf("no test reaches %s", code)
		}
	}
}

func (d *desk) inBothLanguages(t *testing.T, q request, code domain.Code, sequence uint64) {
	t.Helper()
	d.world.t = t
	kind := api.Kinds()[code]
	for language, title := range map[string]string{"": kind.English, "en": kind.English, "lv": kind.Latvian} {
		asked := q
		if language != "" {
			asked = q.with("Accept-Language", language)
		}
		p := refused(t, d.ask(asked), code)
		if p.Title != title || p.Sequence != sequence {
			t.Errorf("Accept-Language %q: %+v; wanted the title %q and the sequence %d", language, p, title, sequence)
		}
	}
}

// TestLanguages: who does not ask for Latvian gets English, whatever else the
// header says.
func TestLanguages(t *testing.T) {
	d := newDesk(t)
	kind := api.Kinds()[api.NotFound]
	for header, want := range map[string]string{
		"lv":                               kind.Latvian,
		"LV":                               kind.Latvian,
		"lv-LV,en;q=0.8":                   kind.Latvian,
		"lv-LV, lv;q=0.9, ru":              kind.Latvian,
		"en;q=0.5, lv;q=0.6":               kind.Latvian,
		"de, lv;q=0.1":                     kind.Latvian,
		"en-GB,lv;q=0.8":                   kind.English,
		"en, lv":                           kind.English,
		"lv;q=0":                           kind.English,
		"lv;q=0, *":                        kind.English,
		"ru":                               kind.English,
		"ru, *":                            kind.English,
		"*":                                kind.English,
		"lt":                               kind.English,
		"lvx":                              kind.English,
		",;,;=":                            kind.English,
		"\xff\xfe":                         kind.English,
		"lv;q=1e9999":                      kind.English,
		strings.Repeat("lv,", 64):          kind.Latvian,
		strings.Repeat("lv,", 3400):        kind.English,
		strings.Repeat("x", 10<<10):        kind.English,
		"lv" + strings.Repeat("-x", 5<<10): kind.English,
		strings.Repeat(" ", api.MaxLanguageBytes+1) + "lv": kind.Latvian, // net/http trims it
	} {
		p := refused(t, d.ask(request{path: "/nav"}.with("Accept-Language", header)), api.NotFound)
		if p.Title != want {
			t.Errorf("%.60q: %q", header, p.Title)
		}
	}
}

// TestOperations: every operation's good answer is as it is described.
func TestOperations(t *testing.T) {
	d := newDesk(t)
	cast(d)
	for id := range everyOperation {
		r := d.ask(everyOperation[id])
		if r.status != http.StatusOK && r.status != http.StatusCreated {
			t.Errorf("%s: %d %s", id, r.status, r.body)
		}
		if id == "retract-vote" || id == "cast-vote" {
			continue
		}
		head := everyOperation[id]
		head.method = http.MethodHead
		if h := d.do(head); h.status != r.status || h.body != "" || h.header.Get("Content-Length") == "" {
			t.Errorf("HEAD of %s: %d %v %q", id, h.status, h.header, h.body)
		}
	}
	if n := len(described().operations); n != len(everyOperation)+len(everyReading) {
		t.Errorf("%d operations are described, and %d are tried here and in TestReading", n, len(everyOperation)+len(everyReading))
	}
}

package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// bySpecialist is the key of results that have standings; the others are groups
// of domain.
const bySpecialist = "specialist"

// What results and timelines can be asked for by; the first one is what comes
// unasked.
var (
	resultKeys = []string{bySpecialist, string(domain.ByInstitution), string(domain.ByBranch), string(domain.ByRegion), string(domain.ByChannel)}
	periods    = []string{string(domain.ByDay), string(domain.ByHour)}
)

// Counted says what was counted.
type Counted struct {
	Campaign      string `json:"campaign" doc:"Id of the campaign." example:"2018"`
	By            string `json:"by" doc:"What the votes are summed by."`
	AsOfSequence  uint64 `json:"as_of_sequence" doc:"The last event that was counted." example:"4711"`
	AsOfTime      string `json:"as_of_time" format:"date-time" doc:"When that event was recorded, in UTC."`
	Certification uint64 `json:"certification,omitzero" doc:"Sequence of the event that certifies these results, when they are the published ones."`
	Votes         int64  `json:"votes" doc:"All votes in force."`
	Voters        int64  `json:"voters" doc:"Distinct voters, as far as channels know who votes."`
}

// ResultsPage is a page of results.
type ResultsPage struct {
	Counted
	Results []Result `json:"results" nullable:"false" doc:"By votes; equals in alphabetical order."`
	Next    string   `json:"next,omitempty" doc:"The value of after for the next page; absent on the last one. Pages belong together that have the same as_of_sequence."`
}

// Result is one specialist's, or one group's. What it does not have is left
// out.
type Result struct {
	Rank         int    `json:"rank,omitzero" doc:"Shared by equals; left out for a specialist who was withdrawn."`
	SpecialistID string `json:"specialist_id,omitempty" example:"anna-zvirbule"`
	Name         string `json:"name,omitempty" example:"Anna Zvirbule"`
	Institution  string `json:"institution,omitempty"`
	Branch       string `json:"branch,omitempty"`
	Region       string `json:"region,omitempty"`
	Channel      string `json:"channel,omitempty"`
	Votes        int64  `json:"votes"`
	Voters       *int64 `json:"voters,omitempty" doc:"Votes by channels that know who votes; of specialists."`
}

// TimelinePage is a page of a timeline.
type TimelinePage struct {
	Counted
	Timezone string   `json:"timezone" doc:"In which days and hours are counted." example:"Europe/Riga"`
	Timeline []Period `json:"timeline" nullable:"false" doc:"The days or hours with votes, in their order."`
	Next     string   `json:"next,omitempty" doc:"The value of after for the next page; absent on the last one. Pages belong together that have the same as_of_sequence."`
}

// Period is a day or an hour.
type Period struct {
	Period string `json:"period" doc:"The day, or the beginning of the hour with its offset." example:"2018-10-28T03:00+02:00"`
	Votes  int64  `json:"votes" doc:"Votes in force that were cast then."`
}

// question is what is asked for.
type question struct {
	by    string
	as    dashboard.AsOf
	after int // how many items were on the pages before
	limit int
}

// question reads the query. The first of keys is the default.
func (c *call) question(keys []string) (q question, err error) {
	values, err := c.query("by", "as_of", "as_of_sequence", "limit", "after")
	if err != nil {
		return q, err
	}
	if q.by = cmp.Or(values["by"], keys[0]); !slices.Contains(keys, q.by) {
		return q, &malformedError{"by is not one of " + strings.Join(keys, ", ")}
	}
	if q.as, err = asOf(values["as_of"], values["as_of_sequence"]); err != nil {
		return q, err
	}
	if q.limit, err = limit(values["limit"]); err != nil {
		return q, err
	}
	if text := values["after"]; text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return q, &malformedError{"after is not the next of another page"}
		}
		q.after = int(n)
	}
	return q, nil
}

func asOf(word, sequence string) (as dashboard.AsOf, err error) {
	const latest = "latest"
	switch {
	case word != "" && sequence != "":
		return as, &malformedError{"as_of and as_of_sequence exclude each other"}
	case word != "" && word != latest:
		return as, &malformedError{"as_of can only be " + latest + "; an event is named by as_of_sequence"}
	case sequence == "":
		return dashboard.AsOf{Latest: word == latest}, nil
	}
	as.Sequence, err = strconv.ParseUint(sequence, 10, 63)
	if err != nil || as.Sequence == 0 {
		return as, &malformedError{"as_of_sequence is not a number of 1 or more"}
	}
	return as, nil
}

// page is the part of a list that was asked for, and where the next one begins.
func page[T any](list []T, q question) (items []T, next string) {
	rest := list[min(q.after, len(list)):]
	if len(rest) > q.limit {
		return rest[:q.limit], strconv.Itoa(q.after + q.limit)
	}
	return rest, ""
}

// counts answers with what body makes of the counts, unless the client has that
// version already.
func (c *call) counts(q question, body func(context.Context, dashboard.Results, projections.Summary) (any, error)) (re reply, err error) {
	if c.backend.Counts == nil {
		return re, dashboard.ErrUnavailable
	}
	ctx := c.Context()
	err = c.backend.Counts.Read(ctx, c.campaign, c.role(), q.as, func(r dashboard.Results) error {
		summary, err := r.Summary(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", dashboard.ErrUnavailable, err)
		}
		re = reply{status: http.StatusNotModified, version: version(summary, r.Certification)}
		if c.has(re.version) {
			return nil
		}
		re.status = http.StatusOK
		if re.body, err = body(ctx, r, summary); err != nil {
			return fmt.Errorf("%w: %w", dashboard.ErrUnavailable, err)
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return re, nil
}

// version is the entity tag of an answer: counts as of one event never change while a
// read model is not built anew, but they become the published ones.
func version(s projections.Summary, certification uint64) string {
	return fmt.Sprintf(`"%d-%d-%d"`, s.Position.Sequence, certification, s.Build)
}

// has says whether the client has this version (RFC 9110, 13.1.2).
func (c *call) has(version string) bool {
	for _, list := range c.Header.Values("If-None-Match") {
		for tag := range strings.SplitSeq(list, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == version {
				return true
			}
		}
	}
	return false
}

func counted(q question, r dashboard.Results, s projections.Summary) Counted {
	return Counted{Campaign: s.Campaign.ID, By: q.by, AsOfSequence: s.Position.Sequence, AsOfTime: domain.FormatTime(s.Position.RecordedAt),
		Certification: r.Certification, Votes: s.Votes, Voters: s.Voters}
}

func getResults(c *call) (reply, error) {
	q, err := c.question(resultKeys)
	if err != nil {
		return reply{}, err
	}
	return c.counts(q, func(ctx context.Context, r dashboard.Results, s projections.Summary) (any, error) {
		p := ResultsPage{Counted: counted(q, r, s), Results: []Result{}}
		if q.by == bySpecialist {
			var list []domain.Standing
			standings, err := r.Standings(ctx)
			list, p.Next = page(standings, q)
			for _, st := range list {
				p.Results = append(p.Results, ofSpecialist(st))
			}
			return p, err
		}
		var list []domain.Group
		groups, err := r.Groups(ctx, domain.GroupBy(q.by))
		list, p.Next = page(groups, q)
		for _, g := range list {
			p.Results = append(p.Results, ofGroup(domain.GroupBy(q.by), g))
		}
		return p, err
	})
}

func ofSpecialist(st domain.Standing) Result {
	s := st.Specialist
	return Result{Rank: st.Rank, SpecialistID: s.ID, Name: s.Name, Institution: s.Institution, Branch: s.Branch, Region: s.Region,
		Votes: st.Votes, Voters: &st.Voters}
}

func ofGroup(by domain.GroupBy, g domain.Group) Result {
	r := Result{Rank: g.Rank, Votes: g.Votes}
	columns := map[string]*string{"institution": &r.Institution, "branch": &r.Branch, "region": &r.Region, "channel": &r.Channel}
	for i, name := range by.Columns() {
		*columns[name] = g.Keys[i]
	}
	return r
}

func getTimeline(c *call) (reply, error) {
	q, err := c.question(periods)
	if err != nil {
		return reply{}, err
	}
	return c.counts(q, func(ctx context.Context, r dashboard.Results, s projections.Summary) (any, error) {
		p := TimelinePage{Counted: counted(q, r, s), Timezone: s.Campaign.Timezone, Timeline: []Period{}}
		groups, err := r.Groups(ctx, domain.GroupBy(q.by))
		list, next := page(groups, q)
		for _, g := range list {
			p.Timeline = append(p.Timeline, Period{g.Keys[0], g.Votes})
		}
		p.Next = next
		return p, err
	})
}

// What both take beside the campaign and what they sum by.
type (
	AsOfEvent struct {
		AsOf         string `query:"as_of" enum:"latest" doc:"latest: what is counted by now, whatever is published; for the Chancellery."`
		AsOfSequence uint64 `query:"as_of_sequence" minimum:"1" doc:"Count events 1 to this one: any for the Chancellery, for others the one that the published results are as of. Left out: what is published; for the Chancellery, as long as nothing is, the newest event."`
	}
	Conditional struct {
		IfNoneMatch string `header:"If-None-Match" doc:"The ETag of an earlier answer; 304 says that it is still so."`
	}
	Versioned struct {
		ETag string `header:"ETag" doc:"Version of the answer."`
	}
)

// describeCounts is described for counts.
func describeCounts[In, Out any](api huma.API, o operation, summary, description string) {
	described[In, Out](api, o, http.StatusOK, summary, description, Embargoed, AsOfNotReached, AsOfTooFar, Counting, ResultsUnavailable)
	op := api.OpenAPI().Paths[o.path].Get
	op.Responses[strconv.Itoa(http.StatusNotModified)] = &huma.Response{Description: "The client has this version already."}
}

func describeGetResults(api huma.API, o operation) {
	describeCounts[struct {
		InCampaign
		By string `query:"by" enum:"specialist,institution,branch,region,channel" default:"specialist" doc:"What the votes are summed by."`
		AsOfEvent
		Paged
		Conditional
	}, struct {
		Versioned
		Body ResultsPage
	}](api, o, "Results", "Until they are published, for the Chancellery alone; then for anybody, as they were certified.")
}

func describeGetTimeline(api huma.API, o operation) {
	describeCounts[struct {
		InCampaign
		By string `query:"by" enum:"day,hour" default:"day" doc:"What the votes are summed by."`
		AsOfEvent
		Paged
		Conditional
	}, struct {
		Versioned
		Body TimelinePage
	}](api, o, "Votes by day or hour", "Until results are published, for the Chancellery alone; then for anybody, as they were certified.")
}

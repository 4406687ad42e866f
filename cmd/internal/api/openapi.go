package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sakipaldies.lv/ledger/domain"
)

// operations are all that can be asked for.
func (s *Server) operations() []operation {
	const campaigns, campaign = prefix + "campaigns", prefix + "campaigns/{campaign}"
	channels, anyRole := []domain.Role{domain.RoleChannel}, domain.Roles
	all := []operation{
		{id: "cast-vote", method: http.MethodPost, path: campaign + "/votes", part: Intake, roles: channels, body: true, answer: castVote, describe: describeCastVote},
		{id: "list-votes", method: http.MethodGet, path: campaign + "/votes", part: Intake, roles: channels, query: true, answer: listVotes, describe: describeListVotes},
		{id: "get-vote", method: http.MethodGet, path: campaign + "/votes/{sequence}", part: Intake, roles: channels, answer: getVote, describe: describeGetVote},
		{id: "retract-vote", method: http.MethodDelete, path: campaign + "/votes/{sequence}", part: Intake, roles: channels, answer: retractVote, describe: describeRetractVote},
		{id: "list-campaigns", method: http.MethodGet, path: campaigns, part: Intake, roles: anyRole, answer: listCampaigns, describe: describeListCampaigns},
		{id: "get-campaign", method: http.MethodGet, path: campaign, part: Intake, roles: anyRole, answer: getCampaign, describe: describeGetCampaign},
		{id: "list-specialists", method: http.MethodGet, path: campaign + "/specialists", part: Intake, roles: anyRole, query: true, answer: s.search.listSpecialists, describe: describeListSpecialists},
		{id: "get-results", method: http.MethodGet, path: campaign + "/results", part: Reading, query: true, answer: getResults, describe: describeGetResults},
		{id: "get-timeline", method: http.MethodGet, path: campaign + "/timeline", part: Reading, query: true, answer: getTimeline, describe: describeGetTimeline},
	}
	return slices.DeleteFunc(all, func(o operation) bool { return s.parts&o.part == 0 })
}

// What the operations take beside a body, for their description. The names are
// exported because huma passes over others.
type (
	InCampaign struct {
		Campaign string `path:"campaign" doc:"Id of the campaign." example:"2018"`
	}
	Keyed struct {
		IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"The channel's own id of the submission, at most 128 bytes. Who repeats it with the same content gets the same answer, whatever became of the first try. Needed on a channel without identity, where it is the slip's id."`
	}
	OfVoter struct {
		PaldiesVoter string `header:"Paldies-Voter" required:"true" doc:"The voter's id, as in a vote, percent-encoded UTF-8. On a channel without identity: the slip's id."`
	}
	Numbered struct {
		Sequence uint64 `path:"sequence" minimum:"1" doc:"A receipt number of this voter."`
	}
	Paged struct {
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many items the page has."`
		After string `query:"after" doc:"The next of the page before."`
	}
)

// described is an operation in OpenAPI: In and Out are what huma reads from.
func described[In, Out any](api huma.API, o operation, status int, summary, description string, problems ...domain.Code) {
	problems = append(problems, Malformed, Unauthorized, TooManyRequests, Busy, Unavailable)
	if strings.Contains(o.path, "{campaign}") {
		problems = append(problems, CampaignNotAllowed, UnknownCampaign)
	}
	if strings.Contains(o.path, "{campaign}") && o.part == Intake {
		problems = append(problems, CampaignNotServed)
	}
	security := []map[string][]string{{"credential": {}}}
	if o.roles == nil {
		security = append(security, map[string][]string{}) // or none
	} else if len(o.roles) < len(domain.Roles) {
		problems = append(problems, RoleNotAllowed)
	}
	op := huma.Operation{OperationID: o.id, Method: o.method, Path: o.path, Summary: summary, Description: description,
		DefaultStatus: status, Responses: problemResponses(api, problems), Security: security}
	if o.body {
		op.MaxBodyBytes = maxBodyBytes
	}
	huma.Register[In, Out](api, op, nil)
}

// problemResponses are the problems by their status.
func problemResponses(api huma.API, codes []domain.Code) map[string]*huma.Response {
	byStatus := make(map[string][]string)
	for _, code := range codes {
		status := strconv.Itoa(kinds[code].status)
		byStatus[status] = append(byStatus[status], string(code))
	}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	responses := make(map[string]*huma.Response)
	for status, codes := range byStatus {
		slices.Sort(codes)
		responses[status] = &huma.Response{Description: strings.Join(slices.Compact(codes), ", "), Headers: problemHeaders(status),
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}}
	}
	responses["default"] = &huma.Response{Description: string(Internal) + ", or a code that was added later",
		Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}}
	return responses
}

// problemHeaders are those of a problem with a status.
func problemHeaders(status string) map[string]*huma.Param {
	switch status {
	case strconv.Itoa(http.StatusTooManyRequests), strconv.Itoa(http.StatusServiceUnavailable):
		return map[string]*huma.Param{"Retry-After": {Description: "In how many seconds to try again.", Schema: &huma.Schema{Type: huma.TypeInteger}}}
	case strconv.Itoa(http.StatusUnauthorized):
		return map[string]*huma.Param{"WWW-Authenticate": {Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	return nil
}

// paper is an adapter of huma that only writes down what it is told.
type paper struct{}

func (paper) Handle(*huma.Operation, func(huma.Context))   {}
func (paper) ServeHTTP(http.ResponseWriter, *http.Request) {}

// intakeDescription and readingDescription say what holds for all operations of
// a part.
const (
	intakeDescription = "Votes, retractions and receipts. The channel of a request follows from its credential. " +
		"After 503 with any code, and after no answer at all, the same request with the same Idempotency-Key tells what became of it: " +
		"busy and unavailable say that this request recorded nothing, but an earlier one may have. "
	readingDescription = "Counts: until results are published they are for the Chancellery alone, and then those that were certified are for anybody. "
)

// spec is the interface in OpenAPI 3.1.
func spec(parts Part, operations []operation) *huma.OpenAPI {
	description := ""
	if parts&Intake != 0 {
		description += intakeDescription
	}
	if parts&Reading != 0 {
		description += readingDescription
	}
	config := huma.Config{OpenAPI: &huma.OpenAPI{OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Paldies", Version: "1",
			Description: description + "Every problem has a stable code (RFC 9457); its title is in English or Latvian (Accept-Language)."},
		Components: &huma.Components{
			Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{"credential": {Type: "http", Scheme: "bearer", Description: "Made by `paldies credential add`."}},
		}}}
	api := huma.NewAPI(config, paper{})
	for _, o := range operations {
		o.describe(api, o)
	}
	return api.OpenAPI()
}

func describeListCampaigns(api huma.API, o operation) {
	described[struct{}, struct{ Body CampaignList }](api, o, http.StatusOK, "Campaigns",
		"The campaigns that this service takes votes for.")
}

func describeGetCampaign(api huma.API, o operation) {
	described[InCampaign, struct{ Body Campaign }](api, o, http.StatusOK, "A campaign and its rules", "")
}

func describeListSpecialists(api huma.API, o operation) {
	described[struct {
		InCampaign
		Q string `query:"q" maxLength:"200" doc:"Words that all must be in the name, the position, the place or the id; without diacritics and in any case." example:"cirule"`
		Paged
	}, struct{ Body SpecialistList }](api, o, http.StatusOK, "Specialists", "All, or those that are searched for, in the order of their names.")
}

func describeCastVote(api huma.API, o operation) {
	described[struct {
		InCampaign
		Keyed
		Body VoteRequest
	}, struct {
		Location string `header:"Location" doc:"Address of the receipt."`
		Body     Receipt
	}](api, o, http.StatusCreated, "Cast a vote", "It is recorded durably before this is answered.",
		domain.AlreadyVoted, domain.VoteLimitReached, domain.UnknownSpecialist, domain.WithdrawnSpecialist, domain.ClosedCampaign,
		domain.TooEarly, domain.TooLate, domain.CastInFuture, domain.ChannelNotAccepted, domain.IdempotencyMismatch,
		CastAtNotAccepted, BodyTooLarge, UnsupportedMediaType, RequestTimeout, OutcomeUnknown)
}

func describeRetractVote(api huma.API, o operation) {
	described[struct {
		InCampaign
		Numbered
		Keyed
		OfVoter
	}, struct {
		Location string `header:"Location" doc:"Address of the receipt."`
		Body     Receipt
	}](api, o, http.StatusCreated, "Take a vote back", "The vote must be this voter's. The retraction is an event of its own, with a receipt of its own.",
		domain.UnknownVote, domain.AlreadyRetracted, domain.ClosedCampaign, domain.TooEarly, domain.TooLate, domain.ChannelNotAccepted,
		domain.IdempotencyMismatch, OutcomeUnknown)
}

func describeGetVote(api huma.API, o operation) {
	described[struct {
		InCampaign
		Numbered
		OfVoter
	}, struct{ Body ProvenVote }](api, o, http.StatusOK, "A receipt", "A vote or a retraction of this voter, with the proof that it is in the signed log.",
		domain.UnknownVote, domain.ChannelNotAccepted)
}

func describeListVotes(api huma.API, o operation) {
	described[struct {
		InCampaign
		Paged
		OfVoter
	}, struct{ Body VoteList }](api, o, http.StatusOK, "A voter's own votes", "",
		domain.ChannelNotAccepted)
}

//go:embed docs.html
var docsText string

// describe serves the description, as JSON and as a page that loads nothing.
func (s *Server) describe() error {
	api := spec(s.parts, s.operations())
	text, err := json.MarshalIndent(api, "", "  ")
	if err != nil {
		return fmt.Errorf("describe the interface: %w", err)
	}
	text = append(text, '\n')
	docs, err := template.New("docs").Funcs(template.FuncMap{"schema": api.Components.Schemas.SchemaFromRef, "sorted": sortedPaths}).Parse(docsText)
	if err != nil {
		return fmt.Errorf("describe the interface: %w", err)
	}
	var page bytes.Buffer
	if err := docs.Execute(&page, api); err != nil {
		return fmt.Errorf("describe the interface: %w", err)
	}
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(text) // Who asked has gone; there is nobody to tell.
	})
	s.mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		_, _ = w.Write(page.Bytes())
	})
	return nil
}

// pageOperation is an operation with what is to be read of its bodies.
type pageOperation struct {
	*huma.Operation
	Takes, Gives *huma.Schema
}

// sortedPaths are the operations in the order of their addresses.
func sortedPaths(api *huma.OpenAPI) []pageOperation {
	var list []pageOperation
	paths := make([]string, 0, len(api.Paths))
	for path := range api.Paths {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	resolve := func(content map[string]*huma.MediaType) *huma.Schema {
		media := content["application/json"]
		if media == nil {
			return nil
		}
		return api.Components.Schemas.SchemaFromRef(media.Schema.Ref)
	}
	for _, path := range paths {
		item := api.Paths[path]
		for _, op := range []*huma.Operation{item.Post, item.Get, item.Delete} {
			if op == nil {
				continue
			}
			o := pageOperation{Operation: op, Gives: resolve(op.Responses[strconv.Itoa(op.DefaultStatus)].Content)}
			if op.RequestBody != nil {
				o.Takes = resolve(op.RequestBody.Content)
			}
			list = append(list, o)
		}
	}
	return list
}

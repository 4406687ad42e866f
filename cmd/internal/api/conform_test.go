package api_test

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// description is /openapi.json, for answers to be held against.
type description struct {
	api        *huma.OpenAPI
	operations map[string]*huma.Operation // by the patterns of http.ServeMux
	routes     *http.ServeMux
}

var described = sync.OnceValue(func() *description {
	d := &description{api: api.Spec(), operations: make(map[string]*huma.Operation), routes: http.NewServeMux()}
	for _, item := range d.api.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Delete} {
			if op == nil {
				continue
			}
			pattern := op.Method + " " + op.Path
			d.operations[pattern] = op
			d.routes.Handle(pattern, http.NotFoundHandler())
		}
	}
	return d
})

// of is the operation that a request asks for, or nil.
func (d *description) of(method, path string) *huma.Operation {
	r := httptest.NewRequest(method, path, nil)
	_, pattern := d.routes.Handler(r)
	return d.operations[pattern]
}

// ask sends a request and holds the answer against what is described.
func (k *worker) ask(q request) response {
	k.world.t.Helper()
	r := k.do(q)
	method, path := k.target(q)
	conforms(k.world.t, described().of(method, path), method, r)
	return r
}

// target is what the first line of the request has.
func (k *worker) target(q request) (method, path string) {
	if method, path = q.method, q.path; method == "" {
		if method = http.MethodGet; q.body != "" {
			method = http.MethodPost
		}
	}
	if !strings.HasPrefix(path, "/") {
		path = "/api/v1/campaigns/" + campaign + "/" + path
	}
	return method, path
}

// seen are the operations and codes that were answered, such as "cast-vote busy".
var seen sync.Map

// unseen are the documented problems of some operations that no answer had yet.
func (d *description) unseen(operations map[string]request) (list []string) {
	for _, op := range d.operations {
		if _, ok := operations[op.OperationID]; !ok {
			continue
		}
		for status, documented := range op.Responses {
			if status < "400" || status == "default" { // the default is for codes that are not known yet
				continue
			}
			for _, code := range strings.Split(documented.Description, ", ") {
				if _, ok := seen.Load(op.OperationID + " " + code); !ok {
					list = append(list, op.OperationID+" "+code)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// conforms fails the test when an answer is not as it is described: its status,
// its headers, every member of its body, and its code for this operation.
func conforms(t testing.TB, op *huma.Operation, method string, r response) {
	t.Helper()
	if n, err := strconv.Atoi(r.header.Get("Content-Length")); r.status != http.StatusNotModified && err != nil || method != http.MethodHead && n != len(r.body) {
		t.Errorf("Content-Length is %q, and the body has %d bytes", r.header.Get("Content-Length"), len(r.body))
	}
	keep := "no-store"
	if op != nil && op.Responses["304"] != nil && r.status < http.StatusBadRequest { // it has a version
		keep = "private, no-cache"
		if r.header.Get("ETag") == "" || r.header.Get("Vary") != "Authorization" {
			t.Errorf("the answer does not say what it depends on: %v", r.header)
		}
	}
	if r.header.Get("Cache-Control") != keep || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the answer may be kept or guessed at: %v", r.header)
	}
	if r.status == http.StatusNotModified {
		if op.Responses["304"] == nil || r.body != "" {
			t.Errorf("304 is not described, or comes with %q", r.body)
		}
		return
	}
	if r.status < http.StatusBadRequest {
		conformsSuccess(t, op, r)
		return
	}
	if method == http.MethodHead {
		return
	}
	p := r.problem(t)
	conformsProblem(t, p, r)
	switch {
	case op == nil:
		if p.Code != api.NotFound && p.Code != api.MethodNotAllowed {
			t.Errorf("an address that is none was answered with %s", p.Code)
		}
	case p.Code != api.Internal:
		seen.Store(op.OperationID+" "+string(p.Code), true)
		documented := op.Responses[strconv.Itoa(p.Status)]
		if documented == nil || !slices.Contains(strings.Split(documented.Description, ", "), string(p.Code)) {
			t.Errorf("%s answers %d %s, which is not among its documented problems", op.OperationID, p.Status, p.Code)
		}
	}
}

func conformsSuccess(t testing.TB, op *huma.Operation, r response) {
	t.Helper()
	if op == nil {
		t.Fatalf("status %d at an address that is none", r.status)
	}
	documented := op.Responses[strconv.Itoa(r.status)]
	if documented == nil || documented.Content["application/json"] == nil {
		t.Fatalf("%s answers %d, which is not described", op.OperationID, r.status)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s answers with %q", op.OperationID, got)
	}
	if documented.Headers["Location"] != nil && r.header.Get("Location") == "" {
		t.Errorf("%s answers without a Location", op.OperationID)
	}
	valid(t, documented.Content["application/json"].Schema, r.body)
}

func conformsProblem(t testing.TB, p api.Problem, r response) {
	t.Helper()
	kind, known := api.Kinds()[p.Code]
	switch {
	case !known:
		t.Errorf("the code %q is none", p.Code)
	case r.status != kind.Status || p.Status != kind.Status:
		t.Errorf("%s has the status %d, and %d in the body", p.Code, r.status, p.Status)
	case p.Type != api.TypePrefix+string(p.Code):
		t.Errorf("%s has the type %q", p.Code, p.Type)
	case p.Title != kind.English && p.Title != kind.Latvian:
		t.Errorf("%s has the title %q", p.Code, p.Title)
	}
	if media, _, _ := mime.ParseMediaType(r.header.Get("Content-Type")); media != "application/problem+json" {
		t.Errorf("%s comes as %q", p.Code, r.header.Get("Content-Type"))
	}
	if r.header.Get("Vary") != "Accept-Language" {
		t.Errorf("%s does not say that it depends on the language", p.Code)
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after < 1 {
			t.Errorf("%s says Retry-After: %q", p.Code, r.header.Get("Retry-After"))
		}
	}
	if p.Status == http.StatusUnauthorized && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("%s says WWW-Authenticate: %q", p.Code, r.header.Get("WWW-Authenticate"))
	}
	schema := described().api.Components.Schemas.Map()["Problem"]
	valid(t, schema, r.body)
}

// valid holds a body against a schema, which lets no member pass that it does
// not name.
func valid(t testing.TB, schema *huma.Schema, body string) {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Fatalf("%q is not JSON: %v", body, err)
	}
	var result huma.ValidateResult
	huma.Validate(described().api.Components.Schemas, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, &result)
	for _, err := range result.Errors {
		t.Errorf("%s: %v", body, err)
	}
}

// refused fails the test when an answer is not this problem.
func refused(t testing.TB, r response, code domain.Code) api.Problem {
	t.Helper()
	p := r.problem(t)
	if p.Code != code || r.status != api.Kinds()[code].Status {
		t.Errorf("status %d, %s: wanted %s", r.status, r.body, code)
	}
	return p
}

package api_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

var update = flag.Bool("update", false, "write what is compared")

// TestOpenAPI: what programs were written against does not change unnoticed.
// After a change that is meant: go test ./cmd/internal/api -run OpenAPI -update.
func TestOpenAPI(t *testing.T) {
	k := newWorld(t).worker()
	got := k.do(request{path: "/openapi.json", channel: "-"})
	file := filepath.Join("testdata", "openapi.json")
	if *update {
		check(t, os.MkdirAll("testdata", 0o755))
		check(t, os.WriteFile(file, []byte(got.body), 0o644))
	}
	want, err := os.ReadFile(file)
	check(t, err)
	if got.body != string(want) {
		t.Errorf("/openapi.json is not %s any more", file)
	}
	if !strings.Contains(got.body, `"openapi": "3.1.0"`) {
		t.Error("it is not OpenAPI 3.1")
	}
}

// TestDocs: the page tells of every operation and loads nothing.
func TestDocs(t *testing.T) {
	k := newWorld(t).worker()
	page := k.do(request{path: "/docs", channel: "-"})
	for _, want := range []string{"Cast a vote", "Take a vote back", "/api/v1/campaigns/{campaign}/specialists", "already_voted", "Idempotency-Key", "recorded_at"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not tell of %s", want)
		}
	}
	for _, loads := range []string{"<script", "<link", "<img", "<iframe", "@import", "url(", "http://", "https://", "//unpkg"} {
		if strings.Contains(page.body, loads) {
			t.Errorf("the page has %s", loads)
		}
	}
	if csp := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") {
		t.Errorf("the page may load: %q", csp)
	}
}

// TestParameters: everything that an operation takes beside its body is
// described.
func TestParameters(t *testing.T) {
	described := described().operations
	for operation, want := range map[string]string{
		"GET /api/v1/campaigns":                                "",
		"GET /api/v1/campaigns/{campaign}":                     "path campaign",
		"GET /api/v1/campaigns/{campaign}/specialists":         "path campaign, query after, query limit, query q",
		"GET /api/v1/campaigns/{campaign}/results":             "header If-None-Match, path campaign, query after, query as_of, query as_of_sequence, query by, query limit",
		"GET /api/v1/campaigns/{campaign}/timeline":            "header If-None-Match, path campaign, query after, query as_of, query as_of_sequence, query by, query limit",
		"GET /api/v1/campaigns/{campaign}/votes":               "header Paldies-Voter, path campaign, query after, query limit",
		"POST /api/v1/campaigns/{campaign}/votes":              "header Idempotency-Key, path campaign",
		"GET /api/v1/campaigns/{campaign}/votes/{sequence}":    "header Paldies-Voter, path campaign, path sequence",
		"DELETE /api/v1/campaigns/{campaign}/votes/{sequence}": "header Idempotency-Key, header Paldies-Voter, path campaign, path sequence",
	} {
		var names []string
		for _, p := range described[operation].Parameters {
			names = append(names, p.In+" "+p.Name)
			if p.Name == "Idempotency-Key" && *p.Schema.MaxLength != domain.MaxSubmissionIDBytes {
				t.Errorf("%s: a key may have %d bytes", operation, *p.Schema.MaxLength)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("%s takes %s; described is %s", operation, want, got)
		}
	}
}

package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// handle gives a request to the server without a connection, so that fuzzing
// is quick. It fails the test when the answer is not as described.
func (d *desk) handle(t testing.TB, method, target, body string, headers http.Header) response {
	t.Helper()
	address, err := url.ParseRequestURI(target)
	if err != nil {
		t.Skip("net/http would not let this pass")
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL, r.RequestURI = address, target
	r.Header = http.Header{"Authorization": {"Bearer pass-web"}, "Content-Type": {"application/json"}}
	for name, values := range headers {
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) || strings.TrimSpace(value) != value {
				t.Skip("net/http would not let this pass")
			}
		}
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	d.api.ServeHTTP(w, r)
	answer := response{w.Code, w.Result().Header, w.Body.String()}
	defer d.logged.forget()
	if answer.status == http.StatusInternalServerError {
		t.Fatalf("500: %s\n%s", answer.body, d.logged.String())
	}
	wellFormed(t, answer, method)
	return answer
}

const votesPath = base + "/" + campaign + "/votes"

// FuzzVoteBody: a body that is accepted means what encoding/json reads in it.
func FuzzVoteBody(f *testing.F) {
	for _, body := range strange {
		f.Add([]byte(body))
	}
	f.Add([]byte(goodBody))
	f.Add([]byte(` {"cast_at":null, "specialist_id":"ilze-berzina" , "voter":"\u0101\ud83d\ude00\/"} `))
	d := newDesk(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := d.handle(t, http.MethodPost, votesPath, string(body), nil)
		v, err := api.DecodeVote(body)
		if err != nil {
			if r.status < http.StatusBadRequest {
				t.Errorf("%d for what cannot be read: %v", r.status, err)
			}
			return
		}
		var want api.VoteRequest
		strict := json.NewDecoder(bytes.NewReader(body))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&want); err != nil || v != want || !utf8.Valid(body) {
			t.Errorf("read as %+v; encoding/json reads %+v, %v", v, want, err)
		}
		if _, err := strict.Token(); err != io.EOF {
			t.Errorf("something follows: %v", err)
		}
		if r.status == http.StatusCreated && (r.receipt(t).SpecialistID != want.SpecialistID || want.CastAt != "") {
			t.Errorf("%+v was answered with %s", want, r.body)
		}
	})
}

// FuzzVoter: the header means the voter that the body of a vote would mean.
func FuzzVoter(f *testing.F) {
	for _, value := range []string{anna, "lv-pk%3A01018012345", "a%20b", "a+b", "%", "%zz", "a%00", "%ff", "\xff", "ā", "%C4%81", strings.Repeat("a", 257), "", "%20", "a%E2%80%8B"} {
		f.Add(value)
	}
	d := newDesk(f)
	f.Fuzz(func(t *testing.T, value string) {
		r := d.handle(t, http.MethodGet, votesPath, "", http.Header{"Paldies-Voter": {value}})
		id, err := url.PathUnescape(value)
		if err == nil {
			_, err = domain.NormaliseVoterID(id)
		}
		if (err == nil) != (r.status == http.StatusOK) {
			t.Errorf("%q is a voter: %v; answered %d %s", value, err, r.status, r.body)
		}
	})
}

// FuzzIdempotencyKey: a key is taken or refused, and a retry with it gets the
// same answer.
func FuzzIdempotencyKey(f *testing.F) {
	for _, value := range []string{"k", `"k"`, `""`, `"`, `"""`, "k k", "k\tk", "\xff", "ā", strings.Repeat("k", 128), strings.Repeat("k", 129), "0190a6f2-7d0e-7000-8000-000000000000", "a\u200bb"} {
		f.Add(value)
	}
	d := newDesk(f)
	f.Fuzz(func(t *testing.T, value string) {
		key := http.Header{"Idempotency-Key": {value}, "Authorization": {"Bearer pass-slip"}}
		body := `{"specialist_id":"ilze-berzina"}`
		r := d.handle(t, http.MethodPost, votesPath, body, key)
		want := value
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			want = value[1 : n-1]
		}
		if valid := domain.ValidateSubmissionID(want) == nil; valid != (r.status == http.StatusCreated) {
			t.Errorf("%q is a key: %v; answered %d %s", value, valid, r.status, r.body)
		}
		same(t, r, d.handle(t, http.MethodPost, votesPath, body, key))
	})
}

// FuzzAuthorization: nothing but the scheme and a whole token lets anybody in.
func FuzzAuthorization(f *testing.F) {
	for _, value := range []string{"Bearer pass-web", "bearer pass-web", "Bearer", "Bearer ", "Bearer  pass-web", "Basic cGFzcy13ZWI=", "pass-web", "Bearer pass-web,", "Bearer\tpass-web", "Bearer pass-2019", "\xff"} {
		f.Add(value)
	}
	d := newDesk(f)
	f.Fuzz(func(t *testing.T, value string) {
		r := d.handle(t, http.MethodGet, base, "", http.Header{"Authorization": {value}})
		scheme, token, _ := strings.Cut(value, " ")
		_, known := slices.BinarySearch([]string{"pass-2019", "pass-in_person", "pass-pasts", "pass-slip", "pass-web"}, token)
		if known = known && strings.EqualFold(scheme, "Bearer"); known != (r.status == http.StatusOK) || !known && r.status != http.StatusUnauthorized {
			t.Errorf("%q was answered with %d", value, r.status)
		}
	})
}

// FuzzAcceptLanguage: an answer is in one of two languages.
func FuzzAcceptLanguage(f *testing.F) {
	for _, value := range []string{"lv", "en", "lv-LV,en;q=0.8", "ru, *", "*", ",;=", "lv;q=1e9999", "\xff", "lv;q=0", strings.Repeat("lv,", 60), "x-lv", "und-u-rg-lvzzzz", "art-lojban"} {
		f.Add(value)
	}
	d := newDesk(f)
	kind := api.Kinds()[api.NotFound]
	f.Fuzz(func(t *testing.T, value string) {
		p := d.handle(t, http.MethodGet, "/nav", "", http.Header{"Accept-Language": {value}}).problem(t)
		if p.Title != kind.English && p.Title != kind.Latvian {
			t.Errorf("%q: %q", value, p.Title)
		}
		if !strings.Contains(strings.ToLower(value), "lv") && !strings.Contains(strings.ToLower(value), "lav") && p.Title == kind.Latvian {
			t.Logf("%q is answered in Latvian", value) // such as a language that Latvians understand
		}
	})
}

// FuzzQuery: a query is understood as net/url reads it, or not at all.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"q=cirule", "q=C%C4%ABrule&limit=1", "limit=0", "limit=1001", "limit=+1", "after=zane-cirule", "after=nav", "q=a&q=b", "q=%zz", "q=a;b", "q=%ff", "&&&", "=", "%00=1", "q=" + strings.Repeat("a ", 100)} {
		f.Add(query)
	}
	d := newDesk(f)
	f.Fuzz(func(t *testing.T, query string) {
		r := d.handle(t, http.MethodGet, base+"/"+campaign+"/specialists?"+query, "", nil)
		if r.status != http.StatusOK {
			refused(t, r, api.Malformed)
			return
		}
		values, err := url.ParseQuery(query)
		for name, list := range values {
			if err != nil || len(list) != 1 || name != "q" && name != "limit" && name != "after" {
				t.Errorf("%q was understood", query)
			}
		}
		votes := d.handle(t, http.MethodGet, votesPath+"?"+query, "", http.Header{"Paldies-Voter": {"a"}})
		if votes.status != http.StatusOK {
			refused(t, votes, api.Malformed)
		}
	})
}

// FuzzPath: what is at an address is there once, with its number written as we
// write it.
func FuzzPath(f *testing.F) {
	for _, path := range []string{campaign + "/votes/5", campaign + "/votes/05", campaign + "/votes/0", campaign + "/votes/9223372036854775808", campaign + "/votes/%35",
		campaign + "/votes/5/", campaign + "//votes/5", campaign + "/../" + campaign, "%2e%2e", "%00", "", "*", "2019/votes/5", strings.Repeat("a", 64)} {
		f.Add(path)
	}
	d := newDesk(f)
	cast(d)
	f.Fuzz(func(t *testing.T, path string) {
		r := d.handle(t, http.MethodGet, base+"/"+path, "", http.Header{"Paldies-Voter": {"lv-pk:01018012345"}})
		bare, _, _ := strings.Cut(path, "?")
		unescaped, err := url.PathUnescape(bare)
		known := []string{campaign, campaign + "/votes", campaign + "/votes/5", campaign + "/specialists"}
		if r.status == http.StatusOK && (err != nil || !slices.Contains(known, unescaped)) {
			t.Errorf("%q is answered with %s", path, r.body)
		}
	})
}

// FuzzConnection: whatever comes over a connection, every answer is well formed
// and the connection ends.
func FuzzConnection(f *testing.F) {
	d := newDesk(f)
	for _, s := range d.shapes() {
		if len(s.bytes) < 20<<10 {
			f.Add([]byte(s.bytes))
		}
	}
	f.Add([]byte(d.posted(goodBody, isJSON)))
	f.Add([]byte(d.postedInChunks(goodBody, 7)))
	// A socket in a folder has no ports that run out.
	socket := filepath.Join(f.TempDir(), "http")
	listener, err := net.Listen("unix", socket)
	check(f, err)
	d.serve(f, listener, hurry)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		conn, err := net.Dial("unix", socket)
		check(t, err)
		defer conn.Close()
		d.wellAnswered(t, conn, string(bytes))
		d.logged.forget()
	})
}

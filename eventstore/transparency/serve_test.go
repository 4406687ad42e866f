package transparency_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

// TestHandler asks for everything that a log has, and for what it has not.
func TestHandler(t *testing.T) {
	l := newLog(t, 0)
	l.mustSealKeeping(200, 300)
	_, verifier, err := transparency.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.folder().AddKey(verifier); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(filepath.Dir(l.dir), "noslēpums")
	if err := os.WriteFile(secret, []byte("noslēpums"), 0o644); err != nil {
		t.Fatal(err)
	}
	handler := transparency.Handler(l.folder(), func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer marķieris" })
	get := func(method, path string, header ...string) *http.Response {
		r := httptest.NewRequest(method, "/", nil)
		r.URL.Path = path
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}
	auditor := []string{"Authorization", "Bearer marķieris"}
	for _, c := range []struct {
		path, contentType, cache string
		header                   []string
	}{
		{"/checkpoint", "text/plain; charset=utf-8", "no-cache", nil},
		{"/vkey", "text/plain; charset=utf-8", "no-cache", nil},
		{"/tile/0/000", "application/octet-stream", "public, max-age=604800, immutable", nil},
		{"/tile/0/000.p/200", "application/octet-stream", "public, max-age=604800, immutable", nil},
		{"/tile/0/001.p/44", "application/octet-stream", "public, max-age=604800, immutable", nil},
		{"/tile/1/000.p/1", "application/octet-stream", "public, max-age=604800, immutable", nil},
		{"/tile/entries/000", "application/octet-stream", "private, max-age=604800, immutable", auditor},
		{"/tile/entries/001.p/44", "application/octet-stream", "private, max-age=604800, immutable", auditor},
	} {
		answer := get(http.MethodGet, c.path, c.header...)
		body, err := io.ReadAll(answer.Body)
		want, wantErr := l.folder().Read(strings.TrimPrefix(c.path, "/"))
		if err != nil || wantErr != nil || answer.StatusCode != http.StatusOK || !bytes.Equal(body, want) {
			t.Errorf("%s: status %d, %d bytes, want %d: %v %v", c.path, answer.StatusCode, len(body), len(want), err, wantErr)
		}
		if h := answer.Header; h.Get("Content-Type") != c.contentType || h.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %s, %s", c.path, h.Get("Content-Type"), h.Get("Cache-Control"))
		}
		if head := get(http.MethodHead, c.path, c.header...); head.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: status %d", c.path, head.StatusCode)
		}
	}
	for path, status := range map[string]int{
		"/": 404, "/checkpoints": 404, "/.lock": 404, "/tile": 404, "/tile/": 404, "/tile/0": 404, "/tile/0/": 404, "/tile/0/0": 404,
		"/tile/00/000": 404, "/tile/0/x000/000": 404, "/tile/0/000.p": 404, "/tile/0/000.p/0": 404, "/tile/0/000.p/256": 404,
		"/tile/0/999": 404, "/tile/8/000": 404, "/tile/-1/000": 404, "/tile/0/../0/000": 404, "/tile/0/000/": 404, "//tile/0/000": 404,
		"/../noslēpums": 404, "/tile/../../noslēpums": 404, "/tile/entries/../../../noslēpums": 404, "/tile/0/000\x00": 404,
		"/tile/entries/000": 401, "/tile/entries/777": 401,
	} {
		if answer := get(http.MethodGet, path); answer.StatusCode != status {
			t.Errorf("%q: status %d, want %d", path, answer.StatusCode, status)
		} else if cache := answer.Header.Get("Cache-Control"); strings.Contains(cache, "immutable") {
			t.Errorf("%q: what is not there is kept: %s", path, cache)
		}
	}
	if answer := get(http.MethodGet, "/tile/entries/000", "Authorization", "Bearer cits"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong token: status %d", answer.StatusCode)
	}
	if answer := get(http.MethodPut, "/checkpoint"); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PUT: status %d", answer.StatusCode)
	}
	for accepts, compressed := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "identity": false, "": false} {
		answer := get(http.MethodGet, "/tile/entries/000", append(auditor, "Accept-Encoding", accepts)...)
		if got := answer.Header.Get("Content-Encoding") == "gzip"; got != compressed {
			t.Errorf("Accept-Encoding %q: compressed %v", accepts, got)
		} else if compressed {
			unpacked, err := gzip.NewReader(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(unpacked)
			if want, _ := l.folder().Read("tile/entries/000"); err != nil || !bytes.Equal(body, want) {
				t.Errorf("Accept-Encoding %q: %d bytes, %v", accepts, len(body), err)
			}
		}
	}
}

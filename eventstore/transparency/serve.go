package transparency

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
)

const (
	// immutable is for what never changes. A week is what caches keep anyway.
	immutable = "public, max-age=604800, immutable"
	// fleeting is for the checkpoint, which is another one within a second.
	fleeting = "no-cache"
)

// Handler serves a log over HTTP as C2SP tlog-tiles demands: checkpoint,
// tile/LEVEL/INDEX and tile/entries/INDEX below the root, and vkey beside them.
// Bundles hold events, which only auditors may have: auditor says whether a
// request is one's. Nothing else of the folder is served.
func Handler(f *Folder, auditor func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method_not_allowed: a log can only be read", http.StatusMethodNotAllowed)
			return
		}
		path := strings.TrimPrefix(r.URL.Path, "/")
		at, tile := parsePlace(path)
		switch {
		case path == CheckpointPath || path == KeysPath:
			serveFile(w, r, f, path, "text/plain; charset=utf-8", fleeting)
		case !tile:
			http.NotFound(w, r)
		case at.entries && !auditor(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="auditors"`)
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, "auditors_only: bundles hold the events themselves; ask the operator for the auditors' token", http.StatusUnauthorized)
		case at.entries:
			serveFile(w, r, f, path, "application/octet-stream", strings.Replace(immutable, "public", "private", 1))
		default:
			serveFile(w, r, f, path, "application/octet-stream", immutable)
		}
	})
}

// serveFile sends a file, compressed if the client takes it: entries shrink to
// a third.
func serveFile(w http.ResponseWriter, r *http.Request, f *Folder, path, contentType, cache string) {
	data, err := f.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		w.Header().Set("Cache-Control", "no-store") // it may come to be there
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, "unavailable: the file cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Vary", "Accept-Encoding")
	if r.Method == http.MethodHead {
		return
	}
	var out io.Writer = w
	if strings.HasPrefix(path, entriesPrefix) && acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		compressed := gzip.NewWriter(w)
		defer compressed.Close()
		out = compressed
	}
	_, _ = out.Write(data) // Who asked has gone; there is nobody to tell.
}

// acceptsGzip reads Accept-Encoding as far as it matters here (RFC 9110,
// section 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, quality, _ := strings.Cut(strings.TrimSpace(coding), ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				q := strings.ReplaceAll(quality, " ", "")
				return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
			}
		}
	}
	return false
}

package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// shape is bytes on a connection, and the statuses with which they are
// answered, one for each request that is in them.
type shape struct {
	name     string
	bytes    string
	statuses []int
}

// head is a request's first line with what every request needs.
func (k *worker) head(line string, headers ...string) string {
	all := append([]string{line, "Host: api", "Authorization: Bearer " + k.world.tokens["web"]}, headers...)
	return strings.Join(all, "\r\n") + "\r\n\r\n"
}

const base = "/api/v1/campaigns"

// smuggled is a request inside the body of another one: if it is answered, two
// readers could take the same bytes for different requests.
func (k *worker) smuggled() string { return k.head("GET " + base + " HTTP/1.1") }

func (k *worker) shapes() []shape {
	token := k.world.tokens["web"]
	votes := "POST " + base + "/" + campaign + "/votes HTTP/1.1"
	long := strings.Repeat("a", 10<<10)
	return []shape{
		{"HTTP/1.0", k.head("GET " + base + " HTTP/1.0"), []int{200}},
		{"HTTP/1.0 without Host", "GET " + base + " HTTP/1.0\r\nAuthorization: Bearer " + token + "\r\n\r\n", []int{200}},
		{"HTTP/1.1 without Host", "GET " + base + " HTTP/1.1\r\n\r\n", []int{400}},
		{"two Hosts", k.head("GET "+base+" HTTP/1.1", "Host: b"), []int{400}},
		{"HTTP/3.0", k.head("GET " + base + " HTTP/3.0"), []int{505}},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{404}},
		{"HEAD", k.head("HEAD " + base + " HTTP/1.1"), []int{200}},
		{"HEAD of votes", k.head("HEAD " + base + "/" + campaign + "/votes HTTP/1.1"), []int{400}},
		{"OPTIONS", k.head("OPTIONS " + base + " HTTP/1.1"), []int{405}},
		{"OPTIONS *", k.head("OPTIONS * HTTP/1.1"), []int{200}},
		{"GET *", k.head("GET * HTTP/1.1"), []int{404}},
		{"PUT", k.head("PUT " + base + " HTTP/1.1"), []int{405}},
		{"TRACE", k.head("TRACE " + base + " HTTP/1.1"), []int{405}},
		{"CONNECT", k.head("CONNECT api:80 HTTP/1.1"), []int{404}},
		{"CONNECT to a path", k.head("CONNECT " + base + " HTTP/1.1"), []int{405}},
		{"lower case", k.head("get " + base + " HTTP/1.1"), []int{405}},
		{"own method", k.head("BALSO " + base + " HTTP/1.1"), []int{405}},
		{"method not a token", k.head("G(T " + base + " HTTP/1.1"), []int{400}},
		{"absolute form", k.head("GET http://api" + base + " HTTP/1.1"), []int{200}},
		{"absolute form, another host", k.head("GET http://b" + base + " HTTP/1.1"), []int{200}},
		{"another scheme", k.head("GET ftp://b" + base + " HTTP/1.1"), []int{200}},
		{"//", k.head("GET //" + base + " HTTP/1.1"), []int{404}},
		{"// inside", k.head("GET /api//v1/campaigns HTTP/1.1"), []int{404}},
		{"// on a vote", k.head("POST "+base+"//"+campaign+"/votes HTTP/1.1", isJSON, "Content-Length: 0"), []int{404}},
		{"..", k.head("GET " + base + "/x/../../campaigns HTTP/1.1"), []int{404}},
		{".", k.head("GET " + base + "/. HTTP/1.1"), []int{404}},
		{"%2e%2e", k.head("GET " + base + "/%2e%2e HTTP/1.1"), []int{404}},
		{"%2f", k.head("GET " + base + "%2f" + campaign + " HTTP/1.1"), []int{404}},
		{"%2f inside", k.head("GET " + base + "/a%2fb HTTP/1.1"), []int{404}},
		{"%00", k.head("GET " + base + "/%00 HTTP/1.1"), []int{404}},
		{"%0d%0a", k.head("GET " + base + "/a%0d%0aX-Y:z HTTP/1.1"), []int{404}},
		{"%ff", k.head("GET " + base + "/%ff HTTP/1.1"), []int{404}},
		{"%zz", k.head("GET " + base + "/%zz HTTP/1.1"), []int{400}},
		{"upper case", k.head("GET " + base + "/" + strings.ToUpper(campaign) + " HTTP/1.1"), []int{404}},
		{"wildcard", k.head("GET " + base + "/* HTTP/1.1"), []int{404}},
		{"braces", k.head("GET " + base + "/{campaign} HTTP/1.1"), []int{404}},
		{"slash at the end", k.head("GET " + base + "/ HTTP/1.1"), []int{404}},
		{"backslash", k.head(`GET \api\v1\campaigns HTTP/1.1`), []int{400}},
		{"no path", k.head("GET HTTP/1.1"), []int{400}},
		{"only a query", k.head("GET ?a=b HTTP/1.1"), []int{400}},
		{"long campaign", k.head("GET " + base + "/" + long + " HTTP/1.1"), []int{404}},
		{"space in the path", k.head("GET " + base + "/a b HTTP/1.1"), []int{400}},
		{"query that is none", k.head("GET " + base + "/" + campaign + "/specialists?%zz HTTP/1.1"), []int{400}},
		{"two credentials", k.head("GET "+base+" HTTP/1.1", "Authorization: Bearer "+token), []int{401}},
		{"two keys", k.head(votes, isJSON, "Content-Length: 61", "Idempotency-Key: a", "Idempotency-Key: b") + goodBody, []int{400}},
		{"two voters", k.head("GET "+base+"/"+campaign+"/votes HTTP/1.1", "Paldies-Voter: a", "Paldies-Voter: a"), []int{400}},
		{"1 MB of headers", k.head("GET "+base+" HTTP/1.1", "X: "+strings.Repeat("y", 1<<20)), []int{431}},
		{"1 MB of small headers", k.head("GET "+base+" HTTP/1.1", strings.Repeat("X: y\r\n", 1<<18)+"X: y"), []int{431}},
		{"1 MB of address", k.head("GET /" + strings.Repeat("y", 1<<20) + " HTTP/1.1"), []int{431}},
		{"folded header", k.head("GET "+base+" HTTP/1.1", "X: y\r\n z"), []int{200}},
		{"space before the colon", k.head("GET "+base+" HTTP/1.1", "X : y"), []int{400}},
		{"zero in a header", k.head("GET "+base+" HTTP/1.1", "X: \x00"), []int{400}},
		{"header without a colon", k.head("GET "+base+" HTTP/1.1", "balss"), []int{400}},
		{"only line feeds", strings.ReplaceAll(k.head("GET "+base+" HTTP/1.1"), "\r\n", "\n"), []int{200}},
		{"two lengths", k.head(votes, isJSON, "Content-Length: 61", "Content-Length: 5") + goodBody, []int{400}},
		{"two equal lengths", k.head(votes, isJSON, "Content-Length: 2", "Content-Length: 2") + "{}", []int{400}},
		{"length +2", k.head(votes, isJSON, "Content-Length: +2") + "{}", []int{400}},
		{"length -1", k.head(votes, isJSON, "Content-Length: -1") + "{}", []int{400}},
		{"length 2,2", k.head(votes, isJSON, "Content-Length: 2,2") + "{}", []int{400}},
		{"length 2^64", k.head(votes, isJSON, "Content-Length: 18446744073709551616") + "{}", []int{400}},
		{"chunked and gzip", k.head(votes, isJSON, "Transfer-Encoding: gzip, chunked") + "0\r\n\r\n", []int{501}},
		{"identity", k.head(votes, isJSON, "Transfer-Encoding: identity") + "{}", []int{501}},
		{"chunked twice", k.head(votes, isJSON, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n", []int{501}},
		{"chunked with a tab", k.head(votes, isJSON, "Transfer-Encoding: \tchunked\x0b") + "0\r\n\r\n", []int{400}},
		{"chunks of garbage", k.head(votes, isJSON, "Transfer-Encoding: chunked") + "zz\r\n{}\r\n0\r\n\r\n", []int{400}},
		{"chunk of 2^64", k.head(votes, isJSON, "Transfer-Encoding: chunked") + "ffffffffffffffffff\r\n{}", []int{400}},
		{"chunk of -1", k.head(votes, isJSON, "Transfer-Encoding: chunked") + "-1\r\n{}\r\n0\r\n\r\n", []int{400}},
		{"chunk too short", k.head(votes, isJSON, "Transfer-Encoding: chunked") + "1\r\n{}\r\n0\r\n\r\n", []int{400}},
		{"length and chunked", k.head(votes, isJSON, "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", []int{400}},
		{"body of a GET", k.head("GET "+base+" HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(k.smuggled()))) + k.smuggled(), []int{200}},
		{"body of a DELETE", k.head("DELETE "+base+" HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(k.smuggled()))) + k.smuggled(), []int{405}},
		{"body of an unknown address", k.head("POST /nav HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(k.smuggled()))) + k.smuggled(), []int{404}},
		{"body of a refused vote", k.head(votes, fmt.Sprintf("Content-Length: %d", len(k.smuggled()))) + k.smuggled(), []int{415}},
		{"length and chunked, and more", k.head(votes, isJSON, fmt.Sprintf("Content-Length: %d", 5+len(k.smuggled())), "Transfer-Encoding: chunked") + "0\r\n\r\n" + k.smuggled(), []int{400}},
		{"two in a row", k.smuggled() + k.smuggled(), []int{200, 200}},
		{"Upgrade", k.head("GET "+base+" HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"), []int{200}},
		{"Upgrade to HTTP/2", k.head("GET "+base+" HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), []int{200}},
		{"Expect", k.head(votes, isJSON, "Content-Length: 2", "Expect: 100-continue") + "{}", []int{100, 400}},
		{"another Expect", k.head(votes, isJSON, "Content-Length: 2", "Expect: balss") + "{}", []int{417}},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
		{"nothing but line ends", "\r\n\r\n\r\n", []int{400}},
		{"zeros", strings.Repeat("\x00", 100) + "\r\n\r\n", []int{400}},
	}
}

// TestShapes: whatever comes over a connection is answered in words of this
// interface or of net/http, as many times as there are requests in it, and the
// connection is closed or goes on.
func TestShapes(t *testing.T) {
	d := newDesk(t)
	addr := d.front(t)
	for _, s := range d.shapes() {
		t.Run(s.name, func(t *testing.T) {
			method, _, _ := strings.Cut(s.bytes, " ")
			answers := converse(t, dial(t, addr), s.bytes, method)
			var got []int
			for _, a := range answers {
				if wellFormed(t, a, method) == api.Unavailable {
					// The client has ended its side, and net/http takes it for gone: its
					// request was understood, which is what is asked here.
					a.status = http.StatusOK
				}
				got = append(got, a.status)
			}
			if !slices.Equal(got, s.statuses) {
				t.Errorf("answered with %v, wanted %v: %v", got, s.statuses, answers)
			}
		})
	}
	if n := len(d.votes()); n != 0 {
		t.Errorf("%d votes came of it", n)
	}
	if text := d.logged.String(); strings.Contains(text, "panic") {
		t.Errorf("logged: %s", text)
	}
}

// converse sends bytes, ends its side of the connection, and reads all answers.
func converse(t testing.TB, c *wire, text, method string) (answers []response) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { // the server may answer, and close, before it has read all
		_, err := io.WriteString(c, text)
		if err == nil {
			err = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}
		sent <- err
	}()
	for {
		r, err := c.answer(method)
		if r.status != 0 { // the end of the last one may be lost in a reset
			answers = append(answers, r)
		}
		if err == nil {
			continue
		}
		c.Close()
		<-sent
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %d answers: %v", len(answers), err)
		}
		return answers
	}
}

// statusesOfHTTP are those with which net/http answers what is no request.
var statusesOfHTTP = []int{http.StatusContinue, http.StatusBadRequest, http.StatusExpectationFailed, http.StatusRequestHeaderFieldsTooLarge,
	http.StatusNotImplemented, http.StatusHTTPVersionNotSupported}

// wellFormed fails the test when an answer is neither a good one nor a problem
// with a code, unless it is net/http that could not read the request.
func wellFormed(t testing.TB, r response, method string) (code domain.Code) {
	t.Helper()
	ours := r.header.Get("Cache-Control") == "no-store"
	byHTTP := !ours && (slices.Contains(statusesOfHTTP, r.status) || method == http.MethodOptions && r.status == http.StatusOK)
	switch {
	case r.status == http.StatusInternalServerError:
		t.Errorf("status 500: %s", r.body)
	case byHTTP || method == http.MethodHead:
	case r.status < http.StatusBadRequest:
		if !json.Valid([]byte(r.body)) {
			t.Errorf("status %d with %q", r.status, r.body)
		}
	default:
		p := r.problem(t)
		if kind, ok := api.Kinds()[p.Code]; !ok || kind.Status != r.status {
			t.Errorf("status %d with %q", r.status, r.body)
		}
		return p.Code
	}
	return ""
}

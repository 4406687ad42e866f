package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what should take a moment, so that a
// busy machine fails none.
const patience = 2 * time.Minute

// wire is one connection over which a test sends what it likes.
type wire struct {
	net.Conn
	in *bufio.Reader
}

// dial connects to a server; the connection ends with the test.
func dial(t testing.TB, addr string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return &wire{conn, bufio.NewReader(conn)}
}

func (k *worker) addr() string { return strings.TrimPrefix(k.URL, "http://") }

// ask sends bytes and reads the answer to them.
func (w *wire) ask(text string) (response, error) {
	if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
		return response{}, err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return response{}, err
	}
	method, _, _ := strings.Cut(text, " ")
	return w.answer(method)
}

// answer reads the next answer.
func (w *wire) answer(method string) (response, error) {
	answer, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		return response{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{answer.StatusCode, answer.Header, string(text)}, err
}

// text is the request as it goes over a connection.
func (k *worker) text(q request) string {
	method, path := k.target(q)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: api\r\n", method, path)
	if q.body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(q.body))
	}
	if q.channel == "" {
		q.channel = "web"
	}
	if q.channel != "-" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", k.world.tokens[q.channel])
	}
	names := make([]string, 0, len(q.headers))
	for name := range q.headers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %s\r\n", name, q.headers[name])
	}
	return b.String() + "\r\n" + q.body
}

// wellAnswered sends bytes and fails the test unless all answers are well
// formed. What follows a HEAD cannot be told apart from its body.
func (d *desk) wellAnswered(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	c := &wire{conn, bufio.NewReader(conn)}
	check(t, c.SetDeadline(time.Now().Add(patience)))
	method := http.MethodGet
	if strings.HasPrefix(strings.TrimLeft(text, "\r\n"), http.MethodOptions) {
		method = http.MethodOptions
	}
	if strings.Contains(text, http.MethodHead) || strings.Count(text, http.MethodOptions) > 1 {
		t.Skip("how many bytes an answer has depends on the method")
	}
	for _, answer := range converse(t, c, text, method) {
		wellFormed(t, answer, method)
	}
}

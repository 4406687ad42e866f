package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
)

// serving runs serveHTTP, as it is, on a free port. The function stops it, and
// returns what it said.
func serving(t *testing.T, handler http.HandlerFunc) (addr string, stop func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, listener, handler, slog.New(slog.DiscardHandler)) }()
	stopped := false
	stop = func() error { cancel(); stopped = true; return <-ended }
	t.Cleanup(func() {
		if stopped {
			return
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String(), stop
}

// send sends bytes over a connection of its own.
func send(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestServeHTTPLimits: who takes his time, or has too long a head, is cut off
// after the time and at the length that the limits name, and not before.
func TestServeHTTPLimits(t *testing.T) {
	t.Parallel()
	addr, _ := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
		}
	})
	const slack = 30 * time.Second // of a busy machine
	for name, c := range map[string]struct {
		text, answer string
		after        time.Duration
	}{
		"silent":         {"", "", httpHeaderTimeout},
		"half a head":    {"GET / HTTP/1.1\r\nHost: a\r\n", "", httpHeaderTimeout},
		"half a body":    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", "408", httpReadTimeout},
		"half a chunk":   {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "408", httpReadTimeout},
		"too long":       {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", httpHeaderBytesMax+5000) + "\r\n\r\n", "431", 0},
		"long":           {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: " + strings.Repeat("y", httpHeaderBytesMax-100) + "\r\n\r\n", "200", 0},
		"nothing but LF": {strings.Repeat("\n", 100), "400", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			conn := send(t, addr, c.text)
			if err := conn.SetReadDeadline(begun.Add(c.after + slack)); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			_, err := said.ReadFrom(conn)
			if took := time.Since(begun); took < c.after || took > c.after+slack {
				t.Errorf("it was closed after %v, wanted %v: %v", took, c.after, err)
			}
			line, _, _ := strings.Cut(said.String(), "\r\n")
			if !strings.Contains(line, c.answer) {
				t.Errorf("it was answered with %q", line)
			}
		})
	}
}

// TestServeHTTPTimes: a request that takes all the time that it has to arrive,
// and then all that it has to be worked on, is still answered.
func TestServeHTTPTimes(t *testing.T) {
	if least := httpReadTimeout + api.WorkTimeout; httpWriteTimeout <= least {
		t.Errorf("an answer may take %v, and it is cut off after %v", least, httpWriteTimeout)
	}
}

// TestServeHTTPStop: a request under way is answered before the server ends,
// and nobody is let in after that.
func TestServeHTTPStop(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, stop := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = w.Write([]byte("paldies"))
	})
	conn := send(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for { // until it has begun to stop
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(leave)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "paldies" {
		t.Errorf("answered with %q, %v", body, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestPlainAddresses: a vote whose address is not written plainly is not sent
// on to another one; the API says that there is no such address.
func TestPlainAddresses(t *testing.T) {
	server, err := api.NewServer(api.Intake|api.Reading, slog.New(slog.DiscardHandler), api.NewMetrics(func() int { return 0 }))
	if err != nil {
		t.Fatal(err)
	}
	h := newHealth(nil, nil, nil)
	h.intake = &httpIntake{server: server, metrics: api.NewMetrics(func() int { return 0 })}
	handler := h.handler()
	for path, status := range map[string]int{
		"/api/v1//campaigns":           http.StatusNotFound,
		"/api/v1/x/../campaigns":       http.StatusNotFound,
		"/api/v1/campaigns/x/votes":    http.StatusServiceUnavailable, // there is no node
		"/api/v1/campaigns/x/../votes": http.StatusNotFound,
		"/openapi.json":                http.StatusMethodNotAllowed,
		"/docs":                        http.StatusMethodNotAllowed,
		"/livez":                       http.StatusMethodNotAllowed,
		"/nav":                         http.StatusNotFound,
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
		if w.Code != status {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

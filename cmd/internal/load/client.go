package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswerBytes bounds the answer to a vote.
	maxAnswerBytes = 64 << 10
	// maxListBytes bounds a page of specialists or of the votes of one voter,
	// in bytes: a thousand of them have some 300 each.
	maxListBytes = 4 << 20

	// firstPause is the longest first pause after an attempt without answer
	// or without Retry-After; it doubles up to maxPause.
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
	// maxRetryAfter bounds what a server can ask for.
	maxRetryAfter = 30 * time.Second

	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	userAgent   = "paldies-bench"
)

// NewTransport is a transport for so many connections to one server, which are
// kept, in HTTP/1.1 so that their number means something. It uses no proxy.
func NewTransport(connections int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxConnsPerHost:     connections,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: dialTimeout,
		DisableCompression:  true,
		Protocols:           protocols,
	}
}

// api is what all clients share.
type api struct {
	transport  http.RoundTripper
	own        *http.Transport // to close, if it is not the caller's
	attempts   int
	timeout    time.Duration
	campaign   string
	authority  []string // the value of Authorization
	votes      *url.URL
	specialist *url.URL
	digests    maphash.Seed
	resent     resent
}

// resent counts attempts that were followed by another one, or given up.
type resent struct {
	throttled counter // 429
	busy      counter // 502, 503, 504
	noAnswer  counter // no connection, broken connection, timeout
}

// newAPI needs a valid configuration.
func newAPI(cfg Config) *api {
	base, _ := url.Parse(cfg.URL)                  // Validate has parsed it
	base.Path = "/" + strings.Trim(base.Path, "/") // JoinPath keeps a relative path relative
	base = base.JoinPath("api/v1/campaigns", url.PathEscape(cfg.Campaign))
	a := &api{
		transport: cfg.Transport, attempts: cfg.Attempts, timeout: cfg.Timeout, campaign: cfg.Campaign,
		votes: base.JoinPath("votes"), specialist: base.JoinPath("specialists"), digests: maphash.MakeSeed(),
	}
	if a.transport == nil {
		a.own = NewTransport(cfg.Connections)
		a.transport = a.own
	}
	if cfg.Token != "" {
		a.authority = []string{"Bearer " + cfg.Token}
	}
	return a
}

func (a *api) close() {
	if a.own != nil {
		a.own.CloseIdleConnections()
	}
}

// client makes one call at a time.
func (a *api) client() *client { return &client{api: a} }

type client struct {
	api     *api
	buffer  bytes.Buffer
	limited io.LimitedReader
}

// call is one request, however often it is sent.
type call struct {
	method string
	url    *url.URL
	key    string // Idempotency-Key, or empty
	voter  string // Paldies-Voter, or empty
	body   []byte
	limit  int64 // bytes of the answer
}

// answer is what came of a call. Its body is valid until the next one.
type answer struct {
	status int // 0: all attempts are used up
	body   []byte
	unsure bool  // an attempt may have been recorded without telling
	why    error // the last attempt failed, when all are used up
}

var (
	contentType = []string{"application/json"}
	agentHeader = []string{userAgent}

	errTooLong   = errors.New("the answer is too long")
	errThrottled = errors.New("too many requests (429)")
	errBusy      = errors.New("it answers that it is busy or unavailable (502, 503, 504)")

	// rejectStatus are statuses that no request of a run will get over.
	rejectStatus = map[int]string{
		http.StatusUnauthorized: "the token is not accepted",
		http.StatusForbidden:    "the token may not do this",
		http.StatusNotFound:     "there is no such campaign, or the URL is of something else",
	}
)

// do sends a call until it is answered for good or its attempts are used up.
// The error is the context's or ErrRejected.
func (c *client) do(ctx context.Context, q call) (answer, error) {
	var unsure bool
	var why error
	for attempt := range c.api.attempts {
		status, retryAfter, err := c.attempt(ctx, q)
		switch {
		case ctx.Err() != nil:
			return answer{}, context.Cause(ctx)
		case err != nil:
			c.api.resent.noAnswer.Add(1)
			unsure, why = true, err
		case status == http.StatusTooManyRequests:
			c.api.resent.throttled.Add(1)
			why = errThrottled
		case status == http.StatusServiceUnavailable, status == http.StatusBadGateway, status == http.StatusGatewayTimeout:
			c.api.resent.busy.Add(1)
			unsure, why = true, errBusy
		case rejectStatus[status] != "":
			return answer{}, rejected("%s %s is answered with %d: %s; %s", q.method, q.url.Path, status, rejectStatus[status], excerpt(c.buffer.Bytes()))
		default:
			return answer{status: status, body: c.buffer.Bytes(), unsure: unsure}, nil
		}
		if attempt+1 < c.api.attempts {
			if err := sleep(ctx, pause(attempt, retryAfter)); err != nil {
				return answer{}, err
			}
		}
	}
	return answer{unsure: unsure, why: why}, nil
}

// attempt sends a call once and reads the whole answer into the buffer. What a
// request refers to is never used again: the transport may still be writing it
// when an early answer is here.
func (c *client) attempt(ctx context.Context, q call) (status int, retryAfter time.Duration, err error) {
	ctx, stop := context.WithTimeout(ctx, c.api.timeout)
	defer stop()
	header := http.Header{"User-Agent": agentHeader}
	if c.api.authority != nil {
		header["Authorization"] = c.api.authority
	}
	if q.voter != "" {
		header["Paldies-Voter"] = []string{q.voter}
	}
	r := http.Request{Method: q.method, URL: q.url, Host: q.url.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if q.body != nil {
		header["Content-Type"], header["Idempotency-Key"] = contentType, []string{q.key}
		// The transport knows this kind of body and sends it in one write
		// with the header. Without GetBody it sends nothing twice unasked.
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(q.body)), int64(len(q.body))
	}
	response, err := c.api.transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	c.buffer.Reset()
	c.limited = io.LimitedReader{R: response.Body, N: q.limit + 1}
	if n, err := c.buffer.ReadFrom(&c.limited); err != nil {
		return 0, 0, err
	} else if n > q.limit {
		return 0, 0, fmt.Errorf("%w: more than %d bytes", errTooLong, q.limit)
	}
	return response.StatusCode, parseRetryAfter(response.Header.Get("Retry-After")), nil
}

// parseRetryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func parseRetryAfter(s string) time.Duration {
	if s == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	t, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return max(0, min(time.Until(t), maxRetryAfter))
}

// pause is how long to wait after an attempt: what the server asks for and up
// to half of it more, or a time that grows. Clients that were sent away
// together must not come back together.
func pause(attempt int, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		return retryAfter + rand.N(retryAfter/2+1)
	}
	longest := min(firstPause<<min(attempt, 10), maxPause)
	return longest/2 + rand.N(longest/2+1)
}

// maxExcerptBytes is how much of an answer is shown.
const maxExcerptBytes = 200

// excerpt is the begin of an answer, harmless on a terminal.
func excerpt(body []byte) string {
	if len(body) > maxExcerptBytes {
		return strconv.QuoteToGraphic(string(body[:maxExcerptBytes])) + "…"
	}
	return strconv.QuoteToGraphic(strings.TrimSpace(string(body)))
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// answerTimeout is how long a client waits for an answer, in time: longer
	// than a worker may take for one.
	answerTimeout = 30 * time.Second
	// retryPauseMax is the longest pause before a request is sent again, in
	// time. It is far below what Retry-After asks for, so that workers which
	// are in trouble are not left in peace.
	retryPauseMax = 100 * time.Millisecond
	// maxTries bounds how often a request is sent until it is decided: for about
	// as long as a test waits for anything.
	maxTries = int(2 * patience / retryPauseMax)
)

// workers are the addresses where votes can be handed in. Processes come and
// go; a client looks at each try where they are now.
type workers struct {
	mu        sync.Mutex
	addresses []string // guarded by mu
}

// set says where the worker of a place is from now on.
func (w *workers) set(place int, d *daemon) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.addresses) <= place {
		w.addresses = append(w.addresses, "")
	}
	w.addresses[place] = d.address()
}

// at is the address of a worker; places repeat.
func (w *workers) at(place int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addresses[place%len(w.addresses)]
}

// workersAt are processes that take votes.
func workersAt(daemons ...*daemon) *workers {
	w := new(workers)
	for place, d := range daemons {
		w.set(place, d)
	}
	return w
}

// request is what a channel asks for.
type request struct {
	method, path string
	token        string
	key          string // Idempotency-Key, or none
	voter        string // Paldies-Voter, or none
	body         string
}

// voteRequest is a vote; castAt may be empty.
func voteRequest(campaign, token, key, voter, specialist, castAt string) request {
	body, err := json.Marshal(struct {
		Voter      string `json:"voter"`
		Specialist string `json:"specialist_id"`
		CastAt     string `json:"cast_at,omitempty"`
	}{voter, specialist, castAt})
	if err != nil {
		panic(err) // strings can always be written
	}
	return request{method: http.MethodPost, path: votesPath(campaign), token: token, key: key, body: string(body)}
}

// retractRequest takes back the vote with a receipt number.
func retractRequest(campaign, token, key, voter string, vote uint64) request {
	return request{method: http.MethodDelete, path: fmt.Sprintf("%s/%d", votesPath(campaign), vote), token: token, key: key, voter: voter}
}

func votesPath(campaign string) string { return "/api/v1/campaigns/" + campaign + "/votes" }

// write sends the request, its body only if that is wanted.
func (r request) write(to io.Writer, body bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: paldies\r\nAuthorization: Bearer %s\r\n", r.method, r.path, r.token)
	if r.key != "" {
		fmt.Fprintf(&b, "Idempotency-Key: %s\r\n", r.key)
	}
	if r.voter != "" {
		fmt.Fprintf(&b, "Paldies-Voter: %s\r\n", url.PathEscape(r.voter))
	}
	if r.body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(r.body))
	}
	if !body {
		b.WriteString("Expect: 100-continue\r\n")
	}
	b.WriteString("\r\n")
	if body {
		b.WriteString(r.body)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// answer is what came of a request.
type answer struct {
	status   int
	code     string // of a problem
	sequence uint64
	eventID  string
	text     string
}

// undecided says whether the request has to be sent again.
func (a answer) undecided() bool {
	return a.code == "unavailable" || a.code == "busy" || a.code == "outcome_unknown" || a.code == "too_many_requests"
}

// client sends one request at a time over a connection of its own. Unlike
// http.Client it never sends one again by itself: a test must know what was
// sent and not answered.
type client struct {
	workers *workers
	place   int // of the worker that it uses now
	random  *rand.Rand
	ended   <-chan struct{} // closed when there is nobody any more to ask
	conn    net.Conn        // nil when there is none
	reader  *bufio.Reader
	unsure  atomic.Int64 // tries after which nobody knew what had happened
	denied  atomic.Int64 // tries that were answered with 503 or 429
}

// send sends a request once. After an error it is not known whether it has
// arrived.
func (c *client) send(r request) (answer, error) {
	if err := c.connect(); err != nil {
		return answer{}, err
	}
	a, closing, err := c.exchange(r)
	if err != nil || closing {
		c.hangUp()
	}
	return a, err
}

func (c *client) connect() (err error) {
	if c.conn != nil {
		return nil
	}
	if c.conn, err = net.DialTimeout("tcp", c.workers.at(c.place), answerTimeout); err != nil {
		c.conn = nil
		return err
	}
	c.reader = bufio.NewReader(c.conn)
	return nil
}

func (c *client) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close() // The other side may have done so.
		c.conn = nil
	}
}

func (c *client) exchange(r request) (a answer, closing bool, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return answer{}, true, err
	}
	if err := r.write(c.conn, true); err != nil {
		return answer{}, true, err
	}
	return c.read()
}

// read reads one answer.
func (c *client) read() (a answer, closing bool, err error) {
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return answer{}, true, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, true, err
	}
	var body struct {
		Code     string `json:"code"`
		Sequence uint64 `json:"sequence"`
		EventID  string `json:"event_id"`
	}
	if err := json.Unmarshal(text, &body); err != nil && response.StatusCode != http.StatusContinue {
		return answer{}, true, fmt.Errorf("the answer %q: %w", text, err)
	}
	return answer{status: response.StatusCode, code: body.Code, sequence: body.Sequence, eventID: body.EventID, text: string(text)},
		response.Close, nil
}

// insist sends a request, now here and now there, until the answer decides it.
func (c *client) insist(r request) (answer, error) {
	var a answer
	var err error
	for try := range maxTries {
		if try > 0 {
			c.place++
			c.hangUp()
			// Who comes again at once, with all others, only makes it worse.
			select {
			case <-time.After(rand.N(min(retryPauseMax, time.Millisecond<<min(try, 10)))):
			case <-c.ended:
				return a, fmt.Errorf("undecided when the test ended: %+v, %v", a, err)
			}
		}
		a, err = c.send(r)
		switch {
		case err != nil || a.code == "outcome_unknown":
			c.unsure.Add(1)
		case a.undecided():
			c.denied.Add(1)
		default:
			return a, nil
		}
	}
	return a, fmt.Errorf("undecided after %d tries; the last came to %+v, %v", maxTries, a, err)
}

// openForVotes opens a campaign in which votes of today count, beside those of
// past years.
func openForVotes(t *testing.T, data, campaign, specialists string, options ...string) {
	t.Helper()
	paldies(t, data, append([]string{"campaign", "open", campaign, "--opens", "2010-01-01T00:00Z", "--closes", "2099-01-01T00:00Z"}, options...)...)
	paldies(t, data, append([]string{"specialist", "import", "--campaign", campaign, specialists}, serversOf(options)...)...)
}

// serversOf are those of a command's options that say where the ledger is.
func serversOf(options []string) []string {
	if i := slices.Index(options, "--nats-url"); i >= 0 {
		return options[i : i+2]
	}
	return nil
}

// addToken makes a credential for a channel.
func addToken(t *testing.T, data, channel string, options ...string) string {
	t.Helper()
	return strings.TrimSpace(paldies(t, data, append([]string{"channel", "add", channel}, options...)...))
}

// startWorker starts `paldies intake` and waits until it is ready. Its access
// log would hide what else it has to say.
func startWorker(t *testing.T, data string, options ...string) *daemon {
	t.Helper()
	d := startDaemon(t, data, append([]string{"intake", "--http", "127.0.0.1:0", "--log-level", "warn"}, options...)...)
	d.becomesReady(t)
	return d
}

// becomesReady waits until /readyz says so.
func (d *daemon) becomesReady(t *testing.T) (took time.Duration) {
	t.Helper()
	return eventually(t, "/readyz turns ready", func() bool {
		status, _, err := d.ready(t)
		return err == nil && status == http.StatusOK
	})
}

// ready is what /readyz answers.
func (d *daemon) ready(t *testing.T) (status int, text string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.base()+"/readyz", nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

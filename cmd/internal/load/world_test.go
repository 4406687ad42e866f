package load_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/cmd/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const campaign = "labais"

// vote is one as the fake server has it.
type vote struct {
	Sequence   uint64 `json:"sequence"`
	EventID    string `json:"event_id"`
	Specialist string `json:"specialist_id"`
	Channel    string `json:"channel"`
	Status     string `json:"status"`
}

// answered is what was said to a key.
type answered struct{ voter, specialist, body string }

// fakeAPI keeps the contract with two maps, and breaks it where it is told to.
type fakeAPI struct {
	specialists int
	pause       time.Duration // before every answer to a vote

	// before may answer a vote itself, before or instead of recording it.
	before func(w http.ResponseWriter) (handled bool)
	// after may answer a vote that is recorded.
	after func(w http.ResponseWriter) (handled bool)
	// lie changes what the ledger keeps of a vote that is acknowledged.
	lie func(v vote) []vote
	// acceptRepeat and otherBody say which requests, counted, are treated so.
	acceptRepeat, otherBody func(n int) bool
	otherSequence           bool // in already_voted
	list                    func([]vote) []vote

	mu       sync.Mutex // guards all below
	requests int
	sequence uint64
	votes    map[string][]vote
	said     map[string]map[string]vote // by voter and specialist
	keys     map[string]answered
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{
		specialists: 7,
		votes:       make(map[string][]vote), said: make(map[string]map[string]vote), keys: make(map[string]answered),
	}
}

func (f *fakeAPI) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/campaigns/{campaign}/votes", f.cast)
	mux.HandleFunc("GET /api/v1/campaigns/{campaign}/votes", f.own)
	mux.HandleFunc("GET /api/v1/campaigns/{campaign}/specialists", f.list3)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer geheim" {
			refuse(w, http.StatusUnauthorized, "unauthorized", 0)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// list3 lists specialists, three a page whatever the limit.
func (f *fakeAPI) list3(w http.ResponseWriter, r *http.Request) {
	first := 0
	fmt.Sscanf(r.FormValue("after"), "spec-%d", &first)
	var ids []map[string]string
	next := ""
	for i := first + 1; i <= f.specialists; i++ {
		if len(ids) == 3 {
			next = fmt.Sprintf("spec-%d", i-1)
			break
		}
		ids = append(ids, map[string]string{"id": fmt.Sprintf("spec-%d", i), "name": "Ilze"})
	}
	page := map[string]any{"specialists": ids}
	if next != "" {
		page["next"] = next
	}
	_ = json.NewEncoder(w).Encode(page)
}

func (f *fakeAPI) own(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	votes := append([]vote{}, f.votes[r.Header.Get("Paldies-Voter")]...)
	if f.list != nil {
		votes = f.list(votes)
	}
	_ = json.NewEncoder(w).Encode(pageOf(votes, r.URL.Query().Get("after")))
}

// pageOf is a page of three votes, behind the one that the page before ended with.
func pageOf(votes []vote, after string) map[string]any {
	begin, err := strconv.Atoi(after)
	if err != nil {
		begin = 0
	}
	end := min(begin+3, len(votes))
	page := map[string]any{"votes": votes[min(begin, len(votes)):end]}
	if end < len(votes) {
		page["next"] = strconv.Itoa(end)
	}
	return page
}

func (f *fakeAPI) cast(w http.ResponseWriter, r *http.Request) {
	time.Sleep(f.pause)
	var body struct {
		Voter      string `json:"voter"`
		Specialist string `json:"specialist_id"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Idempotency-Key") == "" {
		refuse(w, http.StatusBadRequest, "malformed", 0)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if f.before != nil && f.before(w) {
		return
	}
	status, answer := f.decide(r.Header.Get("Idempotency-Key"), body.Voter, body.Specialist)
	if f.after != nil && f.after(w) {
		return
	}
	if status != http.StatusCreated {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(answer))
}

// decide is the contract.
func (f *fakeAPI) decide(key, voter, specialist string) (status int, body string) {
	if earlier, ok := f.keys[key]; ok {
		if earlier.voter != voter || earlier.specialist != specialist {
			return http.StatusUnprocessableEntity, problemBody(422, "idempotency_mismatch", 0)
		}
		if f.otherBody != nil && f.otherBody(f.requests) {
			return http.StatusCreated, earlier.body + " "
		}
		return http.StatusCreated, earlier.body
	}
	if v, ok := f.said[voter][specialist]; ok && (f.acceptRepeat == nil || !f.acceptRepeat(f.requests)) {
		if f.otherSequence {
			v.Sequence++
		}
		return http.StatusConflict, problemBody(409, "already_voted", v.Sequence)
	}
	f.sequence++
	v := vote{Sequence: f.sequence, EventID: uuid.NewString(), Specialist: specialist, Channel: "web", Status: "active"}
	if f.said[voter] == nil {
		f.said[voter] = make(map[string]vote)
	}
	f.said[voter][specialist] = v
	kept := []vote{v}
	if f.lie != nil {
		kept = f.lie(v)
	}
	f.votes[voter] = append(f.votes[voter], kept...)
	body = fmt.Sprintf(`{"campaign":%q,"sequence":%d,"event_id":%q,"recorded_at":"2018-01-01T00:00:00.000Z","specialist_id":%q,"channel":"web"}`,
		campaign, v.Sequence, v.EventID, specialist)
	f.keys[key] = answered{voter, specialist, body}
	return http.StatusCreated, body
}

func problemBody(status int, code string, sequence uint64) string {
	return fmt.Sprintf(`{"type":"about:blank","status":%d,"code":%q,"sequence":%d}`, status, code, sequence)
}

func refuse(w http.ResponseWriter, status int, code string, sequence uint64) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprint(w, problemBody(status, code, sequence))
}

// recorded is how many votes are in the fake ledger.
func (f *fakeAPI) recorded() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, votes := range f.votes {
		n += int64(len(votes))
	}
	return n
}

// pipes is a listener whose connections are in memory, so that time can stand
// still around a real server and a real transport.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.accepted <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// config is a run against a handler behind pipes. It belongs into a bubble.
func config(t *testing.T, handler http.Handler) load.Config {
	t.Helper()
	p := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler, ErrorLog: log.New(testWriter{t}, "", 0)}
	go func() { _ = server.Serve(p) }()
	c := parameters(t)
	c.URL = "http://pipe"
	transport := load.NewTransport(c.Clients)
	transport.DialContext = p.dial
	c.Transport = transport
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		_ = p.Close()
		synctest.Wait()
	})
	return c
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	return len(b), nil
}

// parameters are those of a small run with a new seed, which is printed.
func parameters(t testing.TB) load.Config {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return load.Config{
		Campaign: campaign, Token: "geheim", Clients: 8, Votes: 300,
		Voters: 100, Repeats: 0.2, Retries: 0.2, Seed: seed,
	}
}

// onSockets serves a handler on a real address.
func onSockets(t testing.TB, handler http.Handler) load.Config {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c := parameters(t)
	c.URL = server.URL
	return c
}

func run(t testing.TB, c load.Config) load.Report {
	t.Helper()
	r, err := load.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// honest fails when anything is held against the server.
func honest(t *testing.T, r load.Report) {
	t.Helper()
	if r.Discrepancies.Total != 0 || len(r.Discrepancies.ByKind) != 0 || r.Counts.Unexpected != 0 {
		t.Errorf("an honest server is accused: %+v", r.Discrepancies)
	}
	if r.Check == nil || !r.Check.Complete {
		t.Errorf("check %+v", r.Check)
	}
}

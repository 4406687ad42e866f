package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, storetest.Leftovers()...) }

const campaign = "laba-servisa-kustiba-2018"

// closeTimeout is how long a ledger may take to close.
const closeTimeout = 30 * time.Second

// world is a nats-server with an open campaign, credentials, and any number of
// workers that serve it.
type world struct {
	t      testing.TB
	server *storetest.Server
	codec  *domain.Codec
	key    domain.PseudonymKey
	store  *credential.Store
	now    func() time.Time
	tokens map[string]string // by channel
}

// newWorld opens a campaign in which everybody may vote now.
func newWorld(t testing.TB, change ...func(*domain.CampaignOpened)) *world {
	t.Helper()
	codec, err := domain.NewCodec()
	check(t, err)
	w := &world{t: t, server: storetest.NewServer(t), codec: codec, key: domain.PseudonymKey{'a', 't', 's'}, now: time.Now, tokens: make(map[string]string)}
	nc := w.server.Connect(t)
	check(t, eventstore.Create(t.Context(), nc, ledgerConfig(campaign)))
	l := w.open(nc, campaign)
	opened := domain.CampaignOpened{Title: "Laba servisa kustība",
		OpensAt: domain.Timestamp(w.now().AddDate(0, -1, 0)), ClosesAt: domain.Timestamp(w.now().AddDate(0, 1, 0)), Timezone: "Europe/Riga", KeyID: w.key.ID(),
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "mobile", Identity: domain.Verified},
			{Name: "in_person", Identity: domain.Declared}, {Name: "slip", Identity: domain.NoIdentity}}}
	for _, f := range change {
		f(&opened)
	}
	_, err = intake.OpenCampaign(t.Context(), l, campaign, opened, w.now())
	check(t, err)
	in := w.intake(l)
	for id, name := range map[string]string{"ilze-berzina": "Ilze Bērziņa", "zanete-kirsone": "Žanete Ķirsone", "zane-cirule": "Zane Cīrule"} {
		_, err := in.SetSpecialist(t.Context(), id, domain.Profile{Name: name, Institution: "Nodarbinātības valsts aģentūra"})
		check(t, err)
	}
	w.store, err = credential.NewStore(nc, 1, time.Now)
	check(t, err)
	for _, channel := range []string{"web", "mobile", "in_person", "slip", "pasts"} {
		w.tokens[channel] = w.token(credential.Credential{Role: domain.RoleChannel, Channel: channel})
	}
	return w
}

func ledgerConfig(campaign string) eventstore.Config {
	return eventstore.Config{Stream: domain.StreamName(campaign), Subjects: domain.StreamSubjects(campaign),
		Control: domain.ControlSubject(campaign), Replicas: 1}
}

func (w *world) token(c credential.Credential) string {
	w.t.Helper()
	token, _, err := w.store.Add(w.t.Context(), c)
	check(w.t, err)
	return token
}

func (w *world) open(nc *nats.Conn, campaign string) *eventstore.Ledger {
	w.t.Helper()
	l, err := eventstore.Open(w.t.Context(), nc, ledgerConfig(campaign))
	check(w.t, err)
	w.t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
		defer stop()
		check(w.t, l.Close(ctx))
	})
	return l
}

func (w *world) intake(l intake.Ledger) *intake.Intake {
	w.t.Helper()
	in, err := intake.New(w.t.Context(), intake.Config{Campaign: campaign, Ledger: l, Codec: w.codec, Key: &w.key, Now: w.now})
	check(w.t, err)
	return in
}

// worker is one intake worker behind a real HTTP server.
type worker struct {
	*httptest.Server
	world   *world
	api     *api.Server
	metrics *api.Metrics
	logged  *safeBuffer
}

// safeBuffer may be written to by many.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// worker starts a worker with a connection of its own; it ends with the test.
func (w *world) worker() *worker {
	w.t.Helper()
	nc := w.server.Connect(w.t)
	k := &worker{world: w, logged: new(safeBuffer), metrics: api.NewMetrics(func() int { return 0 })}
	log := slog.New(slog.NewJSONHandler(k.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	k.api, err = api.NewServer(api.Intake|api.Reading, log, k.metrics)
	check(w.t, err)
	book, err := credential.NewBook(nc, log)
	check(w.t, err)
	campaigns := intake.NewCampaigns(opener{w, nc, k.metrics})
	k.api.Use(&api.Backend{Credentials: book, Campaigns: campaigns})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- book.Run(ctx) }()
	k.Server = httptest.NewServer(k.api)
	k.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 256
	w.t.Cleanup(func() {
		k.Close()
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
		check(w.t, campaigns.Close())
	})
	storetest.Eventually(w.t, "the credentials are read", func() bool { return book.Ready() == nil })
	return k
}

// opener opens the world's campaign, and says of all others that there are none.
type opener struct {
	world   *world
	nc      *nats.Conn
	observe eventstore.Observer
}

func (o opener) List(ctx context.Context) ([]string, error) { return []string{campaign}, nil }

func (o opener) Open(ctx context.Context, id string) (*intake.Intake, func() error, error) {
	config := ledgerConfig(id)
	config.Observer = o.observe
	l, err := eventstore.Open(ctx, o.nc, config)
	if err != nil {
		return nil, nil, err
	}
	in, err := intake.New(ctx, intake.Config{Campaign: id, Ledger: l, Codec: o.world.codec, Key: &o.world.key, Now: o.world.now})
	closing := func() error {
		ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
		defer stop()
		return l.Close(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, closing())
	}
	return in, closing, nil
}

// request is what a client sends; what is empty is left out.
type request struct {
	method  string // empty: POST with a body, else GET
	path    string // below the campaign
	channel string // whose token is sent; empty: web; "-": none
	body    string
	headers map[string]string
}

// response is what a client gets.
type response struct {
	status int
	header http.Header
	body   string
}

// problem reads the body as a problem.
func (r response) problem(t testing.TB) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("status %d with %q: %v", r.status, r.body, err)
	}
	return p
}

func (r response) receipt(t testing.TB) api.Receipt {
	t.Helper()
	var receipt api.Receipt
	if err := json.Unmarshal([]byte(r.body), &receipt); err != nil || r.status != http.StatusCreated {
		t.Fatalf("status %d with %q: %v", r.status, r.body, err)
	}
	return receipt
}

// do sends a request and reads the whole answer.
func (k *worker) do(q request) response {
	k.world.t.Helper()
	r, err := k.try(q)
	check(k.world.t, err)
	return r
}

func (k *worker) try(q request) (response, error) {
	method, body := q.method, io.Reader(http.NoBody)
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	if method == "" {
		if method = http.MethodGet; q.body != "" {
			method = http.MethodPost
		}
	}
	path := q.path
	if !strings.HasPrefix(path, "/") {
		path = "/api/v1/campaigns/" + campaign + "/" + path
	}
	r, err := http.NewRequestWithContext(k.world.t.Context(), method, k.URL+path, body)
	if err != nil {
		return response{}, err
	}
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.channel == "" {
		q.channel = "web"
	}
	if q.channel != "-" {
		r.Header.Set("Authorization", "Bearer "+k.world.tokens[q.channel])
	}
	for name, value := range q.headers {
		r.Header.Set(name, value)
	}
	answer, err := k.Client().Do(r)
	if err != nil {
		return response{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{answer.StatusCode, answer.Header, string(text)}, err
}

// vote is the request of a vote.
func vote(voter, specialist, key string) request {
	q := request{path: "votes", body: fmt.Sprintf(`{"voter":%q,"specialist_id":%q}`, voter, specialist)}
	if key != "" {
		q.headers = map[string]string{"Idempotency-Key": key}
	}
	return q
}

// by is the request over another channel.
func (q request) by(channel string) request {
	q.channel = channel
	return q
}

// of is the request with a header that names the voter.
func (q request) of(voter string) request {
	return q.with("Paldies-Voter", voter)
}

func (q request) with(name, value string) request {
	headers := make(map[string]string)
	for n, v := range q.headers {
		headers[n] = v
	}
	headers[name] = value
	q.headers = headers
	return q
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

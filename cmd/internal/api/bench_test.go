package api_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgxpool"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/load"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

var (
	benchClients = flag.Int("clients", 256, "clients of the benchmark over HTTP")
	benchRounds  = flag.Int("rounds", 5, "rounds of the benchmark over HTTP")
)

// BenchmarkVotes measures votes over HTTP on an embedded node, everything
// fsynced, beside two other handlers in the same run: one that only decodes the
// same JSON and answers, and one that has what people would use instead, a
// Postgres table with a unique key. The load generator runs on the same cores.
// Rounds alternate, and medians are compared.
//
//	go test ./cmd/internal/api -run '^$' -bench Votes -benchtime 60000x
func BenchmarkVotes(b *testing.B) {
	n := newBenchNode(b)
	handlers := map[string]http.Handler{"votes": n.api, "decode": decodeOnly(b), "postgres": postgresTable(b)}
	rates, round := make(map[string][]float64), max(1, b.N / *benchRounds)
	for range *benchRounds {
		for _, name := range []string{"decode", "votes", "postgres"} {
			r := n.load(b, handlers[name], load.Config{Votes: round, Clients: *benchClients, SkipCheck: true})
			rates[name] = append(rates[name], r.AcceptedPerSecond)
		}
	}
	votes := median(rates["votes"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(votes, "votes/s")
	b.ReportMetric(votes/median(rates["decode"]), "of-decode")
	b.ReportMetric(votes/median(rates["postgres"]), "x-postgres")
	half := n.load(b, n.api, load.Config{Rate: votes / 2, Votes: round, WarmUp: time.Second, Clients: 4 * *benchClients})
	b.ReportMetric(half.Latency.All.P99, "p99-ms-at-half")
	b.ReportMetric(half.Latency.All.P50, "p50-ms-at-half")
}

func median(values []float64) float64 {
	slices.SortFunc(values, cmp.Compare)
	return values[len(values)/2]
}

// benchNode is intake over HTTP on a node of its own.
type benchNode struct {
	api   *api.Server
	token string
}

func newBenchNode(b *testing.B) *benchNode {
	b.Helper()
	ctx := b.Context()
	n, err := node.Open(ctx, node.Config{DataDir: b.TempDir()})
	check(b, err)
	b.Cleanup(func() { check(b, n.Close()) })
	check(b, n.CreateLedger(ctx, ledgerConfig(campaign)))
	l, err := n.OpenLedger(ctx, ledgerConfig(campaign))
	check(b, err)
	codec, err := domain.NewCodec()
	check(b, err)
	key, now := domain.PseudonymKey{1}, domain.Timestamp(time.Now())
	_, err = intake.OpenCampaign(ctx, l, campaign, domain.CampaignOpened{OpensAt: now.Add(-time.Hour), ClosesAt: now.Add(24 * time.Hour),
		Timezone: "Europe/Riga", Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}}, KeyID: key.ID()}, now)
	check(b, err)
	in, err := intake.New(ctx, intake.Config{Campaign: campaign, Ledger: l, Codec: codec, Key: &key})
	check(b, err)
	for _, id := range benchSpecialists {
		_, err = in.SetSpecialist(ctx, id, domain.Profile{Name: "Zane Ķirse"})
		check(b, err)
	}
	b.Cleanup(func() { closeLedger(b, l) })
	store, err := credential.NewStore(n.Conn(), 1, time.Now)
	check(b, err)
	token, _, err := store.Add(ctx, credential.Credential{Role: domain.RoleChannel, Channel: "web"})
	check(b, err)
	quiet := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))
	book, err := credential.NewBook(n.Conn(), quiet)
	check(b, err)
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- book.Run(running) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	})
	s, err := api.NewServer(api.Intake|api.Reading, quiet, api.NewMetrics(l.Pending))
	check(b, err)
	s.Use(&api.Backend{Credentials: book, Campaigns: single{in}})
	for book.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	return &benchNode{s, token}
}

var benchSpecialists = []string{"zane-kirse", "ilze-berzina", "oto-udris"}

// single is one campaign.
type single struct{ in *intake.Intake }

func (s single) List(context.Context) ([]string, error)              { return []string{campaign}, nil }
func (s single) Get(context.Context, string) (*intake.Intake, error) { return s.in, nil }

func closeLedger(t testing.TB, l *eventstore.Ledger) {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	check(t, l.Close(ctx))
}

// load sends votes to a handler.
func (n *benchNode) load(b *testing.B, handler http.Handler, c load.Config) load.Report {
	b.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	c.URL, c.Campaign, c.Token, c.Specialists = server.URL, campaign, n.token, benchSpecialists
	r, err := load.Run(b.Context(), c)
	check(b, err)
	if r.Counts.GivenUp+r.Counts.Unexpected > 0 || r.Discrepancies.Total > 0 {
		b.Fatalf("not all went well: %+v %+v", r.Counts, r.Discrepancies)
	}
	return r
}

// decodeVote is what all handlers begin with.
func decodeVote(w http.ResponseWriter, r *http.Request) (v api.VoteRequest, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<10))
	if err == nil {
		err = jsonv2.Unmarshal(body, &v, jsonv2.RejectUnknownMembers(true))
	}
	if err != nil {
		http.Error(w, "", http.StatusBadRequest)
	}
	return v, err == nil
}

// answerVote is what all handlers end with.
func answerVote(w http.ResponseWriter, sequence int64, v api.VoteRequest) {
	text, err := jsonv2.Marshal(api.Receipt{Campaign: campaign, Sequence: uint64(sequence), EventID: "45f3d4dc-6cb8-51e8-8cd5-0c6e0d6d1a3f",
		RecordedAt: domain.FormatTime(time.Now()), Action: "vote", Channel: "web", SpecialistID: v.SpecialistID})
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(text)
}

func onVotes(handle http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/campaigns/{campaign}/votes", handle)
	return mux
}

func decodeOnly(*testing.B) http.Handler {
	var sequence atomic.Int64
	return onVotes(func(w http.ResponseWriter, r *http.Request) {
		if v, ok := decodeVote(w, r); ok {
			answerVote(w, sequence.Add(1), v)
		}
	})
}

// postgresTable keeps votes in a table with a unique key, 64 connections, and
// Postgres as durable as it is by default.
func postgresTable(b *testing.B) http.Handler {
	b.Helper()
	config, err := pgxpool.ParseConfig(pgtest.NewServer(b, map[string]string{"max_connections": "80"}).URL("postgres"))
	check(b, err)
	config.MinConns, config.MaxConns = 64, 64
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	check(b, err)
	b.Cleanup(pool.Close)
	var safe string
	check(b, pool.QueryRow(b.Context(), `select current_setting('fsync') || current_setting('synchronous_commit')`).Scan(&safe))
	if safe != "onon" {
		b.Fatalf("Postgres runs with fsync and synchronous_commit %s", safe)
	}
	_, err = pool.Exec(b.Context(), `create table votes (id bigint generated always as identity primary key, campaign text not null,
		voter text not null, specialist text not null, channel text not null, cast_at timestamptz not null default now(), unique (campaign, voter, specialist))`)
	check(b, err)
	return onVotes(func(w http.ResponseWriter, r *http.Request) {
		v, ok := decodeVote(w, r)
		if !ok {
			return
		}
		var id int64
		err := pool.QueryRow(r.Context(), `insert into votes (campaign, voter, specialist, channel) values ($1, $2, $3, 'web')
			on conflict do nothing returning id`, campaign, v.Voter, v.SpecialistID).Scan(&id)
		if err != nil {
			http.Error(w, strings.ToValidUTF8(fmt.Sprint(err), ""), http.StatusConflict)
			return
		}
		answerVote(w, id, v)
	})
}

package comparison

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmjetstream "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/jetstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

const (
	callers = 256
	// connections is how many the Postgres table is written through; with more
	// it was slower.
	connections = 64
	rounds      = 3
)

// payload is as large as a vote.
var payload = []byte(strings.Repeat("Paldies par sirsnīgu apkalpošanu! ", 9)[:300])

// BenchmarkAppend lets 256 callers record events, each on its own subject or
// with its own key, everything fsynced before it is acknowledged. Rounds
// alternate, and medians are compared. The slow one records a tenth.
func BenchmarkAppend(b *testing.B) {
	ways := []struct {
		name   string
		part   int // of b.N
		record func(n int) error
	}{
		{"ledger", 1, ledger(b)},
		{"postgres", 1, table(b)},
		{"watermill-nats", 10, watermillNATS(b)},
	}
	rates := make(map[string][]float64)
	var next atomic.Int64
	for range rounds {
		for _, way := range ways {
			n := max(1, b.N/rounds/way.part)
			rates[way.name] = append(rates[way.name], inParallel(b, n, func() error { return way.record(int(next.Add(1))) }))
		}
	}
	ours := median(rates["ledger"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours, "events/s")
	for _, way := range ways[1:] {
		b.ReportMetric(ours/median(rates[way.name]), "x-"+way.name)
	}
}

func median(values []float64) float64 {
	slices.SortFunc(values, cmp.Compare)
	return values[len(values)/2]
}

// inParallel calls a function n times and returns the calls per second.
func inParallel(b *testing.B, n int, call func() error) float64 {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var work sync.WaitGroup
	begun := time.Now()
	for range min(callers, n) {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	return float64(n) / time.Since(begun).Seconds()
}

// ledger is this ledger on a server of its own, set up as a node's.
func ledger(b *testing.B) func(n int) error {
	s := storetest.NewServer(b)
	nc := s.Connect(b)
	config := eventstore.Config{Stream: "LEDGER_bench", Subjects: []string{"bench.campaign", "bench.voter.*"}, Control: "bench.campaign", Replicas: 1}
	check(b, eventstore.Create(b.Context(), nc, config))
	s.StageInMemory(b, config.Stream)
	l, err := eventstore.Open(b.Context(), nc, config)
	check(b, err)
	b.Cleanup(func() { check(b, l.Close(context.Background())) })
	return func(n int) error {
		_, err := l.Append(b.Context(), eventstore.Message{Subject: "bench.voter." + strconv.Itoa(n), Data: payload}, 0)
		return err
	}
}

// table is what a program without an event store has.
func table(b *testing.B) func(n int) error {
	config, err := pgxpool.ParseConfig(pgtest.NewServer(b, map[string]string{"max_connections": "80"}).URL("postgres"))
	check(b, err)
	config.MinConns, config.MaxConns = connections, connections
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	check(b, err)
	b.Cleanup(pool.Close)
	var safe string
	check(b, pool.QueryRow(b.Context(), `select current_setting('fsync') || current_setting('synchronous_commit')`).Scan(&safe))
	if safe != "onon" {
		b.Fatalf("Postgres runs with fsync and synchronous_commit %s", safe)
	}
	_, err = pool.Exec(b.Context(), `create table votes (id bigint generated always as identity primary key, voter text not null unique, vote text not null)`)
	check(b, err)
	return func(n int) error {
		tag, err := pool.Exec(b.Context(), `insert into votes (voter, vote) values ($1, $2) on conflict do nothing`, "bench.voter."+strconv.Itoa(n), string(payload))
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("row %d was there", n)
		}
		return err
	}
}

// watermillNATS is the publisher of watermill-nats' package for JetStream.
func watermillNATS(b *testing.B) func(n int) error {
	nc := storetest.NewServer(b).Connect(b)
	const stream = "SUBMISSIONS"
	js, err := jetstream.New(nc)
	check(b, err)
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{stream}})
	check(b, err)
	own, err := nats.Connect(nc.ConnectedUrl()) // the publisher closes it
	check(b, err)
	p, err := wmjetstream.NewPublisher(wmjetstream.PublisherConfig{Conn: own, Logger: watermill.NopLogger{},
		ConfigureStream: func(string) jetstream.StreamConfig {
			return jetstream.StreamConfig{Name: stream, Subjects: []string{stream}}
		}})
	check(b, err)
	b.Cleanup(func() { check(b, p.Close()) })
	return func(n int) error {
		return p.Publish(stream, message.NewMessage(strconv.Itoa(n), payload))
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

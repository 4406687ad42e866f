package eventstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// benchPayload is as large as a vote.
var benchPayload = []byte(strings.Repeat("Paldies par sirsnīgu apkalpošanu! ", 9)[:300])

// benchConfig is a ledger of its own for each measurement.
func benchConfig(name string, replicas int) eventstore.Config {
	return eventstore.Config{
		Stream:   "LEDGER_" + name,
		Subjects: []string{name + ".campaign", name + ".voter.*"},
		Control:  name + ".campaign",
		Replicas: replicas,
	}
}

func openBench(b *testing.B, nc *nats.Conn, c eventstore.Config) *eventstore.Ledger {
	b.Helper()
	ctx := context.Background()
	if err := eventstore.Create(ctx, nc, c); err != nil {
		b.Fatal(err)
	}
	ledger, err := eventstore.Open(ctx, nc, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := ledger.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	return ledger
}

// appendAll lets callers append n events, each on a subject of its own, and
// returns the events per second.
func appendAll(b *testing.B, ledger *eventstore.Ledger, name string, callers, n int) float64 {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range callers {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				m := eventstore.Message{Subject: name + ".voter." + strconv.FormatInt(i, 10), Data: benchPayload}
				if _, err := ledger.Append(context.Background(), m, 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(begun).Seconds()
}

const (
	// bareSize and bareUnderWay are the batches of the program that the ledger
	// is compared with: as large as the server takes, and always the next one.
	bareSize     = 1000
	bareUnderWay = 9
)

// bareBatches is what the server does when a program does nothing but publish
// atomic batches of one size, so many at a time.
func bareBatches(b *testing.B, nc *nats.Conn, name string, n, size, underWay int) float64 {
	b.Helper()
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		b.Fatal(err)
	}
	defer answers.Unsubscribe()
	await := func() {
		answer, err := answers.NextMsg(time.Minute)
		if err != nil || strings.Contains(string(answer.Data), "error") {
			b.Fatalf("bare batch: %v %s", err, answer.Data)
		}
	}
	begun, waiting := time.Now(), 0
	n -= n % size
	for batch := range n / size {
		id := []string{"bare-" + strconv.Itoa(batch)}
		for i := range size {
			m := nats.Msg{Subject: name + ".voter." + strconv.Itoa(batch*size+i), Data: benchPayload, Header: nats.Header{
				"Nats-Expected-Last-Subject-Sequence": {"0"},
				"Nats-Batch-Id":                       id,
				"Nats-Batch-Sequence":                 {strconv.Itoa(i + 1)},
			}}
			if i == size-1 {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
				m.Reply = answers.Subject
			}
			if err := nc.PublishMsg(&m); err != nil {
				b.Fatal(err)
			}
		}
		if waiting++; waiting == underWay {
			await()
			waiting--
		}
	}
	for range waiting {
		await()
	}
	return float64(n) / time.Since(begun).Seconds()
}

// plainPublishes is what the server does with one publish an event, pipelined.
func plainPublishes(b *testing.B, nc *nats.Conn, name string, n int) float64 {
	b.Helper()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	for i := range n {
		m := &nats.Msg{Subject: name + ".voter." + strconv.Itoa(i), Data: benchPayload, Header: nats.Header{"Nats-Expected-Last-Subject-Sequence": {"0"}}}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	return float64(n) / time.Since(begun).Seconds()
}

// BenchmarkAppend compares the ledger with what the same server does in the
// same iteration without it: with full batches always under way, with as many
// events under way as there are callers (alike), and with plain publishes. For figures use -benchtime=10x; the folder of the
// test decides which disk is measured.
func BenchmarkAppend(b *testing.B) {
	const events = 20000
	for _, staging := range []string{"disk", "memory"} {
		s := storetest.NewServer(b)
		nc := s.Connect(b, nats.InProcessServer(s.NATS()))
		names := 0
		open := func(b *testing.B) (*eventstore.Ledger, string) {
			names++
			name := fmt.Sprintf("%s-%d", staging, names)
			ledger := openBench(b, nc, benchConfig(name, 1))
			if staging == "memory" {
				s.StageInMemory(b, "LEDGER_"+name)
			}
			return ledger, name
		}
		for _, callers := range []int{64, 256, 1024, 4096} {
			b.Run(fmt.Sprintf("staging=%s/callers=%d", staging, callers), func(b *testing.B) {
				var bare, alike, plain, rate []float64
				for range b.N {
					_, name := open(b)
					bare = append(bare, bareBatches(b, nc, name, events, bareSize, bareUnderWay))
					ledger, name := open(b)
					rate = append(rate, appendAll(b, ledger, name, callers, events))
					_, name = open(b)
					size := min(callers, bareSize)
					alike = append(alike, bareBatches(b, nc, name, events, size, callers/size))
					_, name = open(b)
					plain = append(plain, plainPublishes(b, nc, name, events/10))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(rate), "events/s")
				b.ReportMetric(median(bare), "bare/s")
				b.ReportMetric(median(rate)/median(bare), "of-bare")
				b.ReportMetric(median(rate)/median(alike), "of-alike")
				b.ReportMetric(median(rate)/median(plain), "x-plain")
			})
		}
	}
}

// BenchmarkAppendAlone is one caller on an idle node, measured in fsyncs of the
// same disk.
func BenchmarkAppendAlone(b *testing.B) {
	const events = 200
	s := storetest.NewServer(b)
	nc := s.Connect(b, nats.InProcessServer(s.NATS()))
	ledger := openBench(b, nc, benchConfig("alone", 1))
	file, err := os.Create(filepath.Join(b.TempDir(), "fsync"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	var appends, syncs []float64
	for n := range b.N {
		for i := range events {
			begun := time.Now()
			m := eventstore.Message{Subject: fmt.Sprintf("alone.voter.%d-%d", n, i), Data: benchPayload}
			if _, err := ledger.Append(b.Context(), m, 0); err != nil {
				b.Fatal(err)
			}
			appends = append(appends, float64(time.Since(begun).Microseconds()))
			begun = time.Now()
			if _, err := file.Write(benchPayload); err != nil {
				b.Fatal(err)
			}
			if err := file.Sync(); err != nil {
				b.Fatal(err)
			}
			syncs = append(syncs, float64(time.Since(begun).Microseconds()))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(appends), "µs")
	b.ReportMetric(median(syncs), "fsync-µs")
	b.ReportMetric(median(appends)/median(syncs), "fsyncs")
}

// BenchmarkAppendReplicated is three servers in one process on one disk.
func BenchmarkAppendReplicated(b *testing.B) {
	const events = 10000
	c := storetest.NewCluster(b)
	names := 0
	for _, callers := range []int{1, 256, 1024, 4096} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			n := events
			if callers == 1 {
				n = 100
			}
			var rate, bare []float64
			for range b.N {
				for _, measure := range []func(nc *nats.Conn, ledger *eventstore.Ledger, name string){
					func(_ *nats.Conn, ledger *eventstore.Ledger, name string) {
						rate = append(rate, appendAll(b, ledger, name, callers, n))
					},
					func(nc *nats.Conn, _ *eventstore.Ledger, name string) {
						bare = append(bare, bareBatches(b, nc, name, events, bareSize, bareUnderWay))
					},
				} {
					names++
					name := fmt.Sprintf("r3-%d", names)
					first := openBench(b, c.Servers[0].Connect(b), benchConfig(name, 3))
					leader := c.StreamLeader(b, "LEDGER_"+name)
					nc := leader.Connect(b)
					measure(nc, first, name)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(rate), "events/s")
			b.ReportMetric(median(bare), "bare/s")
			b.ReportMetric(median(rate)/median(bare), "of-bare")
		})
	}
}

// BenchmarkRefill compares a refill with the program that only publishes
// batches: on one server with its batches staged on disk and in memory, and on
// three servers in one process on one disk.
func BenchmarkRefill(b *testing.B) {
	const events = 50000
	names := 0
	name := func() string {
		names++
		return fmt.Sprintf("refill-%d", names)
	}
	measure := func(b *testing.B, open func(name string) (*nats.Conn, *eventstore.Ledger)) {
		var rate, bare, again []float64
		for range b.N {
			plain := name()
			nc, _ := open(plain)
			bare = append(bare, bareBatches(b, nc, plain, events, bareSize, bareUnderWay))
			filled := name()
			_, ledger := open(filled)
			rate = append(rate, refillAll(b, ledger, filled, events))
			again = append(again, refillAll(b, ledger, filled, events))
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(rate), "events/s")
		b.ReportMetric(median(bare), "bare/s")
		b.ReportMetric(median(rate)/median(bare), "of-bare")
		b.ReportMetric(median(again), "compared/s")
	}
	for _, staging := range []string{"disk", "memory"} {
		b.Run("staging="+staging, func(b *testing.B) {
			s := storetest.NewServer(b)
			nc := s.Connect(b, nats.InProcessServer(s.NATS()))
			measure(b, func(name string) (*nats.Conn, *eventstore.Ledger) {
				ledger := openBench(b, nc, benchConfig(name, 1))
				if staging == "memory" {
					s.StageInMemory(b, "LEDGER_"+name)
				}
				return nc, ledger
			})
		})
	}
	b.Run("replicated", func(b *testing.B) {
		c := storetest.NewCluster(b)
		measure(b, func(name string) (*nats.Conn, *eventstore.Ledger) {
			config := benchConfig(name, 3)
			if err := eventstore.Create(b.Context(), c.Servers[0].Connect(b), config); err != nil {
				b.Fatal(err)
			}
			nc := c.StreamLeader(b, config.Stream).Connect(b)
			ledger, err := eventstore.Open(b.Context(), nc, config)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { ledger.Close(context.Background()) })
			return nc, ledger
		})
	})
}

// refillAll refills a ledger from n events and returns the events per second.
func refillAll(b *testing.B, ledger *eventstore.Ledger, name string, n int) float64 {
	b.Helper()
	begun := time.Now()
	last, err := ledger.Refill(b.Context(), func(yield func(eventstore.Message, error) bool) {
		for i := range n {
			if !yield(eventstore.Message{Subject: name + ".voter." + strconv.Itoa(i), Data: benchPayload}, nil) {
				return
			}
		}
	}, nil)
	if err != nil || last != uint64(n) {
		b.Fatalf("refill: %d, %v", last, err)
	}
	return float64(n) / time.Since(begun).Seconds()
}

// BenchmarkReplay compares Replay, without subjects and with them, with the
// client library's ordered consumer that only counts.
func BenchmarkReplay(b *testing.B) {
	const events = 50000
	s := storetest.NewServer(b, func(o *server.Options) { o.SyncAlways = false })
	nc := s.Connect(b, nats.InProcessServer(s.NATS()))
	ledger := openBench(b, nc, benchConfig("replay", 1))
	bareBatches(b, nc, "replay", events, bareSize, bareUnderWay)
	replay := func(l interface {
		Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error
	}) float64 {
		begun, count := time.Now(), 0
		err := l.Replay(b.Context(), 1, 0, func(batch []eventstore.Recorded) error {
			count += len(batch)
			return nil
		})
		if err != nil || count != events {
			b.Fatalf("replay: %d events, %v", count, err)
		}
		return events / time.Since(begun).Seconds()
	}
	var rate, whole, bare []float64
	for range b.N {
		rate = append(rate, replay(ledger))
		whole = append(whole, replay(eventstore.WithSubjects{Ledger: ledger}))
		bare = append(bare, bareReplay(b, nc, "LEDGER_replay", events))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rate), "events/s")
	b.ReportMetric(median(bare), "bare/s")
	b.ReportMetric(median(rate)/median(bare), "of-bare")
	b.ReportMetric(median(whole)/median(bare), "with-subjects-of-bare")
}

func bareReplay(b *testing.B, nc *nats.Conn, stream string, events int) float64 {
	b.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	consumer, err := js.OrderedConsumer(b.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(10000))
	if err != nil {
		b.Fatal(err)
	}
	defer messages.Stop()
	for range events {
		if _, err := messages.Next(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(events) / time.Since(begun).Seconds()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

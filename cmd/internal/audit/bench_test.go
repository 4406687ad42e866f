package audit_test

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

var benchVotes = flag.Int("votes", 50_000, "votes in BenchmarkVerify; the figures in the package comment are of 1000000 and 10000000")

const benchSpecialists = 200

// election is a ledger of one vote each by so many voters, made as it is read.
type election struct {
	tb    testing.TB
	votes int
}

func (l election) Info(context.Context) (eventstore.Info, error) {
	return eventstore.Info{Last: uint64(1 + benchSpecialists + l.votes)}, nil
}

func (l election) Follow(context.Context, uint64, func([]eventstore.Recorded) error) error {
	panic("a benchmark does not follow")
}

func (l election) Replay(_ context.Context, _, _ uint64, fn func([]eventstore.Recorded) error) error {
	const batchEvents = 4096
	batch := make([]eventstore.Recorded, 0, batchEvents)
	info, _ := l.Info(context.Background())
	for sequence := uint64(1); sequence <= info.Last; sequence++ {
		batch = append(batch, eventstore.Recorded{Message: eventstore.Message{Data: l.event(sequence)}, Sequence: sequence})
		if len(batch) == batchEvents || sequence == info.Last {
			if err := fn(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

func (l election) event(sequence uint64) []byte {
	const pace = 3 * time.Second
	e := domain.Event{ID: uuid.UUID{0: 1}, Campaign: campaign, Time: opensAt}
	for i := range 8 {
		e.ID[8+i] = byte(sequence >> (8 * i))
	}
	switch i := int(sequence) - 2; {
	case i < 0:
		e.Data = domain.CampaignOpened{OpensAt: opensAt, ClosesAt: opensAt.AddDate(5, 0, 0), Timezone: "Europe/Riga", KeyID: key.ID(),
			Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}}}
	case i < benchSpecialists:
		e.Data = domain.SpecialistRegistered{Specialist: fmt.Sprintf("specialiste-%d", i), Profile: domain.Profile{
			Name: fmt.Sprintf("Žanete Ķirsone %d", i), Institution: "Nodarbinātības valsts aģentūra", Branch: fmt.Sprintf("Gulbene %d", i%20)}}
	default:
		e.Time = opensAt.Add(time.Duration(i) * pace)
		vote := domain.VoteCast{Specialist: fmt.Sprintf("specialiste-%d", i%benchSpecialists), Channel: "web", Active: 1}
		id := tlog.RecordHash(e.ID[:]) // spread like an HMAC
		copy(vote.Voter[:], id[:])
		e.Data = vote
	}
	data, err := domain.Encode(e)
	if err != nil {
		l.tb.Fatal(err)
	}
	return data
}

// fence is a transparency.Fence in memory.
type fence struct {
	signed   transparency.Signed
	revision uint64
}

func (f *fence) Load(context.Context) (transparency.Signed, uint64, error) {
	return f.signed, f.revision, nil
}
func (f *fence) Move(_ context.Context, to transparency.Signed, revision uint64) (uint64, error) {
	f.signed, f.revision = to, revision+1
	return revision + 1, nil
}

// sealed seals a ledger into a new folder.
func sealed(tb testing.TB, l transparency.Ledger) (*transparency.Folder, *transparency.Keys) {
	tb.Helper()
	signing, verifier, err := transparency.GenerateKey("sakipaldies.lv/ledger/" + campaign)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := transparency.ParseSigner(signing)
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := transparency.ParseKeys(verifier)
	if err != nil {
		tb.Fatal(err)
	}
	folder := transparency.NewFolder(tb.TempDir())
	s, err := transparency.NewSealer(transparency.Config{Ledger: l, Folder: folder, Fence: new(fence), Signer: signer, Keys: keys})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.RunToEnd(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return folder, keys
}

// offline is what an auditor with the folder checks.
func offline(tb testing.TB, f *transparency.Folder, keys *transparency.Keys, progress func(uint64)) *audit.Report {
	tb.Helper()
	newest, heads, findings, err := f.Heads(keys)
	if err != nil {
		tb.Fatal(err)
	}
	codec, err := domain.NewCodec()
	if err != nil {
		tb.Fatal(err)
	}
	r, err := audit.Verify(context.Background(), campaign, transparency.Entries{Folder: f, Size: newest.Size}, codec,
		audit.Options{Seal: &audit.Seal{Heads: heads, Findings: findings, Folder: f}, Progress: progress})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// hashing is how long it takes one processor to hash a log's entries and its
// tree, without reading and without anything else.
func hashing(tb testing.TB, f *transparency.Folder, size uint64) (took time.Duration) {
	tb.Helper()
	var tree transparency.Tree
	for index := range (size + transparency.TileWidth - 1) / transparency.TileWidth {
		entries, err := f.Bundle(size, index)
		if err != nil {
			tb.Fatal(err)
		}
		start := time.Now()
		for _, entry := range entries {
			tree.Append(tlog.RecordHash(entry))
		}
		took += time.Since(start)
	}
	return took
}

// BenchmarkVerifyFolder is `audit verify --log`, every check included, compared
// with hashing the same bytes alone. Memory is what is live at the end, and the
// most that the heap took, for each vote.
func BenchmarkVerifyFolder(b *testing.B) {
	l := election{b, *benchVotes}
	folder, keys := sealed(b, l)
	info, _ := l.Info(b.Context())
	var live, peak uint64
	var took, alone time.Duration
	before := heap(true)
	for b.Loop() {
		live, peak = 0, 0
		alone += hashing(b, folder, info.Last)
		var paused time.Duration // for the measuring
		start := time.Now()
		r := offline(b, folder, keys, func(events uint64) {
			if events%(1<<17) == 0 || events == info.Last {
				begun := time.Now()
				peak = max(peak, heap(false))
				if events == info.Last {
					live = heap(true)
				}
				paused += time.Since(begun)
			}
		})
		took += time.Since(start) - paused
		if !r.OK() || r.Votes != int64(l.votes) {
			b.Fatalf("%d votes; %v", r.Votes, mismatches(r))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N)*float64(info.Last)/took.Seconds(), "events/s")
	b.ReportMetric(took.Seconds()/alone.Seconds(), "x-hashing")
	b.ReportMetric(float64(live-before)/float64(l.votes), "B/vote")
	b.ReportMetric(float64(peak-before)/float64(l.votes), "peak-B/vote")
}

// heap is how much of the heap is in use, in bytes.
func heap(collect bool) uint64 {
	if collect {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if collect {
		return m.HeapAlloc
	}
	return m.HeapInuse
}

// BenchmarkVerifyLedger is `audit verify` from NATS, with what was signed,
// compared with a bare ordered consumer that reads the same ledger.
func BenchmarkVerifyLedger(b *testing.B) {
	nc := storetest.NewServer(b, func(o *server.Options) { o.SyncAlways = false }).Connect(b) // it is only read
	config := eventstore.Config{Stream: domain.StreamName(campaign), Subjects: domain.StreamSubjects(campaign),
		Control: domain.ControlSubject(campaign), Replicas: 1}
	if err := eventstore.Create(b.Context(), nc, config); err != nil {
		b.Fatal(err)
	}
	ledger, err := eventstore.Open(b.Context(), nc, config)
	if err != nil {
		b.Fatal(err)
	}
	defer ledger.Close(context.Background())
	codec, err := domain.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	l := election{b, *benchVotes}
	events, err := ledger.Refill(b.Context(), l.messages(codec), nil)
	if err != nil {
		b.Fatal(err)
	}
	var tree transparency.Tree
	_ = l.Replay(b.Context(), 0, 0, func(batch []eventstore.Recorded) error {
		for _, e := range batch {
			tree.Append(tlog.RecordHash(e.Data))
		}
		return nil
	})
	seal := &audit.Seal{Heads: []transparency.Head{{Size: tree.Size(), Root: tree.Root(), From: "a checkpoint"}}}
	var bare, took time.Duration
	for b.Loop() {
		bare += bareReading(b, nc, config.Stream, events)
		start := time.Now()
		r, err := audit.Verify(b.Context(), campaign, eventstore.WithSubjects{Ledger: ledger}, codec, audit.Options{Seal: seal})
		if err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
		if !r.OK() || r.Votes != int64(l.votes) {
			b.Fatalf("%d votes, %d mismatches", r.Votes, len(mismatches(r)))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N)*float64(events)/took.Seconds(), "events/s")
	b.ReportMetric(bare.Seconds()/took.Seconds(), "of-bare")
}

func (l election) messages(codec *domain.Codec) iter.Seq2[eventstore.Message, error] {
	return func(yield func(eventstore.Message, error) bool) {
		info, _ := l.Info(context.Background())
		for sequence := range info.Last {
			data := l.event(sequence + 1)
			e, err := codec.Decode(data)
			if !yield(eventstore.Message{Subject: domain.Subject(e), Data: data}, err) {
				return
			}
		}
	}
}

// bareReading is how long an ordered consumer that does nothing takes.
func bareReading(b *testing.B, nc *nats.Conn, stream string, events uint64) time.Duration {
	b.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	consumer, err := js.OrderedConsumer(b.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(20_000))
	if err != nil {
		b.Fatal(err)
	}
	defer messages.Stop()
	for range events {
		if _, err := messages.Next(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

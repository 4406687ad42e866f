package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKilledWhileBatchesAreUnderWay kills a process that appends batches and
// opens its directory again, every other time without what was staged, as
// after a power loss. What was acknowledged is there, once and in order.
func TestKilledWhileBatchesAreUnderWay(t *testing.T) {
	ctx := t.Context()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	log := &recoveries{}
	acknowledged := map[int]bool{}
	const kills = 10
	for kill := range kills {
		p := startProcess(t, "batches", dir, strconv.Itoa(kill*1_000_000))
		for range 1 + random.IntN(8) {
			if !p.lines.Scan() {
				t.Fatal("the process has ended by itself")
			}
			acknowledged[number(t, p.lines.Text())] = true
		}
		time.Sleep(time.Duration(random.IntN(10_000)) * time.Microsecond) // any moment of a batch
		must(t, p.Process.Kill())
		for p.lines.Scan() {
			acknowledged[number(t, p.lines.Text())] = true
		}
		_ = p.Wait()

		powerLoss := kill%2 == 1
		if powerLoss {
			if folder, err := memoryFolder(dir); err == nil {
				must(t, os.RemoveAll(folder))
			}
		}
		n := open(t, Config{DataDir: dir, StageOnDisk: kill%3 == 2, Logger: slog.New(log)})
		checkBatches(t, streamTexts(ctx, t, n.Conn()), acknowledged, !powerLoss)
		must(t, n.Close())
		if t.Failed() {
			return
		}
	}
	t.Logf("%d batches acknowledged; of %d kills, %d left a batch that was completed at the next start, %d one that could not be",
		len(acknowledged), kills, log.completed, log.given)
}

// checkBatches checks that each batch's events lie together, in order and once,
// and that acknowledged batches are complete. The unacknowledged batch of the
// last process must be complete or absent if whole is set.
func checkBatches(t *testing.T, texts []string, acknowledged map[int]bool, whole bool) {
	t.Helper()
	sizes := map[int]int{}
	last := -1
	for i, text := range texts {
		var batch, event int
		if _, err := fmt.Sscanf(text, "balsojums %d/%d:", &batch, &event); err != nil || text != batchData(batch, event) {
			t.Fatalf("event %d is %q: %v", i+1, text, err)
		}
		sizes[batch]++
		if event != sizes[batch] || batch < last {
			t.Fatalf("event %d of the ledger is event %d of batch %d, of which %d came before", i+1, event, batch, sizes[batch]-1)
		}
		last = batch
	}
	for batch := range acknowledged {
		if sizes[batch] != batchSize {
			t.Errorf("batch %d was acknowledged, %d of its %d events are there", batch, sizes[batch], batchSize)
		}
	}
	if whole && last >= 0 && sizes[last] != batchSize {
		t.Errorf("the last batch was left with %d of %d events", sizes[last], batchSize)
	}
}

func number(t *testing.T, line string) int {
	t.Helper()
	n, err := strconv.Atoi(line)
	must(t, err)
	return n
}

// recoveries counts what the server says of batches that were cut off.
type recoveries struct {
	mu               sync.Mutex
	completed, given int
}

func (r *recoveries) Enabled(context.Context, slog.Level) bool { return true }
func (r *recoveries) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recoveries) WithGroup(string) slog.Handler            { return r }
func (r *recoveries) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case strings.Contains(record.Message, "Restoring partial batch write"):
		r.completed++
	case strings.Contains(record.Message, "Failed restoring partial batch write"):
		r.given++
	}
	return nil
}

func TestStagedOnDiskWhenConfigured(t *testing.T) {
	ctx := contextFor(t)
	n := open(t, Config{DataDir: t.TempDir(), StageOnDisk: true})
	must(t, createStream(ctx, n.Conn()))
	n.Stage(testStream)
	if _, err := publishBatch(ctx, n.Conn(), 1, 10); err != nil {
		t.Error(err)
	}
	if entry, err := os.Lstat(n.staging.streams + "/" + testStream + "/" + batchesName); err != nil || !entry.IsDir() {
		t.Errorf("batches are staged in %v: %v", entry, err)
	}
}

// BenchmarkBatch compares the two places for batches under way, with one batch
// in flight:
//
//	go test -run '^$' -bench Batch ./cmd/internal/node
func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{10, 100, batchSize} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			disk, memory := timeBatches(b, true, size), timeBatches(b, false, size)
			b.ReportMetric(float64(disk.Microseconds()), "µs/on-disk")
			b.ReportMetric(float64(memory.Microseconds()), "µs/in-memory")
			b.ReportMetric(float64(disk)/float64(memory), "speedup")
		})
	}
}

// timeBatches is the time of one batch, commit included.
func timeBatches(b *testing.B, onDisk bool, size int) time.Duration {
	b.Helper()
	ctx := b.Context()
	n, err := Open(ctx, Config{DataDir: b.TempDir(), StageOnDisk: onDisk})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	if err := createStream(ctx, n.Conn()); err != nil {
		b.Fatal(err)
	}
	n.Stage(testStream)
	start := time.Now()
	for i := range b.N {
		if _, err := publishBatch(ctx, n.Conn(), i, size); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / time.Duration(b.N)
}

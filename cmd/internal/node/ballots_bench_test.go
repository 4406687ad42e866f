package node

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/eventstore"
)

// ballots is how many subjects BenchmarkBallots fills; the figures in the
// package comment are from -ballots 1000000.
var ballots = flag.Int("ballots", 20_000, "ballots in BenchmarkBallots")

// BenchmarkBallots tells what a node costs that holds many ballots: memory
// above an empty node, and the time until it has started again.
func BenchmarkBallots(b *testing.B) {
	ctx, data := b.Context(), b.TempDir()
	config := eventstore.Config{
		Stream:   "LEDGER_bench",
		Subjects: []string{"ledger.bench.campaign", "ledger.bench.voter.*"},
		Control:  "ledger.bench.campaign", Replicas: 1,
	}
	empty := heapMiB()
	n, err := Open(ctx, Config{DataDir: data})
	if err != nil {
		b.Fatal(err)
	}
	if err := n.CreateLedger(ctx, config); err != nil {
		b.Fatal(err)
	}
	fillBallots(b, n, config)
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		start := time.Now()
		n, err = Open(ctx, Config{DataDir: data})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/start")
		b.ReportMetric(heapMiB()-empty, "MiB/heap")
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func heapMiB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// fillBallots records one event on each of as many subjects as there are
// ballots.
func fillBallots(b *testing.B, n *Node, config eventstore.Config) {
	b.Helper()
	const callers = 4096
	ledger, err := n.OpenLedger(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 300)
	var work sync.WaitGroup
	for caller := range callers {
		work.Go(func() {
			for i := caller; i < *ballots; i += callers {
				m := eventstore.Message{Subject: fmt.Sprintf("ledger.bench.voter.%032x", i), Data: data}
				if _, err := ledger.Append(b.Context(), m, 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if err := ledger.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

package projections_test

import (
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// BenchmarkFold compares the replay of a campaign into a tally, decoding
// included, and the building of the read model in memory with a bare ordered
// consumer that only receives the messages.
func BenchmarkFold(b *testing.B) {
	const votes = 100_000
	load := projectiontest.NewLoad(b, storetest.NewServer(b).Connect(b), votes)
	codec := projectiontest.Codec(b)
	var bare, fold, model time.Duration
	for b.Loop() {
		bare += load.Bare(b)
		start := time.Now()
		var tally domain.Tally
		err := projections.Replay(b.Context(), load.Ledger, codec, 1, 0, func(sequence uint64, e domain.Event) error {
			_, err := tally.Apply(sequence, e)
			return err
		})
		if err != nil || tally.Votes() != votes {
			b.Fatalf("%d votes: %v", tally.Votes(), err)
		}
		fold += time.Since(start)
		start = time.Now()
		models := new(projections.MemoryModels)
		check(b, projectiontest.Runner(b, load, models).RunToEnd(b.Context()))
		model += time.Since(start)
		projectiontest.Expect(b, models, load.Campaign, &tally)
	}
	b.ReportMetric(float64(b.N*load.Events())/fold.Seconds(), "events/s")
	b.ReportMetric(float64(b.N*load.Events())/bare.Seconds(), "bare-events/s")
	b.ReportMetric(bare.Seconds()/fold.Seconds(), "of-bare")
	b.ReportMetric(bare.Seconds()/model.Seconds(), "memory-of-bare")
}

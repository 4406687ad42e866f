package queue_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// benchVotes is how many votes one measurement has. Those that count take seconds:
// with 20,000 it was over before a jam showed that halved the rate.
var benchVotes = flag.Int("votes", 20_000, "votes of one measurement of the benchmark")

const (
	// benchCallers is how many append or submit at a time.
	benchCallers = 4000
	benchRounds  = 3
)

// event is as large as a vote is in the ledger.
var event = []byte(strings.Repeat("Paldies par sirsnīgu apkalpošanu! ", 9)[:300])

// BenchmarkQueue compares, in one run and in turns, bytes appended to a ledger,
// votes submitted to intake, and votes that go through the queue: they are there
// when a worker starts, and the time ends with the last outcome.
func BenchmarkQueue(b *testing.B) {
	for b.Loop() {
		rates := make(map[string][]float64)
		for range benchRounds {
			rates["append"] = append(rates["append"], appending(b))
			rates["intake"] = append(rates["intake"], submitting(b))
			rates["queue"] = append(rates["queue"], queueing(b))
		}
		through := median(rates["queue"])
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(through, "votes/s")
		b.ReportMetric(through/median(rates["append"]), "of-append")
		b.ReportMetric(through/median(rates["intake"]), "of-intake")
	}
}

func median(values []float64) float64 {
	slices.SortFunc(values, cmp.Compare)
	return values[len(values)/2]
}

// perSecond calls a function for each vote, many at a time.
func perSecond(b *testing.B, call func(n int) error) float64 {
	var next atomic.Int64
	var work sync.WaitGroup
	begun := time.Now()
	for range benchCallers {
		work.Go(func() {
			for n := next.Add(1); n <= int64(*benchVotes); n = next.Add(1) {
				if err := call(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	return float64(*benchVotes) / time.Since(begun).Seconds()
}

// appending is eventstore.Ledger alone.
func appending(b *testing.B) float64 {
	w := newWorld(b)
	l := w.ledger(w.nc, campaign)
	return perSecond(b, func(n int) error {
		_, err := l.Append(b.Context(), eventstore.Message{Subject: domain.VoterSubject(campaign, domain.Pseudonym{byte(n), byte(n >> 8), byte(n >> 16)}), Data: event}, 0)
		return err
	})
}

// submitting is intake alone.
func submitting(b *testing.B) float64 {
	w := newWorld(b)
	in := w.intake(w.ledger(w.nc, campaign), campaign)
	return perSecond(b, func(n int) error {
		it := benchVote(n)
		_, err := in.Submit(b.Context(), intake.Command{Action: it.Action, Voter: it.Voter, Specialist: it.Specialist, Channel: it.Channel, SubmissionID: it.ID})
		return err
	})
}

func benchVote(n int) queue.Item {
	return vote(fmt.Sprintf("lv-pk:%011d", n), "zane-cirule", fmt.Sprintf("%08d", n))
}

// queueing is everything between the queue and the outcomes.
func queueing(b *testing.B) float64 {
	w := newWorld(b)
	items := make([]queue.Item, *benchVotes)
	for n := range items {
		items[n] = benchVote(n)
	}
	w.submit(items...)
	js, err := jetstream.New(w.nc)
	check(b, err)
	begun := time.Now()
	r := w.start()
	storetest.Eventually(b, "everything is decided", func() bool {
		stream, err := js.Stream(b.Context(), queue.OutcomesStream(campaign))
		check(b, err)
		return stream.CachedInfo().State.Msgs == uint64(*benchVotes)
	})
	rate := float64(*benchVotes) / time.Since(begun).Seconds()
	r.end()
	return rate
}

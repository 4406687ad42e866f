package intake_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// BenchmarkSubmit measures votes of distinct voters, from the command to the
// receipt, on an embedded node that fsyncs before it acknowledges. A lone vote
// is compared with a bare fsync on the same disk.
func BenchmarkSubmit(b *testing.B) {
	for _, callers := range []int{1, 256, 2048} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			in := benchIntake(b)
			fsync := fsyncTime(b)
			b.ReportAllocs()
			b.ResetTimer()
			var work sync.WaitGroup
			for caller := range callers {
				work.Go(func() {
					for i := caller; i < b.N; i += callers {
						_, err := in.Submit(b.Context(), intake.Command{Action: domain.Vote, Voter: fmt.Sprintf("balsotājs %d", i),
							Specialist: "zane", Channel: "web", SubmissionID: fmt.Sprint(i)})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			work.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "votes/s")
			if callers == 1 {
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/fsync.Seconds(), "fsyncs/vote")
			}
		})
	}
}

// benchIntake is an intake on a node of its own, with one specialist.
func benchIntake(b *testing.B) *intake.Intake {
	b.Helper()
	const campaign = "bench"
	ctx := b.Context()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	n, err := node.Open(ctx, node.Config{DataDir: b.TempDir()})
	must(err)
	b.Cleanup(func() { n.Close() })
	config := eventstore.Config{Stream: domain.StreamName(campaign), Subjects: domain.StreamSubjects(campaign),
		Control: domain.ControlSubject(campaign), Replicas: 1}
	must(n.CreateLedger(ctx, config))
	ledger, err := n.OpenLedger(ctx, config)
	must(err)
	b.Cleanup(func() { ledger.Close(b.Context()) })
	codec, err := domain.NewCodec()
	must(err)
	key, now := domain.PseudonymKey{1}, domain.Timestamp(time.Now())
	_, err = intake.OpenCampaign(ctx, ledger, campaign, domain.CampaignOpened{OpensAt: now.Add(-time.Hour), ClosesAt: now.Add(24 * time.Hour),
		Timezone: "Europe/Riga", Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}}, KeyID: key.ID()}, now)
	must(err)
	in, err := intake.New(ctx, intake.Config{Campaign: campaign, Ledger: ledger, Codec: codec, Key: &key})
	must(err)
	_, err = in.SetSpecialist(ctx, "zane", domain.Profile{Name: "Zane Ķirse"})
	must(err)
	return in
}

// fsyncTime is what one write and fsync of a small file's end takes.
func fsyncTime(b *testing.B) time.Duration {
	b.Helper()
	const rounds = 200
	f, err := os.Create(filepath.Join(b.TempDir(), "fsync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	start := time.Now()
	for range rounds {
		if _, err := f.Write(make([]byte, 300)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / rounds
}

package intake_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
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
			in := benchIntake(b, node.Config{DataDir: b.TempDir()})
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

// BenchmarkSubmitApart is what a vote allocates in intake, append and the NATS
// client: the server runs in a process of its own.
func BenchmarkSubmitApart(b *testing.B) {
	const callers = 256
	folder := b.TempDir()
	startNode(b, folder)
	in := benchIntake(b, node.Config{DataDir: folder, Join: true})
	commands := make([]intake.Command, b.N)
	for i := range commands {
		commands[i] = intake.Command{Action: domain.Vote, Voter: fmt.Sprintf("balsotājs %d", i), Specialist: "zane", Channel: "web", SubmissionID: fmt.Sprint(i)}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var work sync.WaitGroup
	for caller := range callers {
		work.Go(func() {
			for i := caller; i < b.N; i += callers {
				if _, err := in.Submit(b.Context(), commands[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "votes/s")
}

// nodeFolder is the environment variable that makes this program a node.
const nodeFolder = "PALDIES_TEST_NODE_FOLDER"

// serveNode is a node until its standard input ends.
func serveNode(folder string) {
	n, err := node.Open(context.Background(), node.Config{DataDir: folder, Serve: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := n.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startNode starts a process with a node, which ends with the benchmark.
func startNode(b *testing.B, folder string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), nodeFolder+"="+folder), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
}

// benchIntake is an intake on a node, with one specialist.
func benchIntake(b *testing.B, c node.Config) *intake.Intake {
	b.Helper()
	const campaign = "bench"
	ctx := b.Context()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	n, err := node.Open(ctx, c)
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

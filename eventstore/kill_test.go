package eventstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

const (
	// victimFolder is set in a process that is to be killed: the test binary
	// itself, which then appends to a ledger in that folder until its end.
	victimFolder = "PALDIES_TEST_VICTIM_FOLDER"
	// victimRound makes the events of one process different from the others'.
	victimRound = "PALDIES_TEST_VICTIM_ROUND"
	// victimStaging is a folder outside the store for the server's batches, or empty.
	victimStaging = "PALDIES_TEST_VICTIM_STAGING"
	// victimRefills says that the process refills the ledger and ends.
	victimRefills = "PALDIES_TEST_VICTIM_REFILLS"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(victimFolder); folder != "" {
		be := beVictim
		if os.Getenv(victimRefills) != "" {
			be = beRefiller
		}
		if err := be(folder, os.Getenv(victimRound), os.Getenv(victimStaging)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, storetest.Leftovers()...)
}

// victimConfig is the ledger of the processes that are killed.
func victimConfig() eventstore.Config { return storetest.Config("LEDGER_victim", 1) }

func victimServer(folder string) (*server.Server, *nats.Conn, error) {
	s, err := server.NewServer(&server.Options{
		JetStream: true, StoreDir: folder, SyncAlways: true, DontListen: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return nil, nil, errors.New("nats-server is not ready")
	}
	nc, err := nats.Connect("", append(eventstore.ConnectOptions(), nats.InProcessServer(s))...)
	return s, nc, err
}

// victimLedger opens the ledger in the folder, and makes it the first time. The
// server stages its batches in the folder staging unless that is empty.
func victimLedger(folder, staging string) (*eventstore.Ledger, error) {
	s, nc, err := victimServer(folder)
	if err != nil {
		return nil, err
	}
	ctx, config := context.Background(), victimConfig()
	if err := eventstore.Create(ctx, nc, config); err != nil && !errors.Is(err, eventstore.ErrExists) {
		return nil, err
	}
	if staging != "" {
		batches := filepath.Join(s.StoreDir(), server.DEFAULT_GLOBAL_ACCOUNT, "streams", config.Stream, "batches")
		if err := os.RemoveAll(batches); err != nil {
			return nil, err
		}
		if err := os.Symlink(staging, batches); err != nil {
			return nil, err
		}
	}
	return eventstore.Open(ctx, nc, config)
}

// beVictim appends as fast as it can and writes a line for each event that was
// acknowledged, at once and unbuffered. It ends only by an error.
func beVictim(folder, round, staging string) error {
	ctx := context.Background()
	ledger, err := victimLedger(folder, staging)
	if err != nil {
		return err
	}
	const callers = 100
	failed := make(chan error, callers)
	var next atomic.Int64
	for range callers {
		go func() {
			for {
				m := victimEvent(round, int(next.Add(1)))
				a, err := ledger.Append(ctx, m, 0)
				if err != nil {
					failed <- err
					return
				}
				// One write is one line in the pipe, whoever else writes.
				if _, err := os.Stdout.WriteString(fmt.Sprintf("%d %s %s\n", a.Sequence, m.Subject, m.Data)); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

func victimEvent(round string, n int) eventstore.Message {
	return eventstore.Message{
		Subject: storetest.Subject("LEDGER_victim", n) + "-" + round,
		Data:    fmt.Appendf(nil, `{"kārta":%s,"numurs":%d,"teksts":"Paldies_par_sirsnību!"}`, round, n),
	}
}

// TestKilledProcesses kills real processes while they append, again and again
// on the same data: each event that was acknowledged is there, once, where the
// acknowledgement said.
func TestKilledProcesses(t *testing.T) {
	for name, elsewhere := range map[string]bool{"batches staged in the store": false, "batches staged elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			const rounds = 8
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			folder := t.TempDir()
			acknowledged := make(map[uint64]eventstore.Message)
			for round := range rounds {
				staging := ""
				if elsewhere {
					staging = t.TempDir() // a new one each time, as a tmpfs is after a power loss
				}
				runVictim(t, folder, strconv.Itoa(round), staging, random, acknowledged)
			}
			if len(acknowledged) < rounds {
				t.Errorf("only %d events were acknowledged: the test shows nothing", len(acknowledged))
			}
			wantAcknowledged(t, folder, acknowledged)
		})
	}
}

// runVictim starts a process, kills it at a random moment after its first
// acknowledgement, and adds what it acknowledged.
func runVictim(t *testing.T, folder, round, staging string, random *rand.Rand, acknowledged map[uint64]eventstore.Message) {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimFolder+"="+folder, victimRound+"="+round, victimStaging+"="+staging)
	var stderr bytes.Buffer
	victim.Stderr = &stderr
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	var kill *time.Timer
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // what follows the last line's end was not acknowledged
		}
		if err != nil {
			t.Fatal(err)
		}
		if kill == nil {
			kill = time.AfterFunc(time.Duration(random.Int64N(int64(150*time.Millisecond))), func() { _ = victim.Process.Kill() })
		}
		var sequence uint64
		var m eventstore.Message
		var data string
		if _, err := fmt.Sscan(line, &sequence, &m.Subject, &data); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		m.Data = []byte(data)
		if other, twice := acknowledged[sequence]; twice {
			t.Fatalf("sequence %d was acknowledged for %s and for %s", sequence, other.Subject, m.Subject)
		}
		acknowledged[sequence] = m
	}
	err = victim.Wait()
	if kill == nil {
		t.Fatalf("the process ended by itself: %v\n%s", err, stderr.String())
	}
	if kill.Stop() {
		t.Fatalf("the process ended before it was killed: %v\n%s", err, stderr.String())
	}
}

// wantAcknowledged checks the ledger that the killed processes have left.
func wantAcknowledged(t *testing.T, folder string, acknowledged map[uint64]eventstore.Message) {
	t.Helper()
	s, nc, err := victimServer(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer s.WaitForShutdown()
	defer s.Shutdown()
	defer nc.Close()
	ledger, err := eventstore.Open(t.Context(), nc, victimConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close(t.Context())
	subjects := make(map[string]uint64)
	err = eventstore.WithSubjects{Ledger: ledger}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, got := range batch {
			if earlier, twice := subjects[got.Subject]; twice {
				t.Errorf("the event on %s is there twice, at %d and at %d", got.Subject, earlier, got.Sequence)
			}
			subjects[got.Subject] = got.Sequence
			want, ok := acknowledged[got.Sequence]
			if ok && (want.Subject != got.Subject || !bytes.Equal(want.Data, got.Data)) {
				t.Errorf("sequence %d holds %s %s, acknowledged was %s %s", got.Sequence, got.Subject, got.Data, want.Subject, want.Data)
			}
			delete(acknowledged, got.Sequence)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for sequence, m := range acknowledged {
		t.Errorf("sequence %d on %s was acknowledged and is gone", sequence, m.Subject)
	}
	t.Logf("%d events in the ledger", len(subjects))
}

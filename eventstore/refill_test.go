package eventstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// makeCopy makes a copy of n events: subjects that come again, in one batch too,
// and the control subject now and then. A smaller n gives the beginning of the
// same copy.
func makeCopy(stream string, n int) []eventstore.Message {
	events := make([]eventstore.Message, n)
	for i := range events {
		subject := storetest.Subject(stream, i-i%3)
		if i%700 == 0 {
			subject = storetest.Control(stream)
		}
		events[i] = eventstore.Message{Subject: subject, Data: fmt.Appendf(nil, `{"numurs":%d,"teksts":"Paldies par ķiparu sirsnību!"}`, i+1)}
	}
	return events
}

// each yields the events one by one.
func each(events []eventstore.Message) iter.Seq2[eventstore.Message, error] {
	return func(yield func(eventstore.Message, error) bool) {
		for _, m := range events {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// before yields the events and calls fn before the one at index i.
func before(i int, events []eventstore.Message, fn func() error) iter.Seq2[eventstore.Message, error] {
	return func(yield func(eventstore.Message, error) bool) {
		for at, m := range events {
			var err error
			if at == i {
				err = fn()
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// wantEvents checks that the ledger holds exactly these events, from sequence 1.
func wantEvents(t testing.TB, ledger *eventstore.Ledger, want []eventstore.Message) {
	t.Helper()
	count := 0
	err := eventstore.WithSubjects{Ledger: ledger}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, got := range batch {
			if count++; got.Sequence != uint64(count) || count > len(want) {
				return fmt.Errorf("sequence %d in place of %d of %d", got.Sequence, count, len(want))
			}
			if m := want[count-1]; m.Subject != got.Subject || !bytes.Equal(m.Data, got.Data) {
				return fmt.Errorf("sequence %d holds %s %s, want %s %s", got.Sequence, got.Subject, got.Data, m.Subject, m.Data)
			}
		}
		return nil
	})
	if err != nil || count != len(want) {
		t.Errorf("the ledger holds %d events, want %d: %v", count, len(want), err)
	}
}

// refill refills and checks the last sequence and the progress that was told.
func refill(t testing.TB, ledger *eventstore.Ledger, events []eventstore.Message) {
	t.Helper()
	var told uint64
	last, err := ledger.Refill(t.Context(), each(events), func(recorded uint64) {
		if recorded <= told {
			t.Errorf("progress fell from %d to %d", told, recorded)
		}
		told = recorded
	})
	if err != nil || last != uint64(len(events)) || told != last {
		t.Errorf("refill: sequence %d, told %d, want %d: %v", last, told, len(events), err)
	}
}

// fresh makes an empty ledger of this name on the server.
func fresh(t *testing.T, s *storetest.Server, stream string) *eventstore.Ledger {
	t.Helper()
	nc, config := s.Connect(t), storetest.Config(stream, 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	return open(t, nc, config)
}

// TestRefillFromALedger copies one ledger to another server and goes on there
// with the sequences of the first.
func TestRefillFromALedger(t *testing.T) {
	const stream, total = "LEDGER_refill", 3000
	original := fresh(t, storetest.NewServer(t), stream)
	var wg sync.WaitGroup
	for i := range total {
		wg.Go(func() {
			if _, err := original.Append(t.Context(), storetest.Event(storetest.Subject(stream, i)), 0); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	wg.Wait()
	var events []eventstore.Message
	err := eventstore.WithSubjects{Ledger: original}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, e := range batch {
			events = append(events, e.Message)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	restored := fresh(t, storetest.NewServer(t), stream)
	refill(t, restored, events)
	wantEvents(t, restored, events)
	for sequence := uint64(1); sequence <= total; sequence += 500 {
		m := storetest.Event(events[sequence-1].Subject)
		_, err := restored.Append(t.Context(), m, sequence-1)
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) || conflict.Actual != sequence {
			t.Errorf("append as if event %d were not there: %v", sequence, err)
		}
		if _, err := restored.Append(t.Context(), m, sequence); err != nil {
			t.Errorf("append after event %d: %v", sequence, err)
		}
	}
}

// TestRefillOfAnySize goes over the limits of a batch, and again on what is
// already there.
func TestRefillOfAnySize(t *testing.T) {
	s := storetest.NewServer(t)
	for _, n := range []int{0, 1, 2, 9, 10, 999, 1000, 1001, 4000, 9001} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			stream := fmt.Sprintf("LEDGER_%d", n)
			ledger, events := fresh(t, s, stream), makeCopy(stream, n)
			refill(t, ledger, events)
			wantEvents(t, ledger, events)
			refill(t, ledger, events)
			wantEvents(t, ledger, events)
		})
	}
	t.Run("the largest events", func(t *testing.T) {
		const stream = "LEDGER_largest"
		ledger, events := fresh(t, s, stream), makeCopy(stream, 1500)
		for i := range events {
			events[i].Data = append(events[i].Data, bytes.Repeat([]byte("š"), (eventstore.MaxEventBytes-len(events[i].Data))/len("š"))...)
		}
		refill(t, ledger, events)
		wantEvents(t, ledger, events)
	})
	t.Run("in steps", func(t *testing.T) {
		const stream = "LEDGER_steps"
		ledger := fresh(t, s, stream)
		for _, n := range []int{1, 500, 1500, 1501, 7000} {
			refill(t, ledger, makeCopy(stream, n))
		}
		wantEvents(t, ledger, makeCopy(stream, 7000))
	})
}

// TestRefillOfAnotherLedger: what does not begin as the copy does is left as it
// is, and the error names the first sequence that differs.
func TestRefillOfAnotherLedger(t *testing.T) {
	const stream, held, total = "LEDGER_another", 6000, 8000
	s := storetest.NewServer(t)
	ledger := fresh(t, s, stream)
	there := makeCopy(stream, held)
	refill(t, ledger, there)
	for name, test := range map[string]struct {
		change func([]eventstore.Message) []eventstore.Message
		at     uint64
	}{
		"other bytes": {func(events []eventstore.Message) []eventstore.Message {
			events[4999].Data = []byte("citi baiti")
			return events
		}, 5000},
		"another subject": {func(events []eventstore.Message) []eventstore.Message {
			events[0].Subject = storetest.Subject(stream, 77)
			return events
		}, 1},
		"two in another order": {func(events []eventstore.Message) []eventstore.Message {
			events[held-2], events[held-1] = events[held-1], events[held-2]
			return events
		}, held - 1},
		"shorter":      {func(events []eventstore.Message) []eventstore.Message { return events[:held-1] }, held},
		"much shorter": {func(events []eventstore.Message) []eventstore.Message { return events[:10] }, 11},
		"nothing":      {func([]eventstore.Message) []eventstore.Message { return nil }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ledger.Refill(t.Context(), each(test.change(makeCopy(stream, total))), nil)
			var differs *eventstore.DifferenceError
			if !errors.As(err, &differs) || !errors.Is(err, eventstore.ErrDiffers) || differs.Sequence != test.at {
				t.Errorf("refill: %v, want a difference at %d", err, test.at)
			}
			wantEvents(t, ledger, there)
		})
	}
}

// TestRefillAndSomebodyElse: an event that is no part of the copy comes in
// between. It stays the last one, and the refill says where it is.
func TestRefillAndSomebodyElse(t *testing.T) {
	const stream, total = "LEDGER_foreign", 9000
	s := storetest.NewServer(t)
	ledger := fresh(t, s, stream)
	other := open(t, s.Connect(t), storetest.Config(stream, 1))
	foreign := storetest.Event(storetest.Subject(stream, 77))
	var at uint64
	events := makeCopy(stream, total)
	_, err := ledger.Refill(t.Context(), before(6500, events, func() error {
		a, err := other.Append(t.Context(), foreign, 0)
		at = a.Sequence
		return err
	}), nil)
	var differs *eventstore.DifferenceError
	if !errors.As(err, &differs) || differs.Sequence != at || differs.Ledger != foreign.Subject {
		t.Fatalf("refill: %v, the foreign event is at %d", err, at)
	}
	wantEvents(t, ledger, append(events[:at-1:at-1], foreign))
}

// TestRefillFromADamagedCopy: the copy counts up to its first bad event, whose
// sequence is named; a sound one goes on there.
func TestRefillFromADamagedCopy(t *testing.T) {
	s := storetest.NewServer(t)
	unreadable := errors.New("the bundle's hash is wrong")
	const total = 2500
	for name, test := range map[string]struct {
		m    eventstore.Message
		err  error
		want string
	}{
		"too large":             {eventstore.Message{Subject: "LEDGER_%.balsotājs.1", Data: make([]byte, eventstore.MaxEventBytes+1)}, nil, "16385 bytes"},
		"empty":                 {eventstore.Message{Subject: "LEDGER_%.balsotājs.1"}, nil, "no bytes"},
		"for another ledger":    {eventstore.Message{Subject: "cits.temats", Data: []byte("x")}, nil, "cits.temats"},
		"with a wildcard":       {eventstore.Message{Subject: "LEDGER_%.balsotājs.*", Data: []byte("x")}, nil, "wildcard"},
		"that cannot be read":   {eventstore.Message{}, unreadable, unreadable.Error()},
		"that is not there yet": {eventstore.Message{}, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF.Error()},
	} {
		for _, at := range []int{1, 1501, total} {
			t.Run(fmt.Sprintf("an event %s at %d", name, at), func(t *testing.T) {
				stream := "LEDGER_" + strings.ReplaceAll(name, " ", "-") + fmt.Sprint(at)
				ledger, sound := fresh(t, s, stream), makeCopy(stream, total)
				bad := test.m
				bad.Subject = strings.Replace(bad.Subject, "LEDGER_%", stream, 1)
				last, err := ledger.Refill(t.Context(), func(yield func(eventstore.Message, error) bool) {
					for i, m := range sound {
						if i != at-1 && !yield(m, nil) || i == at-1 && !yield(bad, test.err) {
							return
						}
					}
				}, nil)
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("event %d:", at)) || !strings.Contains(err.Error(), test.want) ||
					test.err != nil && !errors.Is(err, test.err) {
					t.Errorf("refill: %v, want %q about event %d", err, test.want, at)
				}
				if last != uint64(at-1) {
					t.Errorf("refilled up to %d, want %d", last, at-1)
				}
				wantEvents(t, ledger, sound[:at-1])
				refill(t, ledger, sound)
				wantEvents(t, ledger, sound)
			})
		}
	}
}

// TestRefillIsCancelled ends at once and is gone on with.
func TestRefillIsCancelled(t *testing.T) {
	f := newFaulty(t)
	events := makeCopy(f.config.Stream, 8000)
	ctx, cancel := context.WithCancel(t.Context())
	last, err := f.ledger.Refill(ctx, before(5500, events, func() error {
		f.proxy.DropAnswers() // what is under way stays unanswered
		cancel()
		return nil
	}), nil)
	if !errors.Is(err, context.Canceled) || last > 5500 {
		t.Errorf("refill: %d, %v", last, err)
	}
	f.proxy.Cut()
	refill(t, f.direct, events)
	wantEvents(t, f.direct, events)

	if _, err := f.direct.Refill(ctx, each(events), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("refill with an ended context: %v", err)
	}
	closing := open(t, f.server.Connect(t), f.config)
	if err := closing.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := closing.Refill(t.Context(), each(events), nil); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("refill of a closed ledger: %v", err)
	}
}

// TestRefillIsRefused: what does not pass is an error that says so, soon.
func TestRefillIsRefused(t *testing.T) {
	nc := storetest.NewServer(t).Connect(t)
	for name, test := range map[string]struct {
		change func(*jetstream.StreamConfig)
		want   string
	}{
		"without batches":     {func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, "allow_atomic"},
		"with a full store":   {func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 200<<10, jetstream.DiscardNew }, "maximum bytes"},
		"by the event size":   {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 50 }, "message size"},
		"by a first sequence": {func(c *jetstream.StreamConfig) { c.FirstSeq = 100 }, "sequence 1 is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			config := storetest.Config("LEDGER_"+strings.ReplaceAll(name, " ", "-"), 1)
			stream := jetstream.StreamConfig{Name: config.Stream, Subjects: config.Subjects, AllowDirect: true, AllowAtomicPublish: true}
			test.change(&stream)
			if _, err := js.CreateStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			ledger, begun := open(t, nc, config), time.Now()
			last, err := ledger.Refill(t.Context(), each(makeCopy(config.Stream, 5000)), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || time.Since(begun) > 10*time.Second {
				t.Errorf("refill: %v after %v, want %q", err, time.Since(begun), test.want)
			}
			if last > 0 {
				wantEvents(t, ledger, makeCopy(config.Stream, int(last)))
			}
		})
	}
}

// TestRefillAnswersAreLost: the server recorded what it does not get to say.
func TestRefillAnswersAreLost(t *testing.T) {
	for name, lose := range map[string]func(*storetest.Proxy){"answers": (*storetest.Proxy).DropAnswers, "requests": (*storetest.Proxy).DropRequests} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			events := makeCopy(f.config.Stream, 6000)
			lost := make(chan struct{}) // closed when the network loses
			ended := make(chan error, 1)
			go func() {
				_, err := f.ledger.Refill(t.Context(), before(0, events, func() error {
					lose(f.proxy)
					close(lost)
					return nil
				}), nil)
				ended <- err
			}()
			<-lost
			if name == "answers" {
				storetest.Eventually(t, "the server has recorded a batch", func() bool { return f.stored() > 0 })
			}
			f.proxy.Cut()
			if err := <-ended; err != nil {
				t.Errorf("refill: %v", err)
			}
			wantEvents(t, f.direct, events)
		})
	}
}

// TestRefillThroughABadNetwork: the network breaks at random moments in random
// ways, each time after something was recorded.
func TestRefillThroughABadNetwork(t *testing.T) {
	const total, breaks = 40000, 15
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFaulty(t)
	events := makeCopy(f.config.Stream, total)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	advanced, broken := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for broken < breaks {
			select {
			case <-advanced:
				breakNetwork(ctx, f.proxy, random)
				broken++
			case <-ctx.Done():
				return
			}
		}
	})
	last, err := f.ledger.Refill(ctx, each(events), func(uint64) {
		select {
		case advanced <- struct{}{}:
		default: // the network is breaking just now, or breaks no more
		}
	})
	if err != nil || last != total {
		t.Errorf("refill: %d, %v", last, err)
	}
	cancel()
	wg.Wait()
	if broken < breaks/2 {
		t.Errorf("the network broke only %d times: the test shows nothing", broken)
	}
	wantEvents(t, f.direct, events)
}

// TestRefillTwiceAtOnce: each event is there once, whoever recorded it.
func TestRefillTwiceAtOnce(t *testing.T) {
	s := storetest.NewServer(t)
	for _, n := range []int{5, 20000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			stream := fmt.Sprintf("LEDGER_twice-%d", n)
			first, events := fresh(t, s, stream), makeCopy(stream, n)
			second := open(t, s.Connect(t), storetest.Config(stream, 1))
			refillTogether(t, events, first, second, first)
		})
	}
}

func refillTogether(t *testing.T, events []eventstore.Message, ledgers ...*eventstore.Ledger) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, ledger := range ledgers {
		wg.Go(func() {
			<-start
			refill(t, ledger, events)
		})
	}
	close(start)
	wg.Wait()
	wantEvents(t, ledgers[0], events)
}

// TestRefillOnThreeServers: alone and together, and while leaders step down and
// one is stopped.
func TestRefillOnThreeServers(t *testing.T) {
	cluster := storetest.NewCluster(t)
	ledgers := func(t *testing.T, stream string) (all []*eventstore.Ledger) {
		config := storetest.Config(stream, 3)
		for i, s := range cluster.Servers {
			nc := s.Connect(t)
			if i == 0 {
				if err := eventstore.Create(t.Context(), nc, config); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, open(t, nc, config))
		}
		return all
	}
	t.Run("alone", func(t *testing.T) {
		const stream = "LEDGER_r3-alone"
		all, events := ledgers(t, stream), makeCopy(stream, 12345)
		refill(t, all[0], events)
		for _, ledger := range all {
			wantEvents(t, ledger, events)
		}
	})
	t.Run("together", func(t *testing.T) {
		const stream = "LEDGER_r3-together"
		refillTogether(t, makeCopy(stream, 12345), ledgers(t, stream)...)
	})
	t.Run("while leaders change", func(t *testing.T) {
		const stream, total = "LEDGER_r3-leaders", 40000
		all, events := ledgers(t, stream), makeCopy(stream, total)
		// The copy waits at these places until the leader has gone.
		disturbed := func(yield func(eventstore.Message, error) bool) {
			for i, m := range events {
				if i%15000 == 5500 {
					leader := cluster.StreamLeader(t, stream)
					if _, err := leader.Connect(t).Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, 10*time.Second); err != nil {
						t.Errorf("step down: %v", err)
					}
				}
				if i == 12000 {
					leader := cluster.StreamLeader(t, stream)
					leader.Stop()
					defer leader.Start(t)
				}
				if !yield(m, nil) {
					return
				}
			}
		}
		last, err := all[0].Refill(t.Context(), disturbed, nil)
		if err != nil || last != total {
			t.Errorf("refill: %d, %v", last, err)
		}
		for _, ledger := range all {
			wantEvents(t, ledger, events)
		}
	})
}

// refillerEvents is how many events the processes refill that are killed.
const refillerEvents = 60000

// beRefiller refills the ledger in the folder and writes a line for each
// progress and one at the end.
func beRefiller(folder, _, staging string) error {
	ledger, err := victimLedger(folder, staging)
	if err != nil {
		return err
	}
	last, err := ledger.Refill(context.Background(), each(makeCopy(victimConfig().Stream, refillerEvents)), func(recorded uint64) {
		fmt.Println(recorded)
	})
	if err != nil {
		return err
	}
	fmt.Println("all", last)
	return nil
}

// TestRefillIsKilled kills processes while they refill, server and all, until
// one gets to the end.
func TestRefillIsKilled(t *testing.T) {
	for name, elsewhere := range map[string]bool{"batches staged in the store": false, "batches staged elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			const kills = 8
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			folder, staging := t.TempDir(), ""
			killed := 0
			for done := false; !done; {
				if elsewhere {
					staging = t.TempDir() // a new one each time, as a tmpfs is after a power loss
				}
				limit := time.Duration(random.Int64N(int64(200 * time.Millisecond)))
				if done = runRefiller(t, folder, staging, limit, killed < kills); !done {
					killed++
				}
			}
			if killed == 0 {
				t.Error("no process was killed: the test shows nothing")
			}
			t.Logf("%d processes were killed", killed)
			wantEvents(t, victimLedgerInTest(t, folder), makeCopy(victimConfig().Stream, refillerEvents))
		})
	}
}

// runRefiller starts a process and, if it is to be killed, kills it after some
// time from its first progress. It reports whether the process got to its end.
func runRefiller(t *testing.T, folder, staging string, limit time.Duration, kill bool) (done bool) {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimFolder+"="+folder, victimStaging+"="+staging, victimRefills+"=1")
	var stderr bytes.Buffer
	victim.Stderr = &stderr
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	last := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); last = lines.Text() {
		if timer == nil && kill {
			timer = time.AfterFunc(limit, func() { _ = victim.Process.Kill() })
		}
	}
	err = victim.Wait()
	inTime := timer == nil || timer.Stop()
	if inTime && err != nil {
		t.Fatalf("the process ended by itself: %v\n%s", err, stderr.String())
	}
	t.Logf("the process ended after %q", last)
	return err == nil
}

// victimLedgerInTest opens what the killed processes have left until the test's
// end.
func victimLedgerInTest(t *testing.T, folder string) *eventstore.Ledger {
	t.Helper()
	s, nc, err := victimServer(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	return open(t, nc, victimConfig())
}

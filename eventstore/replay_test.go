package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// damaged is a ledger whose stream somebody made without its protections, with
// ten events.
func damaged(t *testing.T) (*eventstore.Ledger, jetstream.Stream, *nats.Conn) {
	t.Helper()
	nc := storetest.NewServer(t).Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	config := storetest.Config("LEDGER_damaged", 1)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: config.Stream, Subjects: config.Subjects, AllowDirect: true, AllowAtomicPublish: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	for i := range 10 {
		if _, err := ledger.Append(t.Context(), storetest.Event(storetest.Subject(config.Stream, i)), 0); err != nil {
			t.Fatal(err)
		}
	}
	return ledger, stream, nc
}

func TestReplayNamesWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(context.Context, jetstream.Stream) error
		want   string
		before int // events that are handed over first
	}{
		"in the middle": {func(ctx context.Context, s jetstream.Stream) error { return s.DeleteMsg(ctx, 5) }, "sequence 5 is missing, sequence 6", 4},
		"at the begin": {func(ctx context.Context, s jetstream.Stream) error {
			return s.Purge(ctx, jetstream.WithPurgeSequence(4))
		}, "sequence 1 is missing, sequence 4", 0},
		"at the end": {func(ctx context.Context, s jetstream.Stream) error { return s.DeleteMsg(ctx, 10) }, "sequence 10 is missing, nothing", 9},
		"everything": {func(ctx context.Context, s jetstream.Stream) error { return s.Purge(ctx) }, "sequence 1 is missing, nothing", 0},
	} {
		t.Run(name, func(t *testing.T) {
			ledger, stream, _ := damaged(t)
			if err := test.damage(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			seen := 0
			err := ledger.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
				seen += len(batch)
				return nil
			})
			if !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("replay: %v, want %q", err, test.want)
			}
			if seen != test.before {
				t.Errorf("%d events were handed over, want %d", seen, test.before)
			}
		})
	}
}

// TestHeadersAreNotBelieved: whoever may publish may store headers that look
// like those of the server. A reader must not fall for them.
func TestHeadersAreNotBelieved(t *testing.T) {
	ledger, _, nc := damaged(t)
	subject := storetest.Subject("LEDGER_damaged", 77)
	for i := range 3 {
		m := nats.NewMsg(subject)
		m.Data = fmt.Appendf(nil, "viltots %d", i)
		for header, value := range map[string]string{
			"Nats-Sequence": "3", "Nats-Subject": "cits.temats", "Nats-Last-Sequence": "0", "Nats-Num-Pending": "0",
			"Nats-Time-Stamp": "2018-12-01T00:00:00Z", "Status": "404", "Description": "No Results", "Nats-Stream": "CITS",
		} {
			m.Header.Set(header, value)
		}
		if _, err := nc.RequestMsg(m, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, read := range []eventstore.Read{eventstore.AnyReplica, eventstore.Leader} {
		history, err := ledger.History(t.Context(), subject, 0, read)
		if err != nil || len(history) != 3 {
			t.Fatalf("history: %+v, %v", history, err)
		}
		for i, e := range history {
			if e.Sequence != uint64(11+i) || e.Subject != subject || string(e.Data) != fmt.Sprintf("viltots %d", i) || time.Since(e.Time) > time.Hour {
				t.Errorf("history[%d]: %+v", i, e)
			}
		}
		last, found, err := ledger.Last(t.Context(), subject, read)
		if err != nil || !found || last.Sequence != 13 {
			t.Errorf("last: %+v, %v, %v", last, found, err)
		}
	}
	count := 0
	err := ledger.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		count += len(batch)
		return nil
	})
	if err != nil || count != 13 {
		t.Errorf("replay: %d events, %v", count, err)
	}
}

// TestFollow hands over what is there and then what comes, at once.
func TestFollow(t *testing.T) {
	ledger, _, _ := damaged(t)
	ctx, cancel := context.WithCancel(t.Context())
	sequences := make(chan uint64, 100)
	ended := make(chan error)
	go func() {
		ended <- ledger.Follow(ctx, 8, func(batch []eventstore.Recorded) error {
			for _, e := range batch {
				sequences <- e.Sequence
			}
			return nil
		})
	}()
	for want := uint64(8); want <= 10; want++ {
		if got := <-sequences; got != want {
			t.Fatalf("sequence %d, want %d", got, want)
		}
	}
	for i := range 20 {
		a, err := ledger.Append(t.Context(), storetest.Event(storetest.Subject("LEDGER_damaged", 100+i)), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-sequences; got != a.Sequence {
			t.Fatalf("sequence %d, want %d", got, a.Sequence)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("follow: %v", err)
	}
}

// TestFollowEndsWithTheLedger, and when the stream is deleted.
func TestFollowEnds(t *testing.T) {
	t.Run("with the ledger", func(t *testing.T) {
		ledger, _, _ := damaged(t)
		err := ledger.Follow(t.Context(), 1, func([]eventstore.Recorded) error {
			go ledger.Close(context.Background())
			return nil
		})
		if !errors.Is(err, eventstore.ErrClosed) {
			t.Errorf("follow: %v", err)
		}
	})
	t.Run("with the stream", func(t *testing.T) {
		ledger, _, nc := damaged(t)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		err = ledger.Follow(t.Context(), 1, func([]eventstore.Recorded) (err error) {
			once.Do(func() { err = js.DeleteStream(t.Context(), "LEDGER_damaged") })
			return err
		})
		if !errors.Is(err, eventstore.ErrNotFound) {
			t.Errorf("follow: %v", err)
		}
	})
}

// TestReadersMakeNoConsumer: whoever may do nothing but read events reads all of
// them, and what comes.
func TestReadersMakeNoConsumer(t *testing.T) {
	s := storetest.NewServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "rakstītājs", Password: "parole"}, {Username: "lasītājs", Password: "parole", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.*"}}}}}
	})
	var refused atomic.Pointer[error]
	nc := s.Connect(t, nats.UserInfo("lasītājs", "parole"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused.Store(&err) }))
	writer := ledgerWith(t, s.Connect(t, nats.UserInfo("rakstītājs", "parole")), func(*jetstream.StreamConfig) {})
	reader := open(t, nc, storetest.Config("LEDGER_plain", 1))
	for _, replay := range []func(context.Context, uint64, uint64, func([]eventstore.Recorded) error) error{reader.Replay, eventstore.WithSubjects{Ledger: reader}.Replay} {
		seen := 0
		if err := replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error { seen += len(batch); return nil }); err != nil || seen != 1 {
			t.Errorf("replay: %d events, %v", seen, err)
		}
	}
	seen := make(chan uint64, 10)
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() {
		_ = reader.Follow(ctx, 1, func(batch []eventstore.Recorded) error { seen <- batch[len(batch)-1].Sequence; return nil })
	})
	<-seen
	if _, err := writer.Append(t.Context(), storetest.Event(storetest.Subject("LEDGER_plain", 2)), 0); err != nil {
		t.Fatal(err)
	}
	if sequence := <-seen; sequence != 2 {
		t.Errorf("event %d was followed", sequence)
	}
	stop()
	following.Wait()
	if err := refused.Load(); err != nil {
		t.Errorf("the server says: %v", *err)
	}
}

// TestReplayTellsSubjects to whom wants them, and to nobody else.
func TestReplayTellsSubjects(t *testing.T) {
	ledger, _, _ := damaged(t)
	collect := func(replay func(context.Context, uint64, uint64, func([]eventstore.Recorded) error) error) (all []eventstore.Recorded) {
		if err := replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error { all = append(all, batch...); return nil }); err != nil || len(all) != 10 {
			t.Fatalf("%d events, %v", len(all), err)
		}
		return all
	}
	bare, whole := collect(ledger.Replay), collect(eventstore.WithSubjects{Ledger: ledger}.Replay)
	for i, e := range whole {
		if e.Subject != storetest.Subject("LEDGER_damaged", i) || time.Since(e.Time) > time.Hour {
			t.Errorf("event %d is on %q since %v", e.Sequence, e.Subject, e.Time)
		}
		if b := bare[i]; b.Subject != "" || !b.Time.IsZero() || b.Sequence != e.Sequence || !bytes.Equal(b.Data, e.Data) {
			t.Errorf("event %d is %+v, and without subjects %+v", e.Sequence, e, b)
		}
	}
}

// TestFollowIsRefused: what trying again does not change is an error, not a
// reader that waits for ever.
func TestFollowIsRefused(t *testing.T) {
	t.Run("by the stream", func(t *testing.T) {
		t.Parallel()
		ledger, stream, nc := damaged(t)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.AllowDirect = false
		var once sync.Once
		err = ledger.Follow(t.Context(), 1, func([]eventstore.Recorded) (err error) {
			once.Do(func() { _, err = js.UpdateStream(t.Context(), config) })
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "set allow_direct again") {
			t.Errorf("follow: %v", err)
		}
	})
	t.Run("by permissions", func(t *testing.T) {
		t.Parallel() // the server's silence takes seconds to notice
		s := storetest.NewServer(t, func(o *server.Options) {
			o.Users = []*server.User{{Username: "rakstītājs", Password: "parole"}, {Username: "lasītājs", Password: "parole", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.DIRECT.GET.>"}}}}}
		})
		ledgerWith(t, s.Connect(t, nats.UserInfo("rakstītājs", "parole")), func(*jetstream.StreamConfig) {})
		reader := open(t, s.Connect(t, nats.UserInfo("lasītājs", "parole")), storetest.Config("LEDGER_plain", 1))
		if err := reader.Follow(t.Context(), 1, func([]eventstore.Recorded) error { return nil }); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("follow: %v", err)
		}
	})
}

// TestMessagesAreLost: the client drops what it has no room for, here nearly
// everything, and a reader asks again.
func TestMessagesAreLost(t *testing.T) {
	const total = 3000
	s := storetest.NewServer(t, func(o *server.Options) { o.SyncAlways = false })
	config := storetest.Config("LEDGER_loss", 1)
	nc := s.Connect(t)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	writer, reader := open(t, nc, config), open(t, s.Connect(t), config)
	events := makeCopy(config.Stream, total)
	refill(t, writer, events)
	for name, replay := range map[string]func(context.Context, uint64, uint64, func([]eventstore.Recorded) error) error{
		"without subjects": reader.Replay, "with subjects": eventstore.WithSubjects{Ledger: reader}.Replay} {
		t.Run(name, func(t *testing.T) {
			before, next := reader.Lost(), uint64(1)
			reader.SetRoom(t, 1)
			timer := time.AfterFunc(100*time.Millisecond, func() { reader.SetRoom(t, 1<<20) })
			defer timer.Stop()
			err := replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
				for _, e := range batch {
					if e.Sequence != next || !bytes.Equal(e.Data, events[next-1].Data) {
						t.Fatalf("event %d is %s, and %d was expected", e.Sequence, e.Data, next)
					}
					next++
				}
				return nil
			})
			if err != nil || next != total+1 {
				t.Errorf("%d events of %d: %v", next-1, total, err)
			}
			if lost := reader.Lost() - before; lost == 0 {
				t.Error("nothing was lost: the test shows nothing")
			}
		})
	}
}

// ledgerWith opens a ledger with one event on a stream of its own.
func ledgerWith(t *testing.T, nc *nats.Conn, change func(*jetstream.StreamConfig)) *eventstore.Ledger {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	config := storetest.Config("LEDGER_plain", 1)
	stream := jetstream.StreamConfig{Name: config.Stream, Subjects: config.Subjects, AllowDirect: true, AllowAtomicPublish: true}
	change(&stream)
	if _, err := js.CreateStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	if _, err := ledger.Append(t.Context(), storetest.Event(storetest.Subject(config.Stream, 1)), 0); err != nil {
		t.Fatal(err)
	}
	return ledger
}

// TestFollowNoticesAnotherStream: a stream that is replaced while somebody reads
// it must not be read on as if it were the same.
func TestFollowNoticesAnotherStream(t *testing.T) {
	for _, events := range []int{15, 3} { // more than were read, and fewer
		t.Run(fmt.Sprint(events), func(t *testing.T) { followAnotherStream(t, events) })
	}
}

func followAnotherStream(t *testing.T, events int) {
	ledger, stream, nc := damaged(t)
	config := stream.CachedInfo().Config
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan uint64, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- ledger.Follow(t.Context(), 1, func(batch []eventstore.Recorded) error {
			read <- batch[len(batch)-1].Sequence
			return nil
		})
	}()
	for last := uint64(0); last < 10; {
		last = <-read
	}
	if err := js.DeleteStream(t.Context(), config.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if _, err := js.Publish(t.Context(), storetest.Subject(config.Name, i), []byte("cits notikums")); err != nil {
			t.Fatal(err)
		}
	}
	// Whoever looks just between the two finds none.
	if err := <-ended; !errors.Is(err, eventstore.ErrCorrupt) && !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("reading another stream ends with %v", err)
	}
	if len(read) > 0 {
		t.Errorf("event %d of another stream was handed over", <-read)
	}
}

// TestFollowNoticesLoss takes away the event that a follower has read last.
func TestFollowNoticesLoss(t *testing.T) {
	ledger, stream, nc := damaged(t)
	config := stream.CachedInfo().Config
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	read, ended := make(chan uint64, 100), make(chan error, 1)
	go func() {
		ended <- ledger.Follow(t.Context(), 1, func(batch []eventstore.Recorded) error {
			read <- batch[len(batch)-1].Sequence
			return nil
		})
	}()
	for last := uint64(0); last < 10; {
		last = <-read
	}
	if err := stream.DeleteMsg(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := js.Publish(t.Context(), storetest.Subject(config.Name, 100+i), []byte("notikums")); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "sequence 10 is missing, sequence 11 comes next") {
		t.Errorf("after a loss it ends with %v", err)
	}
}

// TestCount counts the events of one subject, of a wildcard and of all.
func TestCount(t *testing.T) {
	s, config := storetest.NewServer(t), storetest.Config("LEDGER_skaits", 1)
	nc := s.Connect(t)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	count := func(subject string) uint64 {
		t.Helper()
		n, err := ledger.Count(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(eventstore.AllSubjects); n != 0 {
		t.Errorf("%d events in an empty ledger", n)
	}
	one, other := storetest.Subject(config.Stream, 1), storetest.Subject(config.Stream, 2)
	for subject, events := range map[string]int{one: 3, other: 2} {
		var last uint64
		for range events {
			appended, err := ledger.Append(t.Context(), storetest.Event(subject), last)
			if err != nil {
				t.Fatal(err)
			}
			last = appended.Sequence
		}
	}
	prefix := one[:strings.LastIndex(one, ".")]
	for subject, want := range map[string]uint64{one: 3, other: 2, storetest.Subject(config.Stream, 3): 0, prefix + ".*": 5, prefix + ".*.*": 0, eventstore.AllSubjects: 5} {
		if n := count(subject); n != want {
			t.Errorf("%s: %d events, want %d", subject, n, want)
		}
	}
	if _, err := ledger.Count(t.Context(), "a..b"); err == nil {
		t.Error("an invalid subject was counted")
	}
}

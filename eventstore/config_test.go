package eventstore_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestConfigValidate(t *testing.T) {
	good := storetest.Config("LEDGER_2018", 1)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*eventstore.Config){
		"stream name":       func(c *eventstore.Config) { c.Stream = "" },
		"without spaces":    func(c *eventstore.Config) { c.Stream = "Laba servisa kustība" },
		"wildcards and":     func(c *eventstore.Config) { c.Stream = "LEDGER/../2018" },
		"no subjects":       func(c *eventstore.Config) { c.Subjects = nil },
		"empty token":       func(c *eventstore.Config) { c.Subjects = []string{"ledger..voter"} },
		"only at the end":   func(c *eventstore.Config) { c.Subjects = []string{"ledger.>.voter"} },
		"control":           func(c *eventstore.Config) { c.Control = "" },
		"has a wildcard":    func(c *eventstore.Config) { c.Control = "LEDGER_2018.*" },
		"not among":         func(c *eventstore.Config) { c.Control = "cits.temats" },
		"2 replicas":        func(c *eventstore.Config) { c.Replicas = 2 },
		"0 replicas":        func(c *eventstore.Config) { c.Replicas = 0 },
		"a queue of -1":     func(c *eventstore.Config) { c.MaxPending = -1 },
		"at most 255":       func(c *eventstore.Config) { c.Subjects = []string{strings.Repeat("ā", 128)} },
		"control character": func(c *eventstore.Config) { c.Subjects = []string{"a\r\nb"} },
		"not UTF-8":         func(c *eventstore.Config) { c.Subjects = []string{"a\xffb"} },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestCreateListOpen(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewServer(t)
	nc := s.Connect(t)
	config := storetest.Config("LEDGER_2018", 1)
	if _, err := eventstore.Open(ctx, nc, config); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("open before creation: %v", err)
	}
	if err := eventstore.Create(ctx, nc, config); err != nil {
		t.Fatal(err)
	}
	if err := eventstore.Create(ctx, nc, config); !errors.Is(err, eventstore.ErrExists) {
		t.Errorf("the same creation again: %v", err)
	}
	other := storetest.Config("LEDGER_2018", 1)
	other.Subjects = append(other.Subjects, "LEDGER_2018.cits")
	if err := eventstore.Create(ctx, nc, other); !errors.Is(err, eventstore.ErrExists) {
		t.Errorf("another creation under the name: %v", err)
	}
	for _, stream := range []string{"LEDGER_2019", "QUEUE"} {
		if err := eventstore.Create(ctx, nc, storetest.Config(stream, 1)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := eventstore.List(ctx, nc, "LEDGER_")
	if want := []string{"LEDGER_2018", "LEDGER_2019"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("list: %q, %v", names, err)
	}
	buffering, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer buffering.Close()
	if _, err := eventstore.Open(ctx, buffering, config); err == nil || !strings.Contains(err.Error(), "ConnectOptions") {
		t.Errorf("open on a connection with a reconnect buffer: %v", err)
	}
	if err := eventstore.Create(ctx, nc, storetest.Config("LEDGER_3", 3)); err == nil {
		t.Error("three replicas on one server were created")
	}
}

func TestInfo(t *testing.T) {
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_info", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	for i := range 3 {
		if _, err := ledger.Append(t.Context(), storetest.Event(storetest.Subject(config.Stream, i)), 0); err != nil {
			t.Fatal(err)
		}
	}
	info, err := ledger.Info(t.Context())
	if err != nil || info.First != 1 || info.Last != 3 || info.Messages != 3 || info.Subjects != 3 || info.Replicas != 1 || info.Bytes == 0 || info.Created.IsZero() {
		t.Errorf("info: %+v, %v", info, err)
	}
}

// TestCheckConfig changes what an administrator could change and expects to
// read about each change, and about nothing else.
func TestCheckConfig(t *testing.T) {
	ctx := t.Context()
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_check", 1)
	if err := eventstore.Create(ctx, nc, config); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	if found, err := ledger.CheckConfig(ctx, false); err != nil || found != nil {
		t.Fatalf("a new ledger: %v, %v", found, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, config.Stream)
	if err != nil {
		t.Fatal(err)
	}
	original := stream.CachedInfo().Config
	for field, change := range map[string]func(*jetstream.StreamConfig){
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs":             func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"max_bytes":            func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"max_msg_size":         func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100 },
		"discard":              func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"allow_direct":         func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"allow_atomic":         func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"no_ack":               func(c *jetstream.StreamConfig) { c.NoAck = true; c.AllowAtomicPublish = false },
		"subjects":             func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] },
		"description":          func(c *jetstream.StreamConfig) { c.Description = "Kampaņa" },
		"duplicate_window":     func(c *jetstream.StreamConfig) { c.Duplicates = time.Second },
		"republish":            func(c *jetstream.StreamConfig) { c.RePublish = &jetstream.RePublish{Destination: "noklausīties.>"} },
		"metadata":             func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"īpašnieks": "kāds"} },
		"consumer_limits":      func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 7 },
	} {
		changed := original
		change(&changed)
		if _, err := js.UpdateStream(ctx, changed); err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		found, err := ledger.CheckConfig(ctx, false)
		if err != nil || !slices.ContainsFunc(found, func(d eventstore.Deviation) bool { return d.Field == field }) {
			t.Errorf("%s was changed: %v, %v", field, found, err)
		}
		for _, d := range found {
			if d.Want == d.Have || d.Risk == "" || !strings.Contains(d.String(), d.Field) {
				t.Errorf("%s was changed: an empty deviation %+v", field, d)
			}
		}
		if len(found) > 2 {
			t.Errorf("%s was changed: more than that is reported: %v", field, found)
		}
		if _, err := js.UpdateStream(ctx, original); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := ledger.CheckConfig(ctx, false); err != nil || found != nil {
		t.Errorf("changed back: %v, %v", found, err)
	}
}

// TestASealedLedger says at once that nothing more can be recorded, be it one
// event or many at once. What was recorded before is found again and read.
func TestASealedLedger(t *testing.T) {
	ctx := t.Context()
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_sealed", 1)
	if err := eventstore.Create(ctx, nc, config); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	first := storetest.Event(storetest.Subject(config.Stream, 1))
	if _, err := ledger.Append(ctx, first, 0); err != nil {
		t.Fatal(err)
	}
	sealedFields := func(sealed bool) (fields []string) {
		t.Helper()
		found, err := ledger.CheckConfig(ctx, sealed)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			fields = append(fields, d.Field)
		}
		return fields
	}
	if fields := sealedFields(true); !slices.Equal(fields, []string{"sealed"}) {
		t.Errorf("a ledger that ought to be sealed deviates in %q", fields)
	}
	for range 2 {
		if err := ledger.Seal(ctx); err != nil {
			t.Fatal(err)
		}
		if fields := sealedFields(true); fields != nil {
			t.Errorf("a sealed ledger deviates in %q", fields)
		}
		if fields := sealedFields(false); !slices.Equal(fields, []string{"sealed"}) {
			t.Errorf("a ledger that ought not to be sealed deviates in %q", fields)
		}
	}
	if again, err := ledger.Append(ctx, first, 0); err != nil || again.Sequence != 1 {
		t.Errorf("an append that was recorded before: %+v, %v", again, err)
	}
	const appends = 40 // the first ones go alone, the others as batches
	errs := make(chan error, appends)
	for i := range appends {
		go func() {
			_, err := ledger.Append(ctx, storetest.Event(storetest.Subject(config.Stream, i+2)), 0)
			errs <- err
		}()
	}
	for range appends {
		if err := <-errs; !errors.Is(err, eventstore.ErrSealed) || errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
	}
	if history, err := open(t, nc, config).History(ctx, first.Subject, 0, eventstore.Leader); err != nil || len(history) != 1 {
		t.Errorf("the history is %v, %v", history, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, config.Stream)
	if err != nil {
		t.Fatal(err)
	}
	unsealed := stream.CachedInfo().Config
	unsealed.Sealed = false
	if _, err := js.UpdateStream(ctx, unsealed); err == nil {
		t.Error("a sealed stream can be unsealed")
	}
}

// TestASealedLedgerThatCannotBeRead: an append that may repeat one of before the
// sealing is refused only after a look, and of what cannot be looked at nobody
// says that it was not recorded.
func TestASealedLedgerThatCannotBeRead(t *testing.T) {
	const appends = 40 // the first ones go alone, the others as batches
	ctx := t.Context()
	s := storetest.NewServer(t)
	nc := s.Connect(t)
	config := storetest.Config("LEDGER_unread", 1)
	if err := eventstore.Create(ctx, nc, config); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	var messages []eventstore.Message
	var want []uint64
	for i := range appends {
		messages = append(messages, storetest.Event(storetest.Subject(config.Stream, i)))
		appended, err := ledger.Append(ctx, messages[i], 0)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, appended.Sequence)
	}
	if err := ledger.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	again := func() (sequences []uint64, errs []error) {
		sequences, errs = make([]uint64, appends), make([]error, appends)
		var all sync.WaitGroup
		for i, m := range messages {
			all.Go(func() {
				var appended eventstore.Appended
				appended, errs[i] = ledger.Append(ctx, m, 0)
				sequences[i] = appended.Sequence
			})
		}
		all.Wait()
		return sequences, errs
	}
	account := s.NATS().GlobalAccount()
	for _, read := range []string{"$JS.API.STREAM.MSG.GET." + config.Stream, "$JS.API.DIRECT.GET." + config.Stream} {
		if err := account.AddMapping(read, "nowhere"); err != nil {
			t.Fatal(err)
		}
		defer account.RemoveMapping(read)
		_, errs := again()
		for i, err := range errs {
			if !errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, eventstore.ErrSealed) {
				t.Errorf("append %d, without %s: %v, want an unknown outcome", i, read, err)
			}
		}
	}
	account.RemoveMapping("$JS.API.STREAM.MSG.GET." + config.Stream)
	account.RemoveMapping("$JS.API.DIRECT.GET." + config.Stream)
	sequences, errs := again()
	if err := errors.Join(errs...); err != nil || !slices.Equal(sequences, want) {
		t.Errorf("the same appends again: %d, %v, want %d", sequences, err, want)
	}
}

// TestWhatDeviatesIsNotSealed: it would stay so for ever.
func TestWhatDeviatesIsNotSealed(t *testing.T) {
	ctx := t.Context()
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_deviating", 1)
	if err := eventstore.Create(ctx, nc, config); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, config.Stream)
	if err != nil {
		t.Fatal(err)
	}
	changed := stream.CachedInfo().Config
	changed.MaxBytes = 1 << 20
	if _, err := js.UpdateStream(ctx, changed); err != nil {
		t.Fatal(err)
	}
	ledger := open(t, nc, config)
	if err := ledger.Seal(ctx); err == nil || !strings.Contains(err.Error(), "max_bytes") {
		t.Errorf("seal: %v", err)
	}
	if _, err := ledger.Append(ctx, storetest.Event(storetest.Subject(config.Stream, 1)), 0); err != nil {
		t.Errorf("append after a seal that was refused: %v", err)
	}
}

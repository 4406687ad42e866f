package transparency_test

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

const fenceKey = "LEDGER_test"

// somewhere is a tree head that differs by its size.
func somewhere(size uint64) transparency.Signed {
	return transparency.Signed{Size: size, Root: mth([][]byte{{byte(size)}})}
}

// bucketFence is a handle of its own on the fence of one key.
func bucketFence(t testing.TB, nc *nats.Conn, replicas int) *transparency.BucketFence {
	t.Helper()
	f, err := transparency.NewBucketFence(t.Context(), nc, fenceKey, replicas)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantFence(t testing.TB, f transparency.Fence, want transparency.Signed) (revision uint64) {
	t.Helper()
	have, revision, err := f.Load(t.Context())
	if err != nil || have != want {
		t.Fatalf("the fence is at %v, want %v: %v", have, want, err)
	}
	return revision
}

// The contract of a Fence, for the double as for the real one. other is a second
// process's handle.
func fenceContract(t *testing.T, f, other transparency.Fence) {
	t.Helper()
	if wantFence(t, f, transparency.Signed{}) != 0 {
		t.Fatal("nothing was signed, and there is a revision")
	}
	first, err := f.Move(t.Context(), somewhere(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	if revision := wantFence(t, other, somewhere(1)); revision != first || first == 0 {
		t.Fatalf("revision %d, want %d", revision, first)
	}
	if _, err := other.Move(t.Context(), somewhere(2), 0); !errors.Is(err, transparency.ErrFenced) {
		t.Fatalf("a move from nothing, although there is something: %v", err)
	}
	second, err := other.Move(t.Context(), somewhere(3), first)
	if err != nil || second <= first {
		t.Fatalf("revision %d after %d: %v", second, first, err)
	}
	if _, err := f.Move(t.Context(), somewhere(4), first); !errors.Is(err, transparency.ErrFenced) {
		t.Fatalf("a move from a revision that has passed: %v", err)
	}
	if _, err := f.Move(t.Context(), somewhere(4), second+5); !errors.Is(err, transparency.ErrFenced) {
		t.Fatalf("a move from a revision that has not come: %v", err)
	}
	if revision := wantFence(t, f, somewhere(3)); revision != second {
		t.Fatalf("revision %d, want %d", revision, second)
	}
	oneMoves(t, second, f, other)
}

// oneMoves lets many race from one revision: one wins, and what it says stands.
func oneMoves(t *testing.T, revision uint64, fences ...transparency.Fence) {
	t.Helper()
	const racers = 20
	type outcome struct {
		to   transparency.Signed
		next uint64
		err  error
	}
	outcomes := make(chan outcome, racers)
	var racing sync.WaitGroup
	for i := range racers {
		racing.Go(func() {
			to := somewhere(uint64(100 + i))
			next, err := fences[i%len(fences)].Move(t.Context(), to, revision)
			outcomes <- outcome{to, next, err}
		})
	}
	racing.Wait()
	close(outcomes)
	winners := 0
	for o := range outcomes {
		switch {
		case o.err == nil:
			winners++
			if now := wantFence(t, fences[0], o.to); now != o.next {
				t.Errorf("revision %d, the winner has %d", now, o.next)
			}
		case !errors.Is(o.err, transparency.ErrFenced):
			t.Errorf("a loser is told %v", o.err)
		}
	}
	if winners != 1 {
		t.Errorf("%d have moved the fence from one revision", winners)
	}
}

func TestMemoryFence(t *testing.T) {
	f := &sealtest.Fence{}
	fenceContract(t, f, f)
}

func TestBucketFence(t *testing.T) {
	s := storetest.NewServer(t)
	fenceContract(t, bucketFence(t, s.Connect(t), 1), bucketFence(t, s.Connect(t), 1))
}

func TestBucketFenceOfACluster(t *testing.T) {
	c := storetest.NewCluster(t)
	f, other := bucketFence(t, c.Servers[0].Connect(t), 3), bucketFence(t, c.Servers[1].Connect(t), 3)
	fenceContract(t, f, other)
	// Its leader goes away: what was moved stays, and moving goes on.
	leader := c.StreamLeader(t, "KV_paldies_signed")
	var rest *storetest.Server
	for _, s := range c.Servers {
		if s != leader {
			rest = s
		}
	}
	f = bucketFence(t, rest.Connect(t), 3)
	was, _, err := f.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader.Stop()
	var revision uint64
	storetest.Eventually(t, "the fence has a leader again", func() bool {
		var now transparency.Signed
		if now, revision, err = f.Load(t.Context()); err != nil {
			if !errors.Is(err, eventstore.ErrUnavailable) {
				t.Fatal(err)
			}
			return false
		}
		if now != was {
			t.Fatalf("the fence is at %v, it was at %v", now, was)
		}
		return true
	})
	if _, err := f.Move(t.Context(), somewhere(7), revision); err != nil {
		t.Fatal(err)
	}
	leader.Start(t)
	wantFence(t, f, somewhere(7))
}

func TestBucketFenceSurvivesItsServer(t *testing.T) {
	s := storetest.NewServer(t)
	f := bucketFence(t, s.Connect(t), 1)
	if _, err := f.Move(t.Context(), somewhere(1), 0); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, _, err := f.Load(ctx); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("without a server: %v", err)
	}
	s.Start(t)
	wantFence(t, bucketFence(t, s.Connect(t), 1), somewhere(1))
}

// The network fails in pairs: the request is lost, or only its answer.
func TestBucketFenceOverABrokenNetwork(t *testing.T) {
	s := storetest.NewServer(t)
	address, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := storetest.NewProxy(t, address.Host)
	direct := bucketFence(t, s.Connect(t), 1)
	f := bucketFence(t, storetest.Connect(t, proxy.URL(), nats.IgnoreDiscoveredServers(), nats.ReconnectWait(10*time.Millisecond)), 1)
	reload := func() (now transparency.Signed, revision uint64) {
		t.Helper()
		proxy.Cut()
		storetest.Eventually(t, "the fence can be asked again", func() bool {
			now, revision, err = f.Load(t.Context())
			return err == nil
		})
		return now, revision
	}
	first, err := f.Move(t.Context(), somewhere(1), 0)
	if err != nil {
		t.Fatal(err)
	}

	proxy.DropRequests()
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := f.Move(ctx, somewhere(2), first); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("the request was lost: %v", err)
	}
	if now, revision := reload(); now != somewhere(1) || revision != first {
		t.Errorf("the request was lost, the fence is at %v", now)
	}

	proxy.DropAnswers()
	ctx, stop = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := f.Move(ctx, somewhere(3), first); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("the answer was lost: %v", err)
	}
	storetest.Eventually(t, "the fence has moved", func() bool {
		now, _, err := direct.Load(t.Context())
		return err == nil && now == somewhere(3)
	})
	now, revision := reload()
	if now != somewhere(3) {
		t.Errorf("only the answer was lost, the fence is at %v", now)
	}
	if _, err := f.Move(t.Context(), somewhere(4), revision); err != nil {
		t.Error(err)
	}
}

// A fence that somebody has touched is not one from which to sign.
func TestBucketFenceThatWasTouchedHalts(t *testing.T) {
	s := storetest.NewServer(t)
	nc := s.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	f := bucketFence(t, nc, 1)
	kv, err := js.KeyValue(t.Context(), "paldies_signed")
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(t, 5)
	config := l.config(l.folder())
	config.Fence = f
	sealer, err := transparency.NewSealer(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.RunToEnd(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		touch func() error
		want  error
	}{
		"another text":    {func() error { _, err := kv.PutString(t.Context(), fenceKey, "something"); return err }, eventstore.ErrCorrupt},
		"a short root":    {func() error { _, err := kv.PutString(t.Context(), fenceKey, `{"size":5,"root":"AAAA"}`); return err }, eventstore.ErrCorrupt},
		"a deleted value": {func() error { return kv.Delete(t.Context(), fenceKey) }, eventstore.ErrCorrupt},
		"a purged value":  {func() error { return kv.Purge(t.Context(), fenceKey) }, eventstore.ErrCorrupt},
	} {
		if err := c.touch(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Load(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		// Run must not go on asking: what is there will not change by itself.
		start(t, config).wantHalt(c.want)
	}
	if err := js.DeleteKeyValue(t.Context(), "paldies_signed"); err != nil {
		t.Fatal(err)
	}
	start(t, config).wantHalt(eventstore.ErrNotFound)
	config.Fence = bucketFence(t, nc, 1) // which makes the bucket again
	l.ledger.GrowTo(6)
	start(t, config).wantHalt(transparency.ErrFork)
	if n := len(l.signer.all()); n != 1 {
		t.Errorf("%d checkpoints were signed, want the first one only", n)
	}
}

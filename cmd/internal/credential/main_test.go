package credential

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, storetest.Leftovers()...) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// moment is when everything happens in these tests.
var moment = time.Date(2018, 3, 1, 8, 0, 0, 0, time.UTC)

func newStore(t testing.TB, nc *nats.Conn) *Store {
	t.Helper()
	s, err := NewStore(nc, 1, func() time.Time { return moment })
	must(t, err)
	return s
}

// add adds a credential of a channel.
func add(t testing.TB, s *Store, c Credential) (token, id string) {
	t.Helper()
	token, c, err := s.Add(t.Context(), c)
	must(t, err)
	return token, c.ID
}

// logged is what was logged, for tests to read.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// reader is a Book that is run until the test ends.
type reader struct {
	*Book
	log     logged
	changes chan struct{}
}

// patience is how long a test waits for what should take a moment.
const patience = 2 * time.Minute

// newReader starts a Book.
func newReader(t testing.TB, nc *nats.Conn) *reader {
	t.Helper()
	r := &reader{changes: make(chan struct{}, 1)}
	book, err := NewBook(nc, slog.New(slog.NewTextHandler(&r.log, nil)))
	must(t, err)
	r.Book = book
	book.look = 10 * time.Millisecond
	book.changed = func() {
		select {
		case r.changes <- struct{}{}:
		default: // whoever waits looks at the whole
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := book.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the book ended with %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return r
}

// await waits for a change after which something is true.
func (r *reader) await(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !is() {
		select {
		case <-r.changes:
		case <-deadline.C:
			t.Fatalf("after %v it is still not true that %s; the log says %s", patience, what, r.log.String())
		}
	}
}

// says waits until a token is judged so.
func (r *reader) says(t testing.TB, token string, want error) {
	t.Helper()
	r.await(t, "the token is answered as wanted", func() bool {
		_, err := r.Check(token)
		return errors.Is(err, want)
	})
}

// openBucket is the bucket for a hand that writes what it likes.
func openBucket(t testing.TB, nc *nats.Conn) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	kv, err := js.KeyValue(t.Context(), bucketName)
	must(t, err)
	return kv
}

func deleteBucket(t testing.TB, nc *nats.Conn) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	must(t, js.DeleteKeyValue(t.Context(), bucketName))
}

// newServer is a server and a connection to it.
func newServer(t testing.TB) (*storetest.Server, *nats.Conn) {
	t.Helper()
	server := storetest.NewServer(t)
	return server, server.Connect(t)
}

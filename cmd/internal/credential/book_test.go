package credential

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// withoutSync is for tests that write much and restart nothing.
func withoutSync(o *server.Options) { o.SyncAlways = false }

func TestCheck(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	unread, err := NewBook(nc, slog.New(slog.DiscardHandler))
	must(t, err)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web", Campaign: "kustiba-2018"})
	other, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "mobile"})
	_, secret, _ := parseToken(other)
	if _, err := unread.Check(token); !errors.Is(err, ErrNotReady) || !errors.Is(unread.Ready(), ErrNotReady) {
		t.Errorf("a book that has read nothing says %v", err)
	}
	r := newReader(t, nc)
	r.says(t, token, nil)
	must(t, r.Ready())
	c, err := r.Check(token)
	if err != nil || c.ID != id || c.Channel != "web" || !c.Covers("kustiba-2018") || c.Covers("kustiba-2019") {
		t.Errorf("the right token: %+v, %v", c, err)
	}
	for token, want := range map[string]error{
		"":                                ErrMissing,
		" ":                               ErrMalformed,
		token + "\n":                      ErrMalformed,
		strings.ToUpper(token):            ErrMalformed,
		token[:len(token)-1]:              ErrMalformed,
		strings.Repeat("_", TokenChars):   ErrMalformed,
		formatToken(id, secret):           ErrUnknown,
		formatToken(newID(), secret):      ErrUnknown,
		formatToken(newID(), newSecret()): ErrUnknown,
	} {
		if c, err := r.Check(token); !errors.Is(err, want) || c != nil {
			t.Errorf("%q: %+v, %v instead of %v", token, c, err, want)
		}
	}
}

// TestRevocation: a revocation is in force at the next look.
func TestRevocation(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	other, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "mobile"})
	r := newReader(t, nc)
	r.says(t, token, nil)
	start := time.Now()
	_, _, err := s.Revoke(t.Context(), id)
	must(t, err)
	r.says(t, token, ErrRevoked)
	t.Logf("in force %v after it was asked for", time.Since(start))
	if c, _ := r.Check(token); c == nil || c.ID != id {
		t.Errorf("a revoked credential cannot be logged: %+v", c)
	}
	_, secret, _ := parseToken(other)
	if _, err := r.Check(formatToken(id, secret)); !errors.Is(err, ErrUnknown) {
		t.Errorf("who has not the secret learns that it was revoked: %v", err)
	}
	r.says(t, other, nil)
}

// TestExpiry: a credential is good until its time is over, and who has not the
// secret does not learn that it is.
func TestExpiry(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	end := moment.Add(time.Hour)
	token, id := add(t, s, Credential{Role: domain.RoleAuditor, Expires: end})
	other, _ := add(t, s, Credential{Role: domain.RoleAuditor})
	book, err := NewBook(nc, slog.New(slog.DiscardHandler))
	must(t, err)
	clock := moment
	book.now = func() time.Time { return clock }
	s.now = book.now
	c, err := s.Check(t.Context(), token)
	must(t, err)
	book.publish(map[string]*stored{id: {credential: &c, hash: hashSecret(token[len(token)-secretChars:])}})
	for at, want := range map[time.Time]error{moment: nil, end.Add(-time.Millisecond): nil, end: ErrExpired, end.AddDate(1, 0, 0): ErrExpired} {
		clock = at
		if c, err := book.Check(token); !errors.Is(err, want) || c == nil || c.Role != domain.RoleAuditor {
			t.Errorf("at %v the book says %+v, %v", at, c, err)
		}
		if _, err := s.Check(t.Context(), token); !errors.Is(err, want) {
			t.Errorf("at %v the leader says %v", at, err)
		}
		if _, err := book.Check(formatToken(id, other[len(other)-secretChars:])); !errors.Is(err, ErrUnknown) {
			t.Errorf("at %v a wrong secret is answered with %v", at, err)
		}
	}
}

// TestNoBucketYet: a book that finds no bucket is ready, for nobody has a
// credential, and reads the bucket when it is made.
func TestNoBucketYet(t *testing.T) {
	_, nc := newServer(t)
	r := newReader(t, nc)
	r.await(t, "the book is ready", func() bool { return r.Ready() == nil })
	if _, err := r.Check(formatToken(newID(), newSecret())); !errors.Is(err, ErrUnknown) {
		t.Errorf("without a bucket: %v", err)
	}
	token, _ := add(t, newStore(t, nc), Credential{Role: domain.RoleChannel, Channel: "web"})
	r.says(t, token, nil)
}

// TestServerRestart: what was known stays in force while the server is away,
// and what changes afterwards comes.
func TestServerRestart(t *testing.T) {
	server, nc := newServer(t)
	s := newStore(t, nc)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web", Rate: 1})
	r := newReader(t, nc)
	r.says(t, token, nil)
	before, err := r.Check(token)
	must(t, err)
	server.Stop()
	storetest.Eventually(t, "the connection is lost", func() bool { return !nc.IsConnected() })
	must(t, r.Ready())
	if c, err := r.Check(token); err != nil || c != before {
		t.Errorf("while the server is away: %+v, %v", c, err)
	}
	server.Start(t)
	storetest.Eventually(t, "the connection is back", nc.IsConnected)
	another, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "mobile"})
	r.says(t, another, nil)
	if c, err := r.Check(token); err != nil || c != before {
		t.Errorf("after the restart: %+v instead of %+v, %v", c, before, err)
	}
	_, _, err = s.Revoke(t.Context(), id)
	must(t, err)
	r.says(t, token, ErrRevoked)
}

// TestAnotherBucket: a bucket that is gone changes nothing; the one that comes
// instead counts, although its revisions begin anew.
func TestAnotherBucket(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	token, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	r := newReader(t, nc)
	r.says(t, token, nil)
	deleteBucket(t, nc)
	storetest.Eventually(t, "the loss is logged", func() bool { return strings.Contains(r.log.String(), "there is no bucket") })
	if _, err := r.Check(token); err != nil {
		t.Errorf("without the bucket: %v", err)
	}
	instead, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	r.says(t, instead, nil)
	r.says(t, token, ErrUnknown)
}

// TestCorruptEntry: it is logged and refused, alone.
func TestCorruptEntry(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	good, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	bad, badID := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	removed, removedID := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	r := newReader(t, nc)
	r.says(t, bad, nil)
	kv := openBucket(t, nc)
	_, err := kv.PutString(t.Context(), badID, `{"channel":"web"`)
	must(t, err)
	r.says(t, bad, ErrUnknown)
	must(t, kv.Delete(t.Context(), removedID))
	r.says(t, removed, ErrUnknown)
	_, err = kv.PutString(t.Context(), "ne-ID", `{}`)
	must(t, err)
	last, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "mobile"})
	r.says(t, last, nil)
	r.says(t, good, nil)
	for _, word := range []string{badID, removedID, "ne-ID"} {
		if !strings.Contains(r.log.String(), word) {
			t.Errorf("the log does not name %s: %s", word, r.log.String())
		}
	}
	fresh := newReader(t, nc)
	fresh.says(t, good, nil)
	fresh.says(t, bad, ErrUnknown)
}

// TestUnrelatedChange: a credential stays the same one, with its token bucket,
// whatever happens to others.
func TestUnrelatedChange(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	token, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web", Rate: 1e-6, Burst: 1})
	other, otherID := add(t, s, Credential{Role: domain.RoleChannel, Channel: "mobile"})
	r := newReader(t, nc)
	r.says(t, token, nil)
	c, err := r.Check(token)
	must(t, err)
	if ok, _ := c.Allow(); !ok {
		t.Fatal("the first request is turned away")
	}
	_, _, err = s.Revoke(t.Context(), otherID)
	must(t, err)
	r.says(t, other, ErrRevoked)
	after, err := r.Check(token)
	must(t, err)
	if ok, _ := after.Allow(); ok || after != c {
		t.Error("a change of another credential has filled the token bucket")
	}
}

// TestConcurrentChecks: many check while credentials come and go. A token that
// was made is good until it is revoked and never again; one that nobody
// touches is good all the time.
func TestConcurrentChecks(t *testing.T) {
	seed := [2]uint64{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed[0], seed[1]))
	srv := storetest.NewServer(t, withoutSync)
	s := newStore(t, srv.Connect(t))
	steady, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web", Rate: MaxRate})
	r := newReader(t, srv.Connect(t))
	r.says(t, steady, nil)
	var watched atomic.Pointer[string] // of a credential that comes and goes
	watched.Store(&steady)
	done := make(chan struct{})
	var checkers sync.WaitGroup
	for range 2 {
		checkers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := r.Check(steady)
				if err != nil {
					t.Errorf("the steady one: %v", err)
					return
				}
				c.Allow()
				runtime.Gosched() // the server needs the processors too
				if _, err := r.Check(*watched.Load()); err != nil && !errors.Is(err, ErrRevoked) && !errors.Is(err, ErrUnknown) {
					t.Errorf("one that comes and goes: %v", err)
				}
			}
		})
	}
	live := map[string]string{} // id to token
	for range 30 {
		token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web", Rate: float64(dice.IntN(3))})
		watched.Store(&token)
		live[id] = token
		if dice.IntN(2) == 0 {
			for id, token := range live {
				_, _, err := s.Revoke(t.Context(), id)
				must(t, err)
				r.says(t, token, ErrRevoked)
				delete(live, id)
				break
			}
		}
	}
	for _, token := range live {
		r.says(t, token, nil)
	}
	close(done)
	checkers.Wait()
}

// TestNothingSecretIsLogged greps the logs of everything that can go wrong.
func TestNothingSecretIsLogged(t *testing.T) {
	srv, nc := newServer(t)
	s := newStore(t, nc)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	_, secret, _ := parseToken(token)
	r := newReader(t, nc)
	r.says(t, token, nil)
	kv := openBucket(t, nc)
	e, err := kv.Get(t.Context(), id)
	must(t, err)
	value := string(e.Value())
	for _, broken := range []string{value[:len(value)-2], value + "x", strings.Replace(value, `"secret_sha256"`, `"hash"`, 1),
		strings.Replace(value, hashOf(secret), hashOf(secret)[1:], 1), strings.Replace(value, hashOf(secret), "x"+hashOf(secret)[1:], 1)} {
		_, err := kv.PutString(t.Context(), id, broken)
		must(t, err)
		r.says(t, token, ErrUnknown)
		_, err = kv.PutString(t.Context(), id, value)
		must(t, err)
		r.says(t, token, nil)
	}
	deleteBucket(t, nc)
	storetest.Eventually(t, "the loss is logged", func() bool { return strings.Contains(r.log.String(), "there is no bucket") })
	srv.Stop()
	srv.Start(t)
	text := r.log.String()
	if !strings.Contains(text, id) {
		t.Fatalf("nothing was logged: %s", text)
	}
	for name, forbidden := range map[string]string{"the secret": secret, "its hash": hashOf(secret)[1:]} {
		if strings.Contains(text, forbidden) {
			t.Errorf("%s stands in the log: %s", name, text)
		}
	}
	c, err := r.Check(token)
	must(t, err)
	if shown := fmt.Sprintf("%+v", *c); strings.Contains(shown, secret) || strings.Contains(shown, hashOf(secret)) {
		t.Errorf("a credential shows %s", shown)
	}
}

// TestCheckAllocatesNothing: it runs tens of thousands of times a second.
func TestCheckAllocatesNothing(t *testing.T) {
	book, tokens := fullBook(t)
	for name, token := range map[string]string{"known": tokens[0], "unknown": formatToken(newID(), newSecret()), "malformed": "Bearer"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = book.Check(token) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestComparisonIsConstantTime holds the structure that no clock can: secrets
// are compared by crypto/subtle alone, and an unknown id costs a hash too.
func TestComparisonIsConstantTime(t *testing.T) {
	source, err := os.ReadFile("book.go")
	must(t, err)
	text := string(source)
	if strings.Count(text, "subtle.ConstantTimeCompare(given[:], s.hash[:])") != 1 || strings.Count(text, ".hash") != 1 {
		t.Error("hashes are compared elsewhere, or otherwise")
	}
	if nobody.hash == (hash{}) || nobody.check(newSecret(), moment) != ErrUnknown {
		t.Error("nobody has a known secret")
	}
}

// fullBook is a Book without a server that knows maxCredentials.
func fullBook(t testing.TB) (*Book, []string) {
	t.Helper()
	known := make(map[string]*stored, maxCredentials)
	var tokens []string
	for range maxCredentials {
		id, secret := newID(), newSecret()
		c := &Credential{ID: id, Channel: "web", Created: moment}
		known[id] = &stored{credential: c, hash: hashSecret(secret)}
		tokens = append(tokens, formatToken(id, secret))
	}
	book := &Book{now: time.Now}
	book.known.Store(&known)
	return book, tokens
}

func BenchmarkCheck(b *testing.B) {
	book, tokens := fullBook(b)
	unknown := formatToken(newID(), newSecret())
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := book.Check(tokens[i%len(tokens)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := book.Check(unknown); err != ErrUnknown {
				b.Fatal(err)
			}
		}
	})
}

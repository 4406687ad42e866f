package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestAloneKeepsWhatItAcknowledged(t *testing.T) {
	ctx := contextFor(t)
	dir := filepath.Join(t.TempDir(), "datu krātuve", "paldies")
	n := open(t, Config{DataDir: dir})
	if !n.Embedded() || n.DataDir() != dir || n.URL() != "in process" {
		t.Errorf("embedded %v, directory %s, at %s", n.Embedded(), n.DataDir(), n.URL())
	}
	if addr := n.server.Addr(); addr != nil {
		t.Errorf("a node for itself listens on %v", addr)
	}
	if size := n.Conn().Opts.ReconnectBufSize; size != -1 {
		t.Errorf("the connection buffers %d bytes while it is away", size)
	}
	must(t, createStream(ctx, n.Conn()))
	_, err := publish(ctx, n.Conn(), "ledger.2018.voter.a", "paldies, Žanete Ķirsone!")
	must(t, err)
	must(t, n.Close())

	n = open(t, Config{DataDir: dir})
	if texts := streamTexts(ctx, t, n.Conn()); len(texts) != 1 || texts[0] != "paldies, Žanete Ķirsone!" {
		t.Errorf("after reopening: %q", texts)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	must(t, err)
	n := open(t, Config{})
	if want := filepath.Join(here, DefaultDataDir); n.DataDir() != want {
		t.Errorf("the data directory is %s, not %s", n.DataDir(), want)
	}
}

func TestServedDirectoryIsShared(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	served := open(t, Config{DataDir: dir, Serve: true, Command: "dev", HTTP: "127.0.0.1:8080"})
	joined := open(t, Config{DataDir: dir, Command: "vote import"})
	if joined.Embedded() || joined.URL() != served.URL() {
		t.Errorf("joined: embedded %v at %s, served at %s", joined.Embedded(), joined.URL(), served.URL())
	}
	if size := joined.Conn().Opts.ReconnectBufSize; size != -1 {
		t.Errorf("the connection buffers %d bytes while it is away", size)
	}
	must(t, createStream(ctx, joined.Conn()))
	_, err := publish(ctx, joined.Conn(), "ledger.2018.voter.a", "paldies!")
	must(t, err)
	if texts := streamTexts(ctx, t, served.Conn()); len(texts) != 1 {
		t.Errorf("the serving node sees %q", texts)
	}

	_, err = Open(ctx, Config{DataDir: dir, Serve: true, Command: "dev"})
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("a second server on the directory: %v", err)
	}
	contains(t, err.Error(), dir, "dev", fmt.Sprint(os.Getpid()), "stop it first")

	must(t, joined.Close())
	must(t, served.Close())
	if _, err := os.Stat(addressPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("node.json after the end: %v", err)
	}
}

func TestOtherUsersCannotAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := open(t, Config{DataDir: dir, Serve: true})
	for _, password := range []string{"", "nepareizs"} {
		nc, err := nats.Connect(n.URL(), nats.Token(password))
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("a connection with the token %q: %v", password, err)
		}
		if err == nil {
			nc.Close()
		}
	}
	if runtime.GOOS == "windows" {
		return // Permissions are inherited from the user's folder there.
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, addressPath(dir): 0o600, lockPath(dir): 0o600, filepath.Join(dir, "jetstream"): 0o700} {
		entry, err := os.Stat(path)
		must(t, err)
		if got := entry.Mode().Perm(); got != want {
			t.Errorf("%s has the permissions %v, not %v", path, got, want)
		}
	}
}

func TestDirectoryInUseSaysByWhom(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	other := startProcess(t, "hold", dir, "alone")
	other.expect(t, "open")
	for _, c := range []Config{{DataDir: dir}, {DataDir: dir, Serve: true}} {
		_, err := Open(ctx, c)
		if !errors.Is(err, ErrInUse) {
			t.Fatalf("opening a directory in use: %v", err)
		}
		contains(t, err.Error(), dir, fmt.Sprint(other.Process.Pid), "vote import", "paldies dev")
	}
	other.kill(t)
	open(t, Config{DataDir: dir})
}

func TestStaleAddressIsIgnored(t *testing.T) {
	dir := t.TempDir()
	other := startProcess(t, "hold", dir, "serve")
	other.expect(t, "open")
	other.kill(t)
	stale, err := readAddress(dir)
	must(t, err)

	alone := open(t, Config{DataDir: dir})
	if !alone.Embedded() {
		t.Errorf("joined the dead node at %s", alone.URL())
	}
	must(t, alone.Close())

	open(t, Config{DataDir: dir, Serve: true})
	fresh, err := readAddress(dir)
	must(t, err)
	if fresh.Instance == stale.Instance || fresh.PID != os.Getpid() {
		t.Errorf("node.json is still that of process %d", fresh.PID)
	}
}

func TestHolderThatDoesNotServeYet(t *testing.T) {
	dir := t.TempDir()
	lock, err := takeLock(dir, holder{PID: 4711, Command: "dev", Instance: "a", Serve: true})
	must(t, err)
	must(t, (&address{holder: holder{Instance: "an earlier one"}, URL: "nats://127.0.0.1:1"}).write(dir))

	_, err = join(contextFor(t), Config{DataDir: dir})
	var soon *notYetError
	if !errors.As(err, &soon) || !errors.Is(err, ErrUnavailable) {
		t.Fatalf("joining a node that is starting: %v", err)
	}
	contains(t, err.Error(), dir, "4711", "try again")

	// Open waits for it, but not beyond its context, and takes the directory
	// over when that node ends instead.
	short, stop := context.WithTimeout(t.Context(), 3*joinInterval)
	defer stop()
	if _, err := Open(short, Config{DataDir: dir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the node: %v", err)
	}
	opened := make(chan error, 1)
	go func() {
		n, err := Open(t.Context(), Config{DataDir: dir})
		if err == nil {
			err = n.Close()
		}
		opened <- err
	}()
	must(t, lock.release())
	must(t, <-opened)
}

func TestHolderThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	me := holder{PID: 4711, Command: "dev", Instance: "a", Serve: true}
	lock, err := takeLock(dir, me)
	must(t, err)
	defer lock.release()
	must(t, (&address{holder: me, URL: "nats://" + closedAddress(t)}).write(dir))
	_, err = join(contextFor(t), Config{DataDir: dir})
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("joining a node that does not answer: %v", err)
	}
	contains(t, err.Error(), dir, "4711", "start it again")
}

func TestOnlyOneOpensTheDirectory(t *testing.T) {
	dir := t.TempDir()
	const rivals = 8
	results := make(chan error, rivals)
	begin := make(chan struct{})
	var done, tried sync.WaitGroup
	tried.Add(rivals)
	for range rivals {
		done.Go(func() {
			<-begin
			n, err := Open(t.Context(), Config{DataDir: dir, Command: "vote cast"})
			results <- err
			tried.Done()
			if err == nil {
				tried.Wait()
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	close(begin)
	done.Wait()
	close(results)
	opened := 0
	for err := range results {
		switch {
		case err == nil:
			opened++
		case !errors.Is(err, ErrInUse):
			t.Error(err)
		}
	}
	if opened != 1 {
		t.Errorf("%d of %d opened the directory", opened, rivals)
	}
}

func TestUnusableDataDirectory(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "fails")
	must(t, os.WriteFile(file, []byte("nav mape"), 0o600))
	odd := filepath.Join(base, "dīvaina")
	must(t, os.MkdirAll(lockPath(odd), 0o700))
	blocked := filepath.Join(base, "aizņemta")
	must(t, os.MkdirAll(blocked, 0o700))
	must(t, os.WriteFile(filepath.Join(blocked, "jetstream"), nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "below"), odd, blocked} {
		_, err := Open(contextFor(t), Config{DataDir: dir})
		if !errors.Is(err, ErrDataDir) {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		contains(t, err.Error(), dir)
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one sentence: %s", err)
		}
	}
}

// TestMustExist: who has nothing to do without data makes no directory, not
// even in one that is there and holds other things.
func TestMustExist(t *testing.T) {
	here := t.TempDir()
	missing := filepath.Join(here, "nav")
	for _, dir := range []string{missing, here} {
		_, err := Open(contextFor(t), Config{DataDir: dir, MustExist: true})
		if !errors.Is(err, ErrNoData) {
			t.Fatalf("%s: %v", dir, err)
		}
		contains(t, err.Error(), dir, "--data")
	}
	if entries, err := os.ReadDir(here); err != nil || len(entries) > 0 {
		t.Errorf("it has made %v, %v", entries, err)
	}
	must(t, open(t, Config{DataDir: missing}).Close())
	must(t, open(t, Config{DataDir: missing, MustExist: true}).Close())
	must(t, os.Remove(lockPath(missing))) // as in a copy
	must(t, open(t, Config{DataDir: missing, MustExist: true}).Close())
}

// TestDamagedStream makes sure that a campaign whose stream cannot be read
// does not pass for one that does not exist.
func TestDamagedStream(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	n := open(t, Config{DataDir: dir})
	must(t, createStream(ctx, n.Conn()))
	streams := n.staging.streams
	must(t, n.Close())
	must(t, os.WriteFile(filepath.Join(streams, testStream, "meta.inf"), []byte("{}"), 0o600))
	_, err := Open(ctx, Config{DataDir: dir})
	if !errors.Is(err, ErrDataDir) {
		t.Fatalf("opening a damaged directory: %v", err)
	}
	contains(t, err.Error(), dir, testStream, "restore")
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, c := range []Config{{DataDir: t.TempDir()}, {NATSURL: "nats://" + closedAddress(t)}} {
		if _, err := Open(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{}, ""},
		{Config{NATSURL: "localhost:4222"}, ""},
		{Config{NATSURL: "nats://balsu:parole@a:4222, tls://b:4222"}, ""},
		{Config{NATSURL: "nats://a:4222", Serve: true}, "leave out --nats-url"},
		{Config{NATSURL: "http://a:parole@b"}, `scheme "http"`},
		{Config{NATSURL: "nats://a:parole%@b:4222"}, "write it as nats://host:4222"},
		{Config{NATSURL: "nats://"}, "write it as nats://host:4222"},
		{Config{MaxStoreBytes: -1}, "must not be negative"},
	} {
		err := c.config.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.config.NATSURL, err)
		case c.want != "" && err == nil:
			t.Errorf("%q is accepted", c.config.NATSURL)
		case err != nil:
			contains(t, err.Error(), c.want)
			if strings.Contains(err.Error(), "parole") {
				t.Errorf("the message tells the password: %v", err)
			}
		}
	}
}

func TestJetStreamFull(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	const storeMax = 256 << 10
	n := open(t, Config{DataDir: dir, MaxStoreBytes: storeMax})
	must(t, createStream(ctx, n.Conn()))
	event := strings.Repeat("ļ", 4<<10)
	stored := 0
	var err error
	for err == nil && stored <= storeMax {
		if _, err = publish(ctx, n.Conn(), "ledger.2018.voter.a", event); err == nil {
			stored++
		}
	}
	if !IsDiskFull(err) {
		t.Fatalf("after %d events: %v", stored, err)
	}
	if _, err := publishBatch(ctx, n.Conn(), 1, 10); !IsDiskFull(err) {
		t.Errorf("a batch: %v", err)
	}
	explained := n.Explain(fmt.Errorf("casting a vote: %w", err))
	if !errors.Is(explained, ErrStorageFull) || !IsDiskFull(explained) {
		t.Errorf("explained as: %v", explained)
	}
	contains(t, explained.Error(), dir, "free space")
	must(t, n.Close())

	n = open(t, Config{DataDir: dir})
	if texts := streamTexts(ctx, t, n.Conn()); len(texts) != stored {
		t.Errorf("%d events were acknowledged, %d are there", stored, len(texts))
	}
	_, err = publish(ctx, n.Conn(), "ledger.2018.voter.a", "ir vieta")
	must(t, err)
}

func TestExplainLeavesOtherErrorsAlone(t *testing.T) {
	n := open(t, Config{DataDir: t.TempDir()})
	for _, err := range []error{nil, errors.New("kāda kļūda"), context.DeadlineExceeded, &jetstream.APIError{ErrorCode: 10071}} {
		if got := n.Explain(err); !errors.Is(got, err) || errors.Is(got, ErrStorageFull) {
			t.Errorf("%v became %v", err, got)
		}
	}
	full := &jetstream.APIError{ErrorCode: 10077, Description: "write 1.blk: no space left on device"}
	if other := (&jetstream.APIError{ErrorCode: 10077, Description: "message size exceeds maximum allowed"}); !IsDiskFull(full) || IsDiskFull(other) {
		t.Errorf("a failed store is not told from a full one")
	}
}

func TestStartTimeOfAnEmptyNode(t *testing.T) {
	start := time.Now()
	n := open(t, Config{DataDir: t.TempDir()})
	opened := time.Since(start)
	start = time.Now()
	must(t, n.Close())
	t.Logf("opened in %v, closed in %v", opened, time.Since(start))
}

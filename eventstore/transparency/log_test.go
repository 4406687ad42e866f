package transparency_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

const origin = "sakipaldies.lv/ledger/test"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, storetest.Leftovers()...) }

// log is a ledger in memory and what is sealed of it.
type log struct {
	testing.TB
	ledger *sealtest.Ledger
	fence  *sealtest.Fence
	dir    string
	signer *signer
	keys   *transparency.Keys
}

func newLog(t testing.TB, entries int) *log {
	t.Helper()
	s, keys := newSigner(t)
	return &log{TB: t, ledger: sealtest.NewLedger(entries), fence: &sealtest.Fence{}, dir: memoryDir(t), signer: s, keys: keys}
}

// memoryDir is a folder in memory where the system has one: these tests write
// many small files, and to wait for a disk shows nothing more.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "paldies-log-")
	if err != nil {
		return filepath.Join(t.TempDir(), "log")
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "log")
}

// folder is the log as a process sees it that has just been started.
func (l *log) folder() *transparency.Folder { return transparency.NewFolder(l.dir) }

func (l *log) config(folder *transparency.Folder) transparency.Config {
	return transparency.Config{Ledger: l.ledger, Folder: folder, Fence: l.fence, Signer: l.signer, Keys: l.keys}
}

func (l *log) sealer(folder *transparency.Folder) *transparency.Sealer {
	l.Helper()
	s, err := transparency.NewSealer(l.config(folder))
	if err != nil {
		l.Fatal(err)
	}
	return s
}

// seal is one start of a signer to the end of the ledger.
func (l *log) seal() (transparency.Checkpoint, error) {
	l.Helper()
	return l.sealer(l.folder()).RunToEnd(l.Context())
}

// mustSeal seals at each of these sizes.
func (l *log) mustSeal(sizes ...int) (c transparency.Checkpoint) {
	l.Helper()
	for _, size := range sizes {
		l.ledger.GrowTo(size)
		var err error
		if c, err = l.seal(); err != nil {
			l.Fatal(err)
		}
		if c.Size != uint64(size) {
			l.Fatalf("sealed %d entries, want %d", c.Size, size)
		}
	}
	return c
}

// mustSealKeeping seals at each of these sizes with a signer that is never
// alive when older partial tiles are to be removed.
func (l *log) mustSealKeeping(sizes ...int) {
	l.Helper()
	folder := l.folder()
	folder.OnStep(func(operation, _ string, run func() error) error {
		if operation == transparency.OpRemove {
			return nil
		}
		return run()
	})
	for _, size := range sizes {
		l.ledger.GrowTo(size)
		if _, err := l.sealer(folder).RunToEnd(l.Context()); err != nil {
			l.Fatal(err)
		}
	}
}

// wantSound fails when an honest log is accused of anything.
func (l *log) wantSound() {
	l.Helper()
	for _, text := range verify(l, l.dir, l.keys) {
		l.Errorf("an honest log is accused: %s", text)
	}
}

// wantNoFork checks that all that was ever signed are beginnings of one tree:
// that of the entries which the ledger has now.
func (l *log) wantNoFork() {
	l.Helper()
	entries := entriesOf(l, l.ledger)
	for _, text := range l.signer.all() {
		lines := strings.Split(text, "\n")
		size, err := strconv.Atoi(lines[1])
		if err != nil || size > len(entries) {
			l.Errorf("a tree of %s entries was signed, there are %d", lines[1], len(entries))
			continue
		}
		root := mth(entries[:size])
		if want := base64.StdEncoding.EncodeToString(root[:]); lines[2] != want {
			l.Errorf("a fork is signed: the first %d entries have the root %s, signed was %s", size, want, lines[2])
		}
	}
}

// entriesOf are the entries of a ledger.
func entriesOf(t testing.TB, l *sealtest.Ledger) (entries [][]byte) {
	t.Helper()
	if err := l.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, e := range batch {
			entries = append(entries, e.Data)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return entries
}

// mth is the Merkle Tree Hash, word for word as RFC 6962 defines it in section
// 2.1.
func mth(d [][]byte) [32]byte {
	n := len(d)
	switch n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, d[0]...))
	}
	k := 1
	for 2*k < n {
		k *= 2
	}
	left, right := mth(d[:k]), mth(d[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// signer remembers everything that it has signed.
type signer struct {
	note.Signer
	mu     sync.Mutex // guards signed
	signed []string
}

func (s *signer) Sign(msg []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signed = append(s.signed, string(msg))
	return s.Signer.Sign(msg)
}

func (s *signer) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.signed...)
}

func newSigner(t testing.TB) (*signer, *transparency.Keys) {
	t.Helper()
	s, verifier := newKey(t)
	return s, mustKeys(t, verifier)
}

func newKey(t testing.TB) (s *signer, verifier string) {
	t.Helper()
	signing, verifier, err := transparency.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := transparency.ParseSigner(signing)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{Signer: inner}, verifier
}

func mustKeys(t testing.TB, text string) *transparency.Keys {
	t.Helper()
	keys, err := transparency.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// verify checks a log with nothing but its folder, the keys and what a reader
// has seen of it before, as an auditor does. It returns what it has found.
func verify(t testing.TB, dir string, keys *transparency.Keys, held ...transparency.Head) (found []string) {
	t.Helper()
	folder := transparency.NewFolder(dir)
	newest, heads, findings, err := folder.Heads(keys)
	if err != nil {
		return []string{err.Error()}
	}
	r := transparency.NewRebuild(folder, append(heads, held...))
	err = transparency.Entries{Folder: folder, Size: newest.Size}.Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
		entries := make([][]byte, 0, len(batch))
		for _, e := range batch {
			entries = append(entries, e.Data)
		}
		leaves := transparency.LeafHashes(entries)
		if len(leaves) == transparency.TileWidth {
			r.AppendBundle(leaves, transparency.SubtreeRoot(leaves))
		} else {
			r.Append(leaves)
		}
		return nil
	})
	if err != nil {
		found = append(found, err.Error())
	}
	for _, f := range append(findings, r.Finish()...) {
		found = append(found, fmt.Sprintf("%s: entry %d: %s", f.Path, f.Sequence, f.Text))
	}
	return found
}

// random is a source of numbers whose seed is printed when the test fails.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("PALDIES_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat it with PALDIES_TEST_SEED=%d", seed)
		}
	})
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// files are the paths of all files of a log, with slashes, in order.
func files(t testing.TB, dir string) (paths []string) {
	t.Helper()
	if err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t testing.TB, dir, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, dir, path string, data []byte) {
	t.Helper()
	name := filepath.Join(dir, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// copyOf is a copy of a log's folder.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := memoryDir(t)
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// growing is a tape of which a part was recorded.
type growing struct {
	tape
	last int
}

func (g *growing) Info(context.Context) (eventstore.Info, error) {
	return eventstore.Info{Last: uint64(g.last)}, nil
}

func (g *growing) Replay(_ context.Context, _, _ uint64, fn func([]eventstore.Recorded) error) error {
	return fn(g.events[:g.last])
}

func (g *growing) Follow(context.Context, uint64, func([]eventstore.Recorded) error) error {
	panic("nobody follows a tape")
}

// sealedWorld is an honest campaign of more than a bundle, sealed several
// times while it grew.
func sealedWorld(t *testing.T, random *rand.Rand) (*transparency.Folder, *transparency.Keys) {
	t.Helper()
	w := newWorld(t, t)
	for range 3 {
		w.specialist()
	}
	for range 150 {
		v := w.stranger()
		w.cast(v, w.specialist())
	}
	g := &growing{tape: w.recorded()}
	var sizes []int
	for range 6 {
		sizes = append(sizes, 1+random.IntN(len(g.events)))
	}
	sizes = append(sizes, len(g.events))
	slices.Sort(sizes)
	signing, verifier, err := transparency.GenerateKey("sakipaldies.lv/ledger/" + campaign)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := transparency.ParseSigner(signing)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := transparency.ParseKeys(verifier)
	if err != nil {
		t.Fatal(err)
	}
	folder := transparency.NewFolder(t.TempDir())
	record := new(fence)
	for _, g.last = range sizes {
		s, err := transparency.NewSealer(transparency.Config{Ledger: g, Folder: folder, Fence: record, Signer: signer, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.RunToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return folder, keys
}

// verdict is what an auditor with the folder finds. An error must be one that
// ends with the exit code of a mismatch.
func verdict(t *testing.T, f *transparency.Folder, keys *transparency.Keys) string {
	t.Helper()
	newest, heads, findings, err := f.Heads(keys)
	switch {
	case errors.Is(err, eventstore.ErrCorrupt), errors.Is(err, transparency.ErrSignature), errors.Is(err, transparency.ErrMalformed):
		return err.Error()
	case err != nil:
		t.Fatalf("that is no mismatch: %v", err)
	}
	r, err := audit.Verify(t.Context(), campaign, transparency.Entries{Folder: f, Size: newest.Size}, newWorld(t, t).codec,
		audit.Options{Seal: &audit.Seal{Heads: heads, Findings: findings, Folder: f}})
	if err != nil {
		t.Fatalf("that is no mismatch: %v", err)
	}
	return strings.Join(mismatches(r), "; ")
}

// logFiles are the files that an audit must vouch for.
func logFiles(t *testing.T, f *transparency.Folder) (files []string) {
	t.Helper()
	err := filepath.WalkDir(f.Dir(), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// tamperings are the ways in which somebody changes a file; each returns what it
// holds then, or nil where that way cannot be gone.
var tamperings = map[string]func(random *rand.Rand, name string, data []byte) []byte{
	"a bit is flipped": func(random *rand.Rand, _ string, data []byte) []byte {
		data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		return data
	},
	"the end is cut off": func(random *rand.Rand, name string, data []byte) []byte {
		if filepath.Base(name) == transparency.CheckpointsPath {
			return nil // a crash may do that, and others may hold what is missing
		}
		return data[:random.IntN(len(data))]
	},
	"something is added": func(random *rand.Rand, _ string, data []byte) []byte {
		return append(data, byte(random.IntN(256)))
	},
	"two pieces change places": func(random *rand.Rand, name string, data []byte) []byte {
		const piece = 32
		if len(data) < 2*piece {
			return nil
		}
		i, j := random.IntN(len(data)/piece)*piece, random.IntN(len(data)/piece)*piece
		var kept [piece]byte
		copy(kept[:], data[i:i+piece])
		copy(data[i:i+piece], data[j:j+piece])
		copy(data[j:j+piece], kept[:])
		return data
	},
	"an entry is taken out and another repeated": func(random *rand.Rand, name string, data []byte) []byte {
		if !strings.Contains(name, "entries") {
			return nil
		}
		var entries [][]byte
		for rest := data; len(rest) > 0; {
			one, behind, err := transparency.SplitBundle(rest, 1)
			if err != nil {
				return nil
			}
			entries, rest = append(entries, rest[:2+len(one[0])]), behind
		}
		if len(entries) < 2 {
			return nil
		}
		i, j := random.IntN(len(entries)), random.IntN(len(entries))
		entries[i] = entries[j]
		return slices.Concat(entries...)
	},
}

// TestEveryTamperingIsFound changes a sealed log in thousands of ways, one at a
// time. None may pass, and the log as it was must not be accused.
func TestEveryTamperingIsFound(t *testing.T) {
	seed, tries := uint64(time.Now().UnixNano()), 2000
	if testing.Short() {
		tries = 300
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	folder, keys := sealedWorld(t, random)
	if found := verdict(t, folder, keys); found != "" {
		t.Fatalf("an honest log is accused: %s", found)
	}
	files := logFiles(t, folder)
	ways := make([]string, 0, len(tamperings))
	for way := range tamperings {
		ways = append(ways, way)
	}
	slices.Sort(ways)
	tampered := make(map[string]int)
	for range tries {
		name, way := files[random.IntN(len(files))], ways[random.IntN(len(ways))]
		honest, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := tamperings[way](random, name, slices.Clone(honest))
		if changed == nil || string(changed) == string(honest) {
			continue
		}
		tampered[way]++
		write(t, name, changed)
		if verdict(t, folder, keys) == "" {
			t.Errorf("%s: %s, and nobody notices", strings.TrimPrefix(name, folder.Dir()), way)
		}
		write(t, name, honest)
	}
	if found := verdict(t, folder, keys); found != "" {
		t.Errorf("the log as it was is accused: %s", found)
	}
	for _, way := range ways {
		if tampered[way] == 0 {
			t.Errorf("%s: never drawn", way)
		}
	}
	t.Logf("%d files; %v", len(files), tampered)
}

// TestMissingFilesAreFound removes each file that the newest checkpoint needs.
func TestMissingFilesAreFound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	folder, keys := sealedWorld(t, random)
	newest, err := folder.Checkpoint(keys)
	if err != nil {
		t.Fatal(err)
	}
	width := fmt.Sprintf(".p/%d", newest.Size%transparency.TileWidth)
	for _, name := range logFiles(t, folder) {
		if filepath.Base(name) == transparency.CheckpointsPath || filepath.Base(name) == transparency.KeysPath {
			continue // not there before the first checkpoint; who holds a checkpoint needs no list
		}
		if strings.Contains(name, ".p") && !strings.HasSuffix(filepath.ToSlash(name), width) && !strings.Contains(filepath.ToSlash(name), "/tile/1/") {
			continue // older
		}
		honest, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		found := verdict(t, folder, keys)
		older := strings.Contains(filepath.ToSlash(name), "/tile/1/") && !strings.HasSuffix(filepath.ToSlash(name), fmt.Sprintf(".p/%d", newest.Size/transparency.TileWidth))
		if found == "" && !older {
			t.Errorf("%s is removed, and nobody notices", name)
		}
		write(t, name, honest)
	}
	write(t, filepath.Join(folder.Dir(), "tile", "0", "piezīme"), []byte("x"))
	if verdict(t, folder, keys) == "" {
		t.Error("a foreign file is not noticed")
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

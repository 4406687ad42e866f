package transparency_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

// Each bit of each byte of every file of a small log; and a bit of every eighth
// byte or so of one that has full tiles, older partial ones of them, and two
// levels: several in each hash, in each entry, and in each line.
func TestEveryFlippedBitIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		sizes []int
		all   bool
	}{
		"small":       {[]int{0, 2, 5}, true},
		"of two rows": {[]int{1, 3, 255, 259}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := random(t)
			l := newLog(t, 0)
			l.mustSealKeeping(c.sizes...)
			l.wantSound()
			flips, stride := 0, 1
			if !c.all {
				stride = 8
			}
			if testing.Short() {
				stride *= 16
			}
			for _, path := range files(t, l.dir) {
				data := read(t, l.dir, path)
				for at := 0; at < len(data); at += 1 + r.IntN(2*stride-1) {
					bits := []int{0, 1, 2, 3, 4, 5, 6, 7}
					if !c.all {
						bits = []int{r.IntN(8)}
					}
					for _, bit := range bits {
						data[at] ^= 1 << bit
						write(t, l.dir, path, data)
						if found := verify(t, l.dir, l.keys); len(found) == 0 {
							t.Errorf("%s: bit %d of byte %d was flipped, and nobody noticed", path, bit, at)
						}
						data[at] ^= 1 << bit
						flips++
					}
				}
				write(t, l.dir, path, data)
			}
			l.wantSound()
			t.Logf("%d flipped bits", flips)
		})
	}
}

// Random bits of a bigger log, whose tiles of level 0 need a second folder.
func TestFlippedBitsOfABigLogAreFound(t *testing.T) {
	r := random(t)
	l := newLog(t, 0)
	sizes, flips := []int{1000, 40_000, 66_000}, 60
	if testing.Short() {
		sizes, flips = []int{1000, 3000}, 20
	}
	l.mustSealKeeping(sizes...)
	l.wantSound()
	all := files(t, l.dir)
	for range flips {
		path := all[r.IntN(len(all))]
		data := read(t, l.dir, path)
		at, bit := r.IntN(len(data)), r.IntN(8)
		data[at] ^= 1 << bit
		write(t, l.dir, path, data)
		if found := verify(t, l.dir, l.keys); len(found) == 0 {
			t.Errorf("%s: bit %d of byte %d was flipped, and nobody noticed", path, bit, at)
		}
		data[at] ^= 1 << bit
		write(t, l.dir, path, data)
	}
	l.wantSound()
}

func TestEveryFlippedBitOfAReceiptIsFound(t *testing.T) {
	r := random(t)
	l := newLog(t, 0)
	l.mustSeal(300)
	for _, sequence := range []uint64{1, 2 + r.Uint64N(297), 300} {
		receipt, err := l.folder().Receipt(l.keys, sequence)
		if err != nil {
			t.Fatal(err)
		}
		data := receipt.Marshal()
		if err := checkReceipt(data, l.keys); err != nil {
			t.Fatal(err)
		}
		for at := range data {
			for bit := range 8 {
				data[at] ^= 1 << bit
				err := checkReceipt(data, l.keys)
				if err == nil {
					t.Errorf("entry %d: bit %d of byte %d was flipped, and nobody noticed", sequence, bit, at)
				} else if !errors.Is(err, transparency.ErrMalformed) && !errors.Is(err, transparency.ErrSignature) && !errors.Is(err, transparency.ErrProof) {
					t.Errorf("an error of no documented type: %v", err)
				}
				data[at] ^= 1 << bit
			}
		}
		for length := range data {
			if checkReceipt(data[:length], l.keys) == nil {
				t.Errorf("entry %d: the receipt was cut after %d bytes, and nobody noticed", sequence, length)
			}
		}
	}
}

func checkReceipt(data []byte, keys *transparency.Keys) error {
	receipt, err := transparency.ParseReceipt(data)
	if err != nil {
		return err
	}
	_, err = receipt.Verify(keys)
	return err
}

// The bundle is what a log's owner would change to change a vote.
func TestChangedEntriesAreFound(t *testing.T) {
	r := random(t)
	l := newLog(t, 0)
	l.mustSealKeeping(100, 600)
	changes := map[string]func(entries [][]byte) [][]byte{
		"removed": func(e [][]byte) [][]byte { i := r.IntN(len(e)); return slices.Delete(e, i, i+1) },
		"inserted": func(e [][]byte) [][]byte {
			return slices.Insert(e, r.IntN(len(e)+1), []byte("a vote that nobody has given"))
		},
		"swapped": func(e [][]byte) [][]byte {
			i := r.IntN(len(e) - 1)
			e[i], e[i+1] = e[i+1], e[i]
			return e
		},
		"repeated":                      func(e [][]byte) [][]byte { i := r.IntN(len(e)); return slices.Insert(e, i, e[i]) },
		"repeated in place of the next": func(e [][]byte) [][]byte { i := r.IntN(len(e) - 1); e[i+1] = e[i]; return e },
		"altered":                       func(e [][]byte) [][]byte { e[r.IntN(len(e))] = []byte("another vote"); return e },
		"emptied":                       func(e [][]byte) [][]byte { e[r.IntN(len(e))] = nil; return e },
		"merged": func(e [][]byte) [][]byte {
			i := r.IntN(len(e) - 1)
			e[i], e[i+1] = append(slices.Clone(e[i]), e[i+1]...), nil
			return e
		},
	}
	for _, path := range files(t, l.dir) {
		if !strings.HasPrefix(path, "tile/entries/") {
			continue
		}
		data := read(t, l.dir, path)
		for name, change := range changes {
			var bundle []byte
			for _, entry := range change(bundleEntries(t, data)) {
				bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
				bundle = append(bundle, entry...)
			}
			write(t, l.dir, path, bundle)
			if found := verify(t, l.dir, l.keys); len(found) == 0 {
				t.Errorf("%s: an entry was %s, and nobody noticed", path, name)
			}
		}
		for range 20 {
			write(t, l.dir, path, data[:r.IntN(len(data))])
			if found := verify(t, l.dir, l.keys); len(found) == 0 {
				t.Errorf("%s was cut, and nobody noticed", path)
			}
		}
		write(t, l.dir, path, append(slices.Clone(data), 0))
		if found := verify(t, l.dir, l.keys); len(found) == 0 {
			t.Errorf("%s: a byte was added, and nobody noticed", path)
		}
		write(t, l.dir, path, data)
	}
	l.wantSound()
}

// bundleEntries are all entries of a bundle.
func bundleEntries(t *testing.T, data []byte) (entries [][]byte) {
	t.Helper()
	for len(data) > 0 {
		one, rest, err := transparency.SplitBundle(data, 1)
		if err != nil {
			t.Fatal(err)
		}
		entries, data = append(entries, slices.Clone(one[0])), rest
	}
	return entries
}

// Of the files that make up the log at its newest checkpoint none can be
// removed, cut or replaced by another of its kind. Older partial ones may be
// removed, as the signer does itself; but not be exchanged.
func TestRemovedCutAndExchangedFilesAreFound(t *testing.T) {
	l := newLog(t, 0)
	l.mustSealKeeping(3, 255, 515)
	older := func(path string) bool {
		return strings.Contains(path, ".p/") && !strings.Contains(path, "/002.p/3") && path != "tile/1/000.p/2"
	}
	for _, path := range files(t, l.dir) {
		data := read(t, l.dir, path)
		name := filepath.Join(l.dir, path)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		found := verify(t, l.dir, l.keys)
		// All checkpoints that were published before cannot be proven by the
		// newest one. Whoever has seen one of them does not need the file.
		harmless := older(path) || path == transparency.CheckpointsPath
		if harmless != (len(found) == 0) {
			t.Errorf("%s was removed: %q", path, found)
		}
		write(t, l.dir, path, data[:len(data)-1])
		if found := verify(t, l.dir, l.keys); len(found) == 0 && path != transparency.CheckpointsPath {
			t.Errorf("the last byte of %s was cut, and nobody noticed", path)
		}
		for _, other := range files(t, l.dir) {
			foreign := read(t, l.dir, other)
			if !strings.HasPrefix(path, "tile/") || bytes.Equal(foreign, data) {
				continue
			}
			write(t, l.dir, path, foreign)
			if found := verify(t, l.dir, l.keys); len(found) == 0 {
				t.Errorf("%s was exchanged for %s, and nobody noticed", path, other)
			}
		}
		write(t, l.dir, path, data)
	}
	l.wantSound()
}

func TestForeignFilesAreFound(t *testing.T) {
	l := newLog(t, 0)
	l.mustSealKeeping(3, 300)
	for _, path := range []string{
		"tile/readme.txt", "tile/0/readme.txt", "tile/0/0", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/007", "tile/0/x000/000",
		"tile/00/000", "tile/9/000", "tile/entries/000.p/x", "tile/entries/1000", "tile/0/000.P/3", "tile/0/000.p/3/4",
		// A partial tile that the log has never published cannot be told from
		// one that it has if it is right; if it is not, it is found.
		"tile/0/000.p/17", "tile/entries/000.p/17", "tile/entries/001.p/1", "tile/0/001.p/43",
	} {
		t.Run(path, func(t *testing.T) {
			l := *l
			l.dir = copyOf(t, l.dir)
			name := filepath.Join(l.dir, path)
			if err := os.RemoveAll(filepath.Dir(name)); strings.HasSuffix(path, "3/4") && err != nil {
				t.Fatal(err)
			}
			l.dir = copyOf(t, l.dir)
			write(t, l.dir, path, []byte("something"))
			if found := verify(t, l.dir, l.keys); len(found) == 0 {
				t.Error("nobody noticed")
			}
		})
	}
}

// The stream is rebuilt with one vote changed and sealed by somebody else.
func TestRebuiltLogOfAnotherKeyIsFound(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(3, 300)
	forged := newLog(t, 300)
	forged.ledger.Change(func(entries [][]byte) [][]byte { entries[41] = []byte("another vote"); return entries })
	forged.mustSeal(300)
	if found := verify(t, forged.dir, l.keys); len(found) == 0 {
		t.Error("a log that another key has signed is taken for the log")
	}
	if found := verify(t, forged.dir, forged.keys); len(found) > 0 {
		t.Errorf("the forgery is sound in itself: %q", found)
	}
	// Its files with the signed checkpoints of the true log, and the other way
	// round.
	for _, path := range []string{transparency.CheckpointPath, transparency.CheckpointsPath} {
		mixed := copyOf(t, forged.dir)
		write(t, mixed, path, read(t, l.dir, path))
		if found := verify(t, mixed, l.keys); len(found) == 0 {
			t.Errorf("forged entries under the true %s, and nobody noticed", path)
		}
	}
}

// Who has the signing key can sign a fork that is sound in itself. Whoever
// holds an earlier checkpoint of the log finds it.
func TestForkIsFoundByWhoHasSeenTheLogBefore(t *testing.T) {
	l := newLog(t, 0)
	seen := l.mustSeal(3, 100)
	held := transparency.Head{Size: seen.Size, Root: seen.Root, From: "the checkpoint of last week"}
	fork := newLog(t, 0)
	fork.signer, fork.keys = l.signer, l.keys
	fork.ledger.GrowTo(400)
	fork.ledger.Change(func(entries [][]byte) [][]byte { entries[41] = []byte("another vote"); return entries })
	fork.mustSeal(400)
	fork.wantSound()
	found := verify(t, fork.dir, fork.keys, held)
	if len(found) != 1 || !strings.Contains(found[0], held.From) {
		t.Errorf("the fork is not found, or it is not said where: %q", found)
	}
	l.mustSeal(400)
	if found := verify(t, l.dir, l.keys, held); len(found) > 0 {
		t.Errorf("the true log is accused: %q", found)
	}
	// A log that has shrunk below what was seen.
	short := newLog(t, 0)
	short.signer, short.keys = l.signer, l.keys
	short.mustSeal(50)
	if found := verify(t, short.dir, short.keys, held); len(found) != 1 {
		t.Errorf("entries were taken away from the end, and nobody noticed: %q", found)
	}
	// Both branches published by one folder.
	all := append(read(t, l.dir, transparency.CheckpointsPath), read(t, fork.dir, transparency.CheckpointPath)...)
	write(t, l.dir, transparency.CheckpointsPath, all)
	if found := verify(t, l.dir, l.keys); len(found) == 0 {
		t.Error("two roots for one size, and nobody noticed")
	}
}

// What a signer leaves behind that dies at the worst moment is honest.
func TestHonestStatesAreNotAccused(t *testing.T) {
	t.Run("torn tail of checkpoints", func(t *testing.T) {
		l := newLog(t, 0)
		l.mustSeal(3, 10)
		all := read(t, l.dir, transparency.CheckpointsPath)
		notes, rest := transparency.SplitCheckpoints(all)
		if len(notes) != 2 || len(rest) > 0 {
			t.Fatalf("%d checkpoints and %d bytes", len(notes), len(rest))
		}
		for length := len(notes[0]); length < len(all); length++ {
			write(t, l.dir, transparency.CheckpointsPath, all[:length])
			l.wantSound()
			l.mustSeal(10)
			if !bytes.Equal(read(t, l.dir, transparency.CheckpointsPath), all) {
				t.Fatalf("cut after %d bytes, the next signer does not mend it", length)
			}
		}
	})
	t.Run("files ahead of the checkpoint", func(t *testing.T) {
		l := newLog(t, 0)
		l.mustSealKeeping(3, 100)
		ahead := *l
		ahead.dir = copyOf(t, l.dir)
		for _, size := range []int{101, 256, 257, 900} {
			ahead.mustSealKeeping(size)
			for _, path := range []string{transparency.CheckpointPath, transparency.CheckpointsPath} {
				write(t, ahead.dir, path, read(t, l.dir, path))
			}
			ahead.wantSound()
			ahead.fence = &sealtest.Fence{}
			ahead.fence.Set(transparency.Signed{Size: 100, Root: mth(entriesOf(t, l.ledger)[:100])}, 1)
		}
	})
	t.Run("only full tiles", func(t *testing.T) {
		// A mirror need not keep a partial tile whose full one it has.
		l := newLog(t, 0)
		l.mustSeal(100)
		ahead := *l
		ahead.mustSeal(300)
		for _, path := range []string{transparency.CheckpointPath, transparency.CheckpointsPath} {
			all, _ := transparency.SplitCheckpoints(read(t, l.dir, transparency.CheckpointsPath))
			write(t, l.dir, path, all[0])
		}
		l.wantSound()
		for _, sequence := range []uint64{1, 57, 100} {
			if _, err := l.folder().Receipt(l.keys, sequence); err != nil {
				t.Errorf("entry %d: %v", sequence, err)
			}
		}
	})
}

// Readers look at a log again and again while it is written.
func TestLogIsVerifiedWhileItIsWritten(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(1)
	const end = 1500
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		defer stop()
		s := l.sealer(l.folder())
		for size := 2; size <= end; size += 7 {
			l.ledger.GrowTo(size)
			if _, err := s.RunToEnd(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	rounds := 0
	for ; ctx.Err() == nil; rounds++ {
		for _, text := range verify(t, l.dir, l.keys) {
			t.Errorf("an honest log is accused: %s", text)
		}
		folder := l.folder()
		c, err := folder.Checkpoint(l.keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := folder.Receipt(l.keys, c.Size); err != nil {
			t.Errorf("the newest entry of a log that is written: %v", err)
		}
	}
	working.Wait()
	t.Logf("verified %d times", rounds)
	l.wantSound()
}

// A reader sees the half of what a signer adds to checkpoints, and then a newer
// checkpoint than that half is of.
func TestHalfWrittenCheckpointsAreNotAccused(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(3, 100, 2000)
	all := read(t, l.dir, transparency.CheckpointsPath)
	notes, _ := transparency.SplitCheckpoints(all)
	for length := len(notes[0]) + 1; length < len(notes[0])+len(notes[1]); length++ {
		write(t, l.dir, transparency.CheckpointsPath, all[:length])
		write(t, l.dir, transparency.CheckpointPath, notes[1])
		folder := l.folder()
		folder.OnStep(func(operation, path string, run func() error) error {
			err := run()
			if path == transparency.CheckpointsPath { // now the signer goes on
				write(t, l.dir, transparency.CheckpointsPath, all)
				write(t, l.dir, transparency.CheckpointPath, notes[2])
			}
			return err
		})
		if _, _, findings, err := folder.Heads(l.keys); err != nil || len(findings) > 0 {
			t.Fatalf("an honest log is accused: %v %v", findings, err)
		}
	}
}

// Sizes and orders of checkpoints that no honest log has.
func TestCheckpointsOutOfOrderAreFound(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(3, 10, 20)
	notes, _ := transparency.SplitCheckpoints(read(t, l.dir, transparency.CheckpointsPath))
	for name, list := range map[string][][]byte{
		"swapped":              {notes[1], notes[0], notes[2]},
		"with junk":            {notes[0], []byte("something\n"), notes[1], notes[2]},
		"with junk at the end": {notes[0], notes[1], notes[2], []byte("something")},
		"cut within":           {notes[0], notes[1][:150], notes[2]},
	} {
		write(t, l.dir, transparency.CheckpointsPath, bytes.Join(list, nil))
		if found := verify(t, l.dir, l.keys); len(found) == 0 {
			t.Errorf("%s, and nobody noticed", name)
		}
	}
	write(t, l.dir, transparency.CheckpointsPath, bytes.Join(notes, nil))
	write(t, l.dir, transparency.CheckpointPath, notes[1])
	if found := verify(t, l.dir, l.keys); len(found) == 0 {
		t.Error("checkpoint was set back behind checkpoints, and nobody noticed")
	}
	if _, err := l.seal(); !errors.Is(err, transparency.ErrChanged) {
		t.Errorf("the signer goes on from a checkpoint that was set back: %v", err)
	}
}

// checkpoint and the last of checkpoints are of one size and two trees: readers
// see it, and the signer does not take either for its own.
func TestTwoRootsForOneSizeAreFound(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(3, 10)
	fork := newLog(t, 10)
	fork.signer, fork.keys = l.signer, l.keys
	fork.ledger.Change(func(entries [][]byte) [][]byte { entries[4] = []byte("another vote"); return entries })
	fork.mustSeal(10)
	for _, path := range []string{transparency.CheckpointPath, transparency.CheckpointsPath} {
		mixed := *l
		mixed.dir = copyOf(t, l.dir)
		write(t, mixed.dir, path, read(t, fork.dir, path))
		if found := verify(t, mixed.dir, l.keys); len(found) == 0 {
			t.Errorf("%s is of another tree, and nobody noticed", path)
		}
		_, err := mixed.seal()
		wantHalt(t, err, transparency.ErrFork)
	}
}

// An auditor's reading of parts: what is missing is said by name.
func TestEntriesOfABrokenLog(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(600)
	if err := os.Remove(filepath.Join(l.dir, "tile/entries/001")); err != nil {
		t.Fatal(err)
	}
	var got []uint64
	replay := func(from, to uint64) error {
		got = nil
		return transparency.Entries{Folder: l.folder(), Size: 600}.Replay(t.Context(), from, to, func(batch []eventstore.Recorded) error {
			for _, e := range batch {
				got = append(got, e.Sequence)
				if want := sealtest.Entry(int(e.Sequence - 1)); !bytes.Equal(e.Data, want) {
					return fmt.Errorf("entry %d is %q", e.Sequence, e.Data)
				}
			}
			return nil
		})
	}
	if err := replay(513, 0); err != nil || len(got) != 88 || got[0] != 513 {
		t.Errorf("%v: %v", got, err)
	}
	if err := replay(255, 256); err != nil || len(got) != 2 || got[1] != 256 {
		t.Errorf("%v: %v", got, err)
	}
	if err := replay(0, 1); err != nil || len(got) != 1 {
		t.Errorf("%v: %v", got, err)
	}
	if err := replay(700, 0); err != nil || len(got) != 0 {
		t.Errorf("%v: %v", got, err)
	}
	if err := replay(1, 0); !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "entries/001") || len(got) != 256 {
		t.Errorf("%d entries: %v", len(got), err)
	}
	if _, err := l.folder().Receipt(l.keys, 300); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("a receipt of an entry that is missing: %v", err)
	}
	if _, err := l.folder().Receipt(l.keys, 601); !errors.Is(err, transparency.ErrNotSealed) {
		t.Errorf("a receipt of an entry that is not sealed: %v", err)
	}
}

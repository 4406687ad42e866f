package transparency_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

// The vectors of the reference implementation of RFC 6962 (certificate-
// transparency, merkletree/merkle_tree_test.cc): entries, and the root after
// each of them.
var (
	publishedEntries = []string{
		"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
	}
	publishedRoots = []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
)

func TestPublishedVectorsAgree(t *testing.T) {
	var tree transparency.Tree
	var entries [][]byte
	for size, want := range publishedRoots {
		if root := tree.Root(); hex.EncodeToString(root[:]) != want {
			t.Errorf("%d entries have the root %x, published is %s", size, root, want)
		}
		if root := mth(entries); hex.EncodeToString(root[:]) != want {
			t.Errorf("the definition gives %x for %d entries, published is %s", root, size, want)
		}
		if size == len(publishedEntries) {
			break
		}
		entry, err := hex.DecodeString(publishedEntries[size])
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry)
		tree.Append(transparency.LeafHashes([][]byte{entry})[0])
	}
}

// The tree is grown by entries and by bundles, in any mixture; the definition of
// RFC 6962 is the oracle for its root, and plain slices are for its tiles.
func TestTreeIsTheRFCs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 3000), rapid.SampledFrom([]int{255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537})).Draw(t, "size")
		entries := make([][]byte, size)
		for i := range entries {
			entries[i] = sealtest.Entry(i)
		}
		leaves := transparency.LeafHashes(entries)
		var tree transparency.Tree
		var tiles []transparency.Tile
		for i := 0; i < size; {
			if i%transparency.TileWidth == 0 && size-i >= transparency.TileWidth && rapid.Bool().Draw(t, "bundle") {
				bundle := slices.Clone(leaves[i : i+transparency.TileWidth])
				tiles = append(tiles, tree.AppendBundle(bundle, transparency.SubtreeRoot(bundle))...)
				i += transparency.TileWidth
				continue
			}
			for range min(size-i, transparency.TileWidth-i%transparency.TileWidth) {
				tiles = append(tiles, tree.Append(leaves[i])...)
				i++
			}
		}
		if tree.Size() != uint64(size) {
			t.Fatalf("%d entries, want %d", tree.Size(), size)
		}
		if root, want := tree.Root(), mth(entries); root != want {
			t.Fatalf("%d entries have the root %x, want %x", size, root, want)
		}
		wantTiles(t, leaves, append(tiles, tree.Partial()...))
	})
}

// wantTiles compares tiles with rows that are made level by level.
func wantTiles(t *rapid.T, row []tlog.Hash, tiles []transparency.Tile) {
	have := make(map[[2]uint64][]tlog.Hash)
	for _, tile := range tiles {
		key := [2]uint64{uint64(tile.Level), tile.Index}
		if _, twice := have[key]; twice {
			t.Fatalf("tile %d of level %d comes twice", tile.Index, tile.Level)
		}
		have[key] = tile.Hashes
	}
	for level := uint64(0); len(row) > 0; level++ {
		var above []tlog.Hash
		for index := uint64(0); len(row) > 0; index++ {
			width := min(len(row), transparency.TileWidth)
			key := [2]uint64{level, index}
			if !slices.Equal(have[key], row[:width]) {
				t.Fatalf("tile %d of level %d is wrong", index, level)
			}
			delete(have, key)
			if width == transparency.TileWidth {
				above = append(above, perfect(row[:width]))
			}
			row = row[width:]
		}
		row = above
	}
	if len(have) > 0 {
		t.Fatalf("%d tiles too many", len(have))
	}
}

// perfect is the root over a power of two of hashes, by halves.
func perfect(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	left, right := perfect(hashes[:len(hashes)/2]), perfect(hashes[len(hashes)/2:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

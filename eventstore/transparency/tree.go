package transparency

import (
	"crypto/sha256"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// tileHeight is the height of the subtree that a tile stands for.
	tileHeight = 8
	// TileWidth is how many hashes a full tile has, and how many entries a full
	// bundle (C2SP tlog-tiles).
	TileWidth = 1 << tileHeight
)

// Tile is a row of consecutive hashes of the tree (C2SP tlog-tiles, "Merkle
// Tree"): at level 0 those of entries, above it those of full tiles of the level
// below.
type Tile struct {
	Level  int
	Index  uint64 // within the level
	Hashes []tlog.Hash
}

// Tree is the right edge of a Merkle tree (RFC 6962, section 2.1): all that is
// needed to let it grow and to know its root. The zero value is an empty tree.
type Tree struct {
	size  uint64
	peaks []tlog.Hash   // roots of the perfect subtrees that it splits into, from the left
	edge  [][]tlog.Hash // by level: the hashes of the tile that is not full yet
}

// Size is the number of entries.
func (t *Tree) Size() uint64 { return t.size }

// Append adds an entry's hash and returns the tiles that became full by it,
// from the bottom up. They are the caller's.
func (t *Tree) Append(leaf tlog.Hash) []Tile { return t.add(nil, 0, leaf) }

// AppendBundle adds the hashes of a whole bundle whose own root is known
// already, so that bundles can be hashed beside each other. The size must be a
// multiple of TileWidth.
func (t *Tree) AppendBundle(leaves []tlog.Hash, root tlog.Hash) []Tile {
	full := Tile{Index: t.size / TileWidth, Hashes: leaves}
	return t.add([]Tile{full}, tileHeight, root)
}

// add adds the root of a perfect subtree of a height, which must be one of a
// row of tiles. It merges with its left neighbours of the same height.
func (t *Tree) add(full []Tile, height int, h tlog.Hash) []Tile {
	begun := height
	for ; ; height++ {
		if height%tileHeight == 0 {
			full = t.put(full, height/tileHeight, t.size+1<<begun, h)
		}
		if t.size>>height&1 == 0 {
			break
		}
		left := len(t.peaks) - 1
		h = tlog.NodeHash(t.peaks[left], h)
		t.peaks = t.peaks[:left]
	}
	t.peaks = append(t.peaks, h)
	t.size += 1 << begun
	return full
}

// put adds a hash to the tile at the end of a row. The size is that of the tree
// with it.
func (t *Tree) put(full []Tile, level int, size uint64, h tlog.Hash) []Tile {
	for level >= len(t.edge) {
		t.edge = append(t.edge, nil)
	}
	if t.edge[level] == nil {
		t.edge[level] = make([]tlog.Hash, 0, TileWidth)
	}
	t.edge[level] = append(t.edge[level], h)
	if len(t.edge[level]) < TileWidth {
		return full
	}
	tile := Tile{Level: level, Index: size>>(tileHeight*(level+1)) - 1, Hashes: t.edge[level]}
	t.edge[level] = nil
	return append(full, tile)
}

// Partial are the tiles of the tree that are not full, from the bottom up. They
// must not be changed.
func (t *Tree) Partial() (partial []Tile) {
	for level, hashes := range t.edge {
		if len(hashes) > 0 {
			partial = append(partial, Tile{Level: level, Index: t.size >> (tileHeight * (level + 1)), Hashes: hashes})
		}
	}
	return partial
}

// Root is the Merkle Tree Hash; of an empty tree it is the hash of nothing.
func (t *Tree) Root() tlog.Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.peaks) - 1
	root := t.peaks[last]
	for _, peak := range slices.Backward(t.peaks[:last]) {
		root = tlog.NodeHash(peak, root)
	}
	return root
}

// SubtreeRoot is the root over a power of two of hashes.
func SubtreeRoot(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	row := make([]tlog.Hash, len(hashes)/2)
	for i := range row {
		row[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
	}
	for len(row) > 1 {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0]
}

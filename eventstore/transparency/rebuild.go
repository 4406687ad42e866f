package transparency

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Head is a tree head that a log must have had, and who says so.
type Head struct {
	Size uint64
	Root tlog.Hash
	From string // for people: "checkpoint 17 of checkpoints"
}

// Finding is something in a log that cannot be honest.
type Finding struct {
	Path     string // of the file, within the log, or what else says so
	Sequence uint64 // the entry, or 0
	Text     string
	File     bool // it is about a tile or a bundle, and not about what was signed
}

// Rebuild builds the tree of a log anew from the hashes of its entries and holds
// everything that was published against it: heads, and tiles where there is a
// folder. It is for one goroutine.
type Rebuild struct {
	folder   *Folder // nil: only heads are compared
	tree     Tree
	heads    []Head // not reached yet, by size
	findings []Finding
}

// NewRebuild compares with these heads and, unless it is nil, the tiles of a
// folder.
func NewRebuild(folder *Folder, heads []Head) *Rebuild {
	r := &Rebuild{folder: folder, heads: slices.Clone(heads)}
	slices.SortStableFunc(r.heads, func(a, b Head) int { return compareSizes(a.Size, b.Size) })
	r.reach()
	return r
}

func compareSizes(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (r *Rebuild) find(path string, sequence uint64, format string, args ...any) {
	r.findings = append(r.findings, Finding{path, sequence, fmt.Sprintf(format, args...), true})
}

func (r *Rebuild) findHead(h Head, format string, args ...any) {
	r.findings = append(r.findings, Finding{Path: h.From, Text: fmt.Sprintf(format, args...)})
}

// Size is how many entries were appended.
func (r *Rebuild) Size() uint64 { return r.tree.Size() }

// Append adds the hashes of the next entries.
func (r *Rebuild) Append(leaves []tlog.Hash) {
	for _, leaf := range leaves {
		r.compare(r.tree.Append(leaf))
		r.reach()
	}
}

// AppendBundle adds the hashes of a whole bundle at its place and the root over
// them, which may have been computed elsewhere.
func (r *Rebuild) AppendBundle(leaves []tlog.Hash, root tlog.Hash) {
	if len(r.heads) > 0 && r.heads[0].Size < r.tree.Size()+TileWidth {
		r.Append(leaves) // a head lies within
		return
	}
	r.compare(r.tree.AppendBundle(leaves, root))
	r.reach()
}

// reach compares the root with the heads of this size.
func (r *Rebuild) reach() {
	size := r.tree.Size()
	for len(r.heads) > 0 && r.heads[0].Size == size {
		h := r.heads[0]
		r.heads = r.heads[1:]
		if root := r.tree.Root(); root != h.Root {
			r.findHead(h, "the first %d entries have the root %v, it says %v", size, root, h.Root)
		}
	}
}

// compare holds tiles against their files.
func (r *Rebuild) compare(tiles []Tile) {
	if r.folder == nil {
		return
	}
	for _, tile := range tiles {
		at := tile.place()
		data, width, err := r.folder.readRow(at)
		path := at.path()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.find(path, 0, "it is missing")
			continue
		case err != nil:
			r.find(path, 0, "%v", err)
			continue
		}
		hashes, err := decodeTile(data, width)
		if err != nil {
			r.find(path, 0, "%v", err)
			continue
		}
		for i, h := range tile.Hashes {
			if h != hashes[i] {
				first := (tile.Index*TileWidth + uint64(i)) << (tileHeight * tile.Level)
				r.find(path, first+1, "hash %d does not follow from the entries from %d on", i+1, first+1)
				break // the first one says where to look
			}
		}
	}
}

// Finish ends the comparison after the last entry, and returns all that was
// found, oldest first.
func (r *Rebuild) Finish() []Finding {
	r.compare(r.tree.Partial())
	for _, h := range r.heads {
		r.findHead(h, "it is of %d entries, there are only %d", h.Size, r.tree.Size())
	}
	r.heads = nil
	if r.folder != nil {
		r.strays()
	}
	return r.findings
}

// strays looks at the files that no comparison has reached: partial tiles and
// bundles of earlier checkpoints must be the beginning of what is there now.
// Files of entries behind the last checkpoint are not signed yet and prove
// nothing.
func (r *Rebuild) strays() {
	err := filepath.WalkDir(r.folder.name(strings.TrimSuffix(tilePrefix, "/")), func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // A signer at work has removed it; what is needed was compared.
		}
		if err != nil || d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(r.folder.dir, name)
		if err != nil {
			return err
		}
		path := filepath.ToSlash(relative)
		if strings.HasPrefix(d.Name(), unfinishedPrefix) {
			return nil // A signer was killed while it wrote this.
		}
		at, ok := parsePlace(path)
		if !ok {
			r.find(path, 0, "this file does not belong into a log")
			return nil
		}
		if at.width < TileWidth && at.width < widthAt(r.tree.Size(), at.level, at.index) {
			return r.olderPartial(at)
		}
		return nil
	})
	if err != nil {
		r.find(tilePrefix, 0, "%v", err)
	}
}

// olderPartial compares a partial tile or bundle with the one that has grown
// out of it.
func (r *Rebuild) olderPartial(at place) error {
	older, err := r.folder.Read(at.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // A signer at work has removed it.
	}
	if err != nil {
		return err
	}
	now := at
	now.width = widthAt(r.tree.Size(), at.level, at.index)
	newer, _, err := r.folder.readRow(now)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // found already
	}
	if err != nil {
		return err
	}
	length := at.width * tlog.HashSize
	if at.entries {
		_, rest, err := SplitBundle(newer, at.width)
		if err != nil {
			return nil // found already
		}
		length = len(newer) - len(rest)
	}
	if len(newer) < length || !bytes.Equal(older, newer[:length]) {
		r.find(at.path(), 0, "it is not the beginning of %s", now.path())
	}
	return nil
}

// Heads reads all checkpoints that were published and returns them as heads,
// the newest one, and what is wrong with them. It is ErrNotSealed when there is
// none. A signer may be at work, or have been killed between any two steps.
func (f *Folder) Heads(keys *Keys) (newest Checkpoint, heads []Head, findings []Finding, err error) {
	data, err := f.Read(CheckpointsPath)               // first, because it is written last
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a crash may have come before the first one
		return newest, nil, nil, err
	}
	c, signed, err := f.checkpoint(keys)
	if err == nil && c == nil {
		err = fmt.Errorf("%s: %w", f.dir, ErrNotSealed)
	}
	if err != nil {
		return newest, nil, nil, err
	}
	newest = *c
	heads = append(heads, Head{newest.Size, newest.Root, CheckpointPath})
	notes, rest := splitCheckpoints(data)
	var before uint64
	for i, note := range notes {
		from := fmt.Sprintf("%s, number %d", CheckpointsPath, i+1)
		c, err := ParseCheckpoint(note, keys)
		switch {
		case err != nil:
			findings = append(findings, Finding{Path: from, Text: err.Error()})
			continue
		case c.Size < before:
			findings = append(findings, Finding{Path: from, Text: fmt.Sprintf("it has %d entries, the one before it %d", c.Size, before)})
		case c.Size > newest.Size:
			findings = append(findings, Finding{Path: from, Text: fmt.Sprintf("it has %d entries, %s only %d", c.Size, CheckpointPath, newest.Size)})
			continue
		}
		before = c.Size
		heads = append(heads, Head{c.Size, c.Root, from})
	}
	if !bytes.HasPrefix(signed, rest) && !f.grown(data) {
		findings = append(findings, Finding{Path: CheckpointsPath, Text: fmt.Sprintf("it ends with %d bytes that are no checkpoint", len(rest))})
	}
	return newest, heads, findings, nil
}

// grown reports whether CheckpointsPath has become longer since it was read. Its
// end is then a checkpoint that a signer at work was about to write.
func (f *Folder) grown(since []byte) bool {
	now, err := f.Read(CheckpointsPath)
	return err == nil && len(now) > len(since) && bytes.HasPrefix(now, since)
}

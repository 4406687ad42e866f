package transparency

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/eventstore"
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

// AppendEvents hashes the next events and adds them.
func (r *Rebuild) AppendEvents(events []eventstore.Recorded) {
	for _, e := range events {
		r.compare(r.tree.Append(tlog.RecordHash(e.Data)))
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
	if len(r.heads) == 0 {
		r.compare(r.tree.Partial())
		if r.folder != nil {
			r.strays()
		}
	}
	// Where entries are missing, the files that belong to all of them say no more.
	for _, h := range r.heads {
		r.findHead(h, "it is of %d entries, there are only %d", h.Size, r.tree.Size())
	}
	r.heads = nil
	return r.findings
}

// strays looks at the files that no comparison has reached. Partial tiles and
// bundles of earlier checkpoints must be the beginning of what is there now, and
// those that reach beyond the last one must begin with it: a signer may have
// been about to sign them. What lies behind it as a whole proves nothing.
func (r *Rebuild) strays() {
	err := r.folder.walk(func(at place) error {
		now := at
		now.width = widthAt(r.tree.Size(), at.level, at.index)
		switch {
		case now.width == 0 || at.width == now.width:
			return nil
		case at.width < now.width:
			return r.begins(at, now)
		default:
			return r.begins(now, at)
		}
	}, func(path string) { r.find(path, 0, "this file does not belong into a log") })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.find(tilePrefix, 0, "%v", err)
	}
}

// begins wants one tile or bundle to be the beginning of a wider one of the same
// place.
func (r *Rebuild) begins(narrow, wide place) error {
	narrower, err := r.folder.readExactly(narrow)
	if err == nil && narrower == nil {
		return nil // A signer at work has removed it, or it was found to be missing.
	}
	if err != nil {
		r.find(narrow.path(), 0, "%v", err)
		return nil
	}
	wider, width, err := r.folder.readRow(wide)
	if err != nil {
		return nil // found already, or removed
	}
	length := narrow.width * tlog.HashSize
	if narrow.entries {
		_, rest, err := SplitBundle(wider, min(narrow.width, width))
		if err != nil {
			r.find(wide.path(), 0, "%v", err)
			return nil
		}
		length = len(wider) - len(rest)
	}
	if len(wider) < length || !bytes.Equal(narrower, wider[:length]) {
		r.find(narrow.path(), 0, "it is not the beginning of %s", wide.path())
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
	notes, rest := splitCheckpoints(data)
	c, signed, err := f.checkpoint(keys)
	switch {
	case err != nil:
		return newest, nil, nil, err
	case c == nil && len(notes) > 0:
		return newest, nil, nil, fmt.Errorf("%w: %s is missing, and %s has %d", eventstore.ErrCorrupt, f.name(CheckpointPath), CheckpointsPath, len(notes))
	case c == nil:
		return newest, nil, nil, fmt.Errorf("%s: %w", f.dir, ErrNotSealed)
	}
	newest = *c
	heads = append(heads, Head{newest.Size, newest.Root, CheckpointPath})
	parsed, errs := parseAll(notes, keys)
	var before uint64
	for i, c := range parsed {
		from := fmt.Sprintf("%s, number %d", CheckpointsPath, i+1)
		err := errs[i]
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
	// A crash may have cut off the newest checkpoint while it was added.
	torn := bytes.HasPrefix(signed, rest) && (len(notes) == 0 || !bytes.Equal(notes[len(notes)-1], signed))
	if len(rest) > 0 && !torn && !f.grown(data) {
		findings = append(findings, Finding{Path: CheckpointsPath, Text: fmt.Sprintf("it ends with %d bytes that are no checkpoint", len(rest))})
	}
	return newest, heads, findings, nil
}

// parseAll parses checkpoints on all processors: each has a signature to be
// verified, which takes some 50 µs.
func parseAll(notes [][]byte, keys *Keys) ([]Checkpoint, []error) {
	parsed, errs := make([]Checkpoint, len(notes)), make([]error, len(notes))
	var parsing sync.WaitGroup
	for first := range runtime.GOMAXPROCS(0) {
		parsing.Go(func() {
			for i := first; i < len(notes); i += runtime.GOMAXPROCS(0) {
				parsed[i], errs[i] = ParseCheckpoint(notes[i], keys)
			}
		})
	}
	parsing.Wait()
	return parsed, errs
}

// grown reports whether CheckpointsPath has become longer since it was read. Its
// end is then a checkpoint that a signer at work was about to write.
func (f *Folder) grown(since []byte) bool {
	now, err := f.Read(CheckpointsPath)
	return err == nil && len(now) > len(since) && bytes.HasPrefix(now, since)
}

// Export hands over all that is needed to check a log, also while it grows: the
// checkpoints, the keys, and the tiles and bundles that the newest checkpoint
// needs, each under the path at which it is. Older partial ones are left out.
func (f *Folder) Export(keys *Keys, emit func(path string, data []byte) error) error {
	all, err := f.Read(CheckpointsPath) // first, because it is written last
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c, signed, err := f.checkpoint(keys)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("%s: %w", f.dir, ErrNotSealed)
	}
	vkey, err := f.Read(KeysPath)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		path string
		data []byte
	}{{CheckpointsPath, all}, {CheckpointPath, signed}, {KeysPath, vkey}} {
		if err := emit(one.path, one.data); err != nil {
			return err
		}
	}
	for level := 0; c.Size>>(tileHeight*level) > 0; level++ {
		for index := uint64(0); widthAt(c.Size, level, index) > 0; index++ {
			row := place{level: level, index: index, width: widthAt(c.Size, level, index)}
			rows := []place{row}
			if level == 0 {
				row.entries = true
				rows = append(rows, row)
			}
			for _, at := range rows {
				data, width, err := f.readRow(at)
				if err != nil {
					return err
				}
				at.width = width
				if err := emit(at.path(), data); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

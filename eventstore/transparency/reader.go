package transparency

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"sakipaldies.lv/ledger/eventstore"
)

// ErrNotSealed says that there is no checkpoint, or none that has an entry yet.
var ErrNotSealed = errors.New("it is not sealed yet")

// Keys reads the verifier keys that lie in the folder. Whoever checks a log
// gets them from elsewhere: who can change the log can change these too.
func (f *Folder) Keys() (*Keys, error) {
	data, err := f.Read(KeysPath)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name(KeysPath), err)
	}
	return keys, nil
}

// Checkpoint reads the newest checkpoint. It is ErrNotSealed when there is none.
func (f *Folder) Checkpoint(keys *Keys) (Checkpoint, error) {
	c, _, err := f.checkpoint(keys)
	if err == nil && c == nil {
		err = fmt.Errorf("%s: %w", f.dir, ErrNotSealed)
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return *c, nil
}

// CheckRecord holds the folder's newest checkpoint against the record of what was
// signed, with its revision. The record is moved before a checkpoint is published,
// so that one that was read after the checkpoint and is behind it was lost or set
// back: ErrFork.
func (f *Folder) CheckRecord(newest Checkpoint, record Signed, revision uint64) error {
	if revision != 0 && newest.Size <= record.Size {
		return nil
	}
	return fmt.Errorf("%w: %s has a checkpoint of %d entries, but the record of what was signed says %d: it was lost or set back; find out why, then restore it with `paldies restore`",
		ErrFork, f.dir, newest.Size, record.Size)
}

// widthAt is how many hashes the tile at a level and an index has in a tree of
// a size: 0 when it is not part of the tree.
func widthAt(size uint64, level int, index uint64) int {
	row := size >> (tileHeight * level)
	if index > row/TileWidth { // index*TileWidth may not fit
		return 0
	}
	return int(min(row-index*TileWidth, TileWidth))
}

// Bundle reads the entries of a bundle in a tree of a size. They are slices of
// one piece of memory. What is missing or cannot be read is
// eventstore.ErrCorrupt.
func (f *Folder) Bundle(size, index uint64) ([][]byte, error) {
	at := place{entries: true, index: index, width: widthAt(size, 0, index)}
	data, width, err := f.readRow(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing", eventstore.ErrCorrupt, f.name(at.path()))
	}
	if err != nil {
		return nil, err
	}
	entries, rest, err := SplitBundle(data, width)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("it has %d bytes behind its last entry", len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", eventstore.ErrCorrupt, f.name(at.path()), err)
	}
	return entries[:at.width], nil
}

// Entries are the entries of a log in a folder, up to a size, as events of a
// ledger: subjects and times are not part of a log and stay empty.
type Entries struct {
	Folder *Folder
	Size   uint64
}

// Replay hands over the entries from the sequence from up to to, a bundle at a
// time; to = 0 means the last one. The events may be kept. Errors are that of
// fn, eventstore.ErrCorrupt, the context's, and those of the file system.
func (e Entries) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	from = max(from, 1)
	if to == 0 || to > e.Size {
		to = e.Size
	}
	for from <= to {
		if err := ctx.Err(); err != nil {
			return err
		}
		index := (from - 1) / TileWidth
		entries, err := e.Folder.Bundle(e.Size, index)
		if err != nil {
			return err
		}
		first := index*TileWidth + 1
		batch := make([]eventstore.Recorded, 0, len(entries))
		for i, entry := range entries {
			if sequence := first + uint64(i); sequence >= from && sequence <= to {
				batch = append(batch, eventstore.Recorded{Message: eventstore.Message{Data: entry}, Sequence: sequence})
			}
		}
		if err := fn(batch); err != nil {
			return err
		}
		from = first + uint64(len(entries))
	}
	return nil
}

package transparency

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/eventstore"
)

// MaxReceiptBytes bounds a receipt, in bytes. The largest event takes 22 kB of
// it, the proof at most 3 kB.
const MaxReceiptBytes = 256 << 10

// ErrProof says that a receipt proves nothing.
var ErrProof = errors.New("the entry is not what was sealed at this place of the log")

// Receipt is an entry and the proof that it is in the log (C2SP tlog-proof; the
// entry itself is the extra data).
type Receipt struct {
	Entry      []byte
	Sequence   uint64 // 1 for the first entry
	Proof      tlog.RecordProof
	Checkpoint []byte // signed
}

// Receipt proves that the entry with a sequence is in the log, as of the newest
// checkpoint. It is ErrNotSealed when no checkpoint has the entry yet. Tiles
// and bundles that do not fit the checkpoint are eventstore.ErrCorrupt.
func (f *Folder) Receipt(keys *Keys, sequence uint64) (*Receipt, error) {
	c, signed, err := f.checkpoint(keys)
	if err != nil {
		return nil, err
	}
	if c == nil || sequence == 0 || sequence > c.Size {
		var size uint64
		if c != nil {
			size = c.Size
		}
		return nil, fmt.Errorf("entry %d: %w: the newest checkpoint of %s has %d entries", sequence, ErrNotSealed, f.dir, size)
	}
	index := sequence - 1
	entries, err := f.Bundle(c.Size, index/TileWidth)
	if err != nil {
		return nil, err
	}
	path, err := tlog.ProveRecord(int64(c.Size), int64(index), tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		return f.hashes(c.Size, indexes)
	}))
	if err != nil {
		return nil, err
	}
	r := &Receipt{Entry: entries[index%TileWidth], Sequence: sequence, Proof: path, Checkpoint: signed}
	if _, err := r.Verify(keys); err != nil {
		return nil, fmt.Errorf("%w: entry %d in %s: %w", eventstore.ErrCorrupt, sequence, f.dir, err)
	}
	return r, nil
}

// hashes reads hashes of a tree by tlog's numbers for them.
func (f *Folder) hashes(size uint64, indexes []int64) ([]tlog.Hash, error) {
	read := make(map[place][]byte)
	hashes := make([]tlog.Hash, 0, len(indexes))
	for _, index := range indexes {
		t := tlog.TileForIndex(tileHeight, index)
		at := place{level: t.L, index: uint64(t.N), width: widthAt(size, t.L, uint64(t.N))}
		data, ok := read[at]
		if !ok {
			row, width, err := f.readRow(at)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil, fmt.Errorf("%w: %s is missing", eventstore.ErrCorrupt, f.name(at.path()))
			case err != nil:
				return nil, err
			case len(row) != width*tlog.HashSize:
				return nil, fmt.Errorf("%w: %s has %d bytes", eventstore.ErrCorrupt, f.name(at.path()), len(row))
			}
			data = row[:at.width*tlog.HashSize]
			read[at] = data
		}
		t.W = at.width
		h, err := tlog.HashFromTile(t, data, index)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}

// Marshal writes the receipt as a C2SP tlog-proof.
func (r *Receipt) Marshal() []byte {
	p := proof.TLogProof{Index: r.Sequence - 1, Checkpoint: r.Checkpoint, ExtraData: r.Entry}
	for _, h := range r.Proof {
		p.Hashes = append(p.Hashes, h)
	}
	return p.Marshal()
}

// ParseReceipt reads a receipt. It accepts one spelling only, so that no byte of
// a receipt can be changed unnoticed. The error is ErrMalformed.
func ParseReceipt(data []byte) (*Receipt, error) {
	if len(data) > MaxReceiptBytes {
		return nil, fmt.Errorf("%w: a receipt has at most %d bytes", ErrMalformed, MaxReceiptBytes)
	}
	var p proof.TLogProof
	if err := p.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("%w: it is no receipt (C2SP tlog-proof): %w", ErrMalformed, err)
	}
	if p.ExtraData == nil {
		return nil, fmt.Errorf("%w: it has no `extra` line with the entry itself", ErrMalformed)
	}
	r := &Receipt{Entry: p.ExtraData, Sequence: p.Index + 1, Checkpoint: p.Checkpoint}
	for _, h := range p.Hashes {
		r.Proof = append(r.Proof, h)
	}
	if !bytes.Equal(r.Marshal(), data) {
		return nil, fmt.Errorf("%w: it is not spelled as a C2SP tlog-proof is", ErrMalformed)
	}
	return r, nil
}

// Verify checks the signature and the proof and returns the checkpoint that was
// signed. Errors are ErrSignature, ErrMalformed and ErrProof.
func (r *Receipt) Verify(keys *Keys) (Checkpoint, error) {
	c, err := ParseCheckpoint(r.Checkpoint, keys)
	if err != nil {
		return Checkpoint{}, err
	}
	if r.Sequence == 0 || r.Sequence > c.Size {
		return Checkpoint{}, fmt.Errorf("%w: entry %d of %d", ErrProof, r.Sequence, c.Size)
	}
	if err := tlog.CheckRecord(r.Proof, int64(c.Size), c.Root, int64(r.Sequence-1), tlog.RecordHash(r.Entry)); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return c, nil
}

package transparency

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxEntryBytes is the largest entry of a log, in bytes: twice the largest event.
// A bundle could hold 65,535, but readers of C2SP tlog-proof take lines of at
// most 64 KiB (transparency-dev/formats does), and a receipt has the entry in
// one, in base64.
const MaxEntryBytes = 32 << 10

// lengthBytes is the size of the number in front of each entry.
const lengthBytes = 2

// appendEntry adds an entry to a bundle: its length in two bytes, big-endian,
// and its bytes (C2SP tlog-tiles, "Log entries").
func appendEntry(bundle, entry []byte) []byte {
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...)
}

// SplitBundle returns the first so many entries of a bundle, which are slices
// of it, and what is left.
func SplitBundle(bundle []byte, n int) (entries [][]byte, rest []byte, err error) {
	entries = make([][]byte, 0, n)
	for range n {
		if len(bundle) < lengthBytes {
			return nil, nil, fmt.Errorf("the bundle ends after %d of %d entries", len(entries), n)
		}
		length := int(binary.BigEndian.Uint16(bundle))
		bundle = bundle[lengthBytes:]
		if len(bundle) < length {
			return nil, nil, fmt.Errorf("the bundle ends within entry %d of %d", len(entries)+1, n)
		}
		entries = append(entries, bundle[:length:length])
		bundle = bundle[length:]
	}
	return entries, bundle, nil
}

// LeafHashes are the hashes of entries (RFC 6962, section 2.1).
func LeafHashes(entries [][]byte) []tlog.Hash {
	hashes := make([]tlog.Hash, len(entries))
	for i, entry := range entries {
		hashes[i] = tlog.RecordHash(entry)
	}
	return hashes
}

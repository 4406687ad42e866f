package projections

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// Hash is the SHA-256 of an event's bytes as stored.
type Hash [sha256.Size]byte

// HashOf hashes an event's bytes.
func HashOf(data []byte) Hash { return sha256.Sum256(data) }

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Position says up to where a read model was built, and from what. The zero
// Position is that of an empty read model.
//
// A sequence alone would not do: a stream that was lost and created anew gives
// the same sequences to other events. The stream is therefore known by the
// hash of its first event, which is unlike any other by its id and stays the
// same when the stream is restored from a copy; its place in the stream is
// known by the hash of the event that is there.
type Position struct {
	Stream     string    // the stream's name
	Identity   Hash      // of event 1
	Sequence   uint64    // the last event in the read model
	Hash       Hash      // of that event
	RecordedAt time.Time // when that event was recorded; UTC, to the millisecond
}

// Same says whether two positions are the same place of the same stream.
func (p Position) Same(q Position) bool {
	return p.Identity == q.Identity && p.Sequence == q.Sequence && p.Hash == q.Hash
}

// String names the place as people look for it.
func (p Position) String() string {
	if p.Sequence == 0 {
		return "before the first event"
	}
	return fmt.Sprintf("event %d of %s", p.Sequence, domain.FormatTime(p.RecordedAt))
}

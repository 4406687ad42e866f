package intake

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/domain"
)

// Order is a row's place among the rows of one voter in an import. It lets an
// import that runs again, or beside itself, come to the same answers: a row
// that was refused is decided against the ballot as it was then, and not only
// as it is now. Otherwise a repeat that was refused would be accepted because
// the vote was taken back afterwards, by a later row or by another channel.
type Order struct {
	rows map[rowKey][]int // places of the voter's rows, ascending
	row  int              // place of this one
}

// rowKey is what an event has in common with the row that it came of. Several
// rows have one key when a channel has written its own retries into the file.
type rowKey struct {
	id     uuid.UUID
	digest domain.Digest
}

// then is the ballot as it was when the row's voter acted: before the first
// event of a later row, and before the first event that did not come of this
// file and in which somebody acted at the row's own time or later. A row that
// states no time cannot be placed among the events of others.
//
// The events of an import are in the order of its rows, so an event came of the
// first row with its key behind the row of the event before.
func (o *Order) then(b domain.Ballot, at time.Time) domain.Ballot {
	last := -1 // row of the event before
	for i, e := range b {
		places, ours := o.rows[rowKey{e.ID, e.Digest}]
		if !ours {
			if !at.IsZero() && !e.ActedAt.Before(at) {
				return b[:i]
			}
			continue
		}
		next, _ := slices.BinarySearch(places, last+1)
		if next == len(places) {
			continue // not in this order
		}
		if last = places[next]; last > o.row {
			return b[:i]
		}
	}
	return b
}

package domain

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// encodeCanonical writes a vote or a retraction in the form that decodeCanonical
// reads, byte for byte what the general encoder writes, with one allocation. It
// leaves to that one whatever would need an escape.
func encodeCanonical(e Event) (data []byte, ok bool) {
	// What a vote has beside its names, and a retraction beside that: words, id,
	// times, hexadecimal digits, numbers. More of them costs an allocation.
	const voteBytes, retractionBytes = 288, 80
	w := canonicalWriter{}
	switch d := e.Data.(type) {
	case VoteCast:
		w.data = make([]byte, 0, voteBytes+len(e.Campaign)+len(d.Specialist)+len(d.Channel))
		w.begin(e)
		w.submission(d.Voter, d.Specialist, d.Channel)
		if !d.CastAt.IsZero() {
			w.moment(`,"cast_at":"`, d.CastAt)
		}
		w.outcome(d.Digest, d.Active)
	case VoteRetracted:
		w.data = make([]byte, 0, voteBytes+retractionBytes+len(e.Campaign)+len(d.Specialist)+len(d.Channel)+len(d.Vote.Channel))
		w.begin(e)
		w.submission(d.Voter, d.Specialist, d.Channel)
		if !d.RetractedAt.IsZero() {
			w.moment(`,"retracted_at":"`, d.RetractedAt)
		}
		w.text(`,"vote":{"sequence":`)
		w.data = strconv.AppendUint(w.data, d.Vote.Sequence, 10)
		w.text(`,"channel":"`)
		w.slug(d.Vote.Channel)
		w.moment(`","cast_at":"`, d.Vote.CastAt)
		w.text(`}`)
		w.outcome(d.Digest, d.Active)
		w.failed = w.failed || d.Vote.CastAt.IsZero()
	default:
		return nil, false
	}
	return w.data, !w.failed
}

// canonicalWriter writes one value after the other. Once something would need
// an escape, failed stays true and what is written means nothing.
type canonicalWriter struct {
	data   []byte
	failed bool
}

// begin writes all that comes before the data.
func (w *canonicalWriter) begin(e Event) {
	w.text(`{"specversion":"` + specVersion + `","id":"`)
	w.uuid(e.ID)
	w.text(`","source":"` + sourcePrefix)
	w.text(e.Campaign)
	w.text(`","type":"` + typePrefix)
	w.text(e.Data.kind())
	w.moment(`","time":"`, e.Time)
	w.text(`,"data":{`)
}

func (w *canonicalWriter) submission(voter Pseudonym, specialist, channel string) {
	w.text(`"voter":"`)
	w.data = hex.AppendEncode(w.data, voter[:])
	w.text(`","specialist_id":"`)
	w.text(specialist)
	w.text(`","channel":"`)
	w.slug(channel)
	w.text(`"`)
}

func (w *canonicalWriter) outcome(digest Digest, active int) {
	w.text(`,"digest":"`)
	w.data = hex.AppendEncode(w.data, digest[:])
	w.text(`","active":`)
	w.data = strconv.AppendInt(w.data, int64(active), 10)
	w.text(`}}`)
}

// text writes what was made sure to need no escape: our own words, and slugs
// that Event.validate has seen.
func (w *canonicalWriter) text(s string) { w.data = append(w.data, s...) }

// slug writes a name that the validation takes in any form.
func (w *canonicalWriter) slug(s string) {
	w.failed = w.failed || !isSlug(s, MaxChannelBytes)
	w.text(s)
}

// moment writes a member with a time, its closing quotation mark included.
// RFC 3339 has no years of five digits.
func (w *canonicalWriter) moment(member string, t time.Time) {
	w.failed = w.failed || t.Year() < 0 || t.Year() > 9999
	w.text(member)
	w.data = append(t.AppendFormat(w.data, time.RFC3339Nano), '"')
}

func (w *canonicalWriter) uuid(id uuid.UUID) {
	for i, part := range [5][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			w.data = append(w.data, '-')
		}
		w.data = hex.AppendEncode(w.data, id[part[0]:part[1]])
	}
}

package domain

import (
	"bytes"
	"time"

	"github.com/google/uuid"
)

// Nearly all events of a ledger are votes and retractions, and an audit reads
// every one of them. This file reads them several times faster than the
// general decoder does, and only in the form that Encode writes: these members
// in this order, no white space, no escapes, every value in its one spelling.
//
// It may only ever say what the general decoder says of the same bytes. So it
// refuses nothing: what it does not recognise, down to a single byte, is left
// to the general decoder, which alone makes errors. A few rare events that
// Encode can write are left to it as well, because that keeps this file small:
// those with a channel that is not a slug, and those with a number of more
// than canonicalDigitsMax digits.

// canonicalDigitsMax is how many decimal digits surely fit into an int64.
const canonicalDigitsMax = 18

// decodeCanonical reads a vote or a retraction in the form that Encode writes.
// It returns false for everything else, and for a type that has an upcaster.
func (c *Codec) decodeCanonical(data []byte) (Event, bool) {
	var e Event
	r := canonicalReader{data: data}
	r.literal(`{"specversion":"` + specVersion + `","id":"`)
	e.ID = r.uuid()
	r.literal(`","source":"` + sourcePrefix)
	campaign := r.text()
	r.literal(`","type":"` + typePrefix)
	kind := r.text()
	r.literal(`","time":"`)
	e.Time = r.moment()
	r.literal(`","data":{`)
	if _, older := c.upcasters[string(kind)]; older || r.failed {
		return Event{}, false
	}
	switch string(kind) {
	case VoteCast{}.kind():
		e.Data = r.voteCast()
	case VoteRetracted{}.kind():
		e.Data = r.voteRetracted()
	default:
		return Event{}, false
	}
	r.literal(`}}`)
	e.Campaign = string(campaign)
	if r.failed || r.at < len(data) || e.validate() != nil {
		return Event{}, false
	}
	return e, true
}

// canonicalReader reads one value after the other. After the first that is not
// in its canonical form, failed stays true and no result means anything.
type canonicalReader struct {
	data   []byte
	at     int // how many bytes were read; an offset is cheaper to move than a slice
	failed bool
}

func (r *canonicalReader) voteCast() (d VoteCast) {
	d.Voter, d.Specialist, d.Channel = r.submission()
	if r.optional(`,"cast_at":"`) {
		d.CastAt = r.moment()
		r.literal(`"`)
	}
	d.Digest, d.Active = r.outcome()
	return d
}

func (r *canonicalReader) voteRetracted() (d VoteRetracted) {
	d.Voter, d.Specialist, d.Channel = r.submission()
	if r.optional(`,"retracted_at":"`) {
		d.RetractedAt = r.moment()
		r.literal(`"`)
	}
	r.literal(`,"vote":{"sequence":`)
	d.Vote.Sequence = r.number()
	r.literal(`,"channel":"`)
	d.Vote.Channel = r.channel()
	r.literal(`","cast_at":"`)
	d.Vote.CastAt = r.moment()
	r.literal(`"}`)
	d.Digest, d.Active = r.outcome()
	return d
}

// submission reads the members with which both kinds begin.
func (r *canonicalReader) submission() (voter Pseudonym, specialist, channel string) {
	r.literal(`"voter":"`)
	r.hex(voter[:])
	r.literal(`","specialist_id":"`)
	specialist = string(r.text())
	r.literal(`","channel":"`)
	channel = r.channel()
	r.literal(`"`)
	return voter, specialist, channel
}

// outcome reads the members with which both kinds end.
func (r *canonicalReader) outcome() (digest Digest, active int) {
	r.literal(`,"digest":"`)
	r.hex(digest[:])
	r.literal(`","active":`)
	n := r.number()
	if active = int(n); active < 0 || uint64(active) != n {
		r.failed = true // where an int has 32 bits
	}
	return digest, active
}

// literal reads exactly s.
func (r *canonicalReader) literal(s string) {
	if !r.optional(s) {
		r.failed = true
	}
}

// optional reads s if it comes next.
func (r *canonicalReader) optional(s string) bool {
	end := r.at + len(s)
	if end > len(r.data) || string(r.data[r.at:end]) != s {
		return false
	}
	r.at = end
	return true
}

// text reads up to the next quotation mark. An escape or invalid UTF-8 in it is
// not noticed here: its reader must make sure that it is a slug or another
// known text. Event.validate does so for the campaign and the specialist.
func (r *canonicalReader) text() []byte {
	rest := r.data[r.at:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		r.failed = true
		return nil
	}
	r.at += n
	return rest[:n]
}

// channel reads a channel that is a slug. Event.validate takes any text here,
// so it would not notice an escape.
func (r *canonicalReader) channel() string {
	name := string(r.text())
	if !isSlug(name, MaxChannelBytes) {
		r.failed = true
	}
	return name
}

// moment reads a time as RFC 3339 with at most milliseconds and without zeroes
// at their end. The general decoder's own parser reads it, so that both always
// agree; it also takes an hour of one digit and a comma, which the positions
// of the colon and the point exclude. Encode leaves out the zero time.
func (r *canonicalReader) moment() (t time.Time) {
	const (
		hour, second = len("2006-01-02T15"), len("2006-01-02T15:04:05")
		bytesMin     = len("2006-01-02T15:04:05Z")
		bytesMax     = len("2006-01-02T15:04:05.000Z")
	)
	text := r.text()
	n := len(text)
	if n < bytesMin || n > bytesMax || text[hour] != ':' || text[n-1] != 'Z' ||
		n > bytesMin && (text[second] != '.' || text[n-2] == '0') ||
		t.UnmarshalText(text) != nil || t.IsZero() {
		r.failed = true
	}
	return t
}

// number reads a decimal integer.
func (r *canonicalReader) number() (n uint64) {
	start := r.at
	for r.at < len(r.data) && '0' <= r.data[r.at] && r.data[r.at] <= '9' {
		n = 10*n + uint64(r.data[r.at]-'0')
		r.at++
	}
	digits := r.at - start
	if digits == 0 || digits > canonicalDigitsMax || digits > 1 && r.data[start] == '0' {
		r.failed = true
	}
	return n
}

// uuid reads a UUID in lower case with hyphens.
func (r *canonicalReader) uuid() (id uuid.UUID) {
	r.hex(id[:4])
	r.literal("-")
	r.hex(id[4:6])
	r.literal("-")
	r.hex(id[6:8])
	r.literal("-")
	r.hex(id[8:10])
	r.literal("-")
	r.hex(id[10:])
	return id
}

// hex fills dst from lower-case hexadecimal digits.
func (r *canonicalReader) hex(dst []byte) {
	digits := r.data[r.at:]
	if len(digits) < 2*len(dst) {
		r.failed = true
		return
	}
	for i := range dst {
		high, low := hexValues[digits[2*i]], hexValues[digits[2*i+1]]
		if high|low == notHex {
			r.failed = true
		}
		dst[i] = high<<4 | low
	}
	r.at += 2 * len(dst)
}

const notHex = 0xff

// hexValues are the values of the lower-case hexadecimal digits, and notHex for
// every other byte. A table has no branches: digits of ids are random, and a
// processor would guess every third one wrong.
var hexValues = func() (values [256]byte) {
	for i := range values {
		values[i] = notHex
	}
	for value, digit := range []byte("0123456789abcdef") {
		values[digit] = byte(value)
	}
	return values
}()

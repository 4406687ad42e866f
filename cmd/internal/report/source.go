package report

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// maxEvents is how many events a ledger may have to be exported: the sequence
// of what ended a vote is kept in 32 bits.
const maxEvents = math.MaxUint32

// ErrTotals says that what was written does not add up to what was counted. The
// ledger then breaks a rule; the audit names the events.
var ErrTotals = errors.New("the report does not add up to the results; run `paldies audit verify`")

// Source is a ledger as of one of its events. Its fields are not changed while
// it is read.
type Source struct {
	Ledger projections.Replayer
	Codec  *domain.Codec
	Last   uint64 // sequence of the last event that counts, 1 or more
	// Read counts the events that were read, in all passes, for who shows
	// progress. It may be nil.
	Read *atomic.Int64
}

// replay gives the source's events to fn, all of them or an error.
func (s Source) replay(ctx context.Context, fn func(sequence uint64, e domain.Event) error) error {
	if s.Last == 0 || s.Last > maxEvents {
		return fmt.Errorf("as of event %d: a report is as of an event from 1 to %d", s.Last, maxEvents)
	}
	var at uint64
	err := projections.Replay(ctx, s.Ledger, s.Codec, 1, s.Last, func(sequence uint64, e domain.Event) error {
		if s.Read != nil {
			s.Read.Add(1)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		at = sequence
		return fn(sequence, e)
	})
	if err == nil && at != s.Last {
		err = fmt.Errorf("the ledger ends at event %d instead of %d", at, s.Last)
	}
	return err
}

// Totals are the control totals of an export.
type Totals struct {
	Rows      int64 `json:"rows"`
	Cast      int64 `json:"votes_cast"` // the sum of the next four
	Active    int64 `json:"votes_active"`
	Retracted int64 `json:"votes_retracted"`
	Annulled  int64 `json:"votes_annulled"`
	Void      int64 `json:"votes_void"`
	Voters    int64 `json:"voters"` // distinct ones, as far as channels know them
}

// add counts the row of a vote.
func (t *Totals) add(s status) {
	t.Rows++
	t.Cast++
	switch s {
	case active:
		t.Active++
	case retracted:
		t.Retracted++
	case annulled:
		t.Annulled++
	case void:
		t.Void++
	}
}

// About says what an export is of.
type About struct {
	Campaign     string        `json:"campaign"`
	Title        string        `json:"title"`
	Status       domain.Status `json:"status"`
	What         string        `json:"what"`
	AsOfSequence uint64        `json:"as_of_sequence"`
	AsOfTime     time.Time     `json:"as_of_time"` // when that event was recorded
	Timezone     string        `json:"timezone"`
	TallyDigest  string        `json:"tally_digest"` // as a certification states it
	ExportedAt   time.Time     `json:"exported_at"`
}

// Summary is what is left to say when an export is complete.
type Summary struct {
	About
	Totals Totals `json:"totals"`
}

// count is everything that must be known before the first row.
type count struct {
	tally  domain.Tally
	ended  endings
	totals Totals // without rows
	zone   *time.Location
}

// count reads the ledger for the first time.
func (s Source) count(ctx context.Context) (*count, error) {
	c := new(count)
	err := s.replay(ctx, func(sequence uint64, e domain.Event) error {
		delta, err := c.tally.Apply(sequence, e)
		if err == nil {
			c.note(sequence, e, delta)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, c.check()
}

// check wants each vote to be one of the four that it can be.
func (c *count) check() (err error) {
	c.totals.Active, c.totals.Voters = c.tally.Votes(), c.tally.Voters()
	if t := c.totals; t.Cast != t.Active+t.Retracted+t.Annulled+t.Void {
		return fmt.Errorf("%w: %d votes were cast, but %d are active, %d retracted, %d annulled and %d void",
			ErrTotals, t.Cast, t.Active, t.Retracted, t.Annulled, t.Void)
	}
	c.zone, err = location(&c.tally)
	return err
}

// note keeps what a vote's row must know and its own event does not.
func (c *count) note(sequence uint64, e domain.Event, delta domain.Delta) {
	switch d := e.Data.(type) {
	case domain.VoteCast:
		c.totals.Cast++
		if delta.Void {
			c.totals.Void++
		}
	case domain.VoteRetracted:
		if !delta.Void && c.ended.retracted(d.Vote.Sequence, sequence) {
			c.totals.Retracted++
		}
	case domain.VoteAnnulled:
		if !delta.Void && c.ended.annulled(d.Vote.Sequence, sequence, d.Decision) {
			c.totals.Annulled++
		}
	}
}

// location is that of the campaign's time zone.
func location(t *domain.Tally) (*time.Location, error) {
	l, err := time.LoadLocation(t.Register().Campaign().Timezone)
	if err != nil {
		return nil, fmt.Errorf("the campaign's time zone: %w", err)
	}
	return l, nil
}

func (c *count) about(what string, now time.Time) About {
	campaign := c.tally.Register().Campaign()
	return About{Campaign: campaign.ID, Title: campaign.Title, Status: campaign.Status, What: what,
		AsOfSequence: c.tally.Position(), AsOfTime: c.tally.AsOf(), Timezone: campaign.Timezone,
		TallyDigest: c.tally.Digest(), ExportedAt: domain.Timestamp(now)}
}

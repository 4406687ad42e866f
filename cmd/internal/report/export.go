package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// Column is one of an export's columns.
type Column struct {
	Name   string
	Moment bool // its values are a time.Time
}

// columns have these names; those that end with _at are of moments.
func columns(names ...string) []Column {
	list := make([]Column, len(names))
	for i, name := range names {
		list[i] = Column{Name: name, Moment: strings.HasSuffix(name, "_at")}
	}
	return list
}

// Sheet is where the rows of an export go. Begin comes first, then the rows in
// their order, then End; after an error nothing more comes, and what was written
// is not to be used. An implementation keeps no row: their values are the
// caller's, and change.
type Sheet interface {
	// Begin says what the columns are and in which time zone times are written.
	Begin(about About, columns []Column, zone *time.Location) error
	// Row has a value for each column: a string, a time.Time, a uint64, an int64,
	// an int, a bool, or nil where there is none.
	Row(values []any) error
	End(s Summary) error
}

// status is what became of a vote.
type status string

const (
	active    status = "active"
	retracted status = "retracted"
	annulled  status = "annulled"
	void      status = "void" // counts for nothing, see domain.Tally
)

// voteColumns are those of an export of votes. The name is that of today, the
// institution that at the time of the vote; counts_for is who has the vote in
// the results, another specialist after a merge.
var voteColumns = columns("sequence", "recorded_at", "cast_at", "specialist_id", "counts_for", "name",
	"institution", "branch", "region", "channel", "status", "ended_by", "decision")

// Votes writes a row for each vote, in the order of recording. The voters'
// pseudonyms are left out unless they are asked for: who has them sees which
// votes are of one person. Now is when the export is made.
func Votes(ctx context.Context, s Source, to Sheet, pseudonyms bool, now time.Time) (Summary, error) {
	c, err := s.count(ctx)
	if err != nil {
		return Summary{}, err
	}
	header := voteColumns
	if pseudonyms {
		header = append(slices.Clip(header), Column{Name: "voter"})
	}
	summary := Summary{About: c.about("votes", now)}
	if err := to.Begin(summary.About, header, c.zone); err != nil {
		return Summary{}, err
	}
	w := votes{count: c, to: to, pseudonyms: pseudonyms, bySpecialist: make(map[string]int64)}
	if err := s.replay(ctx, w.take); err != nil {
		return Summary{}, err
	}
	if err := w.compare(); err != nil {
		return Summary{}, err
	}
	summary.Totals = w.written
	return summary, to.End(summary)
}

// votes is the second reading.
type votes struct {
	*count
	to           Sheet
	pseudonyms   bool
	register     domain.Register // as of the event, as far as it was read
	row          []any
	written      Totals
	bySpecialist map[string]int64 // active votes
}

func (w *votes) take(sequence uint64, e domain.Event) error {
	if err := w.register.Apply(sequence, e); err != nil {
		return err
	}
	vote, ok := e.Data.(domain.VoteCast)
	if !ok {
		return nil
	}
	delta := w.register.Delta(sequence, e)
	status, by, decision := w.ended.of(sequence)
	if delta.Void {
		status, by, decision = void, 0, ""
	}
	castAt := vote.CastAt
	if castAt.IsZero() {
		castAt = e.Time
	}
	register := w.tally.Register()
	var name string
	if s, ok := register.Specialist(vote.Specialist); ok {
		name = s.Name
	}
	w.row = append(w.row[:0], sequence, e.Time, castAt, vote.Specialist, register.Canonical(vote.Specialist), name,
		delta.Institution, delta.Branch, delta.Region, vote.Channel, string(status), nil, decision)
	if by != 0 {
		w.row[len(w.row)-2] = by
	}
	if w.pseudonyms {
		w.row = append(w.row, vote.Voter.String())
	}
	w.written.add(status)
	if status == active {
		w.bySpecialist[vote.Specialist]++
	}
	return w.to.Row(w.row)
}

// compare holds what was written against what was counted.
func (w *votes) compare() error {
	want := w.totals
	want.Rows, w.written.Voters = want.Cast, want.Voters
	if w.written != want {
		return fmt.Errorf("%w: %+v was written, %+v was counted", ErrTotals, w.written, want)
	}
	for _, s := range w.tally.Register().Specialists() {
		if votes, _ := w.tally.Total(s.ID); w.bySpecialist[s.ID] != votes {
			return fmt.Errorf("%w: specialist %s has %d active votes instead of %d", ErrTotals, s.ID, w.bySpecialist[s.ID], votes)
		}
	}
	return nil
}

var resultColumns = columns("rank", "specialist_id", "name", "position", "institution", "branch", "region", "withdrawn", "votes", "voters")

// Results writes the standings, a row for each specialist.
func Results(ctx context.Context, s Source, to Sheet, now time.Time) (Summary, error) {
	c, err := s.count(ctx)
	if err != nil {
		return Summary{}, err
	}
	summary := Summary{About: c.about("results", now), Totals: c.totals}
	if err := to.Begin(summary.About, resultColumns, c.zone); err != nil {
		return Summary{}, err
	}
	var sum int64
	for _, st := range c.tally.Standings() {
		var rank any // nil for who is unranked
		if st.Rank != 0 {
			rank = st.Rank
		}
		p := st.Specialist
		if err := to.Row([]any{rank, p.ID, p.Name, p.Position, p.Institution, p.Branch, p.Region, p.Withdrawn, st.Votes, st.Voters}); err != nil {
			return Summary{}, err
		}
		summary.Totals.Rows++
		sum += st.Votes
	}
	if sum != c.tally.Votes() {
		return Summary{}, fmt.Errorf("%w: %d votes in the standings instead of %d", ErrTotals, sum, c.tally.Votes())
	}
	return summary, to.End(summary)
}

package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sakipaldies.lv/ledger/domain"
)

// ErrNoCampaign says that no event of a campaign is in the read models.
var ErrNoCampaign = errors.New("the read model does not have campaign")

// Reader is how results are read, from whatever holds the read models. It is
// safe for concurrent use, and never waits for a projector.
type Reader interface {
	// Campaigns are the campaigns with at least one event, by their ids. They
	// need not be as of one moment.
	Campaigns(ctx context.Context) ([]Summary, error)
	// Read gives fn the results of a campaign as of one position, however long
	// it takes and however many questions it asks. Nothing of Results may be
	// used after fn has returned; the error is that of fn, or ErrNoCampaign.
	Read(ctx context.Context, campaign string, fn func(Results) error) error
}

// Results are the results of one campaign as of one position. They are equal
// to those of a domain.Tally of the same events, order included. They are for
// one goroutine.
type Results interface {
	Summary(ctx context.Context) (Summary, error)
	// Standings are those of domain.Tally. The specialists have no history.
	Standings(ctx context.Context) ([]domain.Standing, error)
	// Groups are those of domain.Tally in the campaign's time zone.
	Groups(ctx context.Context, by domain.GroupBy) ([]domain.Group, error)
	// Cells are those of domain.Tally.
	Cells(ctx context.Context) ([]domain.Cell, error)
}

// Summary is a campaign as of a position.
type Summary struct {
	Position Position
	Campaign domain.Campaign // ID, Title, times, Timezone, Channels, VotesPerVoter, Status, ClosedAt and Public
	Votes    int64           // in force
	Voters   int64           // distinct ones, as far as channels know them
	Void     int64           // events of voters that count for nothing
	Fold     int             // FoldVersion of who counted; another one may count otherwise
	Build    int32           // tells a read model that was built anew from the one before, which may count differently
}

// Location is the campaign's time zone.
func (s Summary) Location() (*time.Location, error) {
	location, err := time.LoadLocation(s.Campaign.Timezone)
	if err != nil {
		return nil, fmt.Errorf("campaign %s: %w", s.Campaign.ID, err)
	}
	return location, nil
}

// tallyResults are those of a tally as of a position.
type tallyResults struct {
	tally *domain.Tally
	at    Position
}

// TallyResults are the results that a tally has counted. The tally must not be
// changed while they are used. Of their position only the sequence and the time
// are known.
func TallyResults(t *domain.Tally) Results {
	return tallyResults{t, Position{Sequence: t.Position(), RecordedAt: t.AsOf()}}
}

// read holds the mutex while fn reads.
func (m *Memory) read(fn func(Results) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return fn(tallyResults{&m.tally, m.at})
}

func (r tallyResults) Summary(context.Context) (Summary, error) {
	return Summary{Position: r.at, Campaign: *r.tally.Register().Campaign(),
		Votes: r.tally.Votes(), Voters: r.tally.Voters(), Void: r.tally.Void(), Fold: FoldVersion}, nil
}

func (r tallyResults) Standings(context.Context) ([]domain.Standing, error) {
	return r.tally.Standings(), nil
}

func (r tallyResults) Groups(ctx context.Context, by domain.GroupBy) ([]domain.Group, error) {
	summary, err := r.Summary(ctx)
	if err != nil {
		return nil, err
	}
	location, err := summary.Location()
	if err != nil {
		return nil, err
	}
	return r.tally.Groups(by, location)
}

func (r tallyResults) Cells(context.Context) ([]domain.Cell, error) { return r.tally.Cells(), nil }

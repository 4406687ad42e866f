// Package dashboard is the counts as people outside may see them: everything
// that shows results to somebody asks Counts.Read, and so the embargo.
//
//	role, campaign, as of ─▶ read model: campaign and position ─▶ domain.Campaign.Discloses ─▶ read model, or the ledger counted up to there
//
// # Decisions
//
// The gate goes by the read model that also answers, within one snapshot: one
// that is behind the ledger may keep back what is public already, and never
// shows what is not.
//
// What is public is as of the certified event, and the read model has gone on
// since. So published results are counted from the ledger, as any earlier event
// is: once, by one goroutine however many ask, and kept. A second copy of the
// results in the read models would be faster to come by, and one more thing that
// could differ from the ledger. What was counted must have the digest that was
// certified.
//
// Public results are counted and kept apart from all others, so that nobody who
// asks for those keeps everybody else from the published ones.
package dashboard

import (
	"context"
	"errors"
	"fmt"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// Why there are no counts.
var (
	// ErrEmbargoed says that these counts are not public, to who may see public
	// ones only. It says so whether or not there is such an event.
	ErrEmbargoed = errors.New("the counts are not public")
	// ErrNotReached says that the read model does not have the event yet.
	ErrNotReached = errors.New("the read model is not that far yet")
	// ErrTooFar says that more events would have to be counted than are here.
	ErrTooFar = fmt.Errorf("more than %d events would have to be counted", maxCountEvents)
	// ErrCounting says that the counts will be there in a moment.
	ErrCounting = errors.New("the events are still being counted")
	// ErrUnavailable says that the read model or the ledger cannot be read.
	ErrUnavailable = errors.New("the counts cannot be read")
)

// AsOf says as of which event counts are asked for. The zero value is what is
// public, and as long as nothing is, the newest event.
type AsOf struct {
	Sequence uint64 // 0: not said
	Latest   bool   // the newest event in the read model, whatever is public
}

// sequence is the event that is meant, and 0 for the newest one.
func (a AsOf) sequence(c *domain.Campaign) uint64 {
	switch {
	case a.Latest:
		return 0
	case a.Sequence != 0:
		return a.Sequence
	}
	return c.Public.Sequence
}

// Counts are the counts of all campaigns. They are safe for concurrent use.
type Counts struct {
	models projections.Reader
	public *past // the published results
	past   *past // as of all other earlier events
}

// NewCounts are counts that are read from read models, and from the ledgers
// where the read models have gone on. Close must be called.
func NewCounts(models projections.Reader, ledgers Ledgers, codec *domain.Codec) *Counts {
	return &Counts{models, newPast(ledgers, codec, maxPublicKept), newPast(ledgers, codec, maxKept)}
}

// Close waits for what is being counted, after having told it to end.
func (c *Counts) Close() {
	c.public.close()
	c.past.close()
}

// Results are those of a campaign as of one event. What they return must not be
// changed: others may have the same.
type Results struct {
	projections.Results
	// Certification is the sequence of the results.certified event when these
	// are the public results, else 0.
	Certification uint64
}

// Read gives fn the results that a role may see, like projections.Reader does.
// Its errors are fn's, projections.ErrNoCampaign, or one of this package.
func (c *Counts) Read(ctx context.Context, campaign string, role domain.Role, as AsOf, fn func(Results) error) error {
	var a asked
	var failed error // of fn
	err := c.models.Read(ctx, campaign, func(r projections.Results) error {
		summary, err := r.Summary(ctx)
		if err != nil {
			return err
		}
		if a, failed = admit(summary, role, as); failed == nil && a.newest {
			failed = fn(Results{r, a.certification})
		}
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, projections.ErrNoCampaign):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case a.newest:
		return nil
	}
	past := c.past
	if a.certification != 0 {
		past = c.public
	}
	r, err := past.count(ctx, a.moment)
	if err != nil {
		return err
	}
	return fn(Results{r, a.certification})
}

// asked is a question that may be answered.
type asked struct {
	moment
	newest bool // the read model is there
}

// admit is the gate.
func admit(s projections.Summary, role domain.Role, as AsOf) (asked, error) {
	at, c := s.Position, &s.Campaign
	sequence := as.sequence(c)
	switch {
	case !c.Discloses(role).Allows(sequence):
		return asked{}, ErrEmbargoed
	case sequence > at.Sequence:
		return asked{}, fmt.Errorf("%w: it has %d events", ErrNotReached, at.Sequence)
	}
	a := asked{moment: moment{campaign: c.ID, identity: at.Identity, sequence: sequence}, newest: sequence == 0 || sequence == at.Sequence}
	if sequence != 0 && sequence == c.Public.Sequence {
		a.certification = c.Public.Certification
	}
	return a, nil
}

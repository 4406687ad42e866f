package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// ErrCampaignExists says that a campaign was opened before.
var ErrCampaignExists = errors.New("the campaign exists already")

// OpenCampaign records the first event of a new ledger.
func OpenCampaign(ctx context.Context, l Ledger, campaign string, d domain.CampaignOpened, now time.Time) (Receipt, error) {
	if err := domain.ValidateCampaignID(campaign); err != nil {
		return Receipt{}, &InvalidError{err}
	}
	receipt, _, err := record(ctx, l, newEvent(campaign, d, now), 0)
	if errors.Is(err, eventstore.ErrConflict) {
		return Receipt{}, fmt.Errorf("campaign %s: %w", campaign, ErrCampaignExists)
	}
	return receipt, err
}

// CheckOpening says what is wrong with a campaign before anything is made for
// it. The id of its key is not looked at.
func CheckOpening(campaign string, d domain.CampaignOpened, now time.Time) error {
	d.KeyID = domain.PseudonymKey{}.ID() // stands for a key that is not made yet
	if _, err := domain.Encode(newEvent(campaign, d, now)); err != nil {
		return &InvalidError{err}
	}
	return nil
}

// newEvent is an event that no submission stands behind.
func newEvent(campaign string, d domain.Payload, now time.Time) domain.Event {
	return domain.Event{ID: uuid.Must(uuid.NewV7()), Campaign: campaign, Time: domain.Timestamp(now), Data: d}
}

// record appends an event that is not a voter's, and says which control event
// governs it.
func record(ctx context.Context, l Ledger, e domain.Event, expected uint64) (receipt Receipt, control uint64, err error) {
	data, err := domain.Encode(e)
	if err != nil {
		return Receipt{}, 0, &InvalidError{err}
	}
	appended, err := l.Append(ctx, eventstore.Message{Subject: domain.Subject(e), Data: data}, expected)
	if err != nil {
		return Receipt{}, 0, fmt.Errorf("campaign %s: %w", e.Campaign, afterSeal(err))
	}
	return Receipt{Campaign: e.Campaign, Sequence: appended.Sequence, EventID: e.ID, RecordedAt: e.Time}, appended.Control, nil
}

// afterSeal makes a refusal of what a sealed ledger does not take: it was
// archived, and whoever decided had not heard of it.
func afterSeal(err error) error {
	if errors.Is(err, eventstore.ErrSealed) {
		return &domain.Refusal{Code: domain.ClosedCampaign}
	}
	return err
}

// Amend loosens the campaign's rules.
func (in *Intake) Amend(ctx context.Context, a domain.CampaignAmended) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		return a, r.Campaign().Control, r.Campaign().CheckAmendment(a)
	})
}

// Close ends recording. From the sequence of its receipt on, voters' events
// count for nothing. A campaign that is closed already is answered with that
// close.
func (in *Intake) Close(ctx context.Context, reason string) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		if c := r.Campaign(); c.Status != domain.StatusOpen {
			return nil, c.ClosedAt, nil
		}
		return domain.CampaignClosed{Reason: reason}, r.Campaign().Control, nil
	})
}

// administer decides and records an event of the campaign or of a specialist.
// The decision is a payload with the last sequence of its subject, or, when
// nothing is left to do, no payload and the sequence that did it. An archived
// campaign takes nothing.
func (in *Intake) administer(ctx context.Context, decide func(*domain.Register) (domain.Payload, uint64, error)) (Receipt, error) {
	for attempt := range maxAttempts {
		if err := in.register.refresh(ctx); err != nil {
			return Receipt{}, err
		}
		d, sequence, err := decide(in.Register())
		if invalid := (*InvalidError)(nil); errors.As(err, &invalid) {
			return Receipt{}, err
		}
		if c := in.Register().Campaign(); c.ArchivedAt != 0 && (err != nil || d != nil) {
			return Receipt{}, &domain.Refusal{Code: domain.ClosedCampaign, Sequence: c.ArchivedAt}
		}
		if err != nil {
			return Receipt{}, &NotAllowedError{err}
		}
		if d == nil {
			return in.belowArchiving(ctx, Receipt{Campaign: in.cfg.Campaign, Sequence: sequence, Known: true}, 0)
		}
		receipt, control, err := record(ctx, in.cfg.Ledger, newEvent(in.cfg.Campaign, d, in.cfg.Now()), sequence)
		if err == nil {
			return in.belowArchiving(ctx, receipt, control)
		}
		if !errors.Is(err, eventstore.ErrConflict) {
			return Receipt{}, err
		}
		if err := pause(ctx, attempt); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{}, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, ErrContention)
}

// belowArchiving acknowledges what is recorded, once it is known that it lies
// below the archiving: above it, what a specialist's subject takes is void.
// Control is as for register.confirm.
func (in *Intake) belowArchiving(ctx context.Context, recorded Receipt, control uint64) (Receipt, error) {
	if err := in.register.confirm(ctx, recorded.Sequence, control); err != nil {
		return Receipt{}, fmt.Errorf("campaign %s: %w: %w", in.cfg.Campaign, eventstore.ErrOutcomeUnknown, err)
	}
	if c := in.Register().Campaign(); c.Over(recorded.Sequence) {
		return Receipt{}, &domain.Refusal{Code: domain.ClosedCampaign, Sequence: c.ArchivedAt}
	}
	return recorded, nil
}

package intake

import (
	"context"
	"fmt"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// Archive ends corrections: from the sequence of its receipt on, nothing is
// taken any more. A campaign that is archived already is answered with that.
//
// What could never be mended is not archived: a merge that is not finished, and
// results of which a part was not certified.
func (in *Intake) Archive(ctx context.Context) (Receipt, error) {
	if err := in.settled(ctx); err != nil {
		return Receipt{}, err
	}
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		c := r.Campaign()
		if c.ArchivedAt != 0 {
			return nil, c.ArchivedAt, nil
		}
		return domain.CampaignArchived{}, c.Control, c.CheckArchiving()
	})
}

// settled looks through the ledger until nothing was recorded meanwhile. Of a
// campaign that cannot be archived yet, or is already, nothing is looked at.
func (in *Intake) settled(ctx context.Context) error {
	for range maxAttempts {
		last, err := in.lastSequence(ctx)
		if err != nil {
			return err
		}
		if err := in.register.refresh(ctx); err != nil {
			return err
		}
		r := in.Register()
		if r.Campaign().CheckArchiving() != nil {
			return nil
		}
		doubled, err := in.Doubled(ctx, r, 0)
		if err != nil {
			return err
		}
		if err := Unmerged(doubled); err != nil {
			return err
		}
		if err := in.checkCertified(ctx, r); err != nil {
			return err
		}
		if now, err := in.lastSequence(ctx); err != nil || now == last {
			return err
		}
	}
	return fmt.Errorf("campaign %s: %w", in.cfg.Campaign, ErrContention)
}

func (in *Intake) lastSequence(ctx context.Context) (uint64, error) {
	last, _, err := in.cfg.Ledger.Last(ctx, eventstore.AllSubjects, eventstore.Leader)
	if err != nil {
		return 0, fmt.Errorf("campaign %s: read the last event: %w", in.cfg.Campaign, err)
	}
	return last.Sequence, nil
}

// Unmerged is a *NotAllowedError about votes that Doubled has found, and nil when
// there is none: a merge must be finished first.
func Unmerged(doubled []domain.Annulment) error {
	if len(doubled) == 0 {
		return nil
	}
	return &NotAllowedError{fmt.Errorf("%d votes count beside another one of their voter for a specialist who was registered twice, the first is event %d; run the same `paldies specialist merge` again",
		len(doubled), doubled[0].Vote)}
}

// checkCertified is a *NotAllowedError when there is anything in the results
// above what the newest certification counts.
func (in *Intake) checkCertified(ctx context.Context, r *domain.Register) error {
	certified, _ := r.Campaign().Certification()
	var changed uint64 // the last event that changes results
	err := in.cfg.Ledger.Replay(ctx, certified.Sequence+1, 0, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := in.cfg.Codec.Decode(rec.Data)
			if err != nil {
				return fmt.Errorf("event %d: %w", rec.Sequence, err)
			}
			if changes(r, rec.Sequence, e) {
				changed = rec.Sequence
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("campaign %s: look for what is not certified: %w", in.cfg.Campaign, err)
	}
	if changed == 0 {
		return nil
	}
	return &NotAllowedError{fmt.Errorf("event %[1]d has changed the results since event %[2]d, which certifies those as of event %[3]d; run `paldies results certify --campaign %[4]s --supersedes %[2]d` with a reason, and `paldies results publish --campaign %[4]s`",
		changed, certified.Event, certified.Sequence, in.cfg.Campaign)}
}

// changes says whether an event above the close can change who has how many
// votes, who they are or what they get.
func changes(r *domain.Register, sequence uint64, e domain.Event) bool {
	switch e.Data.(type) {
	case domain.VoteCast, domain.VoteRetracted, domain.VoteAnnulled:
		return r.Delta(sequence, e).Votes != 0
	case domain.SpecialistRegistered, domain.SpecialistUpdated, domain.SpecialistWithdrawn, domain.SpecialistMerged, domain.ResultsDecided:
		return true
	}
	return false
}

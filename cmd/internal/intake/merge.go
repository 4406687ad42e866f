package intake

import (
	"context"
	"fmt"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// Merge is an organiser's command for a specialist who was registered twice.
type Merge struct {
	domain.SpecialistMerged
	Reason string // of the annulments
	// Settle is how long to wait before the last look, while the campaign is open:
	// an intake that has not heard of the merge yet lets votes for both pass.
	Settle time.Duration
}

// MergeResult says what became of a merge.
type MergeResult struct {
	Receipt  Receipt
	Annulled int // votes of those who had voted for both
}

// MergeSpecialist merges a specialist into another one, and annuls, under the
// merge's decision, all but the first vote of every voter who had voted for
// both. The merge comes first, so that from then on both are one to every ballot;
// then ballots are looked through until none has two votes left.
//
// After an error, or a crash at any point, it can be called again. A vote that
// took longer than Settle to be recorded may still count beside another one:
// nothing can be certified while Doubled finds any, the audit reports them, and
// the same call again annuls them.
func (in *Intake) MergeSpecialist(ctx context.Context, m Merge) (result MergeResult, err error) {
	result.Receipt, err = in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		return mergeSpecialist(r, m.SpecialistMerged)
	})
	if err != nil {
		return result, err
	}
	settled := false
	for range maxAttempts {
		if err := in.register.refresh(ctx); err != nil {
			return result, err
		}
		r := in.Register()
		if from, _ := r.Specialist(m.Specialist); from.MergedInto != m.Into {
			return result, &NotAllowedError{fmt.Errorf("specialist %s was itself merged meanwhile, so that event %d changes nothing", m.Into, result.Receipt.Sequence)}
		}
		list, err := in.doubled(ctx, r, 0, r.Canonical(m.Into))
		if err != nil {
			return result, err
		}
		if len(list) == 0 {
			if settled || r.Campaign().ClosedAt != 0 {
				return result, nil
			}
			if err := wait(ctx, m.Settle); err != nil {
				return result, err
			}
			settled = true
			continue
		}
		for i := range list {
			list[i].Decision, list[i].Reason = m.Decision, m.Reason
		}
		annulled, err := in.AnnulAll(ctx, list)
		result.Annulled += annulled.Recorded
		if err != nil {
			return result, err
		}
		if annulled.Recorded+annulled.Known == 0 {
			return result, &NotAllowedError{fmt.Errorf("event %d, a vote that counts beside another one of its voter, cannot be annulled; `paldies audit verify` says what is wrong with it", list[0].Vote)}
		}
	}
	return result, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, ErrContention)
}

func mergeSpecialist(r *domain.Register, d domain.SpecialistMerged) (domain.Payload, uint64, error) {
	from, ok := r.Specialist(d.Specialist)
	if !ok {
		return nil, 0, fmt.Errorf("specialist %.64q is not registered", d.Specialist)
	}
	into, ok := r.Specialist(d.Into)
	switch {
	case !ok:
		return nil, 0, fmt.Errorf("specialist %.64q is not registered", d.Into)
	case from == into:
		return nil, 0, fmt.Errorf("specialist %s cannot be merged into itself", from.ID)
	case from.MergedInto == into.ID && from.MergedBy != d.Decision:
		return nil, 0, fmt.Errorf("specialist %s was merged into %s under the decision %.200q; name that one to finish it", from.ID, into.ID, from.MergedBy)
	case from.MergedInto == into.ID:
		return nil, from.Last, nil
	case from.MergedInto != "":
		return nil, 0, fmt.Errorf("specialist %s was merged into %s already", from.ID, from.MergedInto)
	case into.MergedInto != "":
		return nil, 0, fmt.Errorf("specialist %s was itself merged into %s; name that one", into.ID, into.MergedInto)
	case into.Withdrawn && !from.Withdrawn:
		return nil, 0, fmt.Errorf("specialist %s was withdrawn, so that nobody's votes for %s would win anything any more; merge it the other way round", into.ID, from.ID)
	}
	return d, from.Last, nil
}

// wait waits so long.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Doubled are the votes that count beside an earlier one of the same voter for
// the same specialist, who was registered twice, by the events up to a sequence
// and the register as of there; 0 is the ledger's end. Decision and reason are
// left empty.
func (in *Intake) Doubled(ctx context.Context, r *domain.Register, to uint64) ([]domain.Annulment, error) {
	return in.doubled(ctx, r, to, "")
}

// doubled are those for one specialist, or for "" all.
func (in *Intake) doubled(ctx context.Context, r *domain.Register, to uint64, specialist string) ([]domain.Annulment, error) {
	d := domain.NewDoubles(r)
	if !d.Possible() {
		return nil, nil
	}
	err := in.cfg.Ledger.Replay(ctx, 1, to, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := in.cfg.Codec.Decode(rec.Data)
			if err != nil {
				return fmt.Errorf("event %d: %w", rec.Sequence, err)
			}
			d.Apply(rec.Sequence, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("campaign %s: look for voters of who was registered twice: %w", in.cfg.Campaign, err)
	}
	return d.Surplus(specialist), nil
}

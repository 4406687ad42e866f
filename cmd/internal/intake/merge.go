package intake

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// Events reads a ledger from its first event on, as (*eventstore.Ledger).Replay
// does.
type Events func(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error

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
// Certify must not be called while Doubled finds any, the audit reports them,
// and the same call again annuls them.
func (in *Intake) MergeSpecialist(ctx context.Context, events Events, m Merge) (result MergeResult, err error) {
	result.Receipt, err = in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		return mergeSpecialist(r, m.SpecialistMerged)
	})
	if err != nil {
		return result, err
	}
	settled := false
	for range maxAttempts {
		list, err := in.Doubled(ctx, events)
		if err != nil {
			return result, err
		}
		if len(list) == 0 {
			if settled || in.Register().Campaign().ClosedAt != 0 {
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
	case from.MergedInto == into.ID:
		return nil, from.Last, nil
	case from.MergedInto != "":
		return nil, 0, fmt.Errorf("specialist %s was merged into %s already", from.ID, from.MergedInto)
	case into.MergedInto != "":
		return nil, 0, fmt.Errorf("specialist %s was itself merged into %s; name that one", into.ID, into.MergedInto)
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
// the same specialist, who was registered twice. Decision and reason are left
// empty.
func (in *Intake) Doubled(ctx context.Context, events Events) ([]domain.Annulment, error) {
	if err := in.register.refresh(ctx); err != nil {
		return nil, err
	}
	d := newDoubles(in.Register())
	if len(d.into) == 0 {
		return nil, nil
	}
	err := events(ctx, 1, 0, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := in.cfg.Codec.Decode(rec.Data)
			if err != nil {
				return fmt.Errorf("event %d: %w", rec.Sequence, err)
			}
			d.fold(rec.Sequence, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("campaign %s: look for voters of who was registered twice: %w", in.cfg.Campaign, err)
	}
	return d.surplus(), nil
}

// doubles keeps the votes in force for specialists who are part of a merge.
type doubles struct {
	campaign *domain.Campaign
	into     map[string]string   // by id: whom its votes count for
	votes    map[choice][]uint64 // sequences, ascending
	order    []choice            // of which there are several votes, as these came
}

// choice is a voter's of a specialist.
type choice struct {
	voter      domain.Pseudonym
	specialist string
}

func newDoubles(r *domain.Register) *doubles {
	d := &doubles{campaign: r.Campaign(), into: make(map[string]string), votes: make(map[choice][]uint64)}
	for _, s := range r.Specialists() {
		if canonical := r.Canonical(s.ID); canonical != s.ID {
			d.into[s.ID], d.into[canonical] = canonical, canonical
		}
	}
	return d
}

// fold takes one event. What is void is passed over, as in a ballot.
func (d *doubles) fold(sequence uint64, e domain.Event) {
	switch p := e.Data.(type) {
	case domain.VoteCast:
		if into, merged := d.into[p.Specialist]; merged && !d.campaign.Void(sequence) {
			c := choice{p.Voter, into}
			if d.votes[c] = append(d.votes[c], sequence); len(d.votes[c]) == 2 {
				d.order = append(d.order, c)
			}
		}
	case domain.VoteRetracted:
		d.take(sequence, e, p.Voter, p.Specialist, p.Vote.Sequence)
	case domain.VoteAnnulled:
		d.take(sequence, e, p.Voter, p.Specialist, p.Vote.Sequence)
	}
}

func (d *doubles) take(sequence uint64, e domain.Event, voter domain.Pseudonym, specialist string, vote uint64) {
	into, merged := d.into[specialist]
	if !merged {
		return
	}
	b, err := domain.Ballot(nil).Evolve(sequence, e)
	if err != nil || b[0].Void(d.campaign) {
		return
	}
	c := choice{voter, into}
	d.votes[c] = slices.DeleteFunc(d.votes[c], func(s uint64) bool { return s == vote })
}

// surplus are all votes but the first of each choice.
func (d *doubles) surplus() (list []domain.Annulment) {
	slices.SortFunc(d.order, func(a, b choice) int { return slices.Compare(d.votes[a], d.votes[b]) })
	for _, c := range slices.Compact(d.order) {
		for i, vote := range d.votes[c] {
			if i > 0 {
				list = append(list, domain.Annulment{Voter: c.voter, Vote: vote})
			}
		}
	}
	return list
}

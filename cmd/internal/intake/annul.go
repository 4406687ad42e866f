package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"sakipaldies.lv/ledger/domain"
)

// AnnulResult says what became of a list of annulments.
type AnnulResult struct {
	Recorded int
	Known    int // annulled before
	Gone     int // taken back or void, so that there was nothing to annul
}

// AnnulAll annuls a list of votes, many at a time. After an error it can be
// called again with the same list.
func (in *Intake) AnnulAll(ctx context.Context, list []domain.Annulment) (AnnulResult, error) {
	byVoter := make(map[domain.Pseudonym][]domain.Annulment)
	for _, a := range list {
		byVoter[a.Voter] = append(byVoter[a.Voter], a)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards result
	var result AnnulResult
	ballots := make(chan []domain.Annulment)
	var workers sync.WaitGroup
	for range min(importWorkers, len(byVoter)) {
		workers.Go(func() {
			for ballot := range ballots {
				for _, a := range ballot {
					receipt, err := in.Annul(ctx, a)
					mu.Lock()
					err = result.count(receipt, err)
					mu.Unlock()
					if err != nil {
						cancel(fmt.Errorf("event %d: %w", a.Vote, err))
						break
					}
				}
			}
		})
	}
	for _, ballot := range byVoter {
		if ctx.Err() != nil {
			break
		}
		ballots <- ballot
	}
	close(ballots)
	workers.Wait()
	return result, context.Cause(ctx)
}

func (r *AnnulResult) count(receipt Receipt, err error) error {
	var refusal *domain.Refusal
	switch {
	case err == nil && receipt.Known:
		r.Known++
	case err == nil:
		r.Recorded++
	case errors.As(err, &refusal) && refusal.Code != domain.ClosedCampaign:
		r.Gone++
	default:
		return err
	}
	return nil
}

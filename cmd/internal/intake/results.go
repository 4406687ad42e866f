package intake

import (
	"context"
	"errors"

	"sakipaldies.lv/ledger/domain"
)

// DecideTie records who of those who tie gets an award. The same decision, when
// it is the newest about that award, is answered with its receipt.
func (in *Intake) DecideTie(ctx context.Context, d domain.ResultsDecided) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		c := r.Campaign()
		if same, ok := c.DecidedSo(d); ok {
			return nil, same, nil
		}
		return d, c.Control, c.CheckDecision(d)
	})
}

// ErrOutdated says that something was decided or certified since the results were
// counted, so that they must be counted again.
var ErrOutdated = errors.New("the campaign has gone on since its results were counted")

// Certify binds results to the place in the ledger as of which they were
// counted. What is recorded above it, even before the certification itself, is
// not part of them; but when it is about the campaign as a whole, which control
// tells, its last such event as of the count, the error is ErrOutdated.
//
// A certification that is the ledger's last event is answered with its receipt
// when it would be made again: its answer may have been lost.
func (in *Intake) Certify(ctx context.Context, d domain.ResultsCertified, control uint64) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		c := r.Campaign()
		if newest, ok := c.Certification(); ok && newest.Event == d.Sequence && sameCertification(newest.ResultsCertified, d) {
			return nil, newest.Event, nil
		}
		if err := c.CheckCertification(d); err != nil {
			return nil, 0, err
		}
		if c.Control != control {
			return nil, 0, ErrOutdated
		}
		return d, c.Control, nil
	})
}

// sameCertification compares what an organiser has asked for.
func sameCertification(a, b domain.ResultsCertified) bool {
	sameRule := a.AwardRule == b.AwardRule || a.AwardRule != nil && b.AwardRule != nil && *a.AwardRule == *b.AwardRule
	return sameRule && a.Supersedes == b.Supersedes && a.Reason == b.Reason
}

// Publish lifts the embargo from the newest certification, which must be the
// given one; 0 is whichever it is.
func (in *Intake) Publish(ctx context.Context, certified uint64) (Receipt, error) {
	return in.administer(ctx, func(r *domain.Register) (domain.Payload, uint64, error) {
		c := r.Campaign()
		newest, _ := c.Certification()
		published, ok := c.Publication()
		if ok && published.Certified == newest.Event && (certified == 0 || certified == newest.Event) {
			return nil, published.Event, nil
		}
		if certified == 0 {
			certified = newest.Event
		}
		return domain.ResultsPublished{Certified: certified}, c.Control, c.CheckPublication(certified)
	})
}

package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// register keeps a domain.Register up to date. Readers get one that never
// changes; a refresh replaces it.
type register struct {
	source Config
	state  atomic.Pointer[registerState]
	// fenced is the highest sequence for which it was proven that every control
	// event below it is in the register.
	fenced atomic.Uint64

	refreshes, proofs shared
}

// registerState is what one refresh has read.
type registerState struct {
	register    *domain.Register
	control     uint64 // last sequence seen on the campaign's subject
	specialist  uint64 // last sequence seen on the specialists' subjects
	specialists uint64 // events seen on the specialists' subjects
	at          time.Time
}

func (r *register) current() *domain.Register { return r.state.Load().register }

// renew refreshes a register that is too old to decide on. Before it is, one of
// those who come does so, and the others need not wait.
func (r *register) renew(ctx context.Context, now time.Time) error {
	aged := func(age time.Duration) func() bool {
		return func() bool { return now.Sub(r.state.Load().at) >= age }
	}
	old, tooOld := aged(renewRegisterAge), aged(maxRegisterAge)
	switch {
	case tooOld():
		return r.refreshes.do(ctx, tooOld, r.reread)
	case old():
		_ = r.refreshes.try(ctx, old, r.reread) // it is still good, and who comes later tries again
	}
	return nil
}

// confirm makes sure that a close below sequence is known. Control is the last
// sequence of the campaign's subject as somebody knew it who had the event at
// sequence, or 0 when nobody was asked. What a refresh reads may be older than
// that, for a leader that was deposed answers too; only a register that reaches
// control is proof.
func (r *register) confirm(ctx context.Context, sequence, control uint64) error {
	switch {
	case sequence >= firstDrySequence:
		return nil
	case control != 0:
		// This holds even for a ledger that was set back under us, in which what
		// was proven of a sequence is proven no more.
		return r.reach(ctx, sequence, control)
	case sequence <= r.fenced.Load():
		return nil
	}
	if err := r.proofs.do(ctx, nil, r.prove); err != nil {
		return err
	}
	if sequence > r.fenced.Load() {
		return fmt.Errorf("%w: its leader has not heard of event %d yet", eventstore.ErrUnavailable, sequence)
	}
	return nil
}

// prove confirms everything that is recorded now.
func (r *register) prove(ctx context.Context) error {
	last, _, err := r.source.Ledger.Last(ctx, eventstore.AllSubjects, eventstore.Leader)
	if err != nil {
		return err
	}
	control, err := r.source.Ledger.Control(ctx, last.Subject, last.Sequence)
	if err != nil {
		return err
	}
	return r.reach(ctx, last.Sequence, control)
}

// reach brings the register to a control event that governs what is recorded at
// sequence.
func (r *register) reach(ctx context.Context, sequence, control uint64) error {
	if r.current().Campaign().Control < control {
		if err := r.refresh(ctx); err != nil {
			return err
		}
	}
	if known := r.current().Campaign().Control; known < control {
		return fmt.Errorf("%w: control event %d cannot be read yet, only %d", eventstore.ErrUnavailable, control, known)
	}
	for fenced := r.fenced.Load(); fenced < sequence && !r.fenced.CompareAndSwap(fenced, sequence); {
		fenced = r.fenced.Load()
	}
	return nil
}

// refresh reads what is new from the leader.
func (r *register) refresh(ctx context.Context) error { return r.refreshes.do(ctx, nil, r.reread) }

func (r *register) reread(ctx context.Context) error {
	next, err := r.read(ctx)
	if err != nil {
		return fmt.Errorf("campaign %s: read the campaign: %w", r.source.Campaign, err)
	}
	r.state.Store(next)
	return nil
}

// read extends the register by what is new. An answer may have lacked an event
// that a later answer has; then the register is read anew, for events are
// folded in order.
func (r *register) read(ctx context.Context) (*registerState, error) {
	old := r.state.Load()
	if old == nil {
		old = &registerState{register: new(domain.Register)}
	}
	next, err := r.extend(ctx, old)
	if errors.Is(err, errLate) {
		next, err = r.extend(ctx, &registerState{register: new(domain.Register)})
	}
	return next, err
}

// errLate says that an event came to light below those that are folded.
var errLate = errors.New("an event was found below those that were read before")

// extend reads up to the ledger's last sequence at its beginning. What comes in
// meanwhile is left to the next refresh, because it comes from two reads.
func (r *register) extend(ctx context.Context, old *registerState) (*registerState, error) {
	next := *old
	next.at = r.source.Now()
	ledger, id := r.source.Ledger, r.source.Campaign
	last, _, err := ledger.Last(ctx, eventstore.AllSubjects, eventstore.Leader)
	if err != nil {
		return nil, err
	}
	events, err := r.news(ctx, domain.ControlSubject(id), &next.control, last.Sequence)
	if err != nil {
		return nil, err
	}
	specialists, err := r.specialistNews(ctx, &next, last.Sequence)
	if err != nil {
		return nil, err
	}
	if events = append(events, specialists...); len(events) == 0 {
		return &next, nil
	}
	slices.SortFunc(events, func(a, b eventstore.Recorded) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if events[0].Sequence <= old.register.Position() {
		return nil, errLate
	}
	next.register = old.register.Clone()
	for _, rec := range events {
		e, err := r.source.Codec.Decode(rec.Data)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", rec.Sequence, err)
		}
		if err := next.register.Apply(rec.Sequence, e); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// news are the events of a subject above seen and up to a sequence; seen becomes
// the last of them.
func (r *register) news(ctx context.Context, subject string, seen *uint64, upTo uint64) ([]eventstore.Recorded, error) {
	events, err := r.source.Ledger.History(ctx, subject, *seen, eventstore.Leader)
	if err != nil {
		return nil, err
	}
	events = slices.DeleteFunc(events, func(e eventstore.Recorded) bool { return e.Sequence > upTo })
	if len(events) > 0 {
		*seen = events[len(events)-1].Sequence
	}
	return events, nil
}

// specialistNews is news of all specialists, and counts them. They are counted
// first, and mostly there is none: to look for the first event of a wildcard
// above seen, nats-server goes through everything that was recorded since.
func (r *register) specialistNews(ctx context.Context, next *registerState, upTo uint64) ([]eventstore.Recorded, error) {
	subject := domain.SpecialistSubjects(r.source.Campaign)
	if count, err := r.source.Ledger.Count(ctx, subject); err != nil || count == next.specialists {
		return nil, err
	}
	events, err := r.news(ctx, subject, &next.specialist, upTo)
	next.specialists += uint64(len(events))
	return events, err
}

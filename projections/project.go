package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// maxBatchEvents is the most that one batch holds, in events, but for the rest
// of what the ledger handed over with the last of them. Larger ones are hardly
// cheaper, and readers see what is new later.
const maxBatchEvents = 32 << 10

// FoldVersion is the version of what a Fold makes of events, and of what a read model
// stores of that. It is raised by every change after which the same events give other
// rows; what an older one has built must then be built anew.
const FoldVersion = 1

// Projection brings the read model of one campaign up to date.
//
// Three goroutines work at the same time: one receives and decodes, one folds,
// one stores. There is no timer. While a batch is being stored the next one
// gathers, so a single vote goes at once, and a backlog in large batches.
type Projection struct {
	Campaign string
	Ledger   Ledger
	Model    Model
	Codec    *domain.Codec
	To       uint64 // the last event that is wanted; 0 for no end

	// Both are called by Run's goroutine, and may be nil.
	Stored  func(at Position)                       // where the read model is after a batch
	resumed func(at Position, info eventstore.Info) // the read model and the ledger fit together
}

// errEnd ends reading at the last event that is wanted.
var errEnd = errors.New("the last event that is wanted was read")

// Run starts from where the read model is, and ends with ctx, at the end, or by
// the first error, which names the campaign. What comes before an event that
// cannot be folded is stored. Run may be called again; it then asks the read model
// where it is.
func (p *Projection) Run(ctx context.Context) error {
	f, err := p.resume(ctx)
	if err != nil {
		return err
	}
	after := f.pending.to.Sequence
	if p.To > 0 && p.To <= after {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		work            sync.WaitGroup
		reading, adding error
		events          = make(chan []decoded, 1)
		batches         = make(chan *pending)
	)
	work.Go(func() {
		defer close(events)
		reading = p.read(ctx, after, events)
	})
	work.Go(func() {
		defer close(batches)
		adding = p.fold(ctx, f, events, batches)
	})
	storing := p.store(ctx, batches)
	stop()
	work.Wait()
	// What failed last in the line stopped those before it.
	for _, err := range []error{storing, adding, reading} {
		if err != nil && !errors.Is(err, errEnd) {
			return err
		}
	}
	return nil
}

// read receives and decodes the events above a sequence.
func (p *Projection) read(ctx context.Context, after uint64, events chan<- []decoded) error {
	return p.Ledger.Follow(ctx, after+1, func(batch []eventstore.Recorded) error {
		batch, end := p.wanted(batch)
		list, err := p.decode(batch)
		if len(list) > 0 {
			select {
			case events <- list:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return cmp.Or(err, end)
	})
}

// wanted cuts off what comes after the last event that is wanted, and returns
// errEnd when that one is there.
func (p *Projection) wanted(batch []eventstore.Recorded) ([]eventstore.Recorded, error) {
	for i, rec := range batch {
		if rec.Sequence == p.To {
			return batch[:i+1], errEnd
		}
	}
	return batch, nil
}

// decode gives the events before the first one that cannot be read.
func (p *Projection) decode(batch []eventstore.Recorded) ([]decoded, error) {
	list := make([]decoded, 0, len(batch))
	for _, rec := range batch {
		e, err := p.Codec.Decode(rec.Data)
		if err != nil {
			return list, p.halt(rec.Sequence, err)
		}
		list = append(list, decoded{Event{rec.Sequence, e}, rec.Data})
	}
	return list, nil
}

// fold adds events to the pending batch, and gives it away whenever somebody
// takes it. In the end it waits until the rest was taken.
func (p *Projection) fold(ctx context.Context, f *Fold, events <-chan []decoded, batches chan<- *pending) (err error) {
	for open := true; open || !f.pending.empty(); {
		in, out := events, batches
		if !open || f.pending.full() {
			in = nil
		}
		if f.pending.empty() {
			out = nil
		}
		select {
		case list, ok := <-in:
			var n int
			if n, err = f.addAll(list); err != nil {
				err = p.halt(list[n].Sequence, err)
			}
			open = ok && err == nil
		case out <- f.pending:
			f.next()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return err
}

func (p *Projection) store(ctx context.Context, batches <-chan *pending) error {
	for pending := range batches {
		b := pending.batch()
		if err := p.Model.Apply(ctx, b); err != nil {
			// The end of the batch is another one at every try; without it the
			// reason stays the same text, and is logged once.
			return fmt.Errorf("campaign %s, from event %d on: %w", p.Campaign, b.From.Sequence+1, err)
		}
		if p.Stored != nil {
			p.Stored(b.To)
		}
	}
	return nil
}

// resume makes the fold as of the read model's position, after it has seen
// that the ledger is what the read model was built from. It needs the events
// of the campaign and the specialists only, which are few.
func (p *Projection) resume(ctx context.Context) (*Fold, error) {
	at, err := p.Model.Position(ctx)
	if errors.Is(err, ErrOtherFold) {
		return nil, p.halt(0, err)
	}
	if err != nil {
		return nil, fmt.Errorf("campaign %s: position of the read model: %w", p.Campaign, err)
	}
	info, err := p.Ledger.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("campaign %s: %w", p.Campaign, err)
	}
	if at.Sequence == 0 {
		p.noteResumed(at, info)
		return NewFold(p.Campaign), nil
	}
	f := newFold(p.Campaign, at)
	if err := p.check(ctx, at, info.Last); err != nil {
		return nil, err
	}
	known, err := p.known(ctx, at.Sequence)
	if err != nil {
		return nil, fmt.Errorf("campaign %s: %w", p.Campaign, err)
	}
	list, err := p.decode(known)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if err := f.know(e.Event); err != nil {
			return nil, p.halt(e.Sequence, err)
		}
	}
	f.pending = newPending(at) // all that is stored already
	p.noteResumed(at, info)
	return f, nil
}

func (p *Projection) noteResumed(at Position, info eventstore.Info) {
	if p.resumed != nil {
		p.resumed(at, info)
	}
}

// Check compares the position of a read model with the ledger. Errors are a
// HaltError, or those of the ledger.
func (p *Projection) Check(ctx context.Context, at Position) error {
	info, err := p.Ledger.Info(ctx)
	if err != nil {
		return fmt.Errorf("campaign %s: %w", p.Campaign, err)
	}
	return p.check(ctx, at, info.Last)
}

// check compares the read model's position with the ledger, which ends at last.
func (p *Projection) check(ctx context.Context, at Position, last uint64) error {
	if last < at.Sequence {
		return shorter(p.Campaign, at.Sequence, last)
	}
	for _, known := range []struct {
		sequence uint64
		hash     Hash
		other    error
	}{{1, at.Identity, ErrOtherStream}, {at.Sequence, at.Hash, ErrOtherEvent}} {
		hash, err := p.hashAt(ctx, known.sequence)
		if err != nil {
			return fmt.Errorf("campaign %s: %w", p.Campaign, err)
		}
		if hash != known.hash {
			return p.halt(known.sequence, known.other)
		}
	}
	return nil
}

// hashAt is the hash of an event that is there.
func (p *Projection) hashAt(ctx context.Context, sequence uint64) (h Hash, err error) {
	err = p.Ledger.Follow(ctx, sequence, func(batch []eventstore.Recorded) error {
		h = HashOf(batch[0].Data)
		return errEnd
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return h, err
}

// known are the events of the campaign and its specialists up to a sequence,
// in order.
func (p *Projection) known(ctx context.Context, to uint64) ([]eventstore.Recorded, error) {
	var list []eventstore.Recorded
	for _, subject := range []string{domain.ControlSubject(p.Campaign), domain.SpecialistSubjects(p.Campaign)} {
		events, err := p.Ledger.History(ctx, subject, 0, eventstore.Leader)
		if err != nil {
			return nil, err
		}
		list = append(list, events...)
	}
	list = slices.DeleteFunc(list, func(r eventstore.Recorded) bool { return r.Sequence > to })
	slices.SortFunc(list, func(r, s eventstore.Recorded) int { return cmp.Compare(r.Sequence, s.Sequence) })
	return list, nil
}

func (p *Projection) halt(sequence uint64, err error) error { return halt(p.Campaign, sequence, err) }

package projections

import (
	"context"
	"errors"
	"fmt"

	"sakipaldies.lv/ledger/domain"
)

// Model is the read model of one campaign.
type Model interface {
	// Position is up to where the read model was built, as the latest stored
	// batch says. It is read from where the read model is, never remembered.
	// ErrOtherFold says that this program cannot go on from there.
	Position(ctx context.Context) (Position, error)

	// Apply stores a batch and its position: both, or neither. Batches come in
	// order, one at a time, and readers never see half of one.
	//
	// The read model must be at b.From; otherwise ErrMoved is returned and
	// nothing is stored. That comparison and the storing are one step, so that
	// of any number of projectors on the same read model each batch is stored
	// by one only. After any other error the batch may have been stored: the
	// caller forgets it, asks for the position, and goes on from there. It must
	// not apply the same batch again without having asked.
	Apply(ctx context.Context, b *Batch) error
}

// Models is where the read models of all campaigns are. It is used by several
// goroutines at once.
type Models interface {
	// Model is the read model of a campaign, an empty one where there is none.
	Model(ctx context.Context, campaign string) (Model, error)
}

// ErrMoved says that a read model is not where a batch begins: another
// projector was faster. Nothing was stored.
var ErrMoved = errors.New("the read model has moved: another projector is at work")

// What a read model and a ledger can have against each other. They come in a
// HaltError.
var (
	// ErrShorter says that the ledger ends before the read model's position.
	ErrShorter = errors.New("the ledger is shorter than the read model")
	// ErrOtherStream says that the read model was built from another stream.
	ErrOtherStream = errors.New("the read model was built from another stream of this name")
	// ErrOtherEvent says that the ledger has another event at the position.
	ErrOtherEvent = errors.New("the ledger holds another event there than the read model was built from")
	// ErrOtherFold says that another FoldVersion has built the read model. It can
	// be read as before.
	ErrOtherFold = errors.New("the read model was built by another version of paldies")
	// ErrUnreadable says that an event breaks the rules of the ledger.
	ErrUnreadable = errors.New("the event cannot be folded")
)

// HaltError says why a campaign's read model stays where it is until somebody
// mends something. Nothing is ever skipped.
type HaltError struct {
	Campaign string
	Sequence uint64 // the event that it is about, or 0
	Remedy   string
	Err      error // one of the above, or domain.ErrUnknownType
}

func (e *HaltError) Error() string {
	if e.Sequence == 0 {
		return fmt.Sprintf("campaign %s: %v: %s", e.Campaign, e.Err, e.Remedy)
	}
	return fmt.Sprintf("campaign %s, event %d: %v: %s", e.Campaign, e.Sequence, e.Err, e.Remedy)
}

func (e *HaltError) Unwrap() error { return e.Err }

// shorter is the HaltError about a ledger that ends at last.
func shorter(campaign string, sequence, last uint64) error {
	return halt(campaign, sequence, fmt.Errorf("%w: it ends at event %d", ErrShorter, last))
}

// halt names the event and what is to be done about it.
func halt(campaign string, sequence uint64, err error) error {
	h := &HaltError{Campaign: campaign, Sequence: sequence, Err: err}
	switch {
	case errors.Is(err, ErrShorter):
		h.Remedy = "restore the stream from a copy"
	case errors.Is(err, ErrOtherStream), errors.Is(err, ErrOtherEvent):
		h.Remedy = "connect to the right server or restore its stream; to begin anew, use an empty database"
	case errors.Is(err, ErrOtherFold):
		h.Remedy = "if it is an older one, build it anew with `paldies projection rebuild`; if a newer one, run that"
	case errors.Is(err, domain.ErrUnknownType):
		h.Remedy = "run a newer paldies; nothing was skipped"
	default:
		h.Err = fmt.Errorf("%w: %w", ErrUnreadable, err)
		h.Remedy = "look at the ledger with paldies audit verify; nothing was skipped"
	}
	return h
}

package projections

import (
	"context"
	"fmt"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// Replayer is a ledger that can be read from any event on; *eventstore.Ledger
// is one. Replay gives the events from to to (0: the last one now), in order
// and without a gap.
type Replayer interface {
	Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error
}

// Replay decodes the events of a ledger and gives them to fn in order. An
// error of decoding names the sequence.
func Replay(ctx context.Context, l Replayer, codec *domain.Codec, from, to uint64, fn func(sequence uint64, e domain.Event) error) error {
	return l.Replay(ctx, from, to, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := codec.Decode(rec.Data)
			if err != nil {
				return fmt.Errorf("event %d: %w", rec.Sequence, err)
			}
			if err := fn(rec.Sequence, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Package sealtest has doubles of what a Sealer works with, in memory: logs of
// a million entries in seconds, and faults at the worst moment.
package sealtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"sakipaldies.lv/ledger/eventstore"
)

// ErrLost is the fault of a double: nothing is wrong with it a moment later.
var ErrLost = errors.New("the double has lost the connection")

// batchEvents is how many events a Ledger hands over at a time.
const batchEvents = 1000

// Ledger is a ledger in memory. Safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex // guards what follows
	entries [][]byte
	grown   chan struct{} // closed when entries are added
	ask     func() error
}

// NewLedger is a ledger with the first n entries of Entry.
func NewLedger(n int) *Ledger {
	l := &Ledger{grown: make(chan struct{})}
	l.GrowTo(n)
	return l
}

// Entry is an entry that differs from all others. Lengths vary, so that no two
// bundles have their entries at the same places, and not all bytes are text.
func Entry(i int) []byte {
	entry := fmt.Appendf(nil, "paldies %d ", i)
	for n := range i % 7 {
		entry = append(entry, byte(i*31+n*101))
	}
	return entry
}

// Append adds entries.
func (l *Ledger) Append(entries ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entries...)
	close(l.grown)
	l.grown = make(chan struct{})
}

// GrowTo adds entries of Entry until there are n.
func (l *Ledger) GrowTo(n int) {
	var more [][]byte
	for i := l.Len(); i < n; i++ {
		more = append(more, Entry(i))
	}
	l.Append(more...)
}

// Len is the number of entries.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Change lets somebody rewrite the ledger.
func (l *Ledger) Change(change func(entries [][]byte) [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = change(slices.Clone(l.entries))
}

// OnAsk sets what happens at each call of Info, Replay and Follow before they
// answer; an error of it is theirs.
func (l *Ledger) OnAsk(ask func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ask = ask
}

func (l *Ledger) asked() error {
	l.mu.Lock()
	ask := l.ask
	l.mu.Unlock()
	if ask == nil {
		return nil
	}
	return ask()
}

// Info has the last sequence only.
func (l *Ledger) Info(context.Context) (eventstore.Info, error) {
	if err := l.asked(); err != nil {
		return eventstore.Info{}, err
	}
	return eventstore.Info{First: 1, Last: uint64(l.Len())}, nil
}

// Replay implements the contract of eventstore.Ledger.
func (l *Ledger) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	if err := l.asked(); err != nil {
		return err
	}
	last := uint64(l.Len())
	if to == 0 || to > last {
		to = last
	}
	for from = max(from, 1); from <= to; {
		batch, _ := l.batch(from, to)
		if len(batch) == 0 {
			return nil // Somebody has shortened the ledger meanwhile.
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(batch); err != nil {
			return err
		}
		from += uint64(len(batch))
	}
	return nil
}

// Follow implements the contract of eventstore.Ledger.
func (l *Ledger) Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error {
	if err := l.asked(); err != nil {
		return err
	}
	for from = max(from, 1); ; {
		batch, grown := l.batch(from, from+batchEvents)
		if len(batch) == 0 {
			select {
			case <-grown:
			case <-ctx.Done():
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := fn(batch); err != nil {
				return err
			}
		}
		from += uint64(len(batch))
	}
}

// batch returns the next events up to a sequence, and what tells that there are
// more.
func (l *Ledger) batch(from, to uint64) (batch []eventstore.Recorded, grown <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to = min(to, from+batchEvents-1, uint64(len(l.entries)))
	for sequence := from; sequence <= to; sequence++ {
		batch = append(batch, eventstore.Recorded{Message: eventstore.Message{Data: l.entries[sequence-1]}, Sequence: sequence})
	}
	return batch, l.grown
}

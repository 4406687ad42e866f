package sealtest

import (
	"context"
	"fmt"
	"sync"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

// Fault is what goes wrong with one call of a Fence.
type Fault int

// The faults come in pairs: a move that has failed, and one that has not but
// whose answer was lost.
const (
	None     Fault = iota
	Failed         // nothing has happened
	Answered       // it has happened, the answer is lost
)

// Fence is a fence in memory. Safe for concurrent use.
type Fence struct {
	mu       sync.Mutex // guards what follows
	signed   transparency.Signed
	revision uint64
	onLoad   func() error
	onMove   func(to transparency.Signed) Fault
}

// OnLoad sets what happens before each Load; an error of it is Load's.
func (f *Fence) OnLoad(do func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onLoad = do
}

// OnMove sets what goes wrong with each Move. It is called before the move.
func (f *Fence) OnMove(do func(to transparency.Signed) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onMove = do
}

// Set lets somebody lose the fence, or set it back.
func (f *Fence) Set(s transparency.Signed, revision uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signed, f.revision = s, revision
}

// Load implements transparency.Fence.
func (f *Fence) Load(ctx context.Context) (transparency.Signed, uint64, error) {
	f.mu.Lock()
	do := f.onLoad
	f.mu.Unlock()
	if do != nil {
		if err := do(); err != nil {
			return transparency.Signed{}, 0, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signed, f.revision, ctx.Err()
}

// Move implements transparency.Fence.
func (f *Fence) Move(ctx context.Context, to transparency.Signed, revision uint64) (uint64, error) {
	f.mu.Lock()
	do := f.onMove
	f.mu.Unlock()
	fault := None
	if do != nil {
		fault = do(to)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case fault == Failed:
		return 0, ErrLost
	case f.revision != revision:
		return 0, fmt.Errorf("fence in memory: %w", transparency.ErrFenced)
	}
	f.signed, f.revision = to, f.revision+1
	if fault == Answered {
		return 0, ErrLost
	}
	return f.revision, nil
}

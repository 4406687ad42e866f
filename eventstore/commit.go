package eventstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// batchEventsMin is the smallest group that goes as one atomic batch, in
	// events. Fewer are cheaper as plain publishes: see the package comment.
	batchEventsMin = 10
	// fullBatchEvents is how many events must wait before a commit begins
	// beside another one.
	fullBatchEvents = 500
	// maxCommits is how many commits one ledger has under way. The server
	// stages at most 50 batches a stream, for all workers together.
	maxCommits = 4
	// retryLimit is how long an append or a read is tried again while the
	// server does not answer it, in time. Electing a leader takes up to 10 s.
	retryLimit = 20 * time.Second
	// storageTries is how often an append is tried while the server says that
	// it cannot store.
	storageTries = 3
	// pauseMin and pauseMax bound the time between two tries.
	pauseMin = 2 * time.Millisecond
	pauseMax = 500 * time.Millisecond
)

// commitAll is the committer: it begins commits until the queue is closed and
// empty and all commits have ended.
func (l *Ledger) commitAll() {
	defer close(l.idle)
	for {
		batch := l.queue.take()
		if batch == nil {
			return
		}
		go l.commit(batch)
	}
}

// commit records the requests, however many attempts that takes, and answers
// them. It runs under the ledger's context, not under those of the callers: they
// may leave, the others still want their answer.
func (l *Ledger) commit(open []*request) {
	stalled := false
	begun, size := time.Now(), MaxBatchEvents
	events := len(open)
	defer func() {
		took := time.Since(begun)
		l.queue.finished(stalled, events, took)
		l.observe.Committed(events-len(open), took)
	}()
	for try := 0; l.ctx.Err() == nil; try++ {
		before := len(open)
		if before < events || try > 0 {
			l.observe.Retried(before)
		}
		open, size = l.round(open, size)
		if len(open) == 0 {
			return
		}
		if len(open) < before {
			try = 0 // something was settled: go on at once
			continue
		}
		hopeless := try >= storageTries && storageFull(open[0].err)
		if hopeless || time.Since(begun) > retryLimit {
			break
		}
		if !stalled {
			stalled = true
			l.queue.stall()
		}
		if err := pause(l.ctx, try); err != nil {
			break
		}
	}
	l.giveUp(open)
}

// round makes one attempt for each request, in groups of at most size, and
// returns the requests that are still open and the size for the next round.
func (l *Ledger) round(rs []*request, size int) (open []*request, next int) {
	singles := size < batchEventsMin
	groupSize := size
	if singles {
		groupSize = len(rs) // publishes do not hinder each other
	}
	next = size
	for group := range slices.Chunk(rs, groupSize) {
		group = l.sendable(group)
		if len(group) == 0 {
			continue
		}
		if singles || len(group) < batchEventsMin {
			l.sendSingles(l.ctx, group)
		} else {
			l.sendBatch(l.ctx, group)
		}
		rest := l.settle(group)
		if len(rest) == len(group) {
			next = min(next, smaller(group, size))
		}
		open = append(open, rest...)
	}
	return open, next
}

// smaller chooses the size of the next groups after an attempt that settled
// nothing.
func smaller(group []*request, size int) int {
	switch r := group[0]; {
	case r.verdict == verdictConflict:
		// Some other append is in flight. Halving finds the events that are
		// in its way; single ones get a definite answer.
		return min(size, len(group)) / 2
	case hasCode(r.err, codeBatchIncomplete), hasCode(r.err, codeTooManyBatches), hasCode(r.err, codeBatchesDisabled):
		return 1 // the server cannot stage batches right now
	default:
		return size
	}
}

// sendable marks the requests as possibly recorded and drops those whose
// callers have left.
func (l *Ledger) sendable(rs []*request) []*request {
	return slices.DeleteFunc(rs, func(r *request) bool {
		if r.state.CompareAndSwap(stateIdle, stateSent) || r.state.Load() == stateSent {
			return false
		}
		l.queue.release(r)
		return true
	})
}

// giveUp answers requests that could not be settled.
func (l *Ledger) giveUp(rs []*request) {
	for _, r := range rs {
		err := r.failure()
		if !r.unsure && l.ctx.Err() != nil {
			err = ErrClosed
		}
		if r.err != nil {
			err = fmt.Errorf("%w: %w", err, r.err)
		}
		r.finish(Appended{}, err)
	}
	l.queue.release(rs...)
}

// pause waits a little before the try after the given one: longer each time,
// and at random, so that those who were in each other's way are so no more.
func pause(ctx context.Context, try int) error { return backOff(ctx, pauseMin, pauseMax, try) }

// backOff is pause with bounds of its own.
func backOff(ctx context.Context, least, most time.Duration, try int) error {
	d := min(least<<min(try, 16), most)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

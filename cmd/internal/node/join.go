package node

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// joinRunning joins the node that runs on the data directory. It never locks
// the directory, so that it is in the way of no node that is about to start.
func joinRunning(ctx context.Context, c Config) (*Node, error) {
	return whenReady(ctx, func(waiting context.Context) (*Node, error) {
		if _, err := readHolder(c.DataDir); err != nil {
			return nil, fmt.Errorf("%w: no node runs on %s: start one with `paldies dev`, or name servers with --nats-url", ErrUnavailable, c.DataDir)
		}
		return join(waiting, c)
	})
}

// whenReady repeats find as long as a node is starting on the data directory,
// at most for joinTimeout.
func whenReady(ctx context.Context, find func(waiting context.Context) (*Node, error)) (*Node, error) {
	waiting, stop := context.WithTimeout(ctx, joinTimeout)
	defer stop()
	tick := time.NewTicker(joinInterval)
	defer tick.Stop()
	for {
		n, err := find(waiting)
		var soon *notYetError
		if !errors.As(err, &soon) {
			return n, err
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, soon.err
		}
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

const (
	// signPatience is how long to wait for whoever signs the log, in time.
	signPatience = 30 * time.Second
	// signLook is the time between two looks.
	signLook = 100 * time.Millisecond
)

// signedHead is the head of the signed log once it covers an event, and false
// for a campaign that has no log. Where nobody else signs and the log is here,
// it is signed here.
func (a *app) signedHead(ctx context.Context, c openCampaign, covers uint64) (transparency.Signed, bool, error) {
	recorded := func() (head transparency.Signed, err error) {
		head, _, err = transparency.LoadSigned(ctx, c.node.Conn(), domain.StreamName(c.id))
		return head, err
	}
	head, err := recorded()
	if err != nil || head == (transparency.Signed{}) {
		return head, false, err
	}
	f, err := a.logFolder(c.log.dir, c.id)
	if err != nil {
		return head, false, err
	}
	keys, err := f.Keys()
	switch {
	case errors.Is(err, fs.ErrNotExist): // it is elsewhere: the signer's record must do
		head, err = a.awaitHead(ctx, c, covers, recorded)
		return head, true, err
	case err != nil:
		return head, false, err
	}
	published := func() (transparency.Signed, error) {
		checkpoint, err := f.Checkpoint(keys)
		if errors.Is(err, transparency.ErrNotSealed) {
			err = nil
		}
		return transparency.Signed{Size: checkpoint.Size, Root: checkpoint.Root}, err
	}
	if head, err = published(); err != nil || head.Size >= covers {
		return head, true, err
	}
	s, release, err := a.sealer(ctx, c.node, c.ledger, c.log, nil)
	if errors.Is(err, node.ErrInUse) { // `paldies dev` or `paldies seal` signs
		head, err = a.awaitHead(ctx, c, covers, published)
		return head, true, err
	}
	if err != nil {
		return head, false, err
	}
	checkpoint, err := s.RunToEnd(ctx)
	return transparency.Signed{Size: checkpoint.Size, Root: checkpoint.Root}, true, errors.Join(err, release())
}

// awaitHead looks until the head covers an event.
func (a *app) awaitHead(ctx context.Context, c openCampaign, covers uint64, look func() (transparency.Signed, error)) (transparency.Signed, error) {
	patience, stop := context.WithTimeout(ctx, signPatience)
	defer stop()
	ticks := time.NewTicker(signLook)
	defer ticks.Stop()
	for {
		head, err := look()
		if err != nil || head.Size >= covers {
			return head, err
		}
		select {
		case <-ticks.C:
		case <-patience.Done():
			if ctx.Err() != nil {
				return head, ctx.Err()
			}
			return head, fmt.Errorf("%w: the log of campaign %s has %d events, and event %d is waited for: look why `paldies seal` or `paldies dev` does not sign",
				transparency.ErrNotSealed, c.id, head.Size, covers)
		}
	}
}

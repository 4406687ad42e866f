package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
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
// it is signed here. A log here of which there is no record is transparency.ErrFork.
func (a *app) signedHead(ctx context.Context, c openCampaign, covers uint64) (transparency.Signed, bool, error) {
	recorded := func() (head transparency.Signed, err error) {
		head, _, err = transparency.LoadSigned(ctx, c.node.Conn(), domain.StreamName(c.id))
		return head, err
	}
	f, err := a.logFolder(c.log.dir, c.id)
	if err != nil {
		return transparency.Signed{}, false, err
	}
	keys, err := f.Keys()
	if errors.Is(err, fs.ErrNotExist) { // it is elsewhere: the signer's record must do
		head, err := recorded()
		if err != nil || head == (transparency.Signed{}) {
			return head, false, err
		}
		head, err = a.awaitHead(ctx, c, covers, recorded)
		return head, true, err
	}
	if err != nil {
		return transparency.Signed{}, false, err
	}
	head, signed, err := a.publishedHead(ctx, c, f, keys)
	if err != nil || !signed || head.Size >= covers {
		return head, signed, err
	}
	s, release, err := a.sealer(ctx, c.node, c.ledger, c.log, nil)
	switch {
	case errors.Is(err, node.ErrInUse): // `paldies dev` or `paldies seal` signs
		head, err = a.awaitHead(ctx, c, covers, func() (transparency.Signed, error) { return newestHead(f, keys) })
		return head, true, err
	case errors.Is(err, keyring.ErrMissingSigning): // this is a copy of a log that is signed elsewhere
		head, waited := a.awaitHead(ctx, c, covers, recorded)
		if waited != nil {
			return head, false, fmt.Errorf("%w; or, if it is to be signed here, %w", waited, err)
		}
		return head, true, nil
	case err != nil:
		return head, false, err
	}
	checkpoint, err := s.RunToEnd(ctx)
	return transparency.Signed{Size: checkpoint.Size, Root: checkpoint.Root}, true, errors.Join(err, release())
}

// publishedHead is the head of the log in a folder, after a look at the record of
// what was signed, and false where neither says that anything was.
func (a *app) publishedHead(ctx context.Context, c openCampaign, f *transparency.Folder, keys *transparency.Keys) (transparency.Signed, bool, error) {
	newest, err := f.Checkpoint(keys) // before the record
	published := !errors.Is(err, transparency.ErrNotSealed)
	if err != nil && published {
		return transparency.Signed{}, false, err
	}
	record, revision, err := transparency.LoadSigned(ctx, c.node.Conn(), domain.StreamName(c.id))
	if err == nil && published {
		err = f.CheckRecord(newest, record, revision)
	}
	return transparency.Signed{Size: newest.Size, Root: newest.Root}, revision != 0, err
}

// newestHead is that of the newest checkpoint in a folder; its size is 0 while
// there is none.
func newestHead(f *transparency.Folder, keys *transparency.Keys) (transparency.Signed, error) {
	newest, err := f.Checkpoint(keys)
	if errors.Is(err, transparency.ErrNotSealed) {
		err = nil
	}
	return transparency.Signed{Size: newest.Size, Root: newest.Root}, err
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

func (a *app) restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore --log DIR --key VKEY",
		Short: "Make a lost ledger again from a copy of its log",
		Long: "Make a lost ledger again from a copy of its log: the same events at the same\n" +
			"sequences, so that every receipt and every checkpoint stays valid. The copy is\n" +
			"checked first, and the ledger proven by the signed root afterwards.\n\n" +
			"It can be repeated and resumed. A ledger that holds other events, or more, is left\n" +
			"as it is. What was recorded after the copy's last checkpoint is lost; to go on\n" +
			"voting, put the pseudonym key back from its backup. Stop all that votes, seals or\n" +
			"projects before a ledger is replaced, and start it again afterwards.",
		Args: cobra.NoArgs,
	}
	dir := logFlag(cmd, "folder of the copy (needed)")
	key := verifierFlag(cmd)
	required(cmd, "log", "key")
	resumable(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		keys, err := verifierKeys(*key)
		if err != nil {
			return err
		}
		campaign, err := campaignOf(keys)
		if err != nil {
			return usageError{err}
		}
		return a.onNode(cmd, a.node, func(ctx context.Context, n *node.Node) error {
			return a.restore(ctx, n, campaign, transparency.NewFolder(*dir), keys)
		})
	}
	return cmd
}

func (a *app) restore(ctx context.Context, n *node.Node, campaign string, f *transparency.Folder, keys *transparency.Keys) (err error) {
	newest, err := a.soundCopy(ctx, n, campaign, f, keys)
	if err != nil {
		return err
	}
	config := ledgerConfig(n, campaign)
	if err := eventstore.Create(ctx, n.Conn(), config); err != nil && !errors.Is(err, eventstore.ErrExists) {
		return err
	}
	l, err := a.openLedger(ctx, n, campaign)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	var done atomic.Uint64
	stop := a.progress("restore "+campaign, int64(newest.Size), func() int64 { return int64(done.Load()) })
	_, err = l.Refill(ctx, a.messages(ctx, f, newest.Size), done.Store)
	stop()
	var more *eventstore.DifferenceError
	if errors.As(err, &more) && more.Copy == "" {
		err = nil // It holds all of the copy, and what was recorded since.
	}
	if err != nil {
		return err
	}
	head := transparency.Head{Size: newest.Size, Root: newest.Root, From: transparency.CheckpointPath}
	if err := wantHeads(ctx, l, transparency.NewRebuild(nil, []transparency.Head{head})); err != nil {
		return fmt.Errorf("the restored ledger is not what the copy was: %w", err)
	}
	if err := setFence(ctx, n, campaign, config.Replicas, newest); err != nil {
		return err
	}
	archived, err := a.archived(ctx, l, campaign)
	if err == nil && archived {
		err = l.Seal(ctx)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "campaign %s restored: %d events, proven by the signed root %v\n", campaign, newest.Size, newest.Root)
	return err
}

// soundCopy checks everything of a copy before anything of it is used.
func (a *app) soundCopy(ctx context.Context, n *node.Node, campaign string, f *transparency.Folder, keys *transparency.Keys) (transparency.Checkpoint, error) {
	newest, heads, findings, err := f.Heads(keys)
	if err != nil {
		return newest, err
	}
	if len(findings) > 0 {
		return newest, nothingRestored(foundError(findings))
	}
	signed, revision, err := transparency.LoadSigned(ctx, n.Conn(), domain.StreamName(campaign))
	switch {
	case err != nil:
		return newest, err
	case revision != 0 && signed.Size > newest.Size:
		return newest, fmt.Errorf("%w: %s has %d events, but %d were signed before: restore from a newer copy", transparency.ErrShorter, f.Dir(), newest.Size, signed.Size)
	case revision != 0:
		heads = append(heads, transparency.Head{Size: signed.Size, Root: signed.Root, From: audit.SignersRecord})
	}
	err = wantHeads(ctx, transparency.Entries{Folder: f, Size: newest.Size}, transparency.NewRebuild(f, heads))
	return newest, nothingRestored(err)
}

// foundError says what is wrong with a log.
func foundError(findings []transparency.Finding) error {
	err := errMismatch
	for _, f := range findings {
		err = fmt.Errorf("%w\n  %s: %s", err, plain(f.Path), plain(f.Text))
	}
	return err
}

func nothingRestored(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("nothing was restored: %w", err)
}

// wantHeads hashes events and wants nothing to be found.
func wantHeads(ctx context.Context, l audit.Ledger, rebuilt *transparency.Rebuild) error {
	err := l.Replay(ctx, 1, 0, func(batch []eventstore.Recorded) error {
		rebuilt.AppendEvents(batch)
		return nil
	})
	if err != nil {
		return err
	}
	if findings := rebuilt.Finish(); len(findings) > 0 {
		return foundError(findings)
	}
	return nil
}

// messages are the events of a log with the subjects that follow from them.
func (a *app) messages(ctx context.Context, f *transparency.Folder, size uint64) iter.Seq2[eventstore.Message, error] {
	return func(yield func(eventstore.Message, error) bool) {
		errEnough := errors.New("enough")
		err := transparency.Entries{Folder: f, Size: size}.Replay(ctx, 1, 0, func(batch []eventstore.Recorded) error {
			for _, rec := range batch {
				e, err := a.codec.Decode(rec.Data)
				if err != nil {
					return fmt.Errorf("event %d: %w", rec.Sequence, err)
				}
				if !yield(eventstore.Message{Subject: domain.Subject(e), Data: rec.Data}, nil) {
					return errEnough
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(eventstore.Message{}, err)
		}
	}
}

// setFence records what is signed of a ledger whose record was lost with it, or
// set back.
func setFence(ctx context.Context, n *node.Node, campaign string, replicas int, newest transparency.Checkpoint) error {
	fence, err := transparency.NewBucketFence(ctx, n.Conn(), domain.StreamName(campaign), replicas)
	if err != nil {
		return err
	}
	signed, revision, err := fence.Load(ctx)
	if err != nil || revision != 0 && signed.Size >= newest.Size {
		return err
	}
	_, err = fence.Move(ctx, transparency.Signed{Size: newest.Size, Root: newest.Root}, revision)
	return err
}

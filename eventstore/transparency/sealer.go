package transparency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/eventstore"
)

const (
	// intervalDefault is the time between two checkpoints while the log grows.
	intervalDefault = time.Second
	// maxPendingFiles is how many full tiles and bundles are written together.
	maxPendingFiles = 256
	// retryMin and retryMax bound the pause after a fault that may pass.
	retryMin = 250 * time.Millisecond
	retryMax = 15 * time.Second
)

var (
	// ErrShorter says that the ledger lacks entries that were signed.
	ErrShorter = errors.New("the ledger is shorter than what was signed")
	// ErrFork says that what was signed and the ledger contradict each other.
	ErrFork = errors.New("the ledger is not the one that was signed")
	// ErrMisread says that what was written does not come back as it was.
	ErrMisread = errors.New("what was written comes back differently")
)

// Halts reports whether an error is one that no second try can mend: somebody
// has to find out what happened before anything is signed again.
func Halts(err error) bool {
	for _, target := range []error{ErrShorter, ErrFork, ErrMisread, ErrChanged, ErrFenced, ErrSignature, ErrMalformed, ErrKey,
		eventstore.ErrCorrupt, eventstore.ErrNotFound, eventstore.ErrClosed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Ledger is what a Sealer reads; *eventstore.Ledger is one. Events come once
// each, in order, without a gap.
type Ledger interface {
	Info(ctx context.Context) (eventstore.Info, error)
	Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error
	Follow(ctx context.Context, from uint64, fn func([]eventstore.Recorded) error) error
}

// Config is what a Sealer works with. All but the last two are needed.
type Config struct {
	Ledger Ledger
	Folder *Folder // nobody else writes there
	Fence  Fence
	Signer note.Signer // its name is the log's origin
	Keys   *Keys       // verify the signer and those before it
	// Interval is the time between two checkpoints while the log grows; 0
	// means a second.
	Interval time.Duration
	// Report, when not nil, is called after each checkpoint that was published,
	// and with an error after each fault that may pass.
	Report func(Checkpoint, error)
}

// Validate reports the first thing that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Ledger == nil || c.Folder == nil || c.Fence == nil || c.Signer == nil || c.Keys == nil:
		return fmt.Errorf("%w: ledger, folder, fence, signer and keys are needed", ErrKey)
	case c.Signer.Name() != c.Keys.Origin():
		return fmt.Errorf("%w: the signing key is of the log %s, the verifier keys are of %s", ErrKey, c.Signer.Name(), c.Keys.Origin())
	case c.Interval < 0:
		return fmt.Errorf("an interval of %v between checkpoints: use a positive one", c.Interval)
	}
	if _, err := c.Keys.verifiers.Verifier(c.Signer.Name(), c.Signer.KeyHash()); err != nil {
		return fmt.Errorf("%w: no verifier key belongs to the signing key: %w", ErrKey, err)
	}
	return nil
}

// Sealer writes a ledger's Merkle log and signs its checkpoints. It is for one
// goroutine.
type Sealer struct {
	config Config
	seals  int // checkpoints that were published
	sealing
}

// sealing is one start of a Sealer. Everything in it is built anew from the
// ledger by the next one.
type sealing struct {
	tree    Tree   // of the entries as they came
	stored  Tree   // of the entries as they were read back from the folder
	bundle  []byte // of the entries behind the last full bundle
	pending []file // full bundles and tiles that are not written yet
	full    []place

	failed    error  // what went wrong: its work is half done, and nothing may be added or signed
	signed    Signed // by the fence
	revision  uint64 // of the fence
	published *Checkpoint
}

// NewSealer makes a Sealer.
func NewSealer(c Config) (*Sealer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Interval == 0 {
		c.Interval = intervalDefault
	}
	return &Sealer{config: c}, nil
}

// RunToEnd seals what the ledger holds and returns the checkpoint.
func (s *Sealer) RunToEnd(ctx context.Context) (Checkpoint, error) {
	if err := s.begin(ctx); err != nil {
		return Checkpoint{}, err
	}
	err := s.config.Ledger.Replay(ctx, 1, 0, s.grow)
	if err == nil && s.tree.Size() < s.signed.Size {
		err = s.shorter(s.tree.Size()) // It has shrunk since begin looked.
	}
	if err == nil {
		err = s.seal(ctx)
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return *s.published, nil
}

// Run seals as the ledger grows, until the context ends. It begins again after
// a fault that may pass, and returns those after which somebody must look:
// nothing is signed then.
func (s *Sealer) Run(ctx context.Context) error {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		before := s.seals
		err := s.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case Halts(err):
			return err
		}
		if s.config.Report != nil {
			s.config.Report(Checkpoint{}, err)
		}
		if s.seals != before {
			wait = retryMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// follow is one start of Run. A clock of its own makes checkpoints due also
// when no event comes.
func (s *Sealer) follow(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var mu sync.Mutex // guards the sealing
	var clock sync.WaitGroup
	clock.Go(func() {
		ticks := time.NewTicker(s.config.Interval)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return
			}
			mu.Lock()
			err := s.seal(ctx)
			mu.Unlock()
			if err != nil {
				stop(err)
				return
			}
		}
	})
	err := s.config.Ledger.Follow(ctx, 1, func(batch []eventstore.Recorded) error {
		mu.Lock()
		defer mu.Unlock()
		return s.grow(batch)
	})
	stop(err)
	clock.Wait()
	return context.Cause(ctx) // what went wrong first
}

// begin finds out what was signed before, and makes the folder whole where a
// crash came between two steps.
func (s *Sealer) begin(ctx context.Context) (err error) {
	s.sealing = sealing{}
	if s.signed, s.revision, err = s.config.Fence.Load(ctx); err != nil {
		return err
	}
	if err := s.config.Folder.create(); err != nil {
		return err
	}
	if s.published, err = s.config.Folder.mendCheckpoints(s.config.Keys); err != nil {
		return err
	}
	if s.published != nil {
		if err := s.config.Folder.CheckRecord(*s.published, s.signed, s.revision); err != nil {
			return err
		}
	}
	info, err := s.config.Ledger.Info(ctx)
	switch {
	case err != nil:
		return err
	case info.Last < s.signed.Size:
		return s.shorter(info.Last)
	}
	if s.revision != 0 {
		if err := s.config.Folder.putUnsignedAside(s.signed.Size); err != nil {
			return err
		}
	}
	return s.agree() // about the empty log
}

func (s *Sealer) shorter(entries uint64) error {
	return fmt.Errorf("%w: it has %d entries, %d were signed: nothing is signed any more; restore the ledger with `paldies restore` from the newest copy of the log",
		ErrShorter, entries, s.signed.Size)
}

// grow adds events. Full tiles and bundles are written when enough have come
// together.
func (s *Sealer) grow(batch []eventstore.Recorded) error {
	if s.failed == nil {
		s.failed = s.add(batch)
	}
	return s.failed
}

func (s *Sealer) add(batch []eventstore.Recorded) error {
	for _, e := range batch {
		if e.Sequence != s.tree.Size()+1 {
			return fmt.Errorf("%w: event %d follows entry %d", eventstore.ErrCorrupt, e.Sequence, s.tree.Size())
		}
		if len(e.Data) > MaxEntryBytes {
			return fmt.Errorf("%w: event %d has %d bytes, an entry has at most %d", eventstore.ErrCorrupt, e.Sequence, len(e.Data), MaxEntryBytes)
		}
		s.bundle = appendEntry(s.bundle, e.Data)
		for _, tile := range s.tree.Append(tlog.RecordHash(e.Data)) {
			s.fill(tile)
		}
		if err := s.agree(); err != nil {
			return err
		}
	}
	if len(s.pending) >= maxPendingFiles {
		return s.flush(s.pending)
	}
	return nil
}

// fill takes a tile that is full, and the bundle below it.
func (s *Sealer) fill(tile Tile) {
	if tile.Level == 0 {
		bundle := place{entries: true, index: tile.Index, width: TileWidth}
		s.pending = append(s.pending, file{bundle, s.bundle})
		s.bundle = make([]byte, 0, len(s.bundle)+len(s.bundle)/8)
	}
	s.pending = append(s.pending, file{tile.place(), encodeTile(tile.Hashes)})
}

// agree holds the tree against what was signed of the same size.
func (s *Sealer) agree() error {
	size := s.tree.Size()
	wanted := make([]tlog.Hash, 0, 2)
	if s.revision != 0 && size == s.signed.Size {
		wanted = append(wanted, s.signed.Root)
	}
	if s.published != nil && size == s.published.Size {
		wanted = append(wanted, s.published.Root)
	}
	for _, want := range wanted {
		if root := s.tree.Root(); root != want {
			return fmt.Errorf("%w: its first %d entries have the root %v, signed was %v: nothing is signed any more; the ledger was rewritten, or this is another one of the same name",
				ErrFork, size, root, want)
		}
	}
	return nil
}

// seal publishes a checkpoint if there is anything new. The order of the steps
// is what makes it safe to be killed between any two of them:
//
//  1. tiles and bundles are written, synced, read back and hashed again;
//  2. the fence is moved, upon which no other tree can be signed;
//  3. the checkpoint is signed and its signature verified;
//  4. it takes the place of the last one, and is added to all there were;
//  5. partial tiles that are full by now are removed.
func (s *Sealer) seal(ctx context.Context) error {
	if s.failed == nil {
		s.failed = s.advance(ctx)
	}
	return s.failed
}

func (s *Sealer) advance(ctx context.Context) error {
	size := s.tree.Size()
	if size < s.signed.Size || s.published != nil && size == s.published.Size {
		return nil
	}
	files := s.pending
	for _, tile := range s.tree.Partial() {
		at := tile.place()
		if tile.Level == 0 {
			files = append(files, file{place{entries: true, index: at.index, width: at.width}, s.bundle})
		}
		files = append(files, file{at, encodeTile(tile.Hashes)})
	}
	if err := s.flush(files); err != nil {
		return err
	}
	next := Signed{Size: size, Root: s.tree.Root()}
	if stored := s.stored.Root(); stored != next.Root {
		return fmt.Errorf("%w: the entries in %s have the root %v, they were written with %v: nothing is signed any more; check the memory and the disk of this machine",
			ErrMisread, s.config.Folder.Dir(), stored, next.Root)
	}
	if s.revision == 0 || size > s.signed.Size {
		revision, err := s.config.Fence.Move(ctx, next, s.revision)
		if err != nil {
			return err // Whether it has moved is found out by the next start.
		}
		s.signed, s.revision = next, revision
	}
	return s.publish(Checkpoint{Origin: s.config.Signer.Name(), Size: size, Root: next.Root})
}

// publish signs a checkpoint and puts it in place. It is the last to make sure
// that only what the fence says is signed.
func (s *Sealer) publish(c Checkpoint) error {
	if s.failed != nil || s.revision == 0 || s.signed != (Signed{c.Size, c.Root}) {
		return fmt.Errorf("%w: about to sign %d entries with the root %v, the fence says %d with %v", ErrFork, c.Size, c.Root, s.signed.Size, s.signed.Root)
	}
	signed, err := c.Sign(s.config.Signer)
	if err != nil {
		return err
	}
	switch read, err := ParseCheckpoint(signed, s.config.Keys); {
	case err != nil:
		return fmt.Errorf("%w: the checkpoint that was just signed: %w", ErrMisread, err)
	case read != c:
		return fmt.Errorf("%w: the checkpoint that was just signed says %v, not %v: check the memory of this machine", ErrMisread, read, c)
	}
	if err := s.config.Folder.replace(CheckpointPath, signed); err != nil {
		return err
	}
	if err := s.config.Folder.append(CheckpointsPath, signed); err != nil {
		return err
	}
	s.published = &c
	s.seals++
	for _, p := range s.full {
		if err := s.config.Folder.removePartial(p); err != nil {
			return err
		}
	}
	s.full = s.full[:0]
	if s.config.Report != nil {
		s.config.Report(c, nil)
	}
	return nil
}

// flush writes files and makes sure that they can be read. The second tree
// grows only by the entries that are read back, and tiles have to be that
// tree's: a bit that was flipped in one before it was written is found too.
func (s *Sealer) flush(files []file) error {
	if err := s.config.Folder.write(files); err != nil {
		return err
	}
	tiles := make(map[place][]byte)
	for _, f := range files {
		if !f.entries {
			continue
		}
		full, err := s.reread(f)
		if err != nil {
			return err
		}
		for _, tile := range full {
			tiles[tile.place()] = encodeTile(tile.Hashes)
		}
	}
	for _, tile := range s.stored.Partial() {
		tiles[tile.place()] = encodeTile(tile.Hashes)
	}
	for _, f := range files {
		if !f.entries {
			read, err := s.config.Folder.Read(f.path())
			if err != nil {
				return err
			}
			if !bytes.Equal(read, tiles[f.place]) {
				return fmt.Errorf("%w: %s: check the memory and the disk of this machine", ErrMisread, s.config.Folder.name(f.path()))
			}
		}
		if f.width == TileWidth {
			s.full = append(s.full, f.place)
		}
	}
	s.pending = nil
	return nil
}

// reread adds the entries of a bundle that were not read back before, and
// returns the tiles that are full by them.
func (s *Sealer) reread(f file) (full []Tile, err error) {
	read, err := s.config.Folder.Read(f.path())
	if err != nil {
		return nil, err
	}
	entries, rest, err := SplitBundle(read, f.width)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes behind the last entry", len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: check the memory and the disk of this machine", ErrMisread, s.config.Folder.name(f.path()), err)
	}
	known := s.stored.Size() - f.index*TileWidth
	if known > uint64(len(entries)) {
		return nil, fmt.Errorf("%w: %s: its %d entries were read back before", ErrMisread, s.config.Folder.name(f.path()), len(entries))
	}
	leaves := LeafHashes(entries)
	if known > 0 && !slices.Equal(leaves[:known], s.stored.edge[0]) {
		return nil, fmt.Errorf("%w: %s: it does not begin with the entries that were read back before: check the memory and the disk of this machine", ErrMisread, s.config.Folder.name(f.path()))
	}
	for _, leaf := range leaves[known:] {
		full = append(full, s.stored.Append(leaf)...)
	}
	return full, nil
}

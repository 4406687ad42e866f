package transparency_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

var errStep = errors.New("the file system has failed")

// How one operation on a file goes wrong.
type stepFault string

// Faults come in pairs: what has failed, and what has not but says so. A crash
// is one after which the process does nothing more.
const (
	failsBefore  stepFault = "fails"
	failsAfter   stepFault = "is done but reported as failed"
	crashBefore  stepFault = "is where the process dies"
	crashAfter   stepFault = "is the last thing that the process does"
	crashWithin  stepFault = "is interrupted half way by the death of the process"
	noStepFaults           = -1
)

// faultyFolder counts operations, and lets one of them go wrong.
type faultyFolder struct {
	*transparency.Folder
	at    int // the operation that goes wrong
	fault stepFault

	mu   sync.Mutex // guards what follows
	done int
	dead bool
	name string // of the operation that went wrong
}

func newFaultyFolder(dir string, at int, fault stepFault) *faultyFolder {
	f := &faultyFolder{Folder: transparency.NewFolder(dir), at: at, fault: fault}
	f.OnStep(f.step)
	return f
}

// step holds a mutex, so that operations that are done beside each other come
// one after the other: what a process leaves behind when it dies is then one of
// the states in which it may be found.
func (f *faultyFolder) step(operation, p string, run func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.done
	f.done++
	switch {
	case f.dead:
		return errStep
	case n != f.at:
		return run()
	}
	f.name = operation + " " + p
	f.dead = f.fault == crashBefore || f.fault == crashAfter || f.fault == crashWithin
	switch f.fault {
	case failsAfter, crashAfter:
		if err := run(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case crashWithin:
		if err := f.half(operation, p, run); err != nil {
			return err
		}
	}
	return errStep
}

// half does the half of what an operation does to a file's bytes.
func (f *faultyFolder) half(operation, p string, run func() error) error {
	name := filepath.Join(f.Dir(), p)
	if operation == transparency.OpWrite {
		name = filepath.Join(filepath.Dir(name), ".new-"+filepath.Base(name))
	}
	var before int64
	switch operation {
	case transparency.OpAppend:
		if info, err := os.Stat(name); err == nil {
			before = info.Size()
		}
	case transparency.OpWrite:
	default:
		return nil
	}
	if err := run(); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.Truncate(name, (before+info.Size())/2)
}

// faultStory are the sizes at which the log of the fault tests is sealed. They
// bring partial tiles, full ones, several at once, and removals.
var faultStory = []int{0, 1, 3, 255, 257, 520}

// tell seals along the story, with a folder that may be faulty. It begins again
// with a new process at most once, and stops with what no second try mends.
func (l *log) tell(f *faultyFolder) (faults int) {
	l.Helper()
	folder := f.Folder
	for _, size := range faultStory {
		l.ledger.GrowTo(size)
		for {
			_, err := l.sealer(folder).RunToEnd(l.Context())
			if err == nil {
				break
			}
			if !errors.Is(err, errStep) {
				l.Fatalf("%s %s; afterwards the signer halts: %v", f.name, f.fault, err)
			}
			if found := verify(l, l.dir, l.keys); len(found) > 0 && !strings.Contains(found[0], transparency.ErrNotSealed.Error()) {
				l.Fatalf("%s %s; the log that it leaves is accused: %q", f.name, f.fault, found)
			}
			if faults++; faults > 1 {
				l.Fatalf("%s %s; afterwards it fails again", f.name, f.fault)
			}
			folder = l.folder() // another process
		}
	}
	return faults
}

func TestEveryFileOperationMayFail(t *testing.T) {
	counting := newLog(t, 0)
	all := newFaultyFolder(counting.dir, noStepFaults, "")
	counting.tell(all)
	t.Logf("%d operations", all.done)
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for _, fault := range []stepFault{failsBefore, failsAfter, crashBefore, crashAfter, crashWithin} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			for at := 0; at < all.done; at += stride {
				l := newLog(t, 0)
				faulty := newFaultyFolder(l.dir, at, fault)
				if l.tell(faulty) == 0 {
					t.Errorf("operation %d: nothing went wrong", at)
				}
				l.wantSound()
				l.wantNoFork()
				if t.Failed() {
					t.Fatalf("%s %s", faulty.name, fault)
				}
			}
		})
	}
}

// disk knows which names of a folder would still be there after a loss of power:
// those whose folder was synced after they came. Files are synced before they
// get their names.
type disk struct {
	dir     string
	durable map[string][]byte // by path; nil for a folder
}

func (d *disk) sync(dir string) {
	entries, err := os.ReadDir(filepath.Join(d.dir, dir))
	if err != nil {
		return
	}
	there := make(map[string]bool)
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		there[p] = true
		if _, known := d.durable[p]; known && p != transparency.CheckpointPath {
			continue // It never changes, or is synced by itself.
		}
		d.durable[p] = nil
		if !e.IsDir() {
			d.durable[p], _ = os.ReadFile(filepath.Join(d.dir, p))
		}
	}
	for p := range d.durable {
		if path.Dir(p) == path.Clean(dir) && !there[p] {
			delete(d.durable, p)
		}
	}
}

// losePower takes the folder back to what is durable.
func (d *disk) losePower(t *testing.T) {
	t.Helper()
	if err := fs.WalkDir(os.DirFS(d.dir), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		name := filepath.Join(d.dir, p)
		data, ok := d.durable[p]
		switch {
		case !ok && e.IsDir():
			return errors.Join(os.RemoveAll(name), fs.SkipDir)
		case !ok:
			return os.Remove(name)
		case p == transparency.CheckpointPath:
			return os.WriteFile(name, data, 0o644)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A name that was removed and whose folder was not synced comes back, with
	// all that was in it. That is older partial tiles, which are harmless.
}

// A process dies at any operation, another one takes over and publishes, and
// then the power fails: what was published must still be there, and the next
// signer must go on.
func TestPowerLossAfterAnyCrash(t *testing.T) {
	story := func(t *testing.T, at int) (operations int) {
		l := newLog(t, 0)
		d := &disk{dir: l.dir, durable: make(map[string][]byte)}
		first := newFaultyFolder(l.dir, at, crashAfter)
		onSync := func(step transparency.Step) transparency.Step {
			return func(operation, p string, run func() error) error {
				err := step(operation, p, run)
				if err == nil && operation == transparency.OpSync {
					first.mu.Lock()
					defer first.mu.Unlock()
					d.sync(p)
				}
				return err
			}
		}
		first.OnStep(onSync(first.step))
		folder, crashed := first.Folder, false
		for _, size := range faultStory[:5] {
			l.ledger.GrowTo(size)
			for {
				_, err := l.sealer(folder).RunToEnd(t.Context())
				if err == nil {
					break
				}
				if !errors.Is(err, errStep) || crashed {
					t.Fatalf("%s %s; afterwards: %v", first.name, crashAfter, err)
				}
				crashed = true
				folder = l.folder()
				folder.OnStep(onSync(func(_, _ string, run func() error) error { return run() }))
			}
			if crashed || at < 0 {
				break
			}
		}
		if at < 0 {
			return first.done
		}
		d.losePower(t)
		for _, text := range verify(t, l.dir, l.keys) {
			t.Errorf("after %s the process died, the next one has published, and the power failed: %s", first.name, text)
		}
		if _, err := l.seal(); err != nil {
			t.Errorf("after %s the process died, the next one has published, and the power failed: the signer halts: %v", first.name, err)
		}
		l.wantNoFork()
		return first.done
	}
	counting := newLog(t, 0)
	all := newFaultyFolder(counting.dir, noStepFaults, "")
	for _, size := range faultStory[:5] {
		counting.ledger.GrowTo(size)
		if _, err := counting.sealer(all.Folder).RunToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for at := range all.done {
		if story(t, at); t.Failed() {
			return
		}
	}
}

// The fence fails at each of its moves, before and after the move.
func TestEveryMoveOfTheFenceMayFail(t *testing.T) {
	for _, fault := range []sealtest.Fault{sealtest.Failed, sealtest.Answered} {
		for at := range len(faultStory) {
			l := newLog(t, 0)
			moves := 0
			l.fence.OnMove(func(transparency.Signed) sealtest.Fault {
				if moves++; moves-1 == at {
					return fault
				}
				return sealtest.None
			})
			for i, size := range faultStory {
				l.ledger.GrowTo(size)
				_, err := l.seal()
				if (i == at) != errors.Is(err, sealtest.ErrLost) {
					t.Fatalf("move %d: %v", i, err)
				}
				if i == at && len(l.signer.all()) != at {
					t.Fatal("something was signed although nobody knows whether the fence has moved")
				}
			}
			if _, err := l.seal(); err != nil {
				t.Fatal(err)
			}
			l.wantSound()
			l.wantNoFork()
		}
	}
}

// Whatever the fence says that cannot be, nothing is signed.
func TestFenceThatWasLostOrSetBackHalts(t *testing.T) {
	for name, change := range map[string]func(l *log){
		"lost":     func(l *log) { l.fence.Set(transparency.Signed{}, 0) },
		"set back": func(l *log) { l.fence.Set(transparency.Signed{Size: 3, Root: mth(entriesOf(l, l.ledger)[:3])}, 1) },
		"of another log": func(l *log) {
			l.fence.Set(transparency.Signed{Size: 10, Root: mth([][]byte{[]byte("another")})}, 7)
		},
		"of another log and ahead": func(l *log) {
			l.fence.Set(transparency.Signed{Size: 15, Root: mth([][]byte{[]byte("another")})}, 7)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, 0)
			l.mustSeal(3, 10)
			signed := len(l.signer.all())
			change(l)
			l.ledger.GrowTo(20)
			for range 2 { // a second start changes nothing
				_, err := l.seal()
				wantHalt(t, err, transparency.ErrFork)
			}
			if len(l.signer.all()) != signed {
				t.Error("something was signed")
			}
			l.wantSound()
		})
	}
}

// wantHalt checks the type of an error, and that it tells a person something.
func wantHalt(t testing.TB, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			if len(err.Error()) <= len(w.Error()) || strings.Contains(err.Error(), "%!") {
				t.Errorf("the message does not say what to do: %q", err)
			}
			return
		}
	}
	t.Errorf("the signer has to halt with %q, not with %v", want, err)
}

func TestLedgerThatIsAnotherOneHalts(t *testing.T) {
	shorten := func(entries [][]byte) [][]byte { return entries[:9] }
	empty := func([][]byte) [][]byte { return nil }
	alter := func(entries [][]byte) [][]byte {
		entries[4] = []byte("another vote")
		return entries
	}
	alterAndGrow := func(entries [][]byte) [][]byte { return append(alter(entries), []byte("one more")) }
	swap := func(entries [][]byte) [][]byte {
		entries[0], entries[1] = entries[1], entries[0]
		return append(entries, []byte("one more"))
	}
	repeat := func(entries [][]byte) [][]byte { return append(entries[:1:1], entries...) }
	foreign := func(entries [][]byte) [][]byte {
		for i := range entries {
			entries[i] = fmt.Appendf(nil, "of another campaign %d", i)
		}
		return append(entries, []byte("one more"))
	}
	for name, c := range map[string]struct {
		change func([][]byte) [][]byte
		want   []error
	}{
		"shorter":            {shorten, []error{transparency.ErrShorter}},
		"empty":              {empty, []error{transparency.ErrShorter}},
		"altered":            {alter, []error{transparency.ErrFork}},
		"altered and longer": {alterAndGrow, []error{transparency.ErrFork, transparency.ErrChanged}},
		"swapped":            {swap, []error{transparency.ErrFork, transparency.ErrChanged}},
		"repeated":           {repeat, []error{transparency.ErrFork, transparency.ErrChanged}},
		"another":            {foreign, []error{transparency.ErrFork, transparency.ErrChanged}},
	} {
		for _, folder := range []string{"kept", "lost"} {
			t.Run(name+", folder "+folder, func(t *testing.T) {
				l := newLog(t, 0)
				l.mustSeal(3, 10)
				signed := len(l.signer.all())
				l.ledger.Change(c.change)
				if folder == "lost" {
					l.dir = memoryDir(t)
				}
				_, err := l.seal()
				wantHalt(t, err, c.want...)
				if len(l.signer.all()) != signed {
					t.Error("something was signed")
				}
			})
		}
	}
}

// The fence and the ledger agree with each other, but not with what this folder
// has published: whoever could change both has not changed the signatures.
func TestFenceAndLedgerAgainstWhatWasPublishedHalt(t *testing.T) {
	l := newLog(t, 0)
	l.mustSeal(3, 10)
	signed := len(l.signer.all())
	l.ledger.GrowTo(15)
	l.ledger.Change(func(entries [][]byte) [][]byte { entries[4] = []byte("another vote"); return entries })
	l.fence.Set(transparency.Signed{Size: 15, Root: mth(entriesOf(t, l.ledger))}, 7)
	if err := os.RemoveAll(filepath.Join(l.dir, "tile")); err != nil {
		t.Fatal(err)
	}
	_, err := l.seal()
	wantHalt(t, err, transparency.ErrFork)
	if len(l.signer.all()) != signed {
		t.Error("something was signed")
	}
}

// A ledger that loses entries while it is read has not fulfilled its contract;
// the signer must not take that for success.
func TestLedgerThatShrinksWhileItIsReadHalts(t *testing.T) {
	for _, folder := range []string{"kept", "lost"} {
		l := newLog(t, 10)
		l.mustSeal(10)
		if folder == "lost" {
			l.dir = memoryDir(t)
		}
		asks := 0
		l.ledger.OnAsk(func() error {
			if asks++; asks == 2 { // Info has answered, Replay has not.
				l.ledger.Change(func(entries [][]byte) [][]byte { return entries[:4] })
			}
			return nil
		})
		_, err := l.seal()
		wantHalt(t, err, transparency.ErrShorter)
	}
}

func TestGapAndOversizeHalt(t *testing.T) {
	l := newLog(t, 5)
	l.ledger.Append(make([]byte, transparency.MaxEntryBytes+1))
	_, err := l.seal()
	wantHalt(t, err, eventstore.ErrCorrupt)

	l = newLog(t, 5)
	config := l.config(l.folder())
	config.Ledger = gapped{l.ledger}
	s, err := transparency.NewSealer(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.RunToEnd(t.Context())
	wantHalt(t, err, eventstore.ErrCorrupt)
	if len(l.signer.all()) > 0 {
		t.Error("something was signed")
	}
}

// gapped leaves out the second event.
type gapped struct{ transparency.Ledger }

func (g gapped) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	return g.Ledger.Replay(ctx, from, to, func(batch []eventstore.Recorded) error { return fn(append(batch[:1:1], batch[2:]...)) })
}

// A bit is flipped in a file after it was written and before it is read back:
// in every file of a log, one after the other.
func TestBitFlippedOnDiskHalts(t *testing.T) {
	r := random(t)
	clean := newLog(t, 0)
	clean.mustSeal(600)
	for _, path := range files(t, clean.dir) {
		if path == transparency.CheckpointPath || path == transparency.CheckpointsPath {
			continue // They are written after the signature.
		}
		t.Run(path, func(t *testing.T) {
			l := newLog(t, 600)
			folder := l.folder()
			folder.OnStep(func(operation, p string, run func() error) error {
				err := run()
				if operation == transparency.OpRename && p == path {
					flipBit(t, l.dir, path, r)
				}
				return err
			})
			_, err := l.sealer(folder).RunToEnd(t.Context())
			wantHalt(t, err, transparency.ErrMisread)
			if len(l.signer.all()) > 0 {
				t.Error("something was signed")
			}
			_, err = l.seal() // The next start must not take the file for good.
			wantHalt(t, err, transparency.ErrChanged)
		})
	}
}

func flipBit(t testing.TB, dir, path string, r *rand.Rand) {
	data := read(t, dir, path)
	data[r.IntN(len(data))] ^= 1 << r.IntN(8)
	write(t, dir, path, data)
}

// A bit is flipped in the signer's memory, between the hashing and the signing.
func TestBitFlippedInMemoryHalts(t *testing.T) {
	for name, flip := range map[string]func(s *transparency.Sealer){
		"entry's hash":             func(s *transparency.Sealer) { s.FlipInTree(false, 0) },
		"tile's hash":              func(s *transparency.Sealer) { s.FlipInTree(false, 1) },
		"bundle that is full":      func(s *transparency.Sealer) { s.FlipInPending(0) },
		"tile that is full":        func(s *transparency.Sealer) { s.FlipInPending(1) },
		"second tile that is full": func(s *transparency.Sealer) { s.FlipInPending(3) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, 600)
			config := l.config(l.folder())
			var s *transparency.Sealer
			config.Ledger = afterReplay{l.ledger, func() { flip(s) }}
			var err error
			if s, err = transparency.NewSealer(config); err != nil {
				t.Fatal(err)
			}
			_, err = s.RunToEnd(t.Context())
			wantHalt(t, err, transparency.ErrMisread)
			if len(l.signer.all()) > 0 {
				t.Error("something was signed")
			}
		})
	}
	t.Run("what was read back", func(t *testing.T) {
		l := newLog(t, 600)
		var s *transparency.Sealer
		folder := l.folder()
		// The second tree has entries only once the first flush is over, which
		// happens when so many files are pending.
		l.ledger.GrowTo(transparency.TileWidth*128 + 10)
		config := l.config(folder)
		config.Ledger = afterReplay{l.ledger, func() { s.FlipInTree(true, 1) }}
		var err error
		if s, err = transparency.NewSealer(config); err != nil {
			t.Fatal(err)
		}
		_, err = s.RunToEnd(t.Context())
		wantHalt(t, err, transparency.ErrMisread)
	})
	t.Run("after all is written and read back", func(t *testing.T) {
		// No file is wrong then, only the root that would be signed.
		l := newLog(t, 600)
		folder := l.folder()
		s := l.sealer(folder)
		flipped := false
		folder.OnStep(func(operation, path string, run func() error) error {
			err := run()
			if operation == transparency.OpRead && path == "tile/1/000.p/2" && err == nil {
				s.FlipInTree(false, 1)
				flipped = true
			}
			return err
		})
		_, err := s.RunToEnd(t.Context())
		wantHalt(t, err, transparency.ErrMisread)
		if !flipped || len(l.signer.all()) > 0 {
			t.Errorf("flipped: %v; %d checkpoints were signed", flipped, len(l.signer.all()))
		}
		// The memory was wrong, not the files: another process finishes.
		l.mustSeal(600)
		l.wantSound()
	})
	t.Run("signature", func(t *testing.T) {
		l := newLog(t, 10)
		config := l.config(l.folder())
		config.Signer = badSigner{l.signer}
		s, err := transparency.NewSealer(config)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.RunToEnd(t.Context())
		wantHalt(t, err, transparency.ErrMisread)
		if found := verify(t, l.dir, l.keys); len(found) != 1 || !strings.Contains(found[0], transparency.ErrNotSealed.Error()) {
			t.Errorf("something was published: %q", found)
		}
		l.mustSeal(10) // With a sound signer it goes on.
		l.wantSound()
	})
}

// afterReplay does something between the last event and the seal.
type afterReplay struct {
	transparency.Ledger
	do func()
}

func (a afterReplay) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	err := a.Ledger.Replay(ctx, from, to, fn)
	a.do()
	return err
}

// badSigner signs with a flipped bit.
type badSigner struct{ *signer }

func (b badSigner) Sign(msg []byte) ([]byte, error) {
	signature, err := b.signer.Sign(msg)
	if err == nil {
		signature[17] ^= 4
	}
	return signature, err
}

// Two signers with folders of their own race on one fence while the ledger
// grows, and are killed and started again at random.
func TestTwoSignersNeverFork(t *testing.T) {
	r := random(t)
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		l := newLog(t, 0)
		dirs := []string{l.dir, memoryDir(t)}
		seeds := []uint64{r.Uint64(), r.Uint64()}
		growth := []int{r.IntN(20), 20 + r.IntN(300), 400 + r.IntN(300)}
		var racing sync.WaitGroup
		var fenced, sealed int
		var mu sync.Mutex // guards the counters
		for i, dir := range dirs {
			racing.Go(func() {
				r := rand.New(rand.NewPCG(seeds[i], 1))
				for try := range 12 {
					l.ledger.GrowTo(growth[min(try/4, 2)])
					faulty := newFaultyFolder(dir, r.IntN(60), crashAfter)
					s, err := transparency.NewSealer(l.config(faulty.Folder))
					if err != nil {
						t.Error(err)
						return
					}
					_, err = s.RunToEnd(t.Context())
					mu.Lock()
					switch {
					case err == nil:
						sealed++
					case errors.Is(err, transparency.ErrFenced):
						fenced++
					case !errors.Is(err, errStep):
						t.Errorf("a signer fails in a way that nobody has foreseen: %v", err)
					}
					mu.Unlock()
				}
			})
		}
		racing.Wait()
		l.wantNoFork()
		for _, dir := range dirs {
			l.dir = dir
			if _, err := l.seal(); err != nil {
				t.Fatal(err)
			}
			l.wantSound()
		}
		if t.Failed() {
			t.Fatalf("%d sealed, %d fenced", sealed, fenced)
		}
	}
}

// The race above may end without a loser; here one is made.
func TestSignerThatComesLateIsFenced(t *testing.T) {
	l := newLog(t, 10)
	other := *l
	other.dir = memoryDir(t)
	first := true
	l.fence.OnMove(func(transparency.Signed) sealtest.Fault {
		if first {
			first = false
			other.ledger.GrowTo(12)
			if _, err := other.seal(); err != nil {
				t.Error(err)
			}
		}
		return sealtest.None
	})
	_, err := l.seal()
	wantHalt(t, err, transparency.ErrFenced)
	if n := len(l.signer.all()); n != 1 {
		t.Errorf("%d checkpoints were signed, want the winner's", n)
	}
	l.mustSeal(15)
	l.wantSound()
	l.wantNoFork()
}

// A key is replaced by another one: what the first has signed still verifies.
func TestKeyIsRotated(t *testing.T) {
	old, oldVerifier := newKey(t)
	young, youngVerifier := newKey(t)
	l := newLog(t, 0)
	l.signer, l.keys = old, mustKeys(t, oldVerifier)
	l.mustSeal(3, 10)
	receipt, err := l.folder().Receipt(l.keys, 2)
	if err != nil {
		t.Fatal(err)
	}
	l.signer = young
	if _, err := transparency.NewSealer(l.config(l.folder())); !errors.Is(err, transparency.ErrKey) {
		t.Errorf("a signing key without its verifier key is accepted: %v", err)
	}
	l.keys = mustKeys(t, oldVerifier+"\n"+youngVerifier+"\n")
	l.mustSeal(12, 300)
	l.wantSound()
	if _, err := receipt.Verify(l.keys); err != nil {
		t.Errorf("a receipt of the time before: %v", err)
	}
	if found := verify(t, l.dir, mustKeys(t, youngVerifier)); len(found) != 2 {
		t.Errorf("with the new key alone the two old checkpoints cannot be verified: %q", found)
	}
	if found := verify(t, l.dir, mustKeys(t, oldVerifier)); len(found) == 0 {
		t.Error("the old key alone verifies what the new one has signed")
	}
}

// A signer dies before the fence has moved, and the ledger loses what was not
// signed: what it gets instead must not meet what the signer has left.
func TestUnsignedLeftoversAreInNobodysWay(t *testing.T) {
	for _, size := range []int{150, 300} {
		l := newLog(t, 0)
		l.mustSeal(100)
		l.fence.OnMove(func(transparency.Signed) sealtest.Fault { return sealtest.Failed })
		l.ledger.GrowTo(size)
		if _, err := l.seal(); err == nil {
			t.Fatal("the fence has moved")
		}
		l.fence.OnMove(nil)
		l.ledger.Change(func(entries [][]byte) [][]byte {
			for i := range entries[100:] {
				entries[100+i] = fmt.Appendf(nil, "another vote %d", i)
			}
			return entries
		})
		for _, more := range []int{0, 1, 300} {
			l.ledger.GrowTo(size + more)
			if _, err := l.seal(); err != nil {
				t.Fatalf("%d entries: %v", size+more, err)
			}
			l.wantSound()
		}
	}
}

package fsck_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	merkle "github.com/transparency-dev/merkle/proof"

	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

const (
	origin = "sakipaldies.lv/ledger/test"
	// checkFolder and checkKey are set in a process that checks a log: the test
	// binary itself.
	checkFolder = "PALDIES_TEST_FSCK_FOLDER"
	checkKey    = "PALDIES_TEST_FSCK_KEY"
	// checkLimit is how long one check may take. Tessera v1.0.4 stands still for
	// ever over a log that is not sound when it has few workers.
	checkLimit = 2 * time.Minute
	workers    = 16
	// unsound is the exit code of a check that has found something.
	unsound = 3
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(checkFolder); folder != "" {
		if err := check(folder, os.Getenv(checkKey)); err != nil {
			fmt.Fprintf(os.Stderr, "%.2000v\n", err)
			os.Exit(unsound)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// check is Tessera's fsck.
func check(folder, vkey string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	hashes := func(bundle []byte) (hashes [][]byte, err error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		for _, entry := range b.Entries {
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
		}
		return hashes, nil
	}
	return fsck.New(origin, verifier, client.FileFetcher{Root: folder}, hashes, fsck.Opts{N: workers}).Check(context.Background())
}

// runCheck is check in a process of its own, whose end is waited for no longer
// than checkLimit. It returns what the check has found.
func runCheck(t *testing.T, folder, vkey string) (found string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), checkLimit)
	defer stop()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), checkFolder+"="+folder, checkKey+"="+vkey)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		t.Fatalf("fsck has not ended after %v: %s", checkLimit, out)
	case errors.As(err, &exit) && exit.ExitCode() == unsound:
		return string(out)
	}
	t.Fatalf("fsck: %v: %s", err, out)
	return ""
}

// sealed is a log and a ledger that grows.
type sealed struct {
	*testing.T
	ledger *sealtest.Ledger
	sealer *transparency.Sealer
	folder *transparency.Folder
	keys   *transparency.Keys
	vkey   string
}

func newSealed(t *testing.T) *sealed {
	t.Helper()
	// Only what is written counts here, so it need not go to a disk.
	dir, err := os.MkdirTemp("/dev/shm", "paldies-fsck-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	signing, vkey, err := transparency.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := transparency.ParseSigner(signing)
	if err != nil {
		t.Fatal(err)
	}
	s := &sealed{T: t, ledger: sealtest.NewLedger(0), folder: transparency.NewFolder(dir), vkey: vkey}
	if s.keys, err = transparency.ParseKeys(vkey); err != nil {
		t.Fatal(err)
	}
	s.sealer, err = transparency.NewSealer(transparency.Config{
		Ledger: s.ledger, Folder: s.folder, Fence: &sealtest.Fence{}, Signer: signer, Keys: s.keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sealed) seal(size int) transparency.Checkpoint {
	s.Helper()
	s.ledger.GrowTo(size)
	c, err := s.sealer.RunToEnd(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// sizes are those around every edge of tiles and levels.
func sizes() []int {
	all := []int{0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 1_000_000}
	if testing.Short() {
		return all[:6]
	}
	return all
}

func TestOthersAcceptOurLogs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := newSealed(t)
	verifier, err := note.NewVerifier(s.vkey)
	if err != nil {
		t.Fatal(err)
	}
	var before []transparency.Checkpoint
	for _, size := range sizes() {
		c := s.seal(size)
		if c.Size != uint64(size) {
			t.Fatalf("sealed %d entries, want %d", c.Size, size)
		}
		if found := runCheck(t, s.folder.Dir(), s.vkey); found != "" {
			t.Fatalf("%d entries: fsck: %s", size, found)
		}
		data, err := s.folder.Read(transparency.CheckpointPath)
		if err != nil {
			t.Fatal(err)
		}
		parsed, rest, _, err := log.ParseCheckpoint(data, origin, verifier)
		if err != nil || len(rest) > 0 || parsed.Size != c.Size || !bytes.Equal(parsed.Hash, c.Root[:]) {
			t.Fatalf("%d entries: formats reads %+v, %q: %v", size, parsed, rest, err)
		}
		s.wantReceipts(c, verifier, r)
		for _, older := range before {
			s.wantConsistent(older, c)
		}
		before = append(before, c)
	}
}

// wantReceipts has receipts of the first, the last and random entries read by
// formats and proven by merkle.
func (s *sealed) wantReceipts(c transparency.Checkpoint, verifier note.Verifier, r *rand.Rand) {
	s.Helper()
	if c.Size == 0 {
		return
	}
	indices := []uint64{0, c.Size - 1}
	for range 50 {
		indices = append(indices, r.Uint64N(c.Size))
	}
	for _, index := range indices {
		receipt, err := s.folder.Receipt(s.keys, index+1)
		if err != nil {
			s.Fatal(err)
		}
		var p proof.TLogProof
		if err := p.Unmarshal(receipt.Marshal()); err != nil {
			s.Fatal(err)
		}
		head, _, _, err := log.ParseCheckpoint(p.Checkpoint, origin, verifier)
		if err != nil {
			s.Fatal(err)
		}
		var path [][]byte
		for _, h := range p.Hashes {
			path = append(path, h[:])
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(sealtest.Entry(int(index)))
		if !bytes.Equal(p.ExtraData, sealtest.Entry(int(index))) || p.Index != index {
			s.Fatalf("entry %d of %d: formats reads entry %d, %q", index, c.Size, p.Index, p.ExtraData)
		}
		if err := merkle.VerifyInclusion(rfc6962.DefaultHasher, p.Index, head.Size, leaf, path, head.Hash); err != nil {
			s.Fatalf("entry %d of %d: %v", index, c.Size, err)
		}
	}
}

// wantConsistent has merkle prove that one checkpoint's tree is the beginning of
// another's, with hashes that Tessera reads from our tiles.
func (s *sealed) wantConsistent(older, newer transparency.Checkpoint) {
	s.Helper()
	builder, err := client.NewProofBuilder(s.Context(), newer.Size, client.FileFetcher{Root: s.folder.Dir()}.ReadTile)
	if err != nil {
		s.Fatal(err)
	}
	var path [][]byte
	if older.Size > 0 { // Nothing is consistent with everything.
		if path, err = builder.ConsistencyProof(s.Context(), older.Size, newer.Size); err != nil {
			s.Fatal(err)
		}
	}
	if err := merkle.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, path, older.Root[:], newer.Root[:]); err != nil {
		s.Fatalf("from %d to %d entries: %v", older.Size, newer.Size, err)
	}
	if older.Size == 0 || older.Size == newer.Size {
		return
	}
	older.Root = tlog.Hash{1}
	if merkle.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, path, older.Root[:], newer.Root[:]) == nil {
		s.Fatal("merkle accepts anything")
	}
}

// The check would be worth nothing if it accepted anything: it has to find a
// flipped bit in each of the files that make up the log.
func TestFsckFindsWhatIsWrong(t *testing.T) {
	s := newSealed(t)
	s.seal(600)
	for _, path := range []string{
		"checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000", "tile/entries/002.p/88",
	} {
		name := filepath.Join(s.folder.Dir(), filepath.FromSlash(path))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if found := runCheck(t, s.folder.Dir(), s.vkey); strings.TrimSpace(found) == "" {
			t.Errorf("%s: a bit was flipped, and fsck has not noticed", path)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found := runCheck(t, s.folder.Dir(), s.vkey); found != "" {
		t.Errorf("all is as it was, and fsck says: %s", found)
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func init() { roles["full"] = roleFull }

// codeIncomplete is the server's answer to a batch that it cannot stage.
const codeIncomplete jetstream.ErrorCode = 10176

func TestStagedInMemory(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	n := open(t, Config{DataDir: dir})
	must(t, createStream(ctx, n.Conn()))
	if _, err := publishBatch(ctx, n.Conn(), 1, 10); err != nil { // leaves the server's own folder
		t.Fatal(err)
	}
	for range 2 { // Opening a ledger again changes nothing.
		n.Stage(testStream)
	}
	must(t, n.staging.reason())
	folder := n.staging.folder
	link := filepath.Join(n.staging.streams, testStream, batchesName)
	to, err := os.Readlink(link)
	must(t, err)
	if to != filepath.Join(folder, testStream) || filepath.Dir(folder) != memoryDir {
		t.Errorf("batches are staged in %s", to)
	}
	must(t, stageBatch(ctx, n.Conn(), 2, 3))
	if staged, err := os.ReadDir(to); err != nil || len(staged) != 1 {
		t.Errorf("staged in memory: %v, %v", staged, err)
	}
	last, err := commitBatch(ctx, n.Conn(), 2, 3)
	must(t, err)
	if last != 13 {
		t.Errorf("the batch ends at %d", last)
	}
	must(t, n.Close())
	for _, path := range []string{folder, link} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after the end: %v", path, err)
		}
	}
	n = open(t, Config{DataDir: dir})
	if texts := streamTexts(ctx, t, n.Conn()); len(texts) != 13 {
		t.Errorf("%d events after reopening", len(texts))
	}
}

// TestStagingVanishes stands for a system that clears a user's memory files
// when he logs out (systemd's RemoveIPC).
func TestStagingVanishes(t *testing.T) {
	ctx := contextFor(t)
	n := open(t, Config{DataDir: t.TempDir()})
	must(t, createStream(ctx, n.Conn()))
	n.Stage(testStream)
	must(t, stageBatch(ctx, n.Conn(), 1, 3))
	must(t, os.RemoveAll(n.staging.folder))
	if last, err := commitBatch(ctx, n.Conn(), 1, 3); err != nil || last != 3 {
		t.Errorf("the batch under way ended at %d: %v", last, err)
	}
	_, err := publishBatch(ctx, n.Conn(), 2, 3)
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != codeIncomplete {
		t.Errorf("a batch that cannot be staged: %v", err)
	}
	_, err = publish(ctx, n.Conn(), "ledger.2018.voter.a", "paldies!")
	must(t, err)
	n.Stage(testStream) // Opening the ledger again repairs it.
	if _, err := publishBatch(ctx, n.Conn(), 3, 3); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

// TestForeignLinksAreRemoved: a copied data directory must not read what the
// original stages, nor what somebody has put where a link leads.
func TestForeignLinksAreRemoved(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	n := open(t, Config{DataDir: dir})
	must(t, createStream(ctx, n.Conn()))
	link := filepath.Join(n.staging.streams, testStream, batchesName)
	must(t, n.Close())
	elsewhere := t.TempDir()
	must(t, os.Symlink(elsewhere, link))
	s, err := prepareStaging(dir, false)
	must(t, err)
	if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link to %s is still there: %v", elsewhere, err)
	}
	must(t, s.remove())
}

func TestOnlyAPrivateFolderIsUsed(t *testing.T) {
	base := t.TempDir()
	mine := filepath.Join(base, "mana")
	must(t, makePrivate(mine))
	must(t, makePrivate(mine))

	open := filepath.Join(base, "vaļā")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o755))
	link := filepath.Join(base, "saite")
	must(t, os.Symlink(mine, link))
	file := filepath.Join(base, "fails")
	must(t, os.WriteFile(file, nil, 0o700))
	foreign := "/" // belongs to root
	if os.Geteuid() == 0 {
		foreign = filepath.Join(base, "cita")
		must(t, os.Mkdir(foreign, 0o700))
		must(t, os.Chown(foreign, 65534, 65534))
	}
	for _, path := range []string{open, link, file, foreign, filepath.Join(file, "below")} {
		if err := makePrivate(path); err == nil {
			t.Errorf("%s would be used", path)
		}
	}
	must(t, os.Chmod(base, 0o777))
	if err := checkMemory(base); err == nil {
		t.Errorf("%s would be used", base)
	}
}

// TestOccupiedFolder: who takes the folder's name first makes commits slower.
func TestOccupiedFolder(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	folder, err := memoryFolder(dir)
	must(t, err)
	must(t, os.Chmod(folder, 0o777))
	t.Cleanup(func() { must(t, os.RemoveAll(folder)) })
	n := open(t, Config{DataDir: dir})
	must(t, createStream(ctx, n.Conn()))
	n.Stage(testStream)
	if _, err := publishBatch(ctx, n.Conn(), 1, 10); err != nil {
		t.Error(err)
	}
	findings, err := n.Durability(ctx)
	must(t, err)
	contains(t, fmt.Sprint(findings), folder, "staged on disk")
	must(t, n.Close())
	if _, err := os.Stat(folder); err != nil {
		t.Errorf("the folder of somebody else was touched: %v", err)
	}
}

func TestFailedStartLeavesNoFolder(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600))
	if n, err := Open(contextFor(t), Config{DataDir: dir}); err == nil {
		must(t, n.Close())
		t.Fatal("a node opened a file as its store")
	}
	folder, err := memoryPath(dir)
	must(t, err)
	if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s after a failed start: %v", folder, err)
	}
	lock, err := takeLock(dir, holder{})
	must(t, err) // The lock is free as well.
	must(t, lock.release())
}

func TestDirectoryThatMayNotBeWritten(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o500))
	if os.Geteuid() == 0 {
		// Root may write everywhere. This thread becomes somebody else as far
		// as files are concerned, and is given up afterwards.
		runtime.LockOSThread()
		must(t, os.Chown(dir, 65534, 65534))
		must(t, syscall.Setfsuid(65534))
		defer func() {
			must(t, syscall.Setfsuid(0))
			runtime.UnlockOSThread()
		}()
	}
	_, err := Open(contextFor(t), Config{DataDir: dir})
	if !errors.Is(err, ErrDataDir) {
		t.Fatalf("opening a directory that may not be written: %v", err)
	}
	contains(t, err.Error(), dir, "permission denied", "--data")
}

// TestFileSystemsFull runs on file systems of its own, small ones, which takes
// a mount namespace. TestJetStreamFull covers what can be seen without.
func TestFileSystemsFull(t *testing.T) {
	cmd := exec.Command(os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), roleVariable+"=full")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil && (errors.Is(err, syscall.EPERM) || strings.Contains(string(out), errNoMount.Error())) {
		t.Log("this system lets nobody mount: only the limit of JetStream was tested")
		return
	}
	must(t, err)
}

var errNoMount = errors.New("cannot mount")

// roleFull fills the memory in which batches are staged, then the disk.
// Arguments: a directory to mount at.
func roleFull(args []string) error {
	dir := args[0]
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%w: %w", errNoMount, err)
	}
	for path, size := range map[string]string{dir: "size=64m", memoryDir: "size=32m,mode=1777"} {
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, size); err != nil {
			return fmt.Errorf("%w: %w", errNoMount, err)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), waitMax)
	defer stop()
	last, err := fillMemory(ctx, dir)
	if err != nil {
		return fmt.Errorf("full memory: %w", err)
	}
	for _, staged := range []bool{true, false} {
		if last, err = fillDisk(ctx, dir, last, staged); err != nil {
			return fmt.Errorf("full disk, staged %v: %w", staged, err)
		}
	}
	return openFull(ctx, dir)
}

// fillMemory makes sure that a full memory file system costs speed only. The
// last sequence is returned.
func fillMemory(ctx context.Context, dir string) (last uint64, err error) {
	n, err := Open(ctx, Config{DataDir: dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := createStream(ctx, n.Conn()); err != nil {
		return 0, err
	}
	n.Stage(testStream)
	if _, err := publishBatch(ctx, n.Conn(), 1, batchSize); err != nil {
		return 0, err
	}
	filler, err := fill(memoryDir)
	if err != nil {
		return 0, err
	}
	for batch := 2; batch < 100; batch++ { // The server has 50 slots for batches under way.
		if batch == 50 { // From now on a batch can be begun, but not completed.
			if err := makeRoom(filler, 100<<10); err != nil {
				return 0, err
			}
		}
		_, err := publishBatch(ctx, n.Conn(), batch, batchSize)
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != codeIncomplete {
			return 0, fmt.Errorf("batch %d: %w", batch, err)
		}
	}
	if _, err := publish(ctx, n.Conn(), "ledger.2018.voter.a", "paldies!"); err != nil {
		return 0, fmt.Errorf("a single event: %w", err)
	}
	return batchSize + 1, os.Remove(filler)
}

// fillDisk makes sure that a full disk is recognised and loses nothing. It
// fails in the middle of a batch that is being copied into the stream, and
// leaves everything as a killed process does: the server then completes the
// batch at its next start if what was staged is still there (staged), and
// starts without it if not. The last sequence is returned.
func fillDisk(ctx context.Context, dir string, last uint64, staged bool) (uint64, error) {
	n, err := Open(ctx, Config{DataDir: dir})
	if err != nil {
		return 0, err
	}
	n.Stage(testStream)
	filler, err := fill(dir)
	if err != nil {
		return 0, err
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	_, err = publishBatch(short, n.Conn(), int(last), batchSize)
	if explained := n.Explain(err); !errors.Is(explained, ErrStorageFull) {
		return 0, fmt.Errorf("explained as: %w", explained)
	}
	if err := n.conn.close(); err != nil {
		return 0, err
	}
	n.server.stop()
	if err := errors.Join(n.lock.release(), os.Remove(filler)); err != nil {
		return 0, err
	}
	if !staged {
		if err := os.RemoveAll(n.staging.folder); err != nil {
			return 0, err
		}
	}
	next, err := appendOne(ctx, dir)
	if err != nil {
		return 0, err
	}
	fmt.Printf("staged %v: %d of %d events of the batch came into the stream\n", staged, next-last-1, batchSize)
	if landed := next - last - 1; staged && landed != batchSize || !staged && landed >= batchSize {
		return 0, fmt.Errorf("%d events of the batch came into the stream", landed)
	}
	return next, nil
}

// appendOne opens the directory, appends one event and returns its sequence.
func appendOne(ctx context.Context, dir string) (uint64, error) {
	n, err := Open(ctx, Config{DataDir: dir})
	if err != nil {
		return 0, err
	}
	ack, err := publish(ctx, n.Conn(), "ledger.2018.voter.b", "paldies!")
	if err != nil {
		return 0, errors.Join(err, n.Close())
	}
	return ack.Sequence, n.Close()
}

// openFull opens the directory while its disk is full: it may work, for an
// ended process has left everything in order, or say what is wrong.
func openFull(ctx context.Context, dir string) error {
	filler, err := fill(dir)
	if err != nil {
		return err
	}
	n, err := Open(ctx, Config{DataDir: dir})
	if err == nil {
		err = n.Close()
	}
	fmt.Printf("opened on a full disk: %v\n", err)
	if errors.Is(err, ErrStorageFull) {
		err = nil
	}
	return errors.Join(err, os.Remove(filler))
}

// makeRoom takes bytes from the end of a file.
func makeRoom(path string, bytes int64) error {
	entry, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, entry.Size()-bytes)
}

// fill writes a file until there is no space.
func fill(dir string) (string, error) {
	file, err := os.Create(filepath.Join(dir, "pilns"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	block := make([]byte, 4096)
	for {
		if _, err := file.Write(block); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return file.Name(), nil
			}
			return "", err
		}
	}
}

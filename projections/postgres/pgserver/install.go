package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// installTimeout is the longest that an installation may take.
	installTimeout = 5 * time.Minute
	// installStopTimeout is what apt-get gets for ending in order when time is
	// up.
	installStopTimeout = 20 * time.Second
)

// FindOrInstall is Find where PostgreSQL is installed. Elsewhere it installs
// it, if this is a Debian or a relative and the user is root, in at most five
// minutes and without leaving another server running. The logger, which may be
// nil, learns when that begins.
func FindOrInstall(ctx context.Context, logger *slog.Logger) (Binaries, error) {
	found, err := Find(ctx)
	if !errors.Is(err, ErrNotFound) || !hasAPT("/") {
		return found, err
	}
	if logger == nil {
		logger = discard
	}
	return installer{root: "/", logger: logger, find: Find}.install(ctx)
}

// hasAPT reports whether this user can install packages with apt-get.
func hasAPT(root string) bool {
	if os.Geteuid() != 0 {
		return false
	}
	_, errDebian := os.Stat(filepath.Join(root, "etc/debian_version"))
	_, errAPT := exec.LookPath("apt-get")
	return errDebian == nil && errAPT == nil
}

// installer installs Debian's package.
type installer struct {
	root   string // of the file system
	logger *slog.Logger
	find   func(context.Context) (Binaries, error)
}

// install installs PostgreSQL unless another process does so first: the tests
// of several packages run at the same time.
func (i installer) install(ctx context.Context) (_ Binaries, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, installTimeout, fmt.Errorf("not finished after %v", installTimeout))
	defer cancel()
	lock, err := i.lock(ctx)
	if err != nil {
		return Binaries{}, fmt.Errorf("installing PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if found, err := i.find(ctx); !errors.Is(err, ErrNotFound) {
		return found, err
	}
	i.logger.InfoContext(ctx, "installing PostgreSQL with apt-get")
	if err := i.run(ctx); err != nil {
		return Binaries{}, fmt.Errorf("%w, and installing it failed: %w: %s", ErrNotFound, err, remedy)
	}
	return i.find(ctx)
}

// lock waits until no other process installs. Only root can write where the
// lock is.
func (i installer) lock(ctx context.Context) (*dirLock, error) {
	path := filepath.Join(i.root, "run/paldies-install.lock")
	for {
		lock, err := lockDir(path)
		if !errors.Is(err, ErrInUse) {
			return lock, err
		}
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// run downloads and installs the package. Debian's package makes a cluster and
// starts a server on it by default, which it must not do here.
func (i installer) run(ctx context.Context) (err error) {
	restore, err := i.refuseMainCluster()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	if err := i.aptGet(ctx, "update"); err != nil {
		return err
	}
	return i.aptGet(ctx, "install", "--yes", "--no-install-recommends", "postgresql")
}

// refuseMainCluster tells postgresql-common to make no cluster, until restore
// is called.
func (i installer) refuseMainCluster() (restore func() error, err error) {
	dir := filepath.Join(i.root, "etc/postgresql-common/createcluster.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "zz-paldies.conf")
	text := "# Only while Paldies installs PostgreSQL for private servers of its own.\ncreate_main_cluster = false\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(path) }, nil
}

// aptGet runs apt-get without questions.
func (i installer) aptGet(ctx context.Context, args ...string) error {
	log := newProgramLog("apt-get", i.logger)
	args = append([]string{"-q", "-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"}, args...)
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = log, log
	// Interrupted, apt-get leaves no half-installed package behind; killed, it
	// would.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = installStopTimeout
	err := cmd.Run()
	log.flush()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("apt-get %s: %w: %s", args[len(args)-1], err, lastLines(log.lines()))
}

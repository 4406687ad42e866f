package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Names in a server's directory.
const (
	lockName     = "postgres.lock"
	passwordName = "password"
	dataName     = "data"
	// unfinishedName holds a cluster while initdb makes it, so that data is
	// there completely or not at all.
	unfinishedName = "data.new"
)

const (
	// socketPathBytesMax is the longest path of a Unix socket, in bytes, that
	// every system takes.
	socketPathBytesMax = 103
	// smallFileBytesMax is the largest password or process id that is read.
	smallFileBytesMax = 4096
)

// cluster is a server's directory.
type cluster struct {
	dir   string   // absolute
	owner *account // as whom the server runs; nil for this process's user
}

// account is a user of the system.
type account struct {
	name     string
	uid, gid uint32
}

func (c *cluster) dataDir() string      { return filepath.Join(c.dir, dataName) }
func (c *cluster) passwordPath() string { return filepath.Join(c.dir, passwordName) }
func (c *cluster) lockPath() string     { return filepath.Join(c.dir, lockName) }

// socketDir is where the server's Unix socket is: in the directory, or nowhere
// if the path would be too long.
func (c *cluster) socketDir(port int) string {
	if len(c.socketPath(port)) > socketPathBytesMax {
		return ""
	}
	return c.dir
}

func (c *cluster) socketPath(port int) string {
	return filepath.Join(c.dir, ".s.PGSQL."+strconv.Itoa(port))
}

// failure is a *ServerError about the cluster; err is how a process has ended,
// nil if without complaint.
func (c *cluster) failure(action string, err error, log *programLog) error {
	if err == nil {
		err = errors.New("it ended with exit status 0")
	}
	return &ServerError{Dir: c.dir, Action: action, Err: err, Log: log.lines()}
}

// openCluster makes sure that the directory exists, is one that a Server may
// use, and can be entered by the server's user.
func openCluster(dir string) (*cluster, error) {
	c := &cluster{dir: dir}
	owner, err := serverAccount(c.dataDir())
	if err != nil {
		return nil, err
	}
	c.owner = owner
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(filepath.Dir(dir), 0o755)
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	case err == nil && len(entries) > 0:
		return c, c.recognise()
	}
	if err == nil && owner != nil {
		err = os.Chown(dir, int(owner.uid), int(owner.gid))
	}
	if err != nil {
		return nil, fmt.Errorf("the directory of the Postgres server cannot be used: %w: name a directory that you may write to", err)
	}
	return c, c.owner.reach(dir)
}

// MkdirTemp makes a new temporary directory that can become a Server's: if
// this process is root, one that the server's user can enter. The caller
// removes it.
func MkdirTemp() (string, error) {
	owner, err := newClusterAccount()
	if err != nil {
		return "", err
	}
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if err = owner.reach(parent); err == nil {
			return os.MkdirTemp(parent, "paldies-postgres-") // mode 0700
		}
	}
	return "", fmt.Errorf("no temporary directory for a Postgres server: %w", err)
}

// recognise makes sure that a directory with something in it was made by an
// earlier Server: nothing else is touched, least of all its owner.
func (c *cluster) recognise() error {
	if _, err := os.Lstat(c.lockPath()); err != nil {
		return fmt.Errorf("%s is %w (%w): name an empty directory or one that does not exist yet", c.dir, ErrNotCluster, err)
	}
	return c.owner.reach(c.dir)
}

// binaries chooses the programs for the cluster: those that are given or, if
// none are, those of the cluster's version or, for a new one, the newest.
func (c *cluster) binaries(ctx context.Context, given Binaries) (Binaries, error) {
	major, err := c.major()
	if err != nil {
		return Binaries{}, err
	}
	found := given
	if found.Dir == "" {
		found, err = standardPlaces().find(ctx, major)
	}
	if err == nil && major != 0 && found.Major != major {
		err = fmt.Errorf("%s holds version %d and version %s is installed", found.Dir, found.Major, found.Version)
	}
	switch {
	case err == nil:
		return found, nil
	case major != 0 && ctx.Err() == nil:
		return Binaries{}, fmt.Errorf("the cluster in %s was %w (%d): install PostgreSQL %d, or move the directory away to begin with an empty cluster: %w",
			c.dir, ErrVersion, major, major, err)
	default:
		return Binaries{}, err
	}
}

// major is the version of PostgreSQL that made the cluster, 0 if there is no
// cluster yet.
func (c *cluster) major() (int, error) {
	if _, err := os.Stat(c.dataDir()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	text, err := readSmallFile(filepath.Join(c.dataDir(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s is %w (%w): move it away to begin with an empty cluster", c.dataDir(), ErrNotCluster, err)
	}
	if err != nil {
		return 0, fmt.Errorf("the version of a Postgres cluster cannot be read: %w: run as the user who made it", err)
	}
	major, err := strconv.Atoi(text)
	if err != nil || major <= 0 {
		return 0, fmt.Errorf("%s is %w (PG_VERSION says %q): move it away to begin with an empty cluster", c.dataDir(), ErrNotCluster, text)
	}
	return major, nil
}

// prepare makes the cluster if there is none, and returns its password. Who
// calls it holds the directory's lock.
func (c *cluster) prepare(ctx context.Context, binaries Binaries, sync bool) (password string, err error) {
	if _, err := os.Stat(c.dataDir()); err == nil {
		password, err := readSmallFile(c.passwordPath())
		if err == nil && password == "" {
			err = errors.New(c.passwordPath() + " is empty")
		}
		if err != nil {
			return "", fmt.Errorf("the password of the Postgres cluster cannot be read: %w: restore the file, or remove %s to begin with an empty cluster", err, c.dir)
		}
		return password, nil
	}
	unfinished := filepath.Join(c.dir, unfinishedName)
	if err := os.RemoveAll(unfinished); err != nil { // of a start that was cut short
		return "", fmt.Errorf("removing an unfinished cluster: %w", err)
	}
	if password, err = c.createPassword(); err != nil {
		return "", fmt.Errorf("keeping the password of the Postgres cluster: %w", err)
	}
	if err := c.initialise(ctx, binaries, unfinished, sync); err != nil {
		return "", err
	}
	err = os.Rename(unfinished, c.dataDir())
	if err == nil && sync {
		// Were the new name lost, the next start would take a cluster with
		// commits in it for an unfinished one.
		err = syncDir(c.dir)
	}
	if err != nil {
		return "", fmt.Errorf("putting the new cluster in place: %w", err)
	}
	return password, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// createPassword makes a password of 130 random bits and a file of it that
// only the server's user can read. A file of a start that was cut short is
// replaced.
func (c *cluster) createPassword() (string, error) {
	if err := os.Remove(c.passwordPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	file, err := os.OpenFile(c.passwordPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	password := rand.Text()
	_, err = file.WriteString(password + "\n")
	if err == nil && c.owner != nil {
		err = file.Chown(int(c.owner.uid), int(c.owner.gid))
	}
	if err == nil {
		err = file.Sync() // The cluster must not be there after a power loss without it.
	}
	return password, errors.Join(err, file.Close())
}

// initialise runs initdb. The character type is the system's Unicode one and
// everything else C; see the package comment.
func (c *cluster) initialise(ctx context.Context, binaries Binaries, dir string, sync bool) error {
	args := []string{"-D", dir, "--username=" + superuser, "--pwfile=" + c.passwordPath(), "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--lc-ctype=" + unicodeCharacterType}
	if binaries.Major >= 15 { // Older ones know no other provider.
		args = append(args, "--locale-provider=libc")
	}
	if !sync {
		args = append(args, "--no-sync")
	}
	log := newProgramLog("initdb", discard)
	cmd := exec.CommandContext(ctx, binaries.program("initdb"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	c.confine(cmd)
	// The thread has to stay for the same reason as in startProcess.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	log.flush()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return c.failure("get a new cluster", err, log)
	}
	return nil
}

// stopOrphan shuts down a server on the cluster whose parent has died and
// which has not ended with it: on Linux it is about to, elsewhere it would go
// on for ever. The process id in its file may long be somebody else's, so that
// only one whose socket answers is believed. Who calls this holds the
// directory's lock, so it is nobody's server.
func (c *cluster) stopOrphan(ctx context.Context) error {
	path := filepath.Join(c.dataDir(), "postmaster.pid")
	text, err := readSmallFile(path)
	if err != nil {
		return nil // There is none, or PostgreSQL itself will say what is wrong.
	}
	lines := strings.Split(text, "\n")
	if len(lines) < 4 { // process id, directory, start time, port
		return nil
	}
	pid, errPID := strconv.Atoi(lines[0])
	port, errPort := strconv.Atoi(lines[3])
	if errPID != nil || errPort != nil || pid <= 1 {
		return nil
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socketPath(port))
	if err != nil {
		return ctx.Err()
	}
	orphan, err := os.FindProcess(pid)
	err = errors.Join(conn.Close(), err)
	if err != nil {
		return fmt.Errorf("finding the Postgres server that was left on %s: %w", c.dir, err)
	}
	for signal := orphan.Signal(syscall.SIGINT); signal == nil; signal = orphan.Signal(syscall.Signal(0)) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return fmt.Errorf("%s is %w: the Postgres server with process id %d, whose parent has died, does not end: %w", c.dir, ErrInUse, pid, ctx.Err())
		}
	}
	return nil
}

// readSmallFile reads a text without the space around it.
func readSmallFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, smallFileBytesMax))
	return strings.TrimSpace(string(data)), err
}

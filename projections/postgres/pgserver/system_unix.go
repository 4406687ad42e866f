//go:build unix

package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// supported says whether Start works on this system.
const supported = true

// attributes makes a child run as the owner (nil: as this process's user), in
// a process group of its own so that a Ctrl-C in the terminal reaches only the
// parent, which then stops the child in order.
func attributes(owner *account) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if owner != nil {
		a.Credential = &syscall.Credential{Uid: owner.uid, Gid: owner.gid, Groups: []uint32{owner.gid}}
	}
	endWithParent(a)
	return a
}

// serverAccount is the user as whom to run a server on a cluster: nil, this
// process's own, unless that is root. A cluster that exists is run as its
// owner, so that a server started by a person can be started by root too.
func serverAccount(dataDir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(dataDir); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
			return &account{name: "with the id " + strconv.Itoa(int(s.Uid)), uid: s.Uid, gid: s.Gid}, nil
		}
	}
	return newClusterAccount()
}

// newClusterAccount is serverAccount for a cluster that does not exist yet.
func newClusterAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("the user %s has no numeric ids: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a user nobody: run as another user")
}

// reach reports ErrUnreachable if the account cannot enter a directory and all
// those above it. It looks at permission bits only.
func (a *account) reach(dir string) error {
	if a == nil {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("looking for a directory that the user %s can enter: %w", a.name, err)
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("looking for a directory that the user %s can enter: %w", a.name, err)
		}
		if !a.mayEnter(info) {
			return fmt.Errorf("root cannot run PostgreSQL, and %s is %w, which runs as the user %s: run as a user other than root, choose another directory, or `chmod o+x %s`",
				dir, ErrUnreachable, a.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (a *account) mayEnter(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case !ok:
		return true
	case s.Uid == a.uid:
		return mode&0o100 != 0
	case s.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// dirLock is the lock that makes a directory one Server's.
type dirLock struct{ file *os.File }

// lockDir takes the lock or returns ErrInUse. The file is never removed: a
// process that opened it before would lock a file that nobody else sees.
func lockDir(path string) (*dirLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the directory of the Postgres server: %w", err)
	}
	if err := flock(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &dirLock{file}, nil
}

// flock takes the advisory lock of flock(2), which children do not inherit.
func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("%s is %w: stop that one first, or name another directory", filepath.Dir(file.Name()), ErrInUse)
		default:
			return fmt.Errorf("locking %s: %w", file.Name(), err)
		}
	}
}

func (l *dirLock) release() error { return l.file.Close() }

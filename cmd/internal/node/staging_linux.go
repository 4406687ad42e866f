package node

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// memoryDir is the memory file system of Linux.
	memoryDir = "/dev/shm"
	// memoryFreeMin is the free space in bytes that makes it worth using. A
	// batch of usual votes takes 400 kB, and a ledger has at most four under
	// way. Containers have 64 MiB unless they are told otherwise.
	memoryFreeMin = 16 << 20
)

// memoryFolder makes the private folder in memory for a data directory, or
// says why it cannot be had.
func memoryFolder(dataDir string) (string, error) {
	if err := checkMemory(memoryDir); err != nil {
		return "", err
	}
	folder, err := memoryPath(dataDir)
	if err != nil {
		return "", err
	}
	if err := makePrivate(folder); err != nil {
		return "", err
	}
	return folder, nil
}

// memoryPath names the folder for a data directory. The name follows from the
// user and from the directory itself (device and inode, not the path, which
// means different directories in different containers), so that what a killed
// process has left is found by the next one.
func memoryPath(dataDir string) (string, error) {
	var s syscall.Stat_t
	if err := syscall.Stat(dataDir, &s); err != nil {
		return "", err
	}
	id := sha256.Sum256(fmt.Appendf(nil, "%d %d", s.Dev, s.Ino))
	return filepath.Join(memoryDir, fmt.Sprintf("paldies-%d-%x", os.Geteuid(), id[:8])), nil
}

// checkMemory makes sure that a directory is in memory, has space, and does
// not let others rename what is in it.
func checkMemory(dir string) error {
	entry, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if mode := entry.Mode(); !mode.IsDir() || mode.Perm()&0o022 != 0 && mode&os.ModeSticky == 0 {
		return fmt.Errorf("%s has the mode %v, which lets others rename what is in it", dir, mode)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return err
	}
	if s.Type != unix.TMPFS_MAGIC && s.Type != unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is not in memory", dir)
	}
	if free := uint64(s.Bavail) * uint64(s.Bsize); free < memoryFreeMin {
		return fmt.Errorf("%s has %d bytes free, fewer than %d", dir, free, memoryFreeMin)
	}
	return nil
}

// makePrivate makes a folder, or makes sure that the one which is there is
// this user's, closed to others, and no link.
func makePrivate(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	entry, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	owner := entry.Sys().(*syscall.Stat_t).Uid
	if mode := entry.Mode(); mode != os.ModeDir|0o700 || owner != uint32(os.Geteuid()) {
		return fmt.Errorf("%s is there already, of user %d with mode %v, and not used for that reason", folder, owner, mode)
	}
	return nil
}

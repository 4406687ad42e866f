//go:build linux || darwin || freebsd

package node

import "syscall"

// errnoDiskFull is the system's own error for a full disk, where it has one
// beside ENOSPC.
const errnoDiskFull = syscall.ENOSPC

// diskFree is what this user may still write to the directory's file system,
// in bytes.
func diskFree(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}

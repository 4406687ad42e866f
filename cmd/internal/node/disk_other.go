//go:build !linux && !darwin && !freebsd && !windows

package node

import (
	"errors"
	"syscall"
)

// errnoDiskFull is the system's own error for a full disk.
const errnoDiskFull = syscall.ENOSPC

// diskFree is not known on this system.
func diskFree(string) (uint64, error) { return 0, errors.ErrUnsupported }

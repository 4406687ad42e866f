//go:build !windows

package node

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the advisory lock of flock(2). The system frees it when the
// process ends, whatever ended it; child processes do not inherit the file.
func lockFile(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		default:
			return err
		}
	}
}

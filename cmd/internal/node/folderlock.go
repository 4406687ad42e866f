package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// folderLockName is the lock of a folder that one process at a time may write.
const folderLockName = ".lock"

// LockFolder makes a folder and takes it for this process until release, or
// says ErrInUse. The lock ends with the process however it ends.
func LockFolder(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, dataDirError(dir, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, folderLockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dataDirError(dir, err)
	}
	if err := lockFile(file); err != nil {
		err = errors.Join(err, file.Close())
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("%w: another process writes %s: stop it first, or let it do the work", ErrInUse, dir)
		}
		return nil, dataDirError(dir, err)
	}
	return file.Close, nil
}

//go:build !unix

package pgserver

import (
	"errors"
	"syscall"
)

// supported says whether Start works on this system.
const supported = false

// Start answers before any of these is used.
const unicodeCharacterType = "C"

type dirLock struct{}

func lockDir(string) (*dirLock, error) { return nil, errors.ErrUnsupported }
func (*dirLock) release() error        { return nil }

func attributes(*account) *syscall.SysProcAttr { return nil }
func serverAccount(string) (*account, error)   { return nil, errors.ErrUnsupported }
func (*account) reach(string) error            { return nil }
func newClusterAccount() (*account, error)     { return nil, nil }

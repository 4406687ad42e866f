//go:build !linux

package node

import "errors"

var errNoMemoryFolder = errors.New("batches are staged in memory on Linux only")

// memoryFolder has no place that is known to be in memory on this system.
func memoryFolder(string) (string, error) {
	return "", errNoMemoryFolder
}

// makePrivate is never called without a folder.
func makePrivate(string) error { return errNoMemoryFolder }

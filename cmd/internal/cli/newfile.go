package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// mustBeNew refuses a name that is taken: what is there may be somebody's only
// copy.
func mustBeNew(name string) error {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return isThere(name)
	}
	return nil
}

func isThere(name string) error {
	return fmt.Errorf("%s is there already: choose another name, or remove it", name)
}

// sameName says whether two names, of files that need not be there yet, are one.
func sameName(a, b string) (bool, error) {
	absoluteA, errA := filepath.Abs(a)
	absoluteB, errB := filepath.Abs(b)
	return absoluteA == absoluteB, errors.Join(errA, errB)
}

// writeNewFile makes a file that is there as a whole or not at all. Only its owner
// can read it. It gets its name by a link, which fails where a renaming would
// replace what somebody else has written meanwhile.
func writeNewFile(name string, write func(io.Writer) error) (err error) {
	if err := mustBeNew(name); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".export-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Link(file.Name(), name); errors.Is(err, fs.ErrExist) {
		return isThere(name)
	}
	return err
}

// writeNewFolder makes a folder that is there with all its files or not at all. A
// folder with files is not replaced by the renaming.
func writeNewFolder(name string, fill func(dir string) error) (err error) {
	if err := mustBeNew(name); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(name), ".export-*")
	if err != nil {
		return err
	}
	if err := fill(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return os.Rename(dir, name)
}

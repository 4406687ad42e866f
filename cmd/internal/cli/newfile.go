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
		return fmt.Errorf("%s is there already: choose another name, or remove it", name)
	}
	return nil
}

// writeNewFile makes a file that is there, durably, as a whole or not at all. Only
// its owner can read it.
func writeNewFile(name string, write func(io.Writer) error) (err error) {
	if err := mustBeNew(name); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".export-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// writeNewFolder makes a folder that is there with all its files or not at all.
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

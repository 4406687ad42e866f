// Package keyring keeps the pseudonym keys of campaigns as files that only
// their owner can read. A key cannot be made again: whoever loses it can count
// votes, but nobody can vote any more, because the same person would get a new
// pseudonym.
package keyring

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sakipaldies.lv/ledger/domain"
)

// ErrMissing says that there is no key file.
var ErrMissing = errors.New("the pseudonym key is missing")

// Path is where a campaign's key is in a data directory.
func Path(dataDir, campaign string) string {
	return filepath.Join(dataDir, "keys", campaign+".key")
}

// Load reads a key file: 64 hexadecimal digits. A file that others can read is
// refused.
func Load(path string) (domain.PseudonymKey, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return domain.PseudonymKey{}, fmt.Errorf("%w: %s is not there; restore it from its backup or name it with --key-file", ErrMissing, path)
	}
	if err != nil {
		return domain.PseudonymKey{}, err
	}
	if exposed(info) {
		return domain.PseudonymKey{}, fmt.Errorf("the pseudonym key %s can be read by others: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return domain.PseudonymKey{}, err
	}
	var key domain.PseudonymKey
	decoded, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(decoded) != len(key) {
		return domain.PseudonymKey{}, fmt.Errorf("the pseudonym key %s is not %d hexadecimal digits; restore it from its backup", path, 2*len(key))
	}
	return domain.PseudonymKey(decoded), nil
}

// Create makes a key file with mode 0600 and makes it durable. A file that is
// there already is loaded, never overwritten: created is false then.
func Create(path string) (key domain.PseudonymKey, created bool, err error) {
	if _, err := os.Stat(path); err == nil {
		return loadMade(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key, false, fmt.Errorf("make the folder of the pseudonym key: %w", err)
	}
	rand.Read(key[:]) // never fails, see crypto/rand
	err = write(path, hex.EncodeToString(key[:])+"\n")
	if errors.Is(err, errOther) {
		return loadMade(path)
	}
	if err != nil {
		return domain.PseudonymKey{}, false, fmt.Errorf("write the pseudonym key: %w", err)
	}
	return key, true, nil
}

// loadMade loads a key that was made before, and removes what those have left
// who were killed while they made one. Whoever is at it right now comes too
// late anyway.
func loadMade(path string) (domain.PseudonymKey, bool, error) {
	key, err := Load(path)
	if err == nil {
		removeUnfinished(path)
	}
	return key, false, err
}

// unfinishedPrefix begins the name of a key file that is being written.
func unfinishedPrefix(path string) string { return ".new-" + filepath.Base(path) + "-" }

// removeUnfinished is best effort: what stays behind was never anybody's key.
func removeUnfinished(path string) {
	dir := filepath.Dir(path)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), unfinishedPrefix(path))
		if ok && strings.Trim(number, "0123456789") == "" { // else it is another key's
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// errOther says that another process has made the key meanwhile.
var errOther = errors.New("another process was quicker")

// write links a complete, synced file to its name, so that a crash leaves a
// whole key or none, and a key that another process made meanwhile stays. The
// folder may be new itself, so that its own name is synced too.
func write(path, text string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinishedPrefix(path)+"*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		if _, missing := os.Stat(path); missing == nil {
			return errOther // and it may have removed our file
		}
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

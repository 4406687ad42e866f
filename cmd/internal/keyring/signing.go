package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// SigningPath is where the key that signs a campaign's log is in a data
// directory.
func SigningPath(dataDir, campaign string) string {
	return filepath.Join(dataDir, "keys", campaign+".signer")
}

// LoadSigning reads a signing key, in one line. A file that others can read is
// refused; one that is not there is ErrMissingSigning.
func LoadSigning(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %s is not there", ErrMissingSigning, path)
	case err != nil:
		return "", err
	case exposed(info):
		return "", fmt.Errorf("the signing key %s can be read by others: chmod 600 %s, and make another one with `paldies seal keygen` if somebody may have read it", path, path)
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// ErrMissingSigning says that there is no signing key.
var ErrMissingSigning = errors.New("the signing key is missing")

// CreateSigning keeps the first signing key of a log with mode 0600, durably. One
// that is there already, or that another process makes meanwhile, stays.
func CreateSigning(path, key string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of the signing key: %w", err)
	}
	if err := write(path, key+"\n"); err != nil && !errors.Is(err, errOther) {
		return fmt.Errorf("write the signing key: %w", err)
	}
	return nil
}

// ReplaceSigning keeps another signing key in place of the one that is there,
// which is put aside under the given name.
func ReplaceSigning(path, key, aside string) error {
	if now, err := os.Lstat(path); err == nil {
		aside = path + "." + aside
		if err := os.Link(path, aside); err != nil {
			// It may be there from a try that was interrupted just here.
			if kept, statErr := os.Lstat(aside); statErr != nil || !os.SameFile(now, kept) {
				return fmt.Errorf("put the former signing key aside: %w: try again", err)
			}
		}
		if err := errors.Join(syncDir(filepath.Dir(path)), os.Remove(path)); err != nil {
			return fmt.Errorf("put the former signing key aside: %w", err)
		}
	}
	return CreateSigning(path, key)
}

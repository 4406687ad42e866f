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
// refused; one that is not there is ErrMissing.
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

// SaveSigning keeps a signing key with mode 0600, durably. One that is there
// already is put aside under the given name, never overwritten.
func SaveSigning(path, key, aside string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of the signing key: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		if err := os.Link(path, path+"."+aside); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("put the former signing key aside: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("put the former signing key aside: %w", err)
		}
	}
	if err := write(path, key+"\n"); err != nil {
		return fmt.Errorf("write the signing key: %w", err)
	}
	return nil
}

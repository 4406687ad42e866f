package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tokenBytesMax is the longest file of a token that is read, in bytes.
const tokenBytesMax = 4 << 10

// LoadToken reads a file with one line, a bearer token; it is "" when there is
// no file. Unlike a key, a token that others can read is no loss: exposed says
// so, and its credential can be revoked.
func LoadToken(path string) (token string, exposedToOthers bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", false, err
	}
	text, err := io.ReadAll(io.LimitReader(f, tokenBytesMax))
	if err != nil {
		return "", false, err
	}
	return strings.TrimSpace(string(text)), exposed(info), nil
}

// SaveToken writes a token's file with mode 0600, durably and at once: a crash
// leaves the whole file or the one before, which it replaces.
func SaveToken(path, token string) error {
	dir := filepath.Dir(path)
	removeUnfinished(path)
	f, err := os.CreateTemp(dir, unfinishedPrefix(path)+"*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the token: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(dir)
}

package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewFileOfTwo: of two who write the same file at once one is refused, and what
// the other one has written stays.
func TestNewFileOfTwo(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "balsis.csv")
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	err := writeNewFile(name, func(w io.Writer) error {
		return errors.Join(write("vēlākais")(w), writeNewFile(name, write("pirmais")))
	})
	if err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("the later one is told %v", err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "pirmais" {
		t.Errorf("the file has %q, %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("in the folder are %v, %v", left, err)
	}
}

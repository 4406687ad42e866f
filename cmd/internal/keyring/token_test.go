package keyring

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dev-token")
	if token, _, err := LoadToken(path); err != nil || token != "" {
		t.Errorf("a token that is not there: %q, %v", token, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, ".new-dev-token-1"), []byte("puse"), 0o600)) // of one who was killed
	for _, want := range []string{"pirmais", "otrais"} {
		must(t, SaveToken(path, want))
		if token, exposed, err := LoadToken(path); err != nil || token != want || exposed {
			t.Errorf("saved %q, loaded %q, exposed %v, %v", want, token, exposed, err)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("the folder holds %v", entries)
	}
	if runtime.GOOS != "windows" { // the mode says nothing there
		must(t, os.Chmod(path, 0o640))
		if _, exposed, err := LoadToken(path); err != nil || !exposed {
			t.Errorf("a token that others can read: exposed %v, %v", exposed, err)
		}
	}
	if err := SaveToken(filepath.Join(dir, "nav", "dev-token"), "x"); err == nil {
		t.Error("saved into a folder that is not there")
	}
	if _, _, err := LoadToken(dir); err == nil {
		t.Error("a folder was read as a token")
	}
}

package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreateAndLoad(t *testing.T) {
	data := t.TempDir()
	path := Path(data, "kustiba-2018")
	if _, err := Load(path); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "--key-file") {
		t.Errorf("a key that is not there: %v", err)
	}
	key, created, err := Create(path)
	must(t, err)
	if !created || key == (domain.PseudonymKey{}) {
		t.Errorf("created %v, key %x", created, key)
	}
	loaded, err := Load(path)
	must(t, err)
	again, created, err := Create(path)
	must(t, err)
	if loaded != key || again != key || created {
		t.Error("the key was not kept")
	}
	other, _, err := Create(Path(data, "kustiba-2019"))
	must(t, err)
	if other == key {
		t.Error("two campaigns got one key")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("the folder of keys holds %v", entries)
	}
	if runtime.GOOS == "windows" {
		return // the mode says nothing there
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v instead of %v", name, info.Mode().Perm(), want)
		}
	}
}

// TestUnfinishedKeysAreRemoved: who is killed while making a key leaves a file
// with a key that is nobody's. It goes when the key is asked for again; files
// of other keys stay.
func TestUnfinishedKeysAreRemoved(t *testing.T) {
	path := Path(t.TempDir(), "kustiba-2018")
	key, _, err := Create(path)
	must(t, err)
	dir := filepath.Dir(path)
	unfinished := []string{".new-kustiba-2018.key-1", ".new-kustiba-2018.key-4294967295"}
	others := []string{".new-kustiba-2019.key-1", ".new-kustiba-2018.key-rezerve.key-1", "kustiba-2018.key-1"}
	for _, name := range append(unfinished, others...) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("puse atslēgas"), 0o600))
	}
	again, created, err := Create(path)
	must(t, err)
	if again != key || created {
		t.Error("the key was not kept")
	}
	for _, name := range unfinished {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	for _, name := range others {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestOneKey: whoever comes second gets the key of the first.
func TestOneKey(t *testing.T) {
	path := Path(t.TempDir(), "kustiba-2018")
	const rivals = 16
	keys := make([]domain.PseudonymKey, rivals)
	made := make([]bool, rivals)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range rivals {
		all.Go(func() {
			<-begin
			var err error
			if keys[i], made[i], err = Create(path); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	all.Wait()
	makers := 0
	for i := range rivals {
		if keys[i] != keys[0] {
			t.Errorf("keys %x and %x", keys[0], keys[i])
		}
		if made[i] {
			makers++
		}
	}
	if makers != 1 {
		t.Errorf("%d of %d made the key", makers, rivals)
	}
}

func TestUnusableKeys(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"tukša":     "",
		"īsa":       strings.Repeat("0a", 31),
		"nepāra":    strings.Repeat("0", 63),
		"gara":      strings.Repeat("0a", 33),
		"pavisam":   strings.Repeat("0a", 4096),
		"nav hex":   strings.Repeat("0g", 32),
		"divas":     strings.Repeat("0a", 32) + "\n" + strings.Repeat("0b", 32),
		"latviešu":  strings.Repeat("ķā", 16),
		"ar pēdiņu": `"` + strings.Repeat("0a", 32) + `"`,
	} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the message tells the key: %v", name, err)
		}
		if _, _, err := Create(path); err == nil {
			t.Errorf("%s: another key took its place", name)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was loaded")
	}
	blocked := filepath.Join(dir, "fails", "kustiba.key")
	must(t, os.WriteFile(filepath.Join(dir, "fails"), nil, 0o600))
	if _, _, err := Create(blocked); err == nil {
		t.Error("a key was made below a file")
	}
}

func TestSurroundingSpaceIsIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "atslēga")
	must(t, os.WriteFile(path, []byte(" "+strings.Repeat("0A", 32)+"\r\n"), 0o600))
	key, err := Load(path)
	must(t, err)
	if key[0] != 0x0a || key[31] != 0x0a {
		t.Errorf("key %x", key)
	}
}

func TestExposedKeyIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // the mode says nothing there
	}
	path := Path(t.TempDir(), "kustiba-2018")
	_, _, err := Create(path)
	must(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644, 0o666} {
		must(t, os.Chmod(path, mode))
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), "can be read by others: chmod 600 "+path) {
			t.Errorf("mode %v: %v", mode, err)
		}
		if _, _, err := Create(path); err == nil {
			t.Errorf("mode %v: it was taken for a new campaign", mode)
		}
	}
	must(t, os.Chmod(path, 0o400))
	_, err = Load(path)
	must(t, err)
}

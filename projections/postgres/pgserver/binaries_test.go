//go:build unix

package pgserver

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// fakePrograms makes a directory with programs that only tell a version.
func fakePrograms(t *testing.T, dir, version string, names ...string) string {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	for _, name := range names {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	programs := func(name, version string) string {
		return fakePrograms(t, filepath.Join(root, name), version, "postgres", "initdb")
	}
	old, some, newest := programs("vecā", "9.6.24"), programs("kāda", "15.18 (Debian 15.18-0+deb12u1)"), programs("jaunā", "17.2")
	incomplete := fakePrograms(t, filepath.Join(root, "nepilnā"), "18.1", "postgres")
	strange := programs("svešā", "?")
	links := filepath.Join(root, "saites")
	must(t, os.Mkdir(links, 0o755))
	must(t, os.Symlink(filepath.Join(some, "postgres"), filepath.Join(links, "postgres")))
	all := []string{old, newest, some, incomplete, strange, filepath.Join(root, "nav")}

	for _, test := range []struct {
		what   string
		search search
		major  int
		dir    string // empty: not found
		says   string
	}{
		{"the newest", search{dirs: all}, 0, newest, ""},
		{"the PATH goes first", search{onPath: some, dirs: all}, 0, some, ""},
		{"a link on the PATH", search{onPath: links, dirs: all}, 0, some, ""},
		{"too old on the PATH", search{onPath: old, dirs: all}, 0, newest, ""},
		{"of a version", search{onPath: newest, dirs: all}, 15, some, ""},
		{"of a version that is too old", search{dirs: all}, 9, "", "17.2 in " + newest},
		{"only old ones", search{dirs: []string{old}}, 0, "", "(but 9.6.24 in " + old + "): install PostgreSQL 14 or newer"},
		{"none", search{dirs: []string{incomplete, strange}}, 0, "", "no PostgreSQL 14 or newer found: install"},
	} {
		t.Run(test.what, func(t *testing.T) {
			got, err := test.search.find(t.Context(), test.major)
			if test.dir == "" {
				wantFailure(t, err, ErrNotFound, test.says)
				return
			}
			must(t, err)
			if got.Dir != test.dir {
				t.Errorf("found %+v; want %s", got, test.dir)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := search{dirs: all}.find(ctx, 0)
	wantFailure(t, err, context.Canceled)
}

func TestVersions(t *testing.T) {
	for output, want := range map[string]Binaries{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": {Version: "15.18", Major: 15},
		"postgres (PostgreSQL) 19beta1\n":                        {Version: "19beta1", Major: 19},
		"postgres (PostgreSQL) 18devel":                          {Version: "18devel", Major: 18},
		"postgres (PostgreSQL) 9.6.24":                           {Version: "9.6.24", Major: 9},
		"postgres (PostgreSQL) ":                                 {},
		"postgres (PostgreSQL) devel":                            {},
		"mysqld 8.0":                                             {},
		"":                                                       {},
	} {
		version, major, err := parseVersion(output)
		if version != want.Version || major != want.Major || (err == nil) != (want.Major != 0) {
			t.Errorf("%q: %q, %d, %v", output, version, major, err)
		}
	}
}

func TestReach(t *testing.T) {
	base := newDir(t)
	must(t, os.Chmod(base, 0o711))
	open, shut := filepath.Join(base, "vaļā"), filepath.Join(base, "ciet")
	must(t, os.MkdirAll(filepath.Join(open, "apakšā"), 0o755))
	must(t, os.MkdirAll(filepath.Join(shut, "apakšā"), 0o755))
	must(t, os.Chmod(shut, 0o700))
	other := &account{name: "cits", uid: 4_000_000, gid: 4_000_000}
	must(t, other.reach(filepath.Join(open, "apakšā")))
	wantFailure(t, other.reach(filepath.Join(shut, "apakšā")), ErrUnreachable, "cits", "chmod o+x "+shut)
	var self *account
	must(t, self.reach(filepath.Join(shut, "apakšā")))
}

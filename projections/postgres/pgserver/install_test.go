//go:build unix

package pgserver

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeInstaller has an apt-get which notes what it was asked for and under
// which configuration, and installs a PostgreSQL of no use.
func fakeInstaller(t *testing.T, script string) (i installer, asked func() string) {
	t.Helper()
	root := t.TempDir()
	programs := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "run"), 0o755))
	must(t, os.WriteFile(filepath.Join(programs, "apt-get"), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("TEST_ROOT", root)
	fakePrograms(t, filepath.Join(root, "package"), "15.18", "postgres", "initdb")
	find := func(ctx context.Context) (Binaries, error) {
		return search{dirs: []string{filepath.Join(root, "bin")}}.find(ctx, 0)
	}
	return installer{root: root, logger: slog.New(slog.DiscardHandler), find: find}, func() string {
		text, err := os.ReadFile(filepath.Join(root, "asked"))
		must(t, err)
		return string(text)
	}
}

func TestInstallOnce(t *testing.T) {
	i, asked := fakeInstaller(t, `
for last; do :; done
echo "$last, $DEBIAN_FRONTEND, $(grep -v '^#' $TEST_ROOT/etc/postgresql-common/createcluster.d/*)" >> $TEST_ROOT/asked
case "$last" in postgresql) cp -r $TEST_ROOT/package $TEST_ROOT/bin;; esac
`)
	var installing sync.WaitGroup
	for range 3 {
		installing.Go(func() {
			if found, err := i.install(t.Context()); err != nil || found.Major != 15 {
				t.Errorf("installed %+v, %v", found, err)
			}
		})
	}
	installing.Wait()
	const expected = "update, noninteractive, create_main_cluster = false\npostgresql, noninteractive, create_main_cluster = false\n"
	if got := asked(); got != expected {
		t.Errorf("apt-get was asked for:\n%s\nwant:\n%s", got, expected)
	}
	if entries, err := os.ReadDir(filepath.Join(i.root, "etc/postgresql-common/createcluster.d")); err != nil || len(entries) != 0 {
		t.Errorf("left in the configuration: %v (%v)", entries, err)
	}
}

func TestInstallationFails(t *testing.T) {
	i, _ := fakeInstaller(t, "echo 'E: Nav tīkla.' >&2; exit 100")
	_, err := i.install(t.Context())
	wantFailure(t, err, ErrNotFound, "apt-get update: exit status 100: E: Nav tīkla.: install PostgreSQL 14 or newer")

	i, _ = fakeInstaller(t, "exec sleep 600")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nav laika"))
	_, err = i.install(ctx)
	if err == nil || !strings.Contains(err.Error(), "nav laika") {
		t.Errorf("without time: %v", err)
	}
}

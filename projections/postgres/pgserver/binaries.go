package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// majorMin is the oldest version of PostgreSQL that is used.
	majorMin = 14
	// versionTimeout is the longest that a program may take to tell its
	// version.
	versionTimeout = 10 * time.Second
)

// remedy is what to do where there is no PostgreSQL.
const remedy = "install PostgreSQL 14 or newer (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17)"

// places are where packages put PostgreSQL's programs without putting them on
// the PATH, as patterns of filepath.Glob.
var places = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // Red Hat, from postgresql.org
	"/usr/lib/postgresql*/bin",                           // SUSE
	"/usr/libexec/postgresql*",                           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew on Linux
	"/opt/local/lib/postgresql*/bin",                     // MacPorts
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	`C:\Program Files\PostgreSQL\*\bin`,
}

// Binaries are the programs of one installed PostgreSQL.
type Binaries struct {
	// Dir is the directory with postgres and initdb.
	Dir string
	// Version is the version as PostgreSQL writes it, such as "17.2".
	Version string
	// Major is its first number, on which the format of clusters depends.
	Major int
}

func (b Binaries) program(name string) string { return filepath.Join(b.Dir, name) }

// Find looks for PostgreSQL 14 or newer: on the PATH, otherwise the newest in
// the places that the packages of Debian, Red Hat, Homebrew and others use.
// ErrNotFound names the remedy.
func Find(ctx context.Context) (Binaries, error) {
	return standardPlaces().find(ctx, 0)
}

// search is where to look for binaries.
type search struct {
	onPath string   // a directory that goes before all others, or empty
	dirs   []string // the others
}

// standardPlaces lists the directories of this machine that have a postgres.
func standardPlaces() search {
	var s search
	if path, err := exec.LookPath("postgres"); err == nil {
		s.onPath = filepath.Dir(path)
	}
	for _, pattern := range places {
		dirs, err := filepath.Glob(pattern)
		if err == nil { // Only a malformed pattern is an error.
			s.dirs = append(s.dirs, dirs...)
		}
	}
	return s
}

// find returns binaries of a major version, or of any that is new enough for
// major 0.
func (s search) find(ctx context.Context, major int) (Binaries, error) {
	var found, unsuitable []Binaries
	suitable := func(b Binaries) bool { return b.Major >= majorMin && (major == 0 || b.Major == major) }
	for i, dir := range append([]string{s.onPath}, s.dirs...) {
		b, err := inspect(ctx, dir)
		switch {
		case ctx.Err() != nil:
			return Binaries{}, fmt.Errorf("looking for PostgreSQL: %w", context.Cause(ctx))
		case err != nil: // Not there, incomplete, or not for this machine.
		case !suitable(b):
			unsuitable = append(unsuitable, b)
		case i == 0:
			return b, nil // Who has put it on the PATH wants it.
		default:
			found = append(found, b)
		}
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b Binaries) int { return cmp.Compare(a.Major, b.Major) }), nil
	}
	if len(unsuitable) > 0 {
		var others []string
		for _, b := range unsuitable {
			others = append(others, b.Version+" in "+b.Dir)
		}
		return Binaries{}, fmt.Errorf("%w (but %s): %s", ErrNotFound, strings.Join(others, ", "), remedy)
	}
	return Binaries{}, fmt.Errorf("%w: %s", ErrNotFound, remedy)
}

// inspect asks the programs in a directory for their version. Links are
// followed, because next to a link there may be postgres without the rest.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	if dir == "" {
		return Binaries{}, os.ErrNotExist
	}
	postgres, err := exec.LookPath(filepath.Join(dir, "postgres"))
	if err != nil {
		return Binaries{}, err
	}
	if postgres, err = filepath.EvalSymlinks(postgres); err != nil {
		return Binaries{}, err
	}
	if dir, err = filepath.Abs(filepath.Dir(postgres)); err != nil {
		return Binaries{}, err
	}
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return Binaries{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	output, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("asking %s for its version: %w", postgres, err)
	}
	version, major, err := parseVersion(string(output))
	return Binaries{Dir: dir, Version: version, Major: major}, err
}

// parseVersion reads the output of postgres --version, such as
// "postgres (PostgreSQL) 17.2 (Debian 17.2-1)" or "… 19beta1".
func parseVersion(output string) (version string, major int, err error) {
	_, rest, ok := strings.Cut(output, "(PostgreSQL) ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return "", 0, errors.New("not the version of a PostgreSQL: " + strconv.Quote(output))
	}
	version = fields[0]
	digits := version[:len(version)-len(strings.TrimLeft(version, "0123456789"))]
	if major, err = strconv.Atoi(digits); err != nil {
		return "", 0, fmt.Errorf("not the version of a PostgreSQL: %q: %w", output, err)
	}
	return version, major, nil
}

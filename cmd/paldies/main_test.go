package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// runMain makes the test binary behave as the program itself, so that tests
// can start, interrupt and kill real processes without building it twice.
const runMain = "PALDIES_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	if config := os.Getenv(runServer); config != "" {
		if err := runNATS(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Many of these tests wait for timers, for an election or for a disk; those that
	// compute then have the processors. -parallel says otherwise.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err) // the flag is the testing package's own
	}
	if err := collectLess(); err != nil {
		panic(err) // the variable's name is right
	}
	os.Exit(pgtest.Main(m).Run())
}

// collectLess lets the processes that tests start have more garbage before they look
// for it, unless the environment says how much. They live for moments and many replay a
// whole ledger: a quarter of all processor time went into the collector, and nothing
// that is tested here depends on it.
func collectLess() error {
	const variable, percent = "GOGC", "400"
	if os.Getenv(variable) != "" {
		return nil
	}
	return os.Setenv(variable, percent)
}

// command is a paldies process on a data directory.
func command(ctx context.Context, data string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), runMain+"=1", "PALDIES_DATA="+data)
	return cmd
}

// paldies runs a command that must succeed and returns its standard output.
func paldies(t *testing.T, data string, args ...string) string {
	t.Helper()
	out, errOut, code := try(t, data, args...)
	if code != 0 {
		t.Fatalf("paldies %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// try runs a command to its end, whatever that is.
func try(t *testing.T, data string, args ...string) (out, errOut string, code int) {
	t.Helper()
	return tryUntil(t.Context(), t, data, args...)
}

// tryUntil runs a command to its end, or kills it when the context ends; then
// the exit code is -1.
func tryUntil(ctx context.Context, t *testing.T, data string, args ...string) (out, errOut string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := command(ctx, data, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		return stdout.String(), stderr.String(), -1
	case err != nil && !errors.As(err, &exit):
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// sentence says whether a text is one line and contains all parts.
func sentence(text string, parts ...string) bool {
	return !strings.Contains(strings.TrimSuffix(text, "\n"), "\n") &&
		!slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// wantUnavailable wants exit code 4 and one sentence of a command, besides its
// log.
func wantUnavailable(t *testing.T, data string, args []string, says ...string) {
	t.Helper()
	out, errOut, code := try(t, data, args...)
	lines := strings.SplitAfter(errOut, "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, `{"time":`) })
	said := strings.Join(lines, "")
	if code != 4 || out != "" || !strings.HasPrefix(said, "paldies: ") || !sentence(said, says...) {
		t.Errorf("paldies %s: exit code %d, want 4 and %q: %s%s", strings.Join(args[:2], " "), code, says, out, errOut)
	}
}

// ballotSet is a folder of real ballots, or a generated one of the same shape.
type ballotSet struct {
	name          string
	votesPerVoter int
	alreadyVoted  int // how often this is the answer
	dir           string
}

var realBallots = []ballotSet{
	{name: "wroclaw-2019", votesPerVoter: 1},
	{name: "wroclaw-2020", votesPerVoter: 1},
	{name: "wroclaw-2021", votesPerVoter: 1},
	{name: "krakow-2020", votesPerVoter: 3},
	{name: "polis-15-per-hour-seattle", alreadyVoted: 41},
	{name: "polis-football-concussions", alreadyVoted: 213},
	{name: "polis-uberx", alreadyVoted: 317},
	{name: "polis-austria-climate", alreadyVoted: 378},
}

// ballotDir is where real ballots lie beside a checkout;
// PALDIES_TEST_BALLOTS names another folder.
const ballotDir = "../../../shared/data"

// ballotSets are the real ballots where they are, else generated ones.
func ballotSets(t *testing.T) []ballotSet {
	t.Helper()
	root := os.Getenv("PALDIES_TEST_BALLOTS")
	if root == "" {
		root = ballotDir
	}
	if _, err := os.Stat(root); err != nil {
		fmt.Printf("NOTE: no real ballots at %s; generated ones take their place\n", root)
		return generateBallots(t)
	}
	sets := make([]ballotSet, len(realBallots))
	for i, s := range realBallots {
		s.dir = filepath.Join(root, s.name)
		sets[i] = s
	}
	return sets
}

// open opens the set's campaign and registers its specialists.
func (s ballotSet) open(t *testing.T, data string) {
	t.Helper()
	paldies(t, data, "campaign", "open", s.name, "--opens", "2010-01-01T00:00Z", "--closes", "2025-01-01T00:00Z",
		"--votes-per-voter", fmt.Sprint(s.votesPerVoter))
	paldies(t, data, "specialist", "import", "--campaign", s.name, filepath.Join(s.dir, "specialists.csv"))
}

func (s ballotSet) votes() string { return filepath.Join(s.dir, "votes.csv.gz") }

// importArgs is the command that imports the set's votes.
func (s ballotSet) importArgs() []string {
	return []string{"vote", "import", "--campaign", s.name, "-o", "json", s.votes()}
}

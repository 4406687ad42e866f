package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/cli"
)

// changing is what differs between two runs of a command.
var changing = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z|in [\d.]+[µm]?s(, \d+ rows/s)?|root [A-Za-z0-9+/]{43}=|pseudonym [0-9a-f]{32}`)

func TestDemo(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	// The story does not depend on what is meant for the user's own commands.
	t.Setenv("PALDIES_DATA", filepath.Join(temporary, "lietotāja dati"))
	t.Setenv("PALDIES_NATS_URL", "nats://127.0.0.1:1")
	t.Setenv("PALDIES_OUTPUT", "json")
	t.Setenv("PALDIES_KEY_FILE", filepath.Join(temporary, "lietotāja.key"))
	told := succeed(t, "demo")
	mentions(t, told, "310 rows: 284 recorded, 0 known, 26 refused", "310 rows: 0 recorded, 284 known, 26 refused",
		"refused: already_voted", "refused: campaign_closed", "retraction recorded", "24 votes: 24 annulled",
		"Ģirts Ķauķis", "250 votes of 128 voters are in force", "paldies dev")
	if strings.Contains(told, "FAIL") {
		t.Errorf("the audit finds something:\n%s", told)
	}
	if lines := strings.Count(told, "\n"); lines > 125 {
		t.Errorf("%d lines are too many to read", lines)
	}
	left, err := os.ReadDir(temporary)
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDemoTellsTheTruth types every command of the demo into a shell, in a
// folder with the demo's files, and compares what it answers there.
func TestDemoTellsTheTruth(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	told := succeed(t, "demo", "--keep")
	kept := between(told, "$ cd ", "\n")
	mentions(t, told, "The folder is kept: cd "+kept)
	dir := t.TempDir()
	for _, name := range []string{"specialists.csv", "votes.csv"} {
		text, err := os.ReadFile(filepath.Join(kept, name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	commands := strings.Split(told, "$ paldies ")[1:]
	if len(commands) < 10 {
		t.Fatalf("there are only %d commands in:\n%s", len(commands), told)
	}
	for _, part := range commands {
		command, said, _ := strings.Cut(part, "\n")
		said, _, _ = strings.Cut(said, "\n# ")
		said, _, _ = strings.Cut(said, "\nThat took ")
		shell := exec.Command("sh", "-c", "paldies "+command+` || echo "(exit code $?)"`)
		shell.Dir = dir
		answer, err := shell.CombinedOutput()
		check(t, err)
		if want, have := timeless(said), timeless(string(answer)); want != have {
			t.Errorf("paldies %s: the demo tells\n%q\nand the shell\n%q", command, want, have)
		}
	}
}

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}

// timeless is an answer without times.
func timeless(text string) string {
	return strings.TrimSpace(changing.ReplaceAllString(text, "…"))
}

func TestDemoInterrupted(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var errOut strings.Builder
	if code := cli.Run(ctx, []string{"demo"}, nil, &interrupter{after: "votes.csv", stop: stop}, &errOut); code != 130 {
		t.Errorf("code %d: %s", code, errOut.String())
	}
	left, err := os.ReadDir(temporary)
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// interrupter is a reader who presses Ctrl-C at a word.
type interrupter struct {
	after string
	stop  func()
}

func (i *interrupter) Write(text []byte) (int, error) {
	if strings.Contains(string(text), i.after) {
		i.stop()
	}
	return len(text), nil
}

package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// variable is what differs between two runs of the same command.
var variable = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)`)

// readmeBlocks are the console blocks of the README, line by line.
func readmeBlocks(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]string
	for i, part := range strings.Split(string(text), "```") {
		if lines := strings.Split(strings.TrimSpace(part), "\n"); i%2 == 1 && lines[0] == "console" {
			blocks = append(blocks, lines[1:])
		}
	}
	return blocks
}

func normalise(line string) string {
	return strings.TrimRight(variable.ReplaceAllString(line, "TIME"), " ")
}

// TestREADMEDemo runs the README's first command and wants every line that the
// README shows of its output, in that order; "…" stands for lines left out.
func TestREADMEDemo(t *testing.T) {
	block := readmeBlocks(t)[0]
	if block[0] != "$ go run ./cmd/paldies demo" {
		t.Fatalf("the README begins with %q", block[0])
	}
	out, errOut, code := try(t, t.TempDir(), "demo")
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errOut)
	}
	real := strings.Split(out, "\n")
	for _, want := range block[1:] {
		if want == "…" {
			continue
		}
		at := 0
		for at < len(real) && normalise(real[at]) != normalise(want) {
			at++
		}
		if at == len(real) {
			t.Fatalf("the demo does not print, or not in this place:\n%s\nit prints:\n%s", want, out)
		}
		real = real[at+1:]
	}
}

// TestREADMECommands runs the commands of the sections "Using it", "Check it
// yourself" and "Postgres read model" on a set of ballots.
func TestREADMECommands(t *testing.T) {
	set, databaseURL, blocks := generateBallots(t)[1], pgtest.NewDatabase(t), readmeBlocks(t)[2:5]
	t.Chdir(t.TempDir())
	data := "paldies-data"
	ran := 0
	for _, line := range slices.Concat(blocks...) {
		if strings.HasPrefix(line, "$ export PALDIES_DATABASE_URL=") {
			t.Setenv("PALDIES_DATABASE_URL", databaseURL)
		}
		if strings.HasPrefix(line, "$ cp ") || strings.HasPrefix(line, "$ tar ") {
			if out, err := exec.Command("sh", "-c", line[2:]).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		}
		args, ok := strings.CutPrefix(line, "$ bin/paldies ")
		if !ok {
			continue
		}
		args, file, toFile := strings.Cut(args, " > ")
		ran++
		fields := splitArgs(args)
		for i, f := range fields {
			switch f {
			case "specialists.csv", "votes.csv.gz":
				fields[i] = set.dir + "/" + f
			}
		}
		out := paldies(t, data, fields...)
		if toFile {
			if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ran != 15 {
		t.Errorf("%d commands found in the README", ran)
	}
}

// splitArgs splits a line as a shell does, as far as the README needs it.
func splitArgs(line string) []string {
	var args []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			args = append(args, part)
		} else {
			args = append(args, strings.Fields(part)...)
		}
	}
	return args
}

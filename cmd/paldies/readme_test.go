package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// variable is what differs between two runs of the same command.
var variable = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// readmeBlocks are the console blocks of the README, line by line.
func readmeBlocks(t *testing.T) [][]string {
	t.Helper()
	return consoleBlocks(t, "../../README.md")
}

func consoleBlocks(t *testing.T, name string) [][]string {
	t.Helper()
	text, err := os.ReadFile(name)
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
	return strings.TrimRight(variable.ReplaceAllString(line, "(VARIABLE)"), " ")
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
	set, databaseURL, all := generateBallots(t)[1], pgtest.NewDatabase(t), readmeBlocks(t)
	blocks := slices.Concat(all[2:3], all[5:7]) // those between are TestREADMEOverHTTP's
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

// TestEndPage runs the commands of the page about the end of a campaign, as they
// stand there, on a set of ballots.
func TestEndPage(t *testing.T) {
	t.Parallel()
	block, set := consoleBlocks(t, "../../docs/end-of-a-campaign.md")[0], generateBallots(t)[1]
	set.name = "2018"
	dir := t.TempDir()
	data := filepath.Join(dir, "paldies-data")
	set.open(t, data)
	paldies(t, data, set.importArgs()...)
	program := "#!/bin/sh\nexport " + runMain + "=1\nexec '" + os.Args[0] + "' \"$@\"\n"
	check(t, os.WriteFile(filepath.Join(dir, "paldies"), []byte(program), 0o755))
	var script strings.Builder
	for _, line := range block {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			t.Fatalf("no command: %s", line)
		}
		script.WriteString(command + "\n")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script.String())
	cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"2018 closed", "s8 merged into s9", "are certified", "signed log of", "are published", "its stream is sealed", "Certified results (1) are those of the events"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	}
}

// TestREADMEOverHTTP runs the lines of the sections "Votes over HTTP" and "Votes
// by the queue" as they stand there, but for the port, and wants the answers that
// they show.
func TestREADMEOverHTTP(t *testing.T) {
	needCurl(t)
	block, queue := readmeBlocks(t)[3], readmeBlocks(t)[4]
	if block[0] != "$ bin/paldies dev &" {
		t.Fatalf("the section begins with %q", block[0])
	}
	dir := t.TempDir()
	node := startDaemon(t, filepath.Join(dir, "paldies-data"), "dev", "--http", "127.0.0.1:0")
	address, _, _ := strings.Cut(strings.TrimPrefix(node.banner["http"], "http://"), "/")
	program := "#!/bin/sh\nexport " + runMain + "=1\nexec '" + os.Args[0] + "' \"$@\"\n"
	check(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "bin", "paldies"), []byte(program), 0o755))
	var script strings.Builder
	var want []string
	for i, line := range slices.Concat(block[1:], queue) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			if strings.HasPrefix(command, "bin/paldies ") && i < len(block)-1 {
				command += " > /dev/null" // what the README leaves out
			}
			script.WriteString(strings.ReplaceAll(command, "127.0.0.1:8080", address) + "\n")
		} else {
			want = append(want, normalise(line))
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script.String())
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errOut.String())
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i := range got {
		got[i] = normalise(got[i])
	}
	if !slices.Equal(got, want) {
		t.Errorf("the answers are\n%s\nthe README shows\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	node.stop(t)
}

// needCurl wants curl on this machine, and installs it where that is possible.
func needCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err == nil {
		return
	}
	const remedy = "the README shows curl: install it (Debian and Ubuntu: apt-get install curl; macOS has it)"
	if os.Geteuid() != 0 {
		t.Fatal(remedy)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", "apt-get update && apt-get install --yes curl").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", remedy, err, out)
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

package cli

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // as in the real program

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// programs are what scripts and tests can run as processes of their own, by
// name: testscript.Main puts them into PATH. An init function may add to them.
var programs = map[string]func(){
	"paldies": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	"tamper":  tamperMain,

	"lose-record": loseRecordMain,
	"hold":        holdMain,
}

func TestMain(m *testing.M) { testscript.Main(leakChecked{m}, programs) }

// leakChecked fails when tests have passed and left goroutines behind.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if code == 0 {
		if err := goleak.Find(storetest.Leftovers()...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// TestScripts runs the real command line in real processes.
func TestScripts(t *testing.T) {
	server := storetest.NewServer(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/scripts",
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			address, err := closedAddress()
			env.Setenv("CLOSED", address)
			env.Setenv("SERVER", server.URL())
			env.Setenv("NO_COLOR", "1")
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     scriptExits,
			"bytes":     scriptBytes,
			"flip":      scriptFlip,
			"gzip":      scriptGzip,
			"votes":     scriptVotes,
			"occupy":    scriptOccupy,
			"interrupt": scriptInterrupt,

			"token-id":       scriptTokenID,
			"secrets-hidden": scriptSecretsHidden,
		},
	})
}

// closedAddress is an address of this machine on which nobody listens.
func closedAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// scriptExits is `exits CODE PROGRAM ARG…`: the program must end with that
// code, and in case of a failure say why in few words: no error is told as a
// stack, and none is left to the exit code alone.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d instead of %d", code, want)
	}
	said := ts.ReadFile("stderr")
	if code != 0 && (said == "" || strings.Contains(said, "goroutine ")) {
		ts.Fatalf("code %d comes with the words %q", code, said)
	}
}

// scriptFlip is `flip FILE AT`: it flips the lowest bit of a byte, counted from
// the end of the file when negative.
func scriptFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE AT")
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	name := ts.MkAbs(args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(name, data, 0o644))
}

// scriptBytes is `bytes FILE TEXT [TIMES]`: it appends a text with the escapes
// of Go (\n, \xe8, \u0101) to a file, several times if asked.
func scriptBytes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: bytes FILE TEXT [TIMES]")
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	times := 1
	if len(args) > 2 {
		times, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = file.WriteString(strings.Repeat(text, times))
	ts.Check(errors.Join(err, file.Close()))
}

// scriptGzip is `gzip FROM TO [LESS]`: it packs a file and leaves out the last
// bytes of the result.
func scriptGzip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: gzip FROM TO [LESS]")
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(ts.ReadFile(args[0])))
	ts.Check(errors.Join(err, z.Close()))
	less := 0
	if len(args) > 2 {
		less, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	packed.Truncate(packed.Len() - less)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), packed.Bytes(), 0o600))
}

// scriptVotes is `votes FILE N SPECIALIST`: N submissions of N voters.
func scriptVotes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: votes FILE N SPECIALIST")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var text bytes.Buffer
	fmt.Fprintln(&text, "submission_id,voter,specialist_id,channel,action,at")
	for i := range n {
		fmt.Fprintf(&text, "s-%d,Jānis Bērziņš nr. %d,%s,web,vote,\n", i, i, args[2])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text.Bytes(), 0o600))
}

// holdMain keeps the data directory args[1] open until its input ends.
func holdMain() {
	if err := hold(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// scriptOccupy is `occupy DATA`: another process has the data directory open
// until `occupy` without an argument.
func scriptOccupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy DATA")
	}
	cmd := exec.Command("hold", ts.MkAbs(args[0]))
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = stdin.Close() // ends it
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(stdout, make([]byte, len(holds))); err != nil {
		ts.Fatalf("hold %s has ended: %v", args[0], err)
	}
	ts.Setenv("HOLDER", strconv.Itoa(cmd.Process.Pid))
}

// scriptInterrupt is `interrupt DATA PROGRAM ARG…`: the program is interrupted
// as by Ctrl-C once it has written something into the ledgers of the data
// directory, and must then end with code 130. Its words are in the file
// "said", its data in the file "told".
func scriptInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupt DATA PROGRAM ARG...")
	}
	const enough = 64 << 10 // bytes of events
	data := ts.MkAbs(args[0])
	before := storedBytes(data)
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	var said, told bytes.Buffer
	cmd.Stderr, cmd.Stdout = &said, &told
	ts.Check(cmd.Start())
	// Nothing tells from outside how far it is, so the files are looked at.
	begun := poll(func() bool { return storedBytes(data) >= before+enough })
	ts.Check(cmd.Process.Signal(os.Interrupt))
	err := cmd.Wait()
	if !begun {
		ts.Fatalf("it has not begun in %v; it says %s", waitMax, said.Bytes())
	}
	ts.Check(os.WriteFile(ts.MkAbs("said"), said.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("told"), told.Bytes(), 0o600))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		ts.Fatalf("after the interruption: %v; it says %s", err, said.Bytes())
	}
}

// waitMax is the longest that a test waits for anything.
const waitMax = 2 * time.Minute

// poll looks again and again whether something has happened, and says whether
// it has in time. It is for what nothing signals.
func poll(happened func() bool) bool {
	deadline := time.NewTimer(waitMax)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !happened() {
		select {
		case <-look.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}

// storedBytes is the size of all messages in a data directory.
func storedBytes(data string) (size int64) {
	// A file that vanishes meanwhile has no size; the next look counts.
	_ = filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".blk" {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

// runHere runs a command line in this process on a node with limits.
func runHere(t *testing.T, limits node.Config, args ...string) (code int, out, said string) {
	t.Helper()
	codec, err := domain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &stdout, err: &stderr, now: time.Now, codec: codec, logLevel: slog.LevelError, node: limits, noEnv: true}
	code = a.run(t.Context(), args)
	t.Logf("paldies %s: exit code %d\n%s%s", quoteArgs(args), code, stdout.String(), stderr.String())
	return code, stdout.String(), stderr.String()
}

// wants fails the test unless a command ended with a code and said the words.
func wants(t *testing.T, code, wantCode int, text string, words ...string) {
	t.Helper()
	if code != wantCode {
		t.Fatalf("exit code %d instead of %d", code, wantCode)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing in: %s", word, text)
		}
	}
}

// TestFullDisk: a server that may store no more stands for a full disk, which
// package node tests with real small file systems. The command says what to
// do, nothing that was acknowledged is lost, and afterwards it goes on.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	data, specialists, votes := filepath.Join(dir, "dati"), filepath.Join(dir, "speciālisti.csv"), filepath.Join(dir, "balsis.csv")
	const rows = 2000
	var text strings.Builder
	text.WriteString("submission_id,voter,specialist_id,channel,action,at\n")
	for i := range rows {
		fmt.Fprintf(&text, "s%d,Pēteris Kļava %d,ilze,web,vote,\n", i, i)
	}
	for path, content := range map[string]string{specialists: "specialist_id,name\nilze,Ilze Bērziņa\n", votes: text.String()} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roomy, tight := node.Config{}, node.Config{MaxStoreBytes: 256 << 10}
	code, _, _ := runHere(t, roomy, "campaign", "open", "c", "--data", data, "--opens", "2017-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00")
	wants(t, code, exitOK, "")
	code, _, _ = runHere(t, roomy, "specialist", "import", "--data", data, "--campaign", "c", specialists)
	wants(t, code, exitOK, "")

	start := time.Now()
	code, out, said := runHere(t, tight, "vote", "import", "--data", data, "--campaign", "c", votes)
	wants(t, code, exitUnavailable, said, "the disk is full: free space on the disk of "+data+" and run the command again, nothing that was acknowledged is lost")
	if took := time.Since(start); took > waitMax/2 {
		t.Errorf("it took %v to say that the disk is full", took)
	}
	if !strings.Contains(out, "2000 rows: ") || !strings.Contains(out, " unanswered\n") {
		t.Errorf("it does not say how far it came: %s", out)
	}
	code, _, said = runHere(t, tight, "vote", "cast", "--data", data, "--campaign", "c", "--voter", "lv-pk:010180-12345", "--specialist", "ilze", "--channel", "web")
	wants(t, code, exitUnavailable, said, "the disk is full", "; to try again safely: --submission-id 0")
	code, _, said = runHere(t, tight, "vote", "cast", "--data", data, "--campaign", "c", "--voter", "lv-pk:010180-12345", "--specialist", "ilze", "--channel", "web", "--submission-id", "mans")
	wants(t, code, exitUnavailable, said, "the disk is full")
	if strings.Contains(said, "--submission-id") {
		t.Errorf("it tells the caller's own id: %s", said)
	}
	code, out, _ = runHere(t, roomy, "results", "--data", data, "--campaign", "c", "-o", "csv")
	wants(t, code, exitOK, out, "1,ilze,Ilze Bērziņa,")

	code, out, _ = runHere(t, roomy, "vote", "import", "--data", data, "--campaign", "c", votes)
	wants(t, code, exitOK, out, "2000 rows: ", " 0 refused, 0 unreadable")
	code, out, _ = runHere(t, roomy, "results", "--data", data, "--campaign", "c", "-o", "csv")
	wants(t, code, exitOK, out, "1,ilze,Ilze Bērziņa,,,,2000,2000")
	code, _, _ = runHere(t, roomy, "audit", "verify", "--data", data, "--campaign", "c")
	wants(t, code, exitOK, "")
}

// TestOpeningInterrupted: an opening that ended between the ledger and its
// first event hides no other campaign and is finished by the same command.
func TestOpeningInterrupted(t *testing.T) {
	data := t.TempDir()
	open := func(id string) []string {
		return []string{"campaign", "open", id, "--data", data, "--opens", "2017-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00"}
	}
	n, err := node.Open(t.Context(), node.Config{DataDir: data})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.CreateLedger(t.Context(), ledgerConfig(n, "pusce-la")), n.Close()); err != nil {
		t.Fatal(err)
	}
	code, _, _ := runHere(t, node.Config{}, open("vesela")...)
	wants(t, code, exitOK, "")
	code, out, said := runHere(t, node.Config{}, "campaign", "list", "--data", data, "-o", "csv")
	wants(t, code, exitOK, out, "vesela,open,")
	wants(t, code, exitOK, said, "campaign pusce-la: its ledger has no campaign.opened; run the same `paldies campaign open` again")
	code, _, said = runHere(t, node.Config{}, "results", "--data", data, "--campaign", "pusce-la")
	wants(t, code, exitFailure, said, "campaign pusce-la: its ledger has no campaign.opened; run the same `paldies campaign open` again")
	code, out, _ = runHere(t, node.Config{}, open("pusce-la")...)
	wants(t, code, exitOK, out, "campaign pusce-la opened (event 1)")
}

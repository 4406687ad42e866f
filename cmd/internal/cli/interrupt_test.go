package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

// submissionHint finds the id in what a command says after a fault.
var submissionHint = regexp.MustCompile(`; to try again safely: --submission-id (\S+)\n$`)

// castInterrupted casts a vote and interrupts it at one of its looks at the
// clock, counted from 1.
func castInterrupted(t *testing.T, look int64, args ...string) (code int, out, said string) {
	t.Helper()
	codec, err := domain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var looks atomic.Int64
	now := func() time.Time {
		if looks.Add(1) == look {
			interrupt()
		}
		return time.Now()
	}
	var stdout, stderr bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &stdout, err: &stderr, now: now, codec: codec, logLevel: slog.LevelError, noEnv: true}
	code = a.run(ctx, append([]string{"vote", "cast"}, args...))
	return code, stdout.String(), stderr.String()
}

// TestInterruptedVote interrupts a vote at every moment at which it looks at the
// clock. What it says then tells nobody who votes, and lets the voter try again
// without a second vote: slips have nothing but their id that tells them apart.
func TestInterruptedVote(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "dati"), filepath.Join(dir, "speciālisti.csv")
	if err := os.WriteFile(file, []byte("specialist_id,name\nilze,Ilze Bērziņa\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, _ := runHere(t, node.Config{}, "campaign", "open", "c", "--data", data, "--opens", "2017-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00",
		"--channels", "web,slip", "--identity", "slip=none")
	wants(t, code, exitOK, "")
	code, _, _ = runHere(t, node.Config{}, "specialist", "import", "--data", data, "--campaign", "c", file)
	wants(t, code, exitOK, "")

	slip := []string{"--data", data, "--campaign", "c", "--specialist", "ilze", "--channel", "slip"}
	votes := 0
	for look := int64(1); ; look++ {
		code, _, said := castInterrupted(t, look, slip...)
		if code == exitOK { // it was through before that look
			votes++
			break
		}
		wants(t, code, exitInterrupted, said, "paldies: interrupted; nothing that was acknowledged is lost")
		hint := submissionHint.FindStringSubmatch(said)
		if hint == nil {
			continue // it had not begun to record anything
		}
		votes++
		code, _, _ = runHere(t, node.Config{}, append([]string{"vote", "cast", "--submission-id", hint[1]}, slip...)...)
		wants(t, code, exitOK, "")
	}
	if votes < 2 {
		t.Error("no interruption came while the vote was being recorded")
	}
	code, out, _ := runHere(t, node.Config{}, "results", "--data", data, "--campaign", "c", "-o", "csv")
	wants(t, code, exitOK, out, fmt.Sprintf("1,ilze,Ilze Bērziņa,,,,%d,0", votes))

	for look := range int64(8) {
		code, _, said := castInterrupted(t, look+1, "--data", data, "--campaign", "c", "--specialist", "ilze", "--channel", "web", "--voter", "lv-pk:010180-12345")
		if code != exitOK && code != exitRefused && code != exitInterrupted || strings.Contains(said, "010180") {
			t.Errorf("exit code %d, says %q", code, said)
		}
	}
}

// TestResumption: an interrupted command is repeated to who may read it only
// where it goes on when it is run again, and without passwords.
func TestResumption(t *testing.T) {
	root := (&app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}).root()
	var can []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if resumption(cmd, nil) != "" {
			can = append(can, cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	slices.Sort(can)
	if want := []string{"paldies campaign archive", "paldies restore", "paldies specialist import", "paldies specialist merge", "paldies vote annul", "paldies vote import"}; !slices.Equal(can, want) {
		t.Errorf("commands that go on: %q", can)
	}

	args := []string{"vote", "import", "--nats-url", "nats://balsu:noslepums@a:4222,tls://noslepums@b", "--nats-url=nats://x:noslepums@c", "--campaign", "c", "lielais fails.csv"}
	cmd, _, err := root.Find(args)
	if err != nil {
		t.Fatal(err)
	}
	want := ". To go on: paldies vote import --nats-url nats://xxxxx@a:4222,tls://xxxxx@b --nats-url=nats://xxxxx@c --campaign c 'lielais fails.csv'"
	if got := resumption(cmd, args); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var said bytes.Buffer
	a := &app{err: &said}
	a.report(errors.Join(errInterrupted, context.Canceled), "")
	if said.String() != "paldies: interrupted; nothing that was acknowledged is lost\n" {
		t.Errorf("it says %q", said.String())
	}
}

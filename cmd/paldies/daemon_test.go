package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the longest that a test waits for something that should take a
// moment.
const patience = 2 * time.Minute

// daemon is a paldies process that runs until somebody ends it.
type daemon struct {
	cmd    *exec.Cmd
	banner map[string]string // what it said when it started, by the first word
	log    *tail
	ended  chan struct{} // closed when the process has ended
	err    error         // how it ended; after ended
}

// tail keeps the end of what a process writes: its last words say why it ended.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailBytes is how much a tail keeps, in bytes.
const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// launch starts a process and returns when it says how to stop it. The context
// kills it.
func launch(ctx context.Context, data string, args ...string) (*daemon, error) {
	return begin(command(ctx, data, args...))
}

// begin starts a process that prints lines, "stop" the last of them.
func begin(cmd *exec.Cmd) (*daemon, error) {
	log := new(tail)
	cmd.Stderr = log // It tells of every kill.
	if testing.Verbose() {
		cmd.Stderr = io.MultiWriter(os.Stderr, log)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{cmd: cmd, log: log, banner: make(map[string]string), ended: make(chan struct{})}
	lines := bufio.NewScanner(out)
	for d.banner["stop"] == "" && lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		d.banner[name] = strings.TrimSpace(text)
	}
	go func() {
		defer close(d.ended)
		_, _ = io.Copy(io.Discard, out)
		d.err = cmd.Wait()
	}()
	if d.banner["stop"] == "" {
		<-d.ended
		return nil, fmt.Errorf("%s has ended at once: %w: %s", strings.Join(cmd.Args[:min(len(cmd.Args), 2)], " "), d.err, log)
	}
	return d, nil
}

// startDaemon starts a process that ends with the test at the latest.
func startDaemon(t *testing.T, data string, args ...string) *daemon {
	t.Helper()
	d, err := launch(t.Context(), data, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.kill)
	return d
}

// stop asks the process to end, which it must do in order.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if <-d.ended; d.err != nil {
		t.Errorf("%s: %v: %s", strings.Join(d.cmd.Args[1:2], " "), d.err, d.log)
	}
}

// kill ends the process with SIGKILL and waits for it.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill() // it may have ended before
	<-d.ended
}

// projectorReport is what /readyz says of a projector.
type projectorReport struct {
	Ready     bool
	State     string
	Error     string
	Campaigns []projectedCampaign
}

type projectedCampaign struct {
	Campaign, Status, Error string
	Position, Lag           uint64
}

// address is where a process serves HTTP, as host:port.
func (d *daemon) address() string {
	address, _, _ := strings.Cut(strings.TrimPrefix(d.banner["http"], "http://"), "/")
	return address
}

// base begins the addresses of what a process serves.
func (d *daemon) base() string { return "http://" + d.address() }

// get is what a process serves at a path.
func (d *daemon) get(t *testing.T, path string) string {
	t.Helper()
	answer, err := http.Get(d.base() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// projector asks a process what its projector does.
func (d *daemon) projector(ctx context.Context) (projectorReport, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base()+"/readyz", nil)
	if err != nil {
		return projectorReport{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return projectorReport{}, err
	}
	defer answer.Body.Close()
	var body struct{ Projector projectorReport }
	err = json.NewDecoder(answer.Body).Decode(&body)
	return body.Projector, err
}

// reachesEnd waits until a projector has all events of the sets' campaigns.
func (d *daemon) reachesEnd(t *testing.T, sets ...ballotSet) {
	t.Helper()
	took := eventually(t, "the projector is at the end", func() bool {
		report, err := d.projector(t.Context())
		return err == nil && report.Ready && len(report.Campaigns) == len(sets) &&
			!slices.ContainsFunc(report.Campaigns, func(c projectedCampaign) bool { return c.Lag > 0 || c.Position == 0 })
	})
	t.Logf("at the end after %v", took)
}

// eventually polls for what no signal tells.
func eventually(t *testing.T, what string, is func() bool) (took time.Duration) {
	t.Helper()
	return eventuallyIn(t, patience, what, is)
}

// eventuallyIn is eventually for what can take longer than a moment.
func eventuallyIn(t *testing.T, limit time.Duration, what string, is func() bool) (took time.Duration) {
	t.Helper()
	start := time.Now()
	for !is() {
		if time.Since(start) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start)
}

// exitOf is the exit code of a process, and -1 for one that was killed.
func exitOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -2
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

//go:build unix

package pgserver

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startParent starts a process that runs a server in the directory.
func startParent(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), parentVariable+"="+dir)
	output, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		t.Fatalf("the parent says %q (%v)", line, err)
	}
	return cmd
}

// TestOrphanIsTakenOver starts a server that nobody will end, as is left on a
// system that does not tell children of their parent's death.
func TestOrphanIsTakenOver(t *testing.T) {
	dir := newDir(t)
	s := run(t, Config{Dir: dir})
	must(t, s.Stop(t.Context()))
	log := newProgramLog("postgres", discard)
	cmd := s.command(log)
	cmd.SysProcAttr.Setpgid = true
	p, err := startProcess(cmd, log)
	must(t, err)
	<-log.ready
	want(t, run(t, Config{Dir: dir}), "ir", "select 'ir'")
	<-p.exited
}

// TestStrangersProcessID leaves the id of a process in the server's file that
// has nothing to do with it.
func TestStrangersProcessID(t *testing.T) {
	dir := newDir(t)
	s := run(t, Config{Dir: dir})
	stranger := exec.Command("sleep", "600")
	must(t, stranger.Start())
	pidFile := s.cluster.dataDir() + "/postmaster.pid"
	text, err := os.ReadFile(pidFile)
	must(t, err)
	must(t, s.Stop(t.Context()))
	_, rest, _ := strings.Cut(string(text), "\n")
	must(t, os.WriteFile(pidFile, []byte(strconv.Itoa(stranger.Process.Pid)+"\n"+rest), 0o600))
	must(t, s.cluster.stopOrphan(context.Background()))
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other process was signalled: %v", err)
	}
	must(t, stranger.Process.Kill())
	if err := stranger.Wait(); err == nil {
		t.Error("the other process ended in order")
	}
	must(t, os.Remove(pidFile))
}

// TestParentDies kills a process that runs a server. On Linux the server ends
// with it; everywhere the next one takes the directory over.
func TestParentDies(t *testing.T) {
	dir := newDir(t)
	parent := startParent(t, dir)
	pid := func() int { return postmasterPID(t, &Server{cluster: &cluster{dir: dir}}) }()
	must(t, parent.Process.Kill())
	if err := parent.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	if runtime.GOOS == "linux" {
		deadline := time.Now().Add(testTimeout)
		for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			if time.Now().After(deadline) {
				t.Fatalf("the server with process id %d goes on without its parent", pid)
			}
			time.Sleep(5 * time.Millisecond) // Nothing tells who is not its parent.
		}
	}

	parent = startParent(t, dir)
	must(t, parent.Process.Kill())
	if err := parent.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	want(t, run(t, Config{Dir: dir}), "ir", "select 'ir'") // while the other may still be ending
}

package pgserver

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// lingerTimeout is how long the sessions of a killed server may take to notice
// before nobody waits for them any more.
const lingerTimeout = 10 * time.Second

// process is a running postmaster, PostgreSQL's first process, with all that
// it has started.
type process struct {
	cmd    *exec.Cmd
	log    *programLog
	asked  atomic.Bool   // whether it has been told to end
	exited chan struct{} // closed at the end of the postmaster and of all who share its log
	err    error         // how it ended; set before exited is closed
}

// startProcess starts a command and the goroutine that waits for its end.
func startProcess(cmd *exec.Cmd, log *programLog) (*process, error) {
	p := &process{cmd: cmd, log: log, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the signal of a parent's death when the thread ends that
		// has started the child. So the thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		log.flush()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// signal sends a signal. That the process has ended meanwhile is no error: who
// sends a signal waits for exited afterwards.
func (p *process) signal(sig os.Signal) {
	p.asked.Store(true)
	_ = p.cmd.Process.Signal(sig)
}

// interrupt asks for what PostgreSQL calls a fast shutdown.
func (p *process) interrupt() { p.signal(syscall.SIGINT) }

// quit asks for an immediate shutdown, which leaves recovery to the next
// start, and kills what is still there after the timeout.
func (p *process) quit(timeout time.Duration) error {
	p.signal(syscall.SIGQUIT)
	select {
	case <-p.exited:
		return nil
	case <-time.After(timeout):
		return p.kill()
	}
}

// kill ends the postmaster and waits until nobody holds its log any more, at
// most lingerTimeout.
func (p *process) kill() error {
	p.signal(syscall.SIGKILL)
	<-p.exited
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return fmt.Errorf("waiting for the end of the Postgres server: %w", p.err)
	}
	return nil
}

// command is the command line of the postmaster.
func (s *Server) command(log *programLog) *exec.Cmd {
	settings := map[string]string{
		"listen_addresses":  loopbackAddress,
		"port":              strconv.Itoa(s.port),
		"cluster_name":      "paldies",
		"logging_collector": "off",
		"log_destination":   "stderr",
		"log_line_prefix":   "",
		"log_min_messages":  "warning",
		"lc_messages":       "C",
		// An empty list means that there is no socket.
		"unix_socket_directories": s.cluster.socketDir(s.port),
	}
	maps.Copy(settings, s.config.Settings) // Validate has refused the names above.
	args := []string{"-D", s.cluster.dataDir()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	cmd := exec.Command(s.config.Binaries.program("postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	s.cluster.confine(cmd)
	return cmd
}

// confine prepares a command for running on the cluster: as its owner, and
// away from what the parent's environment says about other servers.
func (c *cluster) confine(cmd *exec.Cmd) {
	cmd.Dir = c.dir // The owner may have no access to the parent's own.
	cmd.Env = []string{"PATH=" + filepath.Dir(cmd.Path) + string(os.PathListSeparator) + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = attributes(c.owner)
	cmd.WaitDelay = lingerTimeout
}

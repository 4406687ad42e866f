package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

const (
	// inNamespaces makes a test do its work instead of starting itself in
	// namespaces of its own.
	inNamespaces = "PALDIES_TEST_IN_NAMESPACES"
	// refused begins what a test says there when the system does not let it do
	// what it needs.
	refused = "the system refuses to"
)

// The rights to use a network and to mount (capabilities(7)).
const (
	capNetAdmin = 12
	capSysAdmin = 21
)

// apart runs a test in another process that may do to its own namespaces what
// nobody else sees. They and all processes end with the test, however it ends.
// Root must be able to do that, others only if the system lets them have a user
// namespace; if it does not, the refusal is returned.
func apart(t *testing.T, namespaces uintptr, capabilities ...uintptr) (refusal error) {
	t.Helper()
	runtime.LockOSThread() // The child is killed when the thread ends that has started it.
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-rounds=%d", *rounds))
	// A network of its own does not lead to anybody else's Postgres.
	cmd.Env = append(os.Environ(), inNamespaces+"=1", pgtest.URLVariable+"=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		// Postgres refuses to run as root, in a user namespace too.
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = capabilities
	}
	var said bytes.Buffer
	cmd.Stdout = &said
	if testing.Verbose() {
		cmd.Stdout = io.MultiWriter(&said, os.Stderr) // Rounds can take long.
	}
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err != nil && (!errors.As(err, &exit) || strings.Contains(said.String(), refused)):
		return fmt.Errorf("%w: %s", err, said.Bytes())
	case err != nil:
		t.Error(err)
	case !strings.Contains(said.String(), "--- PASS: "+t.Name()):
		t.Error("the test has not run")
	}
	if !testing.Verbose() {
		t.Logf("%s", said.Bytes())
	}
	return nil
}

// isApart says whether this process has namespaces of its own.
func isApart() bool { return os.Getenv(inNamespaces) != "" }

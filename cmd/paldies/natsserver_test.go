package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// runServer makes the test binary behave as a nats-server, so that tests can
// kill one. It holds a serverConfig.
const runServer = "PALDIES_TEST_RUN_SERVER"

// serverConfig is what a nats-server is started with, again and again.
type serverConfig struct {
	Name        string
	Dir         string
	Host        string // its address; empty: loopback
	Port        int
	ClusterPort int      // 0: it is alone
	Peers       []string // cluster addresses of all members
	Deployed    string   // folder with the files of a deployment, which say the rest; empty: nothing does

	machine *machine // where it runs; nil: here
}

// loopback is the address of servers that have none of their own.
const loopback = "127.0.0.1"

// machine is where a server runs that has a network of its own: a thread, whose
// processes have it too. Where there is none, it runs beside the test.
type machine struct {
	host string      // its address
	jobs chan func() // what its thread does
}

// do does something on the machine, which must not end the test.
func (m *machine) do(job func()) {
	if m == nil {
		job()
		return
	}
	done := make(chan struct{})
	m.jobs <- func() { defer close(done); job() }
	<-done
}

// address is where clients reach the server, and peer where other servers do.
func (c serverConfig) address() string { return c.at(c.Port) }
func (c serverConfig) peer() string    { return c.at(c.ClusterPort) }

func (c serverConfig) at(port int) string {
	return net.JoinHostPort(cmp.Or(c.Host, loopback), strconv.Itoa(port))
}

// runNATS serves until the process is killed.
func runNATS(text string) error {
	var c serverConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return fmt.Errorf("nats-server is not ready after %v", patience)
	}
	fmt.Println("stop", os.Getpid())
	s.WaitForShutdown()
	return nil
}

// options are the server's. Of those of a deployment only places are others.
func (c serverConfig) options() (*server.Options, error) {
	host := cmp.Or(c.Host, loopback)
	options := &server.Options{ServerName: c.Name, JetStream: true, SyncAlways: true}
	switch {
	case c.Deployed != "":
		if err := errors.Join(os.Chdir(c.Deployed), os.Setenv("SERVER_NAME", c.Name)); err != nil {
			return nil, err
		}
		var err error
		if options, err = server.ProcessConfigFile("nats.conf"); err != nil {
			return nil, err
		}
	case c.ClusterPort != 0:
		if err := options.ProcessConfigString(tellingAccounts); err != nil {
			return nil, err
		}
	}
	options.StoreDir, options.Host, options.Port, options.HTTPPort, options.NoSigs, options.NoLog = c.Dir, host, c.Port, 0, true, true
	if c.ClusterPort == 0 {
		return options, nil
	}
	options.Cluster.Name, options.Cluster.Host, options.Cluster.Port = "paldies", host, c.ClusterPort
	options.Routes = nil
	for _, peer := range c.Peers {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: peer})
	}
	return options, nil
}

// tellingAccounts let everybody ask the servers of a cluster for their state, as roles
// of a deployment may.
const tellingAccounts = `
	system_account: SYS
	no_auth_user: kāds
	accounts {
		SYS { exports: [ { service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream } ] }
		PALDIES {
			jetstream: enabled
			users: [ { user: kāds, password: kāds } ]
			imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" } } ]
		}
	}`

// start starts the server, on what it has left behind if it ran before.
func (c serverConfig) start(t *testing.T) *daemon {
	t.Helper()
	text, err := json.Marshal(c)
	check(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), runServer+"="+string(text))
	var d *daemon
	c.machine.do(func() { d, err = begin(cmd) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.kill)
	return d
}

// natsURL is what --nats-url takes for servers.
func natsURL(servers ...serverConfig) string {
	var urls []string
	for _, c := range servers {
		urls = append(urls, "nats://"+c.address())
	}
	return strings.Join(urls, ",")
}

// freePorts finds ports that nobody listens on. They lie below those that the
// system gives away by itself, one of which somebody could have before a server
// that was killed is back.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	const lowest, highest, tries = 12_000, 30_000, 1000
	var ports []int
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		check(t, listener.Close())
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
		if len(ports) == n {
			return ports
		}
	}
	t.Fatalf("no %d free ports between %d and %d", n, lowest, highest)
	return nil
}

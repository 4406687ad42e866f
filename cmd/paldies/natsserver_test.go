package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
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
	Port        int
	ClusterPort int    // 0: it is alone
	Peers       []int  // cluster ports of all members
	Deployed    string // folder with the files of a deployment, which say the rest; empty: nothing does
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
	const host = "127.0.0.1"
	options := &server.Options{ServerName: c.Name, JetStream: true, SyncAlways: true}
	if c.Deployed != "" {
		if err := errors.Join(os.Chdir(c.Deployed), os.Setenv("SERVER_NAME", c.Name)); err != nil {
			return nil, err
		}
		var err error
		if options, err = server.ProcessConfigFile("nats.conf"); err != nil {
			return nil, err
		}
	}
	options.StoreDir, options.Host, options.Port, options.HTTPPort, options.NoSigs, options.NoLog = c.Dir, host, c.Port, 0, true, true
	if c.ClusterPort == 0 {
		return options, nil
	}
	options.Cluster.Name, options.Cluster.Host, options.Cluster.Port = "paldies", host, c.ClusterPort
	options.Routes = nil
	for _, port := range c.Peers {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("%s:%d", host, port)})
	}
	return options, nil
}

// start starts the server, on what it has left behind if it ran before.
func (c serverConfig) start(t *testing.T) *daemon {
	t.Helper()
	text, err := json.Marshal(c)
	check(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), runServer+"="+string(text))
	d, err := begin(cmd)
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
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", c.Port))
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

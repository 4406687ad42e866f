package storetest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/eventstore"
)

// patience is how long a test waits for what should take a moment, so that a
// busy machine fails none.
const patience = 2 * time.Minute

// Server is a nats-server with JetStream in the test's process. It keeps its
// data in a folder of the test and fsyncs always.
type Server struct {
	options *server.Options
	running *server.Server
}

// NewServer starts a single server that listens on a free port of the loopback
// interface. It ends with the test. The functions may change its options.
func NewServer(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	s := &Server{options: serverOptions(t.TempDir())}
	for _, f := range change {
		f(s.options)
	}
	s.Start(t)
	t.Cleanup(s.Stop)
	return s
}

func serverOptions(dir string) *server.Options {
	return &server.Options{
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: true,
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		NoSigs:     true,
		NoLog:      true,
	}
}

// Start starts the server, or starts it again after Stop: on the same data and
// the same port. The functions may change its options until the next Stop.
func (s *Server) Start(t testing.TB, change ...func(*server.Options)) {
	t.Helper()
	options := s.options.Clone()
	for _, f := range change {
		f(options)
	}
	running, err := server.NewServer(options)
	if err != nil {
		t.Fatalf("nats-server: %v", err)
	}
	running.Start()
	s.running = running
	if !running.ReadyForConnections(patience) {
		t.Fatalf("nats-server is not ready after %v", patience)
	}
	if addr, ok := running.Addr().(*net.TCPAddr); ok {
		s.options.Port = addr.Port
	}
}

// Stop ends the server and waits until it has ended.
func (s *Server) Stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

// NATS is the running server itself.
func (s *Server) NATS() *server.Server { return s.running }

// URL is where clients connect.
func (s *Server) URL() string { return s.running.ClientURL() }

// StreamDir is the folder that holds a stream's files.
func (s *Server) StreamDir(stream string) string {
	return filepath.Join(s.running.StoreDir(), server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream)
}

// StageInMemory lets the server stage the batches of a stream on a tmpfs, as a
// node does. It must come right after the stream's creation.
func (s *Server) StageInMemory(t testing.TB, stream string) {
	t.Helper()
	memory, err := os.MkdirTemp("/dev/shm", "paldies-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(memory) })
	if err := os.Symlink(memory, filepath.Join(s.StreamDir(stream), "batches")); err != nil {
		t.Fatal(err)
	}
}

// Connect returns a connection with eventstore.ConnectOptions that is closed
// with the test.
func (s *Server) Connect(t testing.TB, more ...nats.Option) *nats.Conn {
	t.Helper()
	return Connect(t, s.URL(), more...)
}

// Connect connects to url with eventstore.ConnectOptions and closes the
// connection with the test.
func Connect(t testing.TB, url string, more ...nats.Option) *nats.Conn {
	t.Helper()
	// The library's own error handler would print every broken connection.
	options := append(eventstore.ConnectOptions(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	nc, err := nats.Connect(url, append(options, more...)...)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Cluster is three servers that replicate to each other.
type Cluster struct {
	Servers []*Server
}

// NewCluster starts three servers and waits until they have a leader and know
// each other.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	const size = 3
	c := &Cluster{}
	ports := FreePorts(t, size)
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	for i, port := range ports {
		options := serverOptions(t.TempDir())
		options.ServerName = fmt.Sprintf("mezgls-%d", i+1)
		options.Cluster = server.ClusterOpts{Name: "paldies", Host: "127.0.0.1", Port: port}
		options.Routes = routes
		c.Servers = append(c.Servers, &Server{options: options})
	}
	for _, s := range c.Servers {
		s.Start(t)
	}
	t.Cleanup(func() {
		for _, s := range c.Servers {
			s.Stop()
		}
	})
	Eventually(t, "the cluster has a leader and three members", func() bool {
		for _, s := range c.Servers {
			if s.running.JetStreamIsLeader() && len(s.running.JetStreamClusterPeers()) == size {
				return true
			}
		}
		return false
	})
	return c
}

// StreamLeader returns the server that leads the stream, waiting for one.
func (c *Cluster) StreamLeader(t testing.TB, stream string) *Server {
	t.Helper()
	var leader *Server
	Eventually(t, "stream "+stream+" has a leader", func() bool {
		for _, s := range c.Servers {
			if s.running.Running() && s.running.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// Eventually polls a condition for which no signal exists, and fails the test
// when it does not come true in time.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v it is still not true that %s", patience, what)
		}
	}
}

// FreePorts finds ports that nobody listens on. They lie below those that the
// system gives to outgoing connections and to listeners without a wish, one of
// which could otherwise take a port before its server does.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	const lowest, highest, tries = 12_000, 30_000, 1000
	var ports []int
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		listener.Close()
		if slices.Contains(ports, port) {
			continue
		}
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatalf("no %d free ports between %d and %d", n, lowest, highest)
	return nil
}

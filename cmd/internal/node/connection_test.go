package node

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// closedAddress is an address on which nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// runServer starts a server as somebody else would run it.
func runServer(t *testing.T, config string) *server.Server {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "nats.conf")
	config = "listen: 127.0.0.1:-1\n" + strings.ReplaceAll(config, "STORE", fmt.Sprintf("%q", filepath.Join(dir, "store")))
	must(t, os.WriteFile(path, []byte(config), 0o600))
	options, err := server.ProcessConfigFile(path)
	must(t, err)
	options.NoSigs, options.NoLog = true, true
	s, err := server.NewServer(options)
	must(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(waitMax) {
		t.Fatal("the server does not start")
	}
	return s
}

func hostOf(s *server.Server) string { return s.Addr().String() }

func TestServersElsewhere(t *testing.T) {
	s := runServer(t, `
		jetstream { store_dir: STORE }
		accounts {
			PALDIES { jetstream: enabled, users: [
				{ user: balsis, password: "parole-ž" },
				{ user: skatītājs, password: "parole-ž", permissions: { publish: { deny: "$JS.API.INFO" } } } ] }
			CITI { users: [ { user: cits, password: "parole-ž" } ] }
		}`)
	at := func(user, password, host string) string {
		return "nats://" + url.UserPassword(user, password).String() + "@" + host
	}
	here := func(user, password string) string { return at(user, password, hostOf(s)) }

	dir := filepath.Join(t.TempDir(), "none")
	n := open(t, Config{DataDir: dir, NATSURL: at("balsis", "parole-ž", closedAddress(t)) + "," + here("balsis", "parole-ž"), Command: "vote cast"})
	if n.Embedded() || strings.Contains(n.URL(), "parole") || strings.Contains(n.URL(), "balsis") {
		t.Errorf("embedded %v at %s", n.Embedded(), n.URL())
	}
	if name := n.Conn().Opts.Name; name != "paldies vote cast" {
		t.Errorf("the connection is called %q", name)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a data directory was made though none is needed")
	}
	must(t, createStream(contextFor(t), n.Conn()))

	for _, c := range []struct {
		url  string
		kind error
		want []string
	}{
		{here("balsis", "nepareizi"), ErrCredentials, []string{"nats://user:password@host"}},
		{"nats://" + hostOf(s), ErrCredentials, []string{"nats://user:password@host"}},
		{here("skatītājs", "parole-ž"), ErrCredentials, []string{"$JS.API.INFO"}},
		{here("cits", "parole-ž"), ErrUnsuitable, []string{"jetstream: enabled"}},
		{at("balsis", "parole-ž", closedAddress(t)), ErrUnavailable, []string{"--nats-url"}},
	} {
		refused(t, c.url, c.kind, c.want...)
	}
}

func TestServerWithoutJetStream(t *testing.T) {
	refused(t, "nats://"+hostOf(runServer(t, "")), ErrUnsuitable, "-js")
}

func TestServerThatIsTooOld(t *testing.T) {
	refused(t, "nats://"+oldServer(t, "2.11.9"), ErrUnsuitable, "2.11.9", "install nats-server 2.12")
	for version, want := range map[string]bool{"2.11.12": true, "1.4.1": true, "2.12.0": false, "2.14.0-dev": false, "3.0.0": false, "": false} {
		if got := tooOld(version); got != want {
			t.Errorf("version %q is too old: %v", version, got)
		}
	}
}

// refused makes sure that a server is refused in one sentence without a
// password.
func refused(t *testing.T, url string, kind error, want ...string) {
	t.Helper()
	n, err := Open(contextFor(t), Config{NATSURL: url})
	if err == nil {
		must(t, n.Close())
	}
	if !errors.Is(err, kind) {
		t.Errorf("want %v, got %v", kind, err)
		return
	}
	contains(t, err.Error(), append(want, url[strings.LastIndexAny(url, "@/")+1:])...)
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "parole") {
		t.Errorf("more than one sentence, or a password: %s", err)
	}
}

// oldServer speaks just enough of the protocol to be taken for a server.
func oldServer(t *testing.T, version string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				fmt.Fprintf(conn, "INFO {\"server_id\":\"vecs\",\"version\":%q,\"max_payload\":1048576,\"headers\":true,\"jetstream\":true}\r\n", version)
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if lines.Text() == "PING" {
						fmt.Fprint(conn, "PONG\r\n")
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

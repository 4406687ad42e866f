package deploy_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/cmd/internal/cli"
	"sakipaldies.lv/ledger/cmd/internal/deploy"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m), storetest.Leftovers()...) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// root is the repository's folder; tests change the working directory.
var root = func() string {
	dir, err := filepath.Abs("../../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// host is where the servers of these tests are, and what their certificates say.
const host = "127.0.0.1"

// servers are three from the files of a deployment, with all its secrets.
type servers struct {
	t       testing.TB
	secrets string // the folder
	members []*server.Server
	ports   []int
}

// startServers runs deploy/nats as docker-compose.yml does: each server in a folder
// with its configuration and its own secrets. Only ports, addresses and the place
// of the store are others.
func startServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{t: t, secrets: t.TempDir()}
	var out bytes.Buffer
	if code := cli.Run(t.Context(), []string{"deploy", "secrets", "--dir", s.secrets, "--host", host}, nil, &out, &out); code != 0 {
		t.Fatal(out.String())
	}
	var all []*server.Options
	for i := range 3 {
		all = append(all, s.options(fmt.Sprintf("nats-%d", i+1)))
	}
	var routes []*url.URL
	for _, port := range storetest.FreePorts(t, len(all)) {
		routes = append(routes, &url.URL{Scheme: "tls", Host: fmt.Sprintf("%s:%d", host, port)})
		all[len(routes)-1].Cluster.Port = port
	}
	for _, o := range all {
		o.Routes = routes
		member, err := server.NewServer(o)
		check(t, err)
		member.Start()
		s.members = append(s.members, member)
	}
	t.Cleanup(func() {
		for _, member := range s.members {
			member.Shutdown()
			member.WaitForShutdown()
		}
	})
	storetest.Eventually(t, "the servers know each other and have a leader", func() bool {
		for _, member := range s.members {
			if member.JetStreamIsLeader() && len(member.JetStreamClusterPeers()) == len(s.members) {
				return true
			}
		}
		return false
	})
	for _, o := range all {
		s.ports = append(s.ports, o.Port)
	}
	return s
}

// options are those of one server, read by the server's own parser.
func (s *servers) options(name string) *server.Options {
	s.t.Helper()
	dir := s.t.TempDir()
	check(s.t, os.CopyFS(dir, os.DirFS(filepath.Join(root, "deploy/nats"))))
	check(s.t, os.CopyFS(filepath.Join(dir, "secrets"), os.DirFS(filepath.Join(s.secrets, host))))
	s.t.(*testing.T).Chdir(dir)
	s.t.(*testing.T).Setenv("SERVER_NAME", name)
	o, err := server.ProcessConfigFile("nats.conf")
	check(s.t, err)
	if o.ServerName != name || !o.SyncAlways || o.TLSConfig == nil || o.Cluster.TLSConfig == nil || !o.Cluster.TLSConfig.ClientCAs.Equal(o.TLSConfig.ClientCAs) && o.Cluster.TLSConfig.ClientAuth == 0 {
		s.t.Fatalf("the configuration is not what it should be: %+v", o)
	}
	if len(o.Routes) != 3 || o.StoreDir != "/data" || o.Port != 4222 || o.Cluster.Port != 6222 {
		s.t.Fatalf("the addresses are not those of docker-compose.yml: %+v", o)
	}
	o.Host, o.Port, o.HTTPPort, o.Cluster.Host = host, storetest.FreePorts(s.t, 1)[0], 0, host
	o.StoreDir, o.NoSigs, o.NoLog = filepath.Join(dir, "data"), true, true
	return o
}

// address is what a role connects to, with its password.
func (s *servers) address(role string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.secrets, role, deploy.URLFile))
	check(s.t, err)
	var addresses []string
	for _, port := range s.ports {
		u, err := url.Parse(strings.TrimSpace(string(text)))
		check(s.t, err)
		u.Host = fmt.Sprintf("%s:%d", host, port)
		addresses = append(addresses, u.String())
	}
	return strings.Join(addresses, ",")
}

// ca is the file with the authority's certificate that a role has.
func (s *servers) ca(role string) string { return filepath.Join(s.secrets, role, deploy.CAFile) }

// connect is a role's connection, with the errors that the servers tell it.
func (s *servers) connect(role string) (*nats.Conn, <-chan error) {
	s.t.Helper()
	violations := make(chan error, 1024)
	nc, err := nats.Connect(s.address(role), nats.RootCAs(s.ca(role)), nats.CustomInboxPrefix("_INBOX_"+role),
		nats.ReconnectBufSize(-1), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err }))
	check(s.t, err)
	s.t.Cleanup(nc.Close)
	return nc, violations
}

// as is a command of a role, that must end with this exit code, and its output.
func (s *servers) as(role, data string, code int, args ...string) string {
	s.t.Helper()
	var out, errOut bytes.Buffer
	args = append(args, "--data", data, "--nats-url", s.address(role), "--nats-ca", s.ca(role))
	if got := cli.Run(s.t.Context(), args, nil, &out, &errOut); got != code {
		s.t.Fatalf("paldies %s as %s: exit code %d, not %d\n%s%s", strings.Join(args[:2], " "), role, got, code, out.String(), errOut.String())
	}
	return out.String()
}

const wait = 30 * time.Second

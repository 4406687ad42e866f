package node

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// finding looks one up by name.
func finding(t *testing.T, n *Node, name string) Finding {
	t.Helper()
	findings, err := n.Durability(contextFor(t))
	must(t, err)
	for _, f := range findings {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no finding %q in %v", name, findings)
	return Finding{}
}

func TestDurabilityOfOwnNode(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	served := open(t, Config{DataDir: dir, Serve: true, Command: "dev"})
	joined := open(t, Config{DataDir: dir})
	for _, n := range []*Node{served, joined} {
		findings, err := n.Durability(contextFor(t))
		must(t, err)
		for _, f := range findings {
			if f.Detail == "" || f.Status == Unknown || f.Status == Warning && f.Name != "disk" {
				t.Errorf("embedded %v: %+v", n.Embedded(), f)
			}
		}
		contains(t, finding(t, n, "sync").Detail, "disk before it")
		contains(t, finding(t, n, "disk").Detail, "free", dir)
	}
	must(t, os.Chmod(dir, 0o777))
	if f := finding(t, joined, "access"); f.Status != Warning || f.Remedy == "" {
		t.Errorf("a directory open to everybody: %+v", f)
	}
}

// TestDurabilityElsewhere asks servers that tell, and such that do not.
func TestDurabilityElsewhere(t *testing.T) {
	const config = `
		jetstream { store_dir: STORE, sync_interval: %s }
		system_account: SYS
		accounts {
			SYS { exports: [ { service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream, accounts: [PALDIES] } ] }
			PALDIES { jetstream: enabled, users: [ { user: balsis, password: "zaļš" } ]
				imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" } } ] }
			KLUSUMS { jetstream: enabled, users: [ { user: kluss, password: "zaļš" } ] }
		}`
	for _, c := range []struct {
		interval, user string
		want           Status
		words          string
	}{
		{"always", "balsis", OK, "servers asked: 1"},
		{`"10s"`, "balsis", Warning, "every 10s"},
		{"always", "kluss", Unknown, "cannot be seen from here"},
	} {
		s := runServer(t, fmt.Sprintf(config, c.interval))
		n := open(t, Config{NATSURL: "nats://" + url.UserPassword(c.user, "zaļš").String() + "@" + hostOf(s)})
		f := finding(t, n, "sync")
		if f.Status != c.want || f.Status != OK && f.Remedy == "" {
			t.Errorf("%s asks a server that syncs %s: %+v", c.user, c.interval, f)
		}
		contains(t, f.Detail, c.words)
		if f := finding(t, n, "cluster"); f.Status != Warning {
			t.Errorf("a single server: %+v", f)
		}
	}
}

// TestOneServerIsUnwell: what one server cannot tell costs nothing but its answer.
func TestOneServerIsUnwell(t *testing.T) {
	s := runServer(t, `jetstream { store_dir: STORE }`)
	n := open(t, Config{NATSURL: "nats://" + hostOf(s)})
	// Without a system account that tells anything, somebody else can answer.
	answers := []server.ServerAPIJszResponse{
		{Error: &server.ApiError{Code: 500, Description: "tā nevar"}},
		{Server: &server.ServerInfo{Name: "ausma"}, Data: &server.JSInfo{Config: server.JetStreamConfig{SyncAlways: true}}},
	}
	sub, err := n.Conn().Subscribe(stateSubject, func(m *nats.Msg) {
		for _, a := range answers {
			data, err := json.Marshal(a)
			if err == nil {
				err = m.Respond(data)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	must(t, err)
	defer sub.Unsubscribe()
	if f := finding(t, n, "sync"); f.Status != OK {
		t.Errorf("%+v", f)
	}
	contains(t, finding(t, n, "sync").Detail, "servers asked: 1")
}

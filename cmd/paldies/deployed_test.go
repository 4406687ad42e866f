package main

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// deployed is a cluster that runs the files of deploy/nats, and roles that use it
// as docker-compose.yml lets them.
type deployed struct {
	cluster
	secrets string // folder of all secrets
}

// startDeployed starts three servers and makes what roles need.
func startDeployed(t *testing.T) *deployed {
	t.Helper()
	const host = "127.0.0.1"
	c := &deployed{cluster: cluster{t: t}, secrets: t.TempDir()}
	paldies(t, t.TempDir(), "deploy", "secrets", "--dir", c.secrets, "--host", host)
	ports := freePorts(t, 6)
	for i, name := range []string{"nats-1", "nats-2", "nats-3"} {
		folder := t.TempDir()
		check(t, os.CopyFS(folder, os.DirFS("../../deploy/nats")))
		check(t, os.CopyFS(filepath.Join(folder, "secrets"), os.DirFS(filepath.Join(c.secrets, host))))
		c.configs = append(c.configs, serverConfig{Name: name, Dir: filepath.Join(t.TempDir(), "data"), Port: ports[i], ClusterPort: ports[3+i], Peers: ports[3:], Deployed: folder})
		c.members = append(c.members, c.configs[i].start(t))
	}
	c.connect = func() *nats.Conn {
		flags := c.as("admin")
		return storetest.Connect(t, flags[1], nats.RootCAs(flags[3]), nats.CustomInboxPrefix("_INBOX_admin"))
	}
	eventually(t, "the cluster is there", func() bool {
		_, _, code := try(t, t.TempDir(), append([]string{"deploy", "streams"}, c.as("admin")...)...)
		return code == 0
	})
	return c
}

// as are the flags of a role's commands.
func (c *deployed) as(role string) []string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.secrets, role, "nats-url"))
	check(c.t, err)
	var addresses []string
	for _, s := range c.configs {
		u, err := url.Parse(strings.TrimSpace(string(text)))
		check(c.t, err)
		u.Host = fmt.Sprintf("127.0.0.1:%d", s.Port)
		addresses = append(addresses, u.String())
	}
	return []string{"--nats-url", strings.Join(addresses, ","), "--nats-ca", filepath.Join(c.secrets, role, "ca.crt")}
}

// run is a command of a role that must succeed.
func (c *deployed) run(role, data string, args ...string) string {
	c.t.Helper()
	return paldies(c.t, data, append(args, c.as(role)...)...)
}

// settled waits until all copies of what roles need are there and up to date, and
// returns who leads the ledger.
func (c *deployed) settled(campaign string) (leader int) {
	c.t.Helper()
	for _, stream := range []string{"KV_paldies_signed", "KV_paldies_credentials", "SUBMISSIONS"} {
		c.leaderOf(stream)
	}
	return c.leaderOf(domain.StreamName(campaign))
}

// fault is what happens to the servers while votes come in. It returns what mends it.
type fault struct {
	name    string
	happens func(c *deployed, leader int, random *rand.Rand) (mend func())
}

// again starts servers that have ended.
func (c *deployed) again(members ...int) func() {
	return func() {
		for _, i := range members {
			c.members[i] = c.configs[i].start(c.t)
		}
	}
}

var faults = []fault{
	{"the leader is killed", func(c *deployed, leader int, _ *rand.Rand) func() {
		c.members[leader].kill()
		return c.again(leader)
	}},
	{"a follower is killed", func(c *deployed, leader int, random *rand.Rand) func() {
		follower := (leader + 1 + random.IntN(2)) % 3
		c.members[follower].kill()
		return c.again(follower)
	}},
	{"all are killed at once", func(c *deployed, _ int, _ *rand.Rand) func() {
		var killing sync.WaitGroup
		for _, m := range c.members {
			killing.Go(m.kill)
		}
		killing.Wait()
		return c.again(0, 1, 2)
	}},
	{"a disk is lost", func(c *deployed, _ int, random *rand.Rand) func() {
		victim := random.IntN(3)
		c.members[victim].kill()
		check(c.t, os.RemoveAll(c.configs[victim].Dir))
		return c.again(victim)
	}},
}

// TestDeployedCluster hurts the servers of a deployment in every way of faults, in
// a random order, while intake, projector and signer work. Afterwards the ledger
// is what was acknowledged, the read model is equal to it, and the log verifies.
func TestDeployedCluster(t *testing.T) {
	t.Parallel()
	seed, data, campaign := randomSeed(t), t.TempDir(), "cesis"
	random := rand.New(rand.NewPCG(seed, 1))
	three, database := startDeployed(t), migrated(t)
	three.run("admin", data, "campaign", "open", campaign, "--opens", "2010-01-01T00:00Z", "--closes", "2099-01-01T00:00Z")
	three.run("admin", data, "specialist", "import", "--campaign", campaign, specialistsFile(t))
	token := addToken(t, data, "web", three.as("admin")...)
	two := []*daemon{startWorker(t, data, three.as("intake")...), startWorker(t, data, three.as("intake")...)}
	projector := startDaemon(t, data, append(projectArgs(database), three.as("projector")...)...)
	signer := startDaemon(t, data, append([]string{"seal", "--http", "127.0.0.1:0"}, three.as("signer")...)...)
	c := startCrowd(t, workersAt(two...), campaign, token, seed)
	for _, i := range random.Perm(len(faults)) {
		c.goesOn(betweenKills)
		leader := three.settled(campaign)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(killMomentMax))))
		begun := time.Now()
		mend := faults[i].happens(three, leader, random)
		if faults[i].name != "all are killed at once" {
			c.goesOn(crowdClients)
			t.Logf("%s: votes went on within %v", faults[i].name, time.Since(begun))
		}
		mend()
		three.settled(campaign)
		t.Logf("%s: all copies are there after %v", faults[i].name, time.Since(begun))
		comeBack(t, two...)
	}
	c.goesOn(crowdClients)
	c.assertRecorded(data, 0, three.as("auditor")...)
	eventually(t, "the projector is at the end", func() bool {
		report, err := projector.projector(t.Context())
		return err == nil && report.Ready && len(report.Campaigns) == 1 && report.Campaigns[0].Lag == 0 && report.Campaigns[0].Position > 0
	})
	for _, d := range append(two, projector, signer) {
		d.stop(t)
	}
	three.run("signer", data, "seal", "--campaign", campaign, "--once")
	three.run("auditor", data, "audit", "verify", "--campaign", campaign, "--database-url", database)
	log := filepath.Join(data, "log", campaign)
	paldies(t, data, "audit", "verify", "--log", log, "--key", filepath.Join(log, "vkey"))
}

package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// rounds is how often everything happens to a deployed cluster; `make soak` sets it.
var rounds = flag.Int("rounds", 1, "how often TestDeployedCluster and TestPartitionedCluster go through their faults")

// deployed is a cluster that runs the files of deploy/nats, and roles that use it
// as docker-compose.yml lets them.
type deployed struct {
	cluster
	secrets string // folder of all secrets
	random  *rand.Rand

	data, database, token string
	workers               []*daemon
	at                    *workers // where the crowd finds workers
	projector, signer     *daemon

	campaign string // of this round
	crowd    *crowd
	stood    map[string][]time.Duration // how long votes stood still, by fault
}

// startDeployed starts three servers, on machines if there are any, and makes what
// roles need.
func startDeployed(t *testing.T, seed uint64, machines []*machine) *deployed {
	t.Helper()
	c := &deployed{cluster: cluster{t: t}, secrets: t.TempDir(), random: rand.New(rand.NewPCG(seed, 1)), stood: make(map[string][]time.Duration)}
	ports := freePorts(t, 6)
	for i, name := range []string{"nats-1", "nats-2", "nats-3"} {
		s := serverConfig{Name: name, Dir: filepath.Join(t.TempDir(), "data"), Host: loopback, Port: ports[i], ClusterPort: ports[3+i], Deployed: t.TempDir()}
		if machines != nil {
			s.machine, s.Host = machines[i], machines[i].host
		}
		c.configs = append(c.configs, s)
	}
	paldies(t, t.TempDir(), "deploy", "secrets", "--dir", c.secrets, "--host", strings.Join(c.hosts(), ","))
	for i, host := range c.hosts() {
		check(t, os.CopyFS(c.configs[i].Deployed, os.DirFS("../../deploy/nats")))
		check(t, os.CopyFS(filepath.Join(c.configs[i].Deployed, "secrets"), os.DirFS(filepath.Join(c.secrets, host))))
	}
	c.start()
	c.flags = c.as("admin")
	c.connect = func() *nats.Conn {
		return storetest.Connect(t, c.flags[1], nats.RootCAs(c.flags[3]), nats.CustomInboxPrefix("_INBOX_admin"))
	}
	eventually(t, "the cluster is there", func() bool {
		_, _, code := try(t, t.TempDir(), append([]string{"deploy", "streams"}, c.flags...)...)
		return code == 0
	})
	return c
}

// startRoles starts two workers, a projector and a signer.
func (c *deployed) startRoles() {
	c.t.Helper()
	c.data, c.database = c.t.TempDir(), migrated(c.t)
	c.token = addToken(c.t, c.data, "web", c.as("admin")...)
	for range 2 {
		c.workers = append(c.workers, startWorker(c.t, c.data, append([]string{"--queue"}, c.as("intake")...)...))
	}
	c.at = workersAt(c.workers...)
	c.projector = startDaemon(c.t, c.data, append(projectArgs(c.database), c.as("projector")...)...)
	c.signer = startDaemon(c.t, c.data, append([]string{"seal", "--http", "127.0.0.1:0"}, c.as("signer")...)...)
}

// hosts are the servers' addresses, one for each.
func (c *deployed) hosts() (hosts []string) {
	for _, s := range c.configs {
		hosts = append(hosts, s.Host)
	}
	return hosts
}

// as are the flags of a role's commands, for all servers if none is named.
func (c *deployed) as(role string, servers ...int) []string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.secrets, role, "nats-url"))
	check(c.t, err)
	var addresses []string
	for i, address := range strings.Split(strings.TrimSpace(string(text)), ",") {
		if len(servers) > 0 && !slices.Contains(servers, i) {
			continue
		}
		u, err := url.Parse(address)
		check(c.t, err)
		u.Host = c.configs[i].address()
		addresses = append(addresses, u.String())
	}
	return []string{"--nats-url", strings.Join(addresses, ","), "--nats-ca", filepath.Join(c.secrets, role, "ca.crt")}
}

// run is a command of a role that must succeed.
func (c *deployed) run(role string, args ...string) string {
	c.t.Helper()
	return paldies(c.t, c.data, append(args, c.as(role)...)...)
}

// fault is what happens to the servers while votes come in. It returns what mends it.
type fault struct {
	name    string
	happens func(c *deployed, leader int) (mend func())
}

// again starts servers that have ended.
func (c *deployed) again(members ...int) func() {
	return func() {
		for _, i := range members {
			c.members[i] = c.configs[i].start(c.t)
		}
	}
}

// allKilled is the fault after which nobody can vote before it is mended.
const allKilled = "all are killed at once"

var faults = []fault{
	{"the leader is killed", func(c *deployed, leader int) func() {
		c.members[leader].kill()
		return c.again(leader)
	}},
	{"a follower is killed", func(c *deployed, leader int) func() {
		follower := (leader + 1 + c.random.IntN(2)) % 3
		c.members[follower].kill()
		return c.again(follower)
	}},
	{allKilled, func(c *deployed, _ int) func() {
		var killing sync.WaitGroup
		for _, m := range c.members {
			killing.Go(m.kill)
		}
		killing.Wait()
		return c.again(0, 1, 2)
	}},
	{"a disk is lost", func(c *deployed, _ int) func() {
		victim := c.random.IntN(3)
		c.members[victim].kill()
		check(c.t, os.RemoveAll(c.configs[victim].Dir))
		return c.again(victim)
	}},
}

// TestDeployedCluster hurts the servers of a deployment in every way of faults.
func TestDeployedCluster(t *testing.T) {
	t.Parallel()
	seed := randomSeed(t)
	startDeployed(t, seed, nil).rounds(faults, seed)
}

// rounds lets every fault happen in a random order, again and again, while intake,
// projector and signer work. After each round the ledger is what was acknowledged
// and the read model is equal to it; in the end all logs verify.
func (c *deployed) rounds(faults []fault, seed uint64) {
	c.t.Helper()
	c.startRoles()
	for i := range *rounds {
		c.round(campaignOf(i), faults, seed+uint64(i))
	}
	for _, d := range append(c.workers, c.projector, c.signer) {
		d.stop(c.t)
	}
	for i := range *rounds {
		c.assertProven(campaignOf(i))
	}
	for _, f := range faults {
		times := c.stood[f.name]
		slices.Sort(times)
		c.t.Logf("%s: votes stood still for at most %v, half of %d times for at most %v", f.name, times[len(times)-1], len(times), times[(len(times)-1)/2])
	}
}

// campaignOf is the campaign of a round.
func campaignOf(round int) string { return fmt.Sprint("cesis-", round+1) }

// round lets a crowd vote in a new campaign until every fault has happened.
func (c *deployed) round(campaign string, faults []fault, seed uint64) {
	c.t.Helper()
	c.campaign = campaign
	c.run("admin", "campaign", "open", campaign, "--opens", "2010-01-01T00:00Z", "--closes", "2099-01-01T00:00Z")
	c.run("admin", "specialist", "import", "--campaign", campaign, specialistsFile(c.t))
	c.crowd = startCrowd(c.t, c.at, campaign, c.token, seed)
	for _, i := range c.random.Perm(len(faults)) {
		c.suffer(faults[i])
	}
	c.crowd.assertRecorded(c.data, 0, c.as("auditor")...)
	eventually(c.t, "the projector is at the end", func() bool {
		report, err := c.projector.projector(c.t.Context())
		return err == nil && report.Ready && !slices.ContainsFunc(report.Campaigns, func(p projectedCampaign) bool { return p.Lag > 0 || p.Position == 0 })
	})
	c.run("auditor", "audit", "verify", "--campaign", campaign, "--database-url", c.database)
}

// suffer lets a fault happen, mends it when votes go on in spite of it, and waits
// until all is as before.
func (c *deployed) suffer(f fault) {
	c.t.Helper()
	c.crowd.goesOn(betweenKills)
	leader := c.settled(domain.StreamName(c.campaign))
	// The moment is what is tested here, not what is waited for.
	time.Sleep(time.Duration(c.random.Int64N(int64(killMomentMax))))
	c.crowd.stoodStill()
	begun := time.Now()
	mend := f.happens(c, leader)
	if f.name != allKilled {
		c.crowd.goesOn(betweenKills)
	}
	mended := time.Now()
	mend()
	c.settled(domain.StreamName(c.campaign))
	comeBack(c.t, c.workers...)
	c.crowd.goesOn(betweenKills)
	still := c.crowd.stoodStill().Round(time.Millisecond)
	c.t.Logf("%s: mended after %v, as before %v later; votes stood still for %v", f.name, mended.Sub(begun), time.Since(mended), still)
	c.stood[f.name] = append(c.stood[f.name], still)
}

// assertProven signs the rest of a campaign's log, and checks the log, and ledger
// and read model against it.
func (c *deployed) assertProven(campaign string) {
	c.t.Helper()
	c.run("signer", "seal", "--campaign", campaign, "--once")
	c.run("auditor", "audit", "verify", "--campaign", campaign, "--database-url", c.database)
	log := filepath.Join(c.data, "log", campaign)
	paldies(c.t, c.data, "audit", "verify", "--log", log, "--key", filepath.Join(log, "vkey"))
}

package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

const (
	// serverKills is how often a NATS server is killed under its workers, and
	// leaderKills how often one of three that leads.
	serverKills, leaderKills = 5, 4
	// betweenKills is how many events are acknowledged before the next kill.
	betweenKills = 400
	// backMax is how long workers may take, once there is a server again, until
	// they are ready, in time. It is generous, for the machine is busy.
	backMax = 30 * time.Second
	// copiesMax is the longest that a test waits for a server to have copied what
	// it has missed, in time. At full load a leader that was cut off has taken 85 s.
	copiesMax = 5 * time.Minute
	// killMomentMax is the longest that votes go on before the next kill, in
	// time.
	killMomentMax = 500 * time.Millisecond
)

// comeBack waits until workers are ready again, which they must be soon.
func comeBack(t *testing.T, daemons ...*daemon) {
	t.Helper()
	begun := time.Now()
	for _, d := range daemons {
		d.becomesReady(t)
	}
	if took := time.Since(begun); took > backMax {
		t.Errorf("the workers are ready %v after the server, at most %v are right", took, backMax)
	} else {
		t.Logf("ready after %v", took)
	}
}

// isMissed waits until workers say that they are not ready.
func isMissed(t *testing.T, daemons ...*daemon) {
	t.Helper()
	for _, d := range daemons {
		eventually(t, "/readyz says that the server is missed", func() bool {
			status, _, err := d.ready(t)
			return err == nil && status == http.StatusServiceUnavailable
		})
	}
}

// TestKilledNode kills the node that two workers have joined by its data
// directory, and that takes votes itself. The next one has other addresses; that
// of its ledger the workers must find. Without a node they end in order.
func TestKilledNode(t *testing.T) {
	t.Parallel()
	seed, data := randomSeed(t), t.TempDir()
	random := rand.New(rand.NewPCG(seed, 1))
	nodeArgs := []string{"dev", "--http", "127.0.0.1:0", "--seal=false"}
	node := startDaemon(t, data, nodeArgs...)
	openForVotes(t, data, "gulbene", specialistsFile(t))
	two := []*daemon{startWorker(t, data), startWorker(t, data)}
	at := workersAt(two...)
	at.set(len(two), node)
	c := startCrowd(t, at, "gulbene", addToken(t, data, "web"), seed)
	for round := range serverKills {
		c.goesOn(betweenKills)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(killMomentMax))))
		node.kill()
		if round%2 == 0 {
			isMissed(t, two...)
		}
		node = startDaemon(t, data, nodeArgs...)
		at.set(len(two), node)
		comeBack(t, two...)
	}
	c.goesOn(crowdClients)
	c.assertRecorded(data, 0)
	node.kill()
	isMissed(t, two...)
	for _, d := range two {
		d.stop(t)
	}
}

// TestKilledServer kills the server that was named to two workers.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	seed, data := randomSeed(t), t.TempDir()
	random := rand.New(rand.NewPCG(seed, 1))
	config := serverConfig{Name: "mezgls", Dir: t.TempDir(), Port: freePorts(t, 1)[0]}
	server := config.start(t)
	servers := []string{"--nats-url", natsURL(config)}
	openForVotes(t, data, "madona", specialistsFile(t), servers...)
	token := addToken(t, data, "web", servers...)
	two := []*daemon{startWorker(t, data, servers...), startWorker(t, data, servers...)}
	c := startCrowd(t, workersAt(two...), "madona", token, seed)
	for round := range serverKills {
		c.goesOn(betweenKills)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(killMomentMax))))
		server.kill()
		if round%2 == 0 {
			isMissed(t, two...)
		}
		if round == 0 { // This takes as long as a request may.
			eventually(t, "clients are told that the outcome is unknown", func() bool { return c.unsure() > 0 })
		}
		server = config.start(t)
		comeBack(t, two...)
	}
	c.goesOn(crowdClients)
	c.assertRecorded(data, 0, servers...)
	for _, d := range two {
		d.stop(t)
	}
}

// TestKilledLeaders kills, of a cluster of three servers, the one that leads the
// ledger, waits until votes go on without it, and starts it again.
func TestKilledLeaders(t *testing.T) {
	t.Parallel()
	seed, data, campaign := randomSeed(t), t.TempDir(), "valmiera"
	random := rand.New(rand.NewPCG(seed, 1))
	three := startCluster(t)
	servers := three.flags
	openForVotes(t, data, campaign, specialistsFile(t), servers...)
	token := addToken(t, data, "web", servers...)
	two := []*daemon{startWorker(t, data, servers...), startWorker(t, data, servers...)}
	c := startCrowd(t, workersAt(two...), campaign, token, seed)
	for range leaderKills {
		c.goesOn(betweenKills)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(killMomentMax))))
		leader := three.settled(domain.StreamName(campaign))
		three.members[leader].kill()
		begun := time.Now()
		c.goesOn(crowdClients)
		t.Logf("%s was killed; votes went on within %v", three.configs[leader].Name, time.Since(begun))
		three.members[leader] = three.configs[leader].start(t)
		comeBack(t, two...)
	}
	c.assertRecorded(data, 0, servers...)
	for _, d := range two {
		d.stop(t)
	}
}

// cluster is three servers.
type cluster struct {
	t       *testing.T
	configs []serverConfig
	members []*daemon
	flags   []string // of commands of its administrator
	connect func() *nats.Conn
}

// startCluster starts one and waits until it is there.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	ports := freePorts(t, 6)
	for i, name := range []string{"mezgls-1", "mezgls-2", "mezgls-3"} {
		c.configs = append(c.configs, serverConfig{Name: name, Dir: t.TempDir(), Port: ports[i], ClusterPort: ports[3+i]})
	}
	c.start()
	c.flags = []string{"--nats-url", natsURL(c.configs...)}
	c.connect = func() *nats.Conn { return storetest.Connect(t, natsURL(c.configs...)) }
	eventually(t, "the cluster is there", func() bool {
		_, _, code := try(t, t.TempDir(), append([]string{"channel", "list"}, c.flags...)...)
		return code == 0
	})
	return c
}

// start starts the servers, which know each other.
func (c *cluster) start() {
	c.t.Helper()
	var peers []string
	for _, s := range c.configs {
		peers = append(peers, s.peer())
	}
	for i := range c.configs {
		c.configs[i].Peers = peers
		c.members = append(c.members, c.configs[i].start(c.t))
	}
}

// settled waits until doctor says that all servers have their copies of everything:
// before that nobody may touch another server. It returns who leads a stream.
func (c *cluster) settled(stream string) (leader int) {
	c.t.Helper()
	heard := ""
	eventuallyIn(c.t, copiesMax, "all servers have all copies", func() bool {
		out, _, _ := try(c.t, c.t.TempDir(), slices.Concat([]string{"doctor", "-o", "json"}, c.flags)...)
		var said struct {
			Findings []struct{ Status, What, Detail string }
		}
		if json.Unmarshal([]byte(out), &said) != nil {
			return false // the servers do not answer
		}
		for _, f := range said.Findings {
			if f.What == "copies" {
				if f.Detail != heard {
					heard = f.Detail
					c.t.Log(heard)
				}
				return f.Status == "ok"
			}
		}
		return false
	})
	return c.leaderOf(stream)
}

// leaderOf waits until a stream has a leader and two members beside it that are
// not behind, and returns the leader's place.
func (c *cluster) leaderOf(stream string) (leader int) {
	c.t.Helper()
	c.becomes(stream, "has three members", func(group *jetstream.ClusterInfo) bool {
		leader = slices.IndexFunc(c.configs, func(s serverConfig) bool { return s.Name == group.Leader })
		return len(group.Replicas) == 2 && !slices.ContainsFunc(group.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current })
	})
	return leader
}

// becomes waits until a stream's leader says something of its members.
func (c *cluster) becomes(stream, what string, is func(*jetstream.ClusterInfo) bool) {
	c.t.Helper()
	c.asks(stream+" "+what, func(ctx context.Context, js jetstream.JetStream) bool {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return false
		}
		group := s.CachedInfo().Cluster
		return group != nil && group.Leader != "" && is(group)
	})
}

// asks asks the servers again and again until the answer is right.
func (c *cluster) asks(what string, right func(context.Context, jetstream.JetStream) bool) {
	c.t.Helper()
	nc := c.connect()
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(c.t, err)
	eventuallyIn(c.t, copiesMax, what, func() bool {
		ctx, stop := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer stop()
		return right(ctx, js)
	})
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/domain"
)

// TestPartitionedCluster cuts the cables of the servers of a deployment, each of
// which has a network of its own.
func TestPartitionedCluster(t *testing.T) {
	if !isApart() {
		t.Parallel()
		withNetworks(t)
		return
	}
	seed := randomSeed(t)
	startDeployed(t, seed, layCables(t, 3)).rounds(cuts, seed)
}

// withNetworks runs this test where it may make networks that nobody else sees.
func withNetworks(t *testing.T) {
	t.Helper()
	err := apart(t, syscall.CLONE_NEWNET, capNetAdmin, capSysAdmin)
	switch {
	case err == nil:
	case os.Geteuid() == 0:
		t.Errorf("no partition was tested, for root may not make networks here (%v): install iproute2, give the tests the rights (docker run --privileged), or run them as another user", err)
	default:
		fmt.Println("NOTE: no partition was tested: this system lets only root make networks, or has no ip(8)")
		t.Skipf("networks cannot be made here (%v): install iproute2, or run the tests as root once", err)
	}
}

// wellMax is how long betweenKills votes may take, in time. It is generous, for the
// machine is busy; requests that wait for a server that is cut off take longer.
const wellMax = 15 * time.Second

// Addresses of machines, and of the test's ends of their cables. The last number
// tells them apart.
const machineNet, cableNet = "10.77.0.", "10.77.1."

// layCables makes machines, each with a cable to the test, which passes on what
// they send to each other.
func layCables(t *testing.T, n int) (machines []*machine) {
	t.Helper()
	err := errors.Join(ip("link set lo up"), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	for i := 0; i < n && err == nil; i++ {
		m := &machine{host: fmt.Sprint(machineNet, i+1), jobs: make(chan func())}
		t.Cleanup(func() { close(m.jobs) })
		machines = append(machines, m)
		err = m.plugIn(cable(i), fmt.Sprint(cableNet, i+1))
	}
	if err != nil {
		t.Fatalf("%s lay cables: %v", refused, err)
	}
	return machines
}

// cable is the name of the cable of a machine.
func cable(i int) string { return fmt.Sprint("cable", i+1) }

// plugIn starts the machine's thread and lays its cable to an address here.
func (m *machine) plugIn(cable, address string) (err error) {
	go func() {
		runtime.LockOSThread() // for good: nobody else may run in the machine's network
		for job := range m.jobs {
			job()
		}
	}()
	var thread int
	m.do(func() { thread, err = syscall.Gettid(), syscall.Unshare(syscall.CLONE_NEWNET) })
	if err == nil {
		err = ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %d", cable, thread),
			fmt.Sprintf("address add %s peer %s dev %s", address, m.host, cable), "link set "+cable+" up")
	}
	if err == nil {
		m.do(func() {
			err = ip("link set lo up", fmt.Sprintf("address add %s peer %s dev eth0", m.host, address), "link set eth0 up", "route add default via "+address)
		})
	}
	return err
}

// ip runs commands of ip(8).
func ip(commands ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// cuts are faults of the network.
var cuts = []fault{
	{"a server is cut off from all", func(c *deployed, _ int) func() {
		victim := c.random.IntN(3)
		check(c.t, ip("link set "+cable(victim)+" down"))
		c.isMissing(victim)
		c.goesOnWell()
		return func() { check(c.t, ip("link set "+cable(victim)+" up")) }
	}},
	{"the leader is cut off from the others", func(c *deployed, leader int) func() {
		// Clients still reach it, and one worker reaches nothing else.
		lonely, place := startWorker(c.t, c.data, c.as("intake", leader)...), len(c.workers)
		c.at.set(place, lonely)
		others, host := machineNet+"0/24", c.configs[leader].Host
		lost := []string{"from " + host + " to " + others + " blackhole", "from " + others + " to " + host + " blackhole"}
		check(c.t, ip("rule add "+lost[0], "rule add "+lost[1]))
		isMissed(c.t, lonely)
		c.goesOnWell()
		return func() {
			check(c.t, ip("rule delete "+lost[0], "rule delete "+lost[1]))
			comeBack(c.t, lonely)
			c.at.set(place, c.workers[0])
			lonely.stop(c.t)
		}
	}},
}

// isMissing waits until the campaign's ledger is led by another server, which has
// heard nothing from this one for a while, or ever.
func (c *deployed) isMissing(server int) {
	c.t.Helper()
	const while = 5 * time.Second
	name := c.configs[server].Name
	c.becomes(domain.StreamName(c.campaign), "goes on without "+name, func(group *jetstream.ClusterInfo) bool {
		return slices.ContainsFunc(group.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == name && (p.Active == 0 || p.Active > while) })
	})
}

// goesOnWell waits until the workers have found a server of the majority, and wants
// votes to go on as if there were no other.
func (c *deployed) goesOnWell() {
	c.t.Helper()
	comeBack(c.t, c.workers...)
	begun := time.Now()
	c.crowd.goesOn(betweenKills)
	if took := time.Since(begun); took > wellMax {
		c.t.Errorf("%d votes took %v, at most %v are right", betweenKills, took, wellMax)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

const (
	// heldRequests is how many requests a worker has accepted, and not yet got
	// their bodies, when it is asked to stop.
	heldRequests = 16
	// idleConnections is how many connections are open without a request then.
	idleConnections = 32
	// stopMax is how long a worker may take to stop, in time: a request may last
	// 20 s, and what is recorded then has another 15 s.
	stopMax = 40 * time.Second
)

// TestStoppedUnderLoad asks a worker to stop while a crowd votes at it. Whatever
// it has accepted is answered; connections that nobody uses are in nobody's way.
func TestStoppedUnderLoad(t *testing.T) {
	seed, data, campaign := randomSeed(t), t.TempDir(), "limbazi"
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	openForVotes(t, data, campaign, specialistsFile(t))
	token := addToken(t, data, "web")
	worker := startWorker(t, data)
	at := workersAt(worker)
	c := startCrowdOf(t, at, campaign, token, seed, (*member).voteUntilTrouble)
	idle := openIdle(t, at)
	held := holdRequests(t, at, campaign, token)
	c.goesOn(20 * crowdClients)

	begun := time.Now()
	check(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	stopsListening(t, worker)
	c.voting.Wait() // Nobody is let in any more, and nobody asks twice.
	for _, h := range held {
		if a, err := h.finish(); err != nil || a.status != http.StatusCreated {
			t.Errorf("a request that had been accepted: %+v, %v", a, err)
		} else {
			c.members = append(c.members, &member{told: []receipt{{h.what, a.sequence, a.eventID}}})
		}
	}
	wantStopped(t, worker, begun)
	for _, conn := range idle {
		check(t, conn.SetReadDeadline(time.Now().Add(patience)))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("an idle connection: %d bytes, %v", n, err)
		}
	}
	if n := c.assertRecorded(data, 0); n > 0 {
		t.Errorf("%d votes were recorded and not answered", n)
	}
	node.stop(t)
}

// TestStoppedWithoutLedger asks a worker to stop while the NATS server does not
// answer. Requests that were accepted are answered all the same: nobody knows
// what has become of them.
func TestStoppedWithoutLedger(t *testing.T) {
	t.Parallel()
	data, campaign := t.TempDir(), "ape"
	config := serverConfig{Name: "mezgls", Dir: t.TempDir(), Port: freePorts(t, 1)[0]}
	server := config.start(t)
	servers := []string{"--nats-url", natsURL(config)}
	openForVotes(t, data, campaign, specialistsFile(t), servers...)
	token := addToken(t, data, "web", servers...)
	worker := startWorker(t, data, servers...)
	held := holdRequests(t, workersAt(worker), campaign, token)

	halt(t, server.cmd.Process)
	for _, h := range held {
		check(t, h.sendBody())
	}
	begun := time.Now()
	check(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	for _, h := range held {
		if a, err := h.answer(); err != nil || a.code != "outcome_unknown" && a.code != "unavailable" {
			t.Errorf("a request that had been accepted: %+v, %v", a, err)
		}
	}
	check(t, server.cmd.Process.Signal(syscall.SIGCONT))
	wantStopped(t, worker, begun)
	paldies(t, data, append([]string{"audit", "verify", "--campaign", campaign}, servers...)...)
}

// halt stops all threads of a process until it is told to go on. The signal alone
// leaves them a moment, in which a vote was recorded.
func halt(t *testing.T, p *os.Process) {
	t.Helper()
	check(t, p.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil)
	for errors.Is(err, syscall.EINTR) {
		_, err = syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil)
	}
	check(t, err)
	if !status.Stopped() {
		t.Fatalf("a process that was to halt: %v", status)
	}
}

// wantStopped waits for a process that was asked to stop, and wants it to end
// in order and in time.
func wantStopped(t *testing.T, d *daemon, begun time.Time) {
	t.Helper()
	<-d.ended
	if took := time.Since(begun); d.err != nil || took > stopMax {
		t.Errorf("a worker that was asked to stop has ended after %v: %v", took, d.err)
	} else {
		t.Logf("stopped after %v", took)
	}
}

// stopsListening waits until a process accepts no connection any more.
func stopsListening(t *testing.T, d *daemon) {
	t.Helper()
	eventually(t, "nobody listens any more", func() bool {
		conn, err := net.Dial("tcp", d.address())
		if err == nil {
			_ = conn.Close() // It may be reset: nobody will accept it.
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// voteUntilTrouble votes and never asks again.
func (m *member) voteUntilTrouble(ctx context.Context) {
	defer m.hangUp()
	for i := 0; ctx.Err() == nil && len(m.unknown) == 0 && len(m.never) == 0; i++ {
		voter := fmt.Sprintf("%s-%d", m.name, i)
		if err := m.tryOnce(voter, crowdSpecialist(m.random.IntN(crowdSpecialists))); err != nil {
			m.crowd.t.Errorf("%s: %v", voter, err)
			return
		}
	}
}

// openIdle opens connections over which one request each was answered.
func openIdle(t *testing.T, at *workers) (idle []net.Conn) {
	t.Helper()
	for range idleConnections {
		c := &client{workers: at}
		if a, err := c.send(request{method: http.MethodGet, path: "/api/v1/campaigns"}); err != nil || a.code != "unauthorized" {
			t.Fatalf("%+v, %v", a, err)
		}
		t.Cleanup(c.hangUp)
		idle = append(idle, c.conn)
	}
	return idle
}

// heldRequest is a request whose body is on its way.
type heldRequest struct {
	client
	request request
	what    intent
}

// holdRequests sends votes but for their bodies, and waits until the worker has
// asked for those: then it has accepted the requests.
func holdRequests(t *testing.T, at *workers, campaign, token string) (held []*heldRequest) {
	t.Helper()
	for i := range heldRequests {
		h := &heldRequest{client: client{workers: at, random: rand.New(rand.NewPCG(0, uint64(i)))},
			what: intent{"vote", fmt.Sprintf("lēns %d", i), crowdSpecialist(0)}}
		h.request = voteRequest(campaign, token, fmt.Sprintf("lens-%d", i), h.what.voter, h.what.specialist, "")
		check(t, h.connect())
		t.Cleanup(h.hangUp)
		check(t, h.conn.SetDeadline(time.Now().Add(patience)))
		check(t, h.request.write(h.conn, false))
		if a, err := h.answer(); err != nil || a.status != http.StatusContinue {
			t.Fatalf("a request without its body: %+v, %v", a, err)
		}
		held = append(held, h)
	}
	return held
}

func (h *heldRequest) sendBody() error {
	_, err := io.WriteString(h.conn, h.request.body)
	return err
}

func (h *heldRequest) answer() (answer, error) {
	a, _, err := h.read()
	return a, err
}

// finish sends the body and returns the answer.
func (h *heldRequest) finish() (answer, error) {
	if err := h.sendBody(); err != nil {
		return answer{}, err
	}
	return h.answer()
}

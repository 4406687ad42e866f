package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWorkerCannotStart: what a worker lacks at its start it says in one
// sentence, with the exit code of a dependency.
func TestWorkerCannotStart(t *testing.T) {
	data := t.TempDir()
	intake := func(args ...string) []string { return append([]string{"intake"}, args...) }
	free := intake("--http", "127.0.0.1:0")
	wantUnavailable(t, data, free, "no node runs on "+data, "start one with `paldies dev`, or name servers with --nats-url")
	nobody := fmt.Sprintf("nats://nobody:secret@127.0.0.1:%d", freePorts(t, 1)[0])
	wantUnavailable(t, data, append(free, "--nats-url", nobody), "the NATS server cannot be reached", "start the server, or correct --nats-url")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	wantUnavailable(t, data, intake("--http", taken.Addr().String()), "another program listens on "+taken.Addr().String(), "choose another address")
	if out, errOut, code := try(t, data, intake("--http", "8080")...); code != 2 || !strings.Contains(errOut, "HOST:PORT") {
		t.Errorf("an address that is none: exit code %d\n%s%s", code, out, errOut)
	}
}

// castOnce votes at a process, without trying again.
func (d *daemon) castOnce(t *testing.T, campaign, token, voter string) answer {
	t.Helper()
	c := &client{workers: workersAt(d)}
	defer c.hangUp()
	a, err := c.send(voteRequest(campaign, token, "", voter, crowdSpecialist(0), ""))
	check(t, err)
	return a
}

// TestWorkerKeys: a worker takes votes for the campaigns whose keys it has. What
// is wrong with the key of one is said, and takes no other one's worker away.
func TestWorkerKeys(t *testing.T) {
	data, campaign := t.TempDir(), "sigulda"
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	openForVotes(t, data, campaign, specialistsFile(t))
	token, keys := addToken(t, data, "web"), t.TempDir()
	key := filepath.Join(keys, campaign+".key")
	worker := startDaemon(t, data, "intake", "--http", "127.0.0.1:0", "--log-level", "warn", "--keys", keys)
	state := func() string {
		status, text, err := worker.ready(t)
		check(t, err)
		return fmt.Sprint(status, " ", text)
	}
	wantNotServed := func(what string) {
		t.Helper()
		if a := worker.castOnce(t, campaign, token, "kāds"); a.status != http.StatusServiceUnavailable || a.code != "campaign_not_served" {
			t.Errorf("%s: %+v", what, a)
		}
	}
	worker.becomesReady(t)
	wantNotServed("no key")
	if got := state(); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "no votes are taken for it here: the campaign's pseudonym key is missing") {
		t.Errorf("without a key: %s", got)
	}

	other := make([]byte, 32)
	rand.Read(other) // never fails, see crypto/rand
	check(t, os.WriteFile(key, []byte(hex.EncodeToString(other)), 0o600))
	wantNotServed("another campaign's key")
	if got := state(); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "not this campaign's") {
		t.Errorf("with a wrong key: %s", got)
	}

	right, err := os.ReadFile(filepath.Join(data, "keys", campaign+".key"))
	check(t, err)
	check(t, os.WriteFile(key, right, 0o600))
	check(t, os.Chmod(key, 0o644))
	wantNotServed("a key that others can read")
	if got := state(); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "can be read by others") {
		t.Errorf("with a key that others can read: %s", got)
	}

	check(t, os.Chmod(key, 0o600))
	if a := worker.castOnce(t, campaign, token, "kāds"); a.status != http.StatusCreated {
		t.Errorf("with the right key: %+v", a)
	}
	if got := state(); !strings.HasPrefix(got, "200 ") {
		t.Errorf("with the right key: %s", got)
	}
	worker.stop(t)
	node.stop(t)
}

// TestWorkerLogs: a worker adds proofs to receipts where it is told where the
// signed logs are.
func TestWorkerLogs(t *testing.T) {
	data, campaign := t.TempDir(), "ogre"
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0")
	openForVotes(t, data, campaign, specialistsFile(t))
	token := addToken(t, data, "web")
	log := filepath.Join(data, "log")
	moved := filepath.Join(t.TempDir(), "logs")
	check(t, os.Symlink(log, moved))
	with, without := startWorker(t, data, "--logs", moved), startWorker(t, data, "--logs", t.TempDir())
	vote := with.castOnce(t, campaign, token, "kāds")
	// proof is what a worker proves of the vote.
	proof := func(d *daemon) string {
		c := &client{workers: workersAt(d)}
		defer c.hangUp()
		a, err := c.send(request{method: http.MethodGet, path: fmt.Sprintf("%s/%d", votesPath(campaign), vote.sequence), token: token, voter: "kāds"})
		check(t, err)
		var receipt struct{ Proof string }
		check(t, json.Unmarshal([]byte(a.text), &receipt))
		if a.status != http.StatusOK || a.eventID != vote.eventID {
			t.Fatalf("the receipt of %+v is %+v", vote, a)
		}
		return receipt.Proof
	}
	var text string
	eventually(t, "the vote is proven", func() bool {
		text = proof(with)
		return text != ""
	})
	if got := proof(without); got != "" {
		t.Errorf("a worker without the logs proves %s", got)
	}
	file := filepath.Join(t.TempDir(), "proof")
	check(t, os.WriteFile(file, []byte(text), 0o600))
	paldies(t, t.TempDir(), "receipt", "verify", file, "--key", filepath.Join(log, campaign, "vkey"))
	with.stop(t)
	without.stop(t)
	node.stop(t)
}

// TestRevokedWhileItRuns revokes a credential: workers that run refuse it soon,
// and no other.
func TestRevokedWhileItRuns(t *testing.T) {
	data, campaign := t.TempDir(), "talsi"
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	openForVotes(t, data, campaign, specialistsFile(t))
	worker := startWorker(t, data)
	kept, token := addToken(t, data, "mobile"), addToken(t, data, "web")
	all := []*daemon{node, worker}
	for i, d := range all {
		eventually(t, "a new credential is known", func() bool {
			return d.castOnce(t, campaign, token, fmt.Sprintf("kāds %d", i)).code != "unauthorized"
		})
	}
	_, id, _ := strings.Cut(token, "_")
	id, _, _ = strings.Cut(id, "_")
	paldies(t, data, "channel", "revoke", id)
	for i, d := range all {
		took := eventually(t, "a revoked credential is refused", func() bool {
			a := d.castOnce(t, campaign, token, fmt.Sprintf("kāds %d", i))
			return a.status == http.StatusUnauthorized && a.code == "unauthorized"
		})
		t.Logf("refused after %v", took)
		if a := d.castOnce(t, campaign, kept, fmt.Sprintf("cits %d", i)); a.status != http.StatusCreated {
			t.Errorf("another credential: %+v", a)
		}
	}
	worker.stop(t)
	node.stop(t)
}

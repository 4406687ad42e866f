package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/cli"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// patience is the longest that a test waits for an answer over HTTP.
const patience = 2 * time.Minute

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what a command said.
type answer struct {
	code     int
	out, err string
}

// paldies runs a command in this process.
func paldies(t *testing.T, args ...string) answer {
	t.Helper()
	var out, errOut bytes.Buffer
	code := cli.Run(t.Context(), args, strings.NewReader(""), &out, &errOut)
	return answer{code, out.String(), errOut.String()}
}

// succeed runs a command that must end with code 0, and returns its output.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	a := paldies(t, args...)
	if a.code != 0 {
		t.Fatalf("paldies %s: exit code %d\n%s%s", strings.Join(args, " "), a.code, a.out, a.err)
	}
	return a.out
}

// mentions reports words that are missing in a text.
func mentions(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing in:\n%s", word, text)
		}
	}
}

// openCampaign opens a campaign with two specialists.
func openCampaign(t *testing.T, data, id string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "speciālisti.csv")
	check(t, os.WriteFile(file, []byte("specialist_id,name,institution,branch\n"+
		"zane,Zane Ģēģere,Ziedoņu klientu centrs,Gulbene\nkaspars,Kaspars Ņukšs,Ūdensrožu reģistrs,Rēzekne\n"), 0o600))
	succeed(t, "--data", data, "campaign", "open", id, "--opens", "2018-01-01T00:00+02:00", "--closes", "2118-01-01T00:00+02:00", "--title", "Labais serviss")
	succeed(t, "--data", data, "specialist", "import", "--campaign", id, file)
}

// castVote casts the vote of one voter.
func castVote(t *testing.T, data, id, voter string) {
	t.Helper()
	succeed(t, "--data", data, "vote", "cast", "--campaign", id, "--voter", voter, "--specialist", "zane", "--channel", "web")
}

// readBanner reads what a node says when it starts: a word and a line for each
// thing that it serves.
func readBanner(t *testing.T, out io.Reader) map[string]string {
	t.Helper()
	banner := make(map[string]string)
	for lines := bufio.NewScanner(out); banner["stop"] == "" && lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		banner[name] = strings.TrimSpace(text)
	}
	if banner["stop"] == "" {
		t.Fatalf("the node has ended before it said how to stop it; it said %q", banner)
	}
	return banner
}

// devNode is a running `paldies dev`.
type devNode struct {
	banner map[string]string
	http   string // without a path
	cmd    *exec.Cmd
}

func newDevNode(t *testing.T, out io.Reader) devNode {
	t.Helper()
	banner := readBanner(t, out)
	base, _, _ := strings.Cut(banner["http"], "/livez")
	return devNode{banner: banner, http: base}
}

// startProcess runs dev as a process of its own, which the test ends.
func startProcess(t *testing.T, data string) devNode {
	t.Helper()
	cmd := exec.Command("paldies", "--data", data, "dev", "--http", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // The test has failed before it ended the process.
			_ = cmd.Wait()
		}
	})
	n := newDevNode(t, out)
	n.cmd = cmd
	return n
}

// startDev runs dev in this process until the test ends.
func startDev(t *testing.T, data string) devNode {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var running sync.WaitGroup
	running.Go(func() {
		var errOut bytes.Buffer
		if code := cli.Run(ctx, []string{"--data", data, "dev", "--http", "127.0.0.1:0"}, nil, in, &errOut); code != 0 {
			t.Errorf("dev ended with code %d: %s", code, errOut.String())
		}
		in.Close() // never fails
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return newDevNode(t, out)
}

// get asks the node; keep-alive connections would outlive the test.
func (n devNode) get(t *testing.T, method, path string) (int, []byte) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), method, n.http+path, nil)
	check(t, err)
	response, err := client.Do(request)
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, body
}

// ready is the answer of /readyz.
type ready struct {
	Ready        bool
	Dependencies []struct {
		Name, Detail string
		Ready        bool
	}
	Campaigns []campaignReady
}

type campaignReady struct {
	Campaign            string
	Ready               bool
	Position, Last, Lag uint64
	Error               string
}

func (n devNode) readyz(t *testing.T) ready {
	t.Helper()
	status, body := n.get(t, http.MethodGet, "/readyz")
	var r ready
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("/readyz: %v in %s", err, body)
	}
	if want := map[bool]int{true: 200, false: 503}[r.Ready]; status != want {
		t.Errorf("/readyz has the status %d and says ready: %v", status, r.Ready)
	}
	return r
}

// campaign waits until the read model of a campaign is as the test wants it.
func (n devNode) campaign(t *testing.T, id string, want func(campaignReady) bool) {
	t.Helper()
	storetest.Eventually(t, "the read model of "+id+" is as wanted", func() bool {
		for _, c := range n.readyz(t).Campaigns {
			if c.Campaign == id {
				return want(c)
			}
		}
		return false
	})
}

// at wants a read model that has n events and lacks none.
func at(n uint64) func(campaignReady) bool {
	return func(c campaignReady) bool { return c.Ready && c.Position == n && c.Last == n && c.Lag == 0 }
}

func TestDevProcess(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	n := startProcess(t, data)
	mentions(t, n.banner["data"], data)
	mentions(t, n.banner["nats"], "nats://127.0.0.1:", "nats-server 2.")
	mentions(t, n.banner["http"], "http://127.0.0.1:", "/livez", "/readyz")
	mentions(t, n.banner["campaigns"], "none yet", "campaign open")
	mentions(t, n.banner["durability"], "every vote is fsynced before it is acknowledged")
	mentions(t, n.banner["stop"], fmt.Sprint(n.cmd.Process.Pid))
	storetest.Eventually(t, "an empty node is ready", func() bool {
		r := n.readyz(t)
		return r.Ready && len(r.Campaigns) == 0 && len(r.Dependencies) > 0
	})

	openCampaign(t, data, "labais-2018")
	castVote(t, data, "labais-2018", "lv-pk:010180-10001")
	n.campaign(t, "labais-2018", at(4))
	check(t, n.cmd.Process.Kill()) // as by kill -9
	_ = n.cmd.Wait()               // says that it was killed

	n = startProcess(t, data)
	mentions(t, n.banner["campaigns"], "1: labais-2018")
	n.campaign(t, "labais-2018", at(4))
	castVote(t, data, "labais-2018", "lv-pk:010180-10002")
	n.campaign(t, "labais-2018", at(5))
	mentions(t, succeed(t, "--data", data, "results", "--campaign", "labais-2018"), "2 votes of 2 voters")

	second := paldies(t, "--data", data, "dev", "--http", "127.0.0.1:0")
	if second.code != 4 {
		t.Errorf("a second node on the directory ends with code %d", second.code)
	}
	mentions(t, second.err, data, fmt.Sprint(n.cmd.Process.Pid), "stop it first")

	check(t, n.cmd.Process.Signal(syscall.SIGTERM))
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "node.json")); !os.IsNotExist(err) {
		t.Errorf("node.json after the end: %v", err)
	}
	mentions(t, succeed(t, "--data", data, "audit", "verify", "--campaign", "labais-2018"), "2 votes of 2 voters are in force")
}

func TestDevFollowsEveryCampaign(t *testing.T) {
	data := t.TempDir()
	openCampaign(t, data, "vecais-serviss")
	n := startDev(t, data)
	n.campaign(t, "vecais-serviss", at(3))
	for _, id := range []string{"jaunais-1", "jaunais-2"} {
		openCampaign(t, data, id)
		castVote(t, data, id, "Jānis Čiekurs")
		n.campaign(t, id, at(4))
	}
}

func TestDevNamesAFewCampaigns(t *testing.T) {
	data := t.TempDir()
	for i := range 10 {
		succeed(t, "--data", data, "campaign", "open", fmt.Sprintf("gads-%d", 2010+i), "--opens", "2018-01-01T00:00+02:00", "--closes", "2118-01-01T00:00+02:00")
	}
	n := startDev(t, data)
	mentions(t, n.banner["campaigns"], "10: gads-2010, ", "gads-2017 and 2 more")
}

func TestDevAnswersNothingElse(t *testing.T) {
	n := startDev(t, t.TempDir())
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/livez", 200},
		{http.MethodHead, "/livez", 200},
		{http.MethodPost, "/livez", 405},
		{http.MethodDelete, "/readyz", 405},
		{http.MethodGet, "/", 404},
		{http.MethodGet, "/readyz/laba", 404},
	} {
		if status, _ := n.get(t, c.method, c.path); status != c.status {
			t.Errorf("%s %s: status %d instead of %d", c.method, c.path, status, c.status)
		}
	}
}

// TestDevUnreadableEvent puts something into a ledger that is no event. That
// campaign stops before it and says where; the other goes on.
func TestDevUnreadableEvent(t *testing.T) {
	data := t.TempDir()
	openCampaign(t, data, "vesels")
	openCampaign(t, data, "bojats")
	n := startDev(t, data)
	n.campaign(t, "bojats", at(3))

	joined, err := node.Open(t.Context(), node.Config{DataDir: data, Command: "test"})
	check(t, err)
	defer joined.Close() // nothing is under way
	js, err := jetstream.New(joined.Conn())
	check(t, err)
	_, err = js.Publish(t.Context(), domain.SpecialistSubject("bojats", "zane"), []byte(`{"paldies":"nav notikums"}`))
	check(t, err)

	n.campaign(t, "bojats", func(c campaignReady) bool {
		return !c.Ready && c.Position == 3 && c.Last == 4 && c.Lag == 1 && strings.Contains(c.Error, "event 4")
	})
	castVote(t, data, "vesels", "Žanete Ķirse")
	n.campaign(t, "vesels", at(4))
	if r := n.readyz(t); r.Ready {
		t.Errorf("with a campaign that has stopped: %+v", r)
	}
}

// TestTwoImportsThroughDev imports one file twice at the same time.
func TestTwoImportsThroughDev(t *testing.T) {
	const votes = 2000
	data := t.TempDir()
	n := startDev(t, data)
	openCampaign(t, data, "labais")
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	check(t, w.Write([]string{"submission_id", "voter", "specialist_id", "channel", "action", "at"}))
	for i := range votes {
		check(t, w.Write([]string{fmt.Sprintf("iesniegums-%d", i), fmt.Sprintf("balsotāja %d", i), []string{"zane", "kaspars"}[i%2], "web", "vote", ""}))
	}
	w.Flush()
	file := filepath.Join(t.TempDir(), "balsis.csv")
	check(t, os.WriteFile(file, text.Bytes(), 0o600))

	var imports [2]answer
	var running sync.WaitGroup
	for i := range imports {
		running.Go(func() {
			imports[i] = paldies(t, "--data", data, "vote", "import", "--campaign", "labais", "-o", "json", file)
		})
	}
	running.Wait()
	for _, a := range imports {
		var result struct{ Rows, Recorded, Known int }
		if err := json.Unmarshal([]byte(a.out), &result); err != nil || a.code != 0 {
			t.Fatalf("exit code %d, %v\n%s%s", a.code, err, a.out, a.err)
		}
		// Two that record the same vote in the same millisecond write the same
		// bytes and may both call it theirs, so the ledger has the last word.
		if result.Recorded+result.Known != votes {
			t.Errorf("of %d votes %d were recorded and %d known", votes, result.Recorded, result.Known)
		}
	}
	n.campaign(t, "labais", at(3+votes))
	mentions(t, succeed(t, "--data", data, "results", "--campaign", "labais"), "2000 votes of 2000 voters", "1000")
}

func TestDevAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close() // nothing is under way
	used := taken.Addr().String()
	for _, c := range []struct {
		args  []string
		code  int
		words []string
	}{
		{[]string{"--http", used}, 4, []string{used, "stop it", "--http 127.0.0.1:0"}},
		{[]string{"--http", "192.0.2.1:8080"}, 4, []string{"192.0.2.1:8080", "--http 127.0.0.1:0"}}, // nobody's address, RFC 5737
		{[]string{"--http", "8080"}, 2, []string{"HOST:PORT", "127.0.0.1:8080"}},
		{[]string{"--http", "127.0.0.1:"}, 2, []string{"HOST:PORT"}},
		{[]string{"--nats-url", "nats://127.0.0.1:4222"}, 2, []string{"--nats-url", "PALDIES_NATS_URL"}},
		{[]string{"kaut-kas"}, 2, []string{"kaut-kas"}},
	} {
		data := filepath.Join(t.TempDir(), "dati")
		a := paldies(t, append([]string{"--data", data, "dev"}, c.args...)...)
		if a.code != c.code || a.out != "" || strings.Count(a.err, "\n") != 1 {
			t.Errorf("dev %v: code %d, says %q and %q", c.args, a.code, a.out, a.err)
		}
		mentions(t, a.err, c.words...)
		if _, err := os.Stat(data); !os.IsNotExist(err) {
			t.Errorf("dev %v has made its data directory: %v", c.args, err)
		}
	}
}

// TestDevStoppedWhileStarting ends it before it serves: that is its normal end
// too, and the directory is free afterwards.
func TestDevStoppedWhileStarting(t *testing.T) {
	data := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var errOut bytes.Buffer
	if code := cli.Run(ctx, []string{"--data", data, "dev", "--http", "127.0.0.1:0"}, nil, io.Discard, &errOut); code != 0 {
		t.Errorf("code %d: %s", code, errOut.String())
	}
	succeed(t, "--data", data, "campaign", "list")
	left, err := filepath.Glob(filepath.Join(data, "node.json*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

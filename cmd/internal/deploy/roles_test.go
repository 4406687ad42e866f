package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/cli"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// campaign is what the tests open.
const campaign = "labais-serviss"

// violations are what the servers log of requests that are not allowed.
type violations struct {
	mu   sync.Mutex
	text []string // guarded by mu
}

func (v *violations) Errorf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if !strings.Contains(line, "Violation") {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.text = append(v.text, line)
}

func (v *violations) Noticef(string, ...any) {}
func (v *violations) Warnf(string, ...any)   {}
func (v *violations) Fatalf(string, ...any)  {}
func (v *violations) Debugf(string, ...any)  {}
func (v *violations) Tracef(string, ...any)  {}

func (v *violations) take() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := v.text
	v.text = nil
	return text
}

func (s *servers) watch() *violations {
	v := &violations{}
	s.t.Cleanup(func() {
		for _, line := range v.take() {
			s.t.Log(line)
		}
	})
	for _, member := range s.members {
		member.SetLoggerV2(v, false, false, false)
	}
	return v
}

// TestRoles lets each role do its work, by the commands that docker-compose.yml and
// the runbook name. Nothing of it may be forbidden, not even what no one waits for.
func TestRoles(t *testing.T) {
	s := startServers(t)
	log := s.watch()
	postgres, data, keys := startDatabase(t, s.secrets), t.TempDir(), t.TempDir()
	project := []string{"project", "--once", "--database-url", postgres.url("projector")}
	step := func(role string, code int, args ...string) string {
		t.Helper()
		out := s.as(role, filepath.Join(data, role), code, args...)
		for _, line := range log.take() {
			t.Errorf("%s as %s: %s", strings.Join(args[:2], " "), role, line)
		}
		return out
	}
	file := func(name, text string) string {
		path := filepath.Join(data, name)
		check(t, os.MkdirAll(data, 0o700))
		check(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	step("admin", 0, "deploy", "streams")
	if out := step("admin", 0, "campaign", "list", "-o", "csv"); strings.Count(out, "\n") != 1 {
		t.Errorf("what is made for the roles opens a campaign: %s", out)
	}
	step("admin", 0, "deploy", "streams") // again
	step("admin", 0, "campaign", "open", campaign, "--opens", "2025-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00",
		"--key-file", filepath.Join(keys, filepath.Base(keyring.Path("", campaign))))
	step("admin", 0, "specialist", "import", "--campaign", campaign, file("specialists.csv", "specialist_id,name\nilze-berzina,Ilze Bērziņa\nzane-cirule,Zane Cīrule\n"))
	step("admin", 0, "campaign", "amend", campaign, "--title", "Labais serviss", "--reason", "nosaukums")
	token := strings.TrimSpace(step("admin", 0, "channel", "add", "web"))
	step("admin", 0, "doctor")

	stop := s.serve(t, "intake", func(address string) { s.hand(t, address, token) }, "intake", "--queue", "--keys", keys)
	step("admin", 0, "vote", "submit", "--campaign", campaign, "--voter", "demo:jānis", "--specialist", "ilze-berzina", "--channel", "mobile", "--wait")
	step("admin", 0, "queue", "status")
	stop()
	for _, line := range log.take() {
		t.Errorf("intake: %s", line)
	}
	step("signer", 0, "seal", "--campaign", campaign, "--once")
	step("projector", 0, project...)
	step("admin", 0, "results", "--campaign", campaign, "--database-url", postgres.url("admin"))
	reader := strings.TrimSpace(step("admin", 0, "credential", "add", "--role", "chancellery"))
	step("admin", 0, "credential", "list")
	// As of an earlier event the ledger itself is counted.
	s.serve(t, "dashboard", func(address string) {
		s.count(t, address+"/api/v1/campaigns/"+campaign+"/results?as_of_sequence=5", reader)
	},
		"dashboard", "--database-url", postgres.url("dashboard"))()
	for _, line := range log.take() {
		t.Errorf("dashboard: %s", line)
	}
	step("auditor", 0, "audit", "verify", "--campaign", campaign)
	step("auditor", 0, "results", "--campaign", campaign)
	step("auditor", 0, "vote", "list", "--campaign", campaign)
	chosen := step("auditor", 0, "vote", "list", "--campaign", campaign, "--specialist", "zane-cirule", "-o", "csv")
	step("closer", 0, "vote", "annul", "--campaign", campaign, "--reason", "negodīga vākšana", "--decision", "2026-1", "--file", file("annulled.csv", chosen))
	step("closer", 0, "campaign", "close", campaign)
	step("signer", 0, "seal", "--campaign", campaign, "--once")
	step("closer", 0, "results", "certify", "--campaign", campaign)
	step("closer", 0, "results", "publish", "--campaign", campaign)
	step("projector", 0, project...)
	step("auditor", 0, "audit", "verify", "--campaign", campaign, "--database-url", postgres.url("auditor"))
	for _, args := range [][]string{{"rebuild", "--hold"}, {"diff"}, {"switch"}, {"rebuild"}, {"discard"}} {
		step("projector", 0, append(append([]string{"projection"}, args...), "--campaign", campaign, "--database-url", postgres.url("projector"))...)
	}
	step("admin", 0, "project", "status", "--database-url", postgres.url("admin"))
	postgres.run(0, "migrate", "--database-url", postgres.url("migrate"))
	grafana, err := connect(t, postgres.url("reporting_ro"))
	check(t, err)
	var votes int
	check(t, grafana.QueryRow(t.Context(), `select votes from reporting_v1.campaign_status where campaign_id = $1`, campaign).Scan(&votes))
	if votes != 2 { // of three, one was annulled
		t.Errorf("reports show %d votes", votes)
	}
	archived := make(chan string, 1)
	go func() { archived <- s.as("closer", filepath.Join(data, "closer"), 0, "campaign", "archive", campaign) }()
	ctx, end := context.WithCancel(t.Context())
	sealed := make(chan int, 1)
	go func() {
		sealed <- s.run(ctx, "signer", filepath.Join(data, "signer"), io.Discard, "seal")
	}()
	if out := <-archived; !strings.Contains(out, "its stream is sealed") {
		t.Errorf("archived: %s", out)
	}
	end()
	if code := <-sealed; code != 0 {
		t.Errorf("the signer of all campaigns ends with exit code %d", code)
	}
	step("auditor", 0, "audit", "verify", "--campaign", campaign)
	for _, line := range log.take() {
		t.Errorf("the archive: %s", line)
	}
	s.restored(t, filepath.Join(data, "signer", "log", campaign))
}

// TestServerAway: intake sees that a server is away, which is what wakes somebody,
// and doctor says to every role which copies are away with it.
func TestServerAway(t *testing.T) {
	s := startServers(t)
	s.as("admin", t.TempDir(), 0, "deploy", "streams")
	nc, _ := s.connect("intake")
	away := func(want int) func() bool {
		return func() bool {
			b, err := queue.ReadBacklog(t.Context(), nc)
			return err == nil && b.Away == want
		}
	}
	doctor := func(role string, says string) func() bool {
		return func() bool {
			var out bytes.Buffer
			s.run(t.Context(), role, t.TempDir(), &out, "doctor")
			return strings.Contains(out.String(), says)
		}
	}
	storetest.Eventually(t, "all servers have the queue", away(0))
	storetest.Eventually(t, "all servers have all copies", doctor("auditor", "ok       copies    Every copy of every stream and consumer is there (servers: 3)."))
	victim := rand.IntN(len(s.members))
	t.Logf("server %d goes away", victim)
	s.members[victim].Shutdown()
	storetest.Eventually(t, "a server is seen to be away", away(1))
	for _, role := range []string{"admin", "auditor"} {
		storetest.Eventually(t, role+" learns what its copies are of",
			doctor(role, s.members[victim].Name()+" is offline or behind with PALDIES > KV_paldies_credentials, PALDIES > KV_paldies_signed, PALDIES > POISON, PALDIES > SUBMISSIONS, the list of streams"))
	}
}

// restored makes the ledger again on servers that have lost everything.
func (s *servers) restored(t *testing.T, folder string) {
	t.Helper()
	others := startServers(t)
	log, data := others.watch(), t.TempDir()
	for _, step := range []struct {
		role string
		args []string
	}{
		{"admin", []string{"deploy", "streams"}},
		{"restorer", []string{"restore", "--log", folder, "--key", filepath.Join(folder, "vkey")}},
		{"admin", []string{"deploy", "streams"}},
		{"auditor", []string{"audit", "verify", "--campaign", campaign}},
	} {
		others.as(step.role, data, 0, step.args...)
		for _, line := range log.take() {
			t.Errorf("%s as %s: %s", strings.Join(step.args[:2], " "), step.role, line)
		}
	}
	admin, _ := others.connect("admin")
	if state := others.state(admin); len(state) != len(streams) {
		t.Errorf("after the restoration there are %v", state)
	}
}

// run is a command of a role that runs until the context ends.
func (s *servers) run(ctx context.Context, role, data string, out io.Writer, args ...string) int {
	args = append(args, "--data", data, "--nats-url", s.address(role), "--nats-ca", s.ca(role))
	var errOut bytes.Buffer
	code := cli.Run(ctx, args, nil, out, &errOut)
	if code != 0 {
		s.t.Log(errOut.String())
	}
	return code
}

// serve runs what answers over HTTP, calls use with its address, and returns what
// ends it.
func (s *servers) serve(t *testing.T, role string, use func(address string), args ...string) (stop func()) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	banner, out := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := s.run(ctx, role, t.TempDir(), out, append(args, "--http", host+":0")...)
		ended <- code
		out.Close()
	}()
	address, lines := "", bufio.NewScanner(banner)
	for lines.Scan() {
		if rest, is := strings.CutPrefix(lines.Text(), "http"); is {
			address, _, _ = strings.Cut(strings.TrimSpace(rest), "/livez")
		}
		if strings.HasPrefix(lines.Text(), "stop") {
			break
		}
	}
	storetest.Eventually(t, role+" is ready", func() bool {
		var out bytes.Buffer
		return cli.Run(ctx, []string{"deploy", "probe", address + "/readyz"}, nil, &out, &out) == 0
	})
	use(address)
	return func() {
		end()
		if code := <-ended; code != 0 {
			t.Errorf("%s ends with exit code %d", role, code)
		}
	}
}

// count asks for results.
func (s *servers) count(t *testing.T, url, token string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	check(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: wait}
	answer, err := client.Do(request)
	check(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("results are answered %s: %s", answer.Status, text)
	}
}

// hand hands in two votes over HTTP.
func (s *servers) hand(t *testing.T, address, token string) {
	t.Helper()
	for i, specialist := range []string{"ilze-berzina", "zane-cirule"} {
		body := fmt.Sprintf(`{"voter":"demo:līga","specialist_id":%q}`, specialist)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/api/v1/campaigns/"+campaign+"/votes", strings.NewReader(body))
		check(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", fmt.Sprint(i))
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: wait}
		answer, err := client.Do(request)
		check(t, err)
		text, err := io.ReadAll(answer.Body)
		check(t, err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusCreated {
			t.Fatalf("a vote is answered %s: %s", answer.Status, text)
		}
	}
}

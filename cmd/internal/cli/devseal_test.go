package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/eventstore/storetest"
)

// sealed waits until /readyz says that so many events of a campaign are sealed.
func (n devNode) sealed(t *testing.T, campaign string, events uint64) {
	t.Helper()
	storetest.Eventually(t, "the log of "+campaign+" is sealed", func() bool {
		_, body := n.get(t, http.MethodGet, "/readyz")
		var state struct {
			Logs []struct {
				Campaign, Root, Error string
				Events                uint64
			}
		}
		check(t, json.Unmarshal(body, &state))
		for _, log := range state.Logs {
			if log.Error != "" {
				t.Fatalf("the log of %s: %s", log.Campaign, log.Error)
			}
			if log.Campaign == campaign && log.Events == events && len(log.Root) == 44 {
				return true
			}
		}
		return false
	})
}

// ask sends a request with an auditor's token, if any.
func (n devNode) ask(t *testing.T, path, token string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.http+path, nil)
	check(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, body
}

// TestDevSeals: a node seals every campaign, new ones too, serves the logs, and
// what it has served can be checked without it. Bundles are for auditors.
func TestDevSeals(t *testing.T) {
	t.Setenv("PALDIES_AUDITOR_TOKEN", "marķieris")
	data := t.TempDir()
	openCampaign(t, data, "vecais-serviss")
	n := startDev(t, data)
	n.sealed(t, "vecais-serviss", 3)
	openCampaign(t, data, "jaunais-serviss")
	castVote(t, data, "jaunais-serviss", "Jānis Čiekurs")
	n.sealed(t, "jaunais-serviss", 4)

	copied := filepath.Join(t.TempDir(), "kopija")
	for path, token := range map[string]string{"checkpoint": "", "vkey": "", "tile/0/000.p/4": "", "tile/entries/000.p/4": "marķieris"} {
		status, body := n.ask(t, "/log/jaunais-serviss/"+path, token)
		if status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", path, status, body)
		}
		name := filepath.Join(copied, filepath.FromSlash(path))
		check(t, os.MkdirAll(filepath.Dir(name), 0o755))
		check(t, os.WriteFile(name, body, 0o644))
	}
	mentions(t, succeed(t, "audit", "verify", "--log", copied, "--key", filepath.Join(copied, "vkey")), "ok    Every file of the log follows from the events")

	for path, want := range map[string]int{
		"/log/jaunais-serviss/tile/entries/000.p/4": 401, "/log/jaunais-serviss/checkpoints": 404, "/log/jaunais-serviss/.lock": 404,
		"/log/nav-tadas/checkpoint": 404, "/log/..%2f..%2fkeys/checkpoint": 404, "/log/": 404,
	} {
		if status, _ := n.ask(t, path, ""); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	if a := paldies(t, "--data", data, "seal", "--campaign", "vecais-serviss", "--once"); a.code != 4 || !strings.Contains(a.err, "another process writes") {
		t.Errorf("a second signer: code %d, %s", a.code, a.err)
	}
	_, metrics := n.ask(t, "/metrics", "")
	mentions(t, string(metrics), `paldies_log_sealed{campaign="jaunais-serviss"} 4`, `paldies_log_halted{campaign="jaunais-serviss"} 0`)
}

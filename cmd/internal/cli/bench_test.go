package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// benchServer keeps what the intake API promises of new votes, unless it loses
// them.
func benchServer(t *testing.T, lose bool) *httptest.Server {
	var mu sync.Mutex
	votes := make(map[string][]string)
	sequence := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/campaigns/c/specialists", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"specialists":[{"id":"ilze","name":"Ilze Bērziņa"},{"id":"anna","name":"Anna Cīrule"}]}`)
	})
	mux.HandleFunc("GET /api/v1/campaigns/c/votes", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, `{"votes":[%s]}`, strings.Join(votes[r.Header.Get("Paldies-Voter")], ","))
	})
	mux.HandleFunc("POST /api/v1/campaigns/c/votes", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Voter      string
			Specialist string `json:"specialist_id"`
		}
		if r.Header.Get("Authorization") != "Bearer noslepums" || json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		sequence++
		vote := fmt.Sprintf(`{"campaign":"c","sequence":%d,"event_id":%q,"specialist_id":%q,"status":"active"}`, sequence, uuid.NewString(), body.Specialist)
		if !lose || sequence%7 != 0 {
			votes[body.Voter] = append(votes[body.Voter], vote)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, vote)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestBenchIntake(t *testing.T) {
	url := benchServer(t, false).URL
	args := []string{"bench", "intake", "--url", url, "--campaign", "c", "--token", "nosl", "--votes", "50", "--warm-up", "0s", "--clients", "4"}
	a := paldies(t, args...)
	if a.code != 1 || !strings.Contains(a.err, "the token is not accepted") || strings.Contains(a.err, "nosl") {
		t.Errorf("a wrong token: %+v", a)
	}
	file := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(file, []byte("noslepums\n"), 0o600))
	t.Setenv("PALDIES_TOKEN_FILE", file)
	args = append(args[:6], args[8:]...) // without --token
	text := succeed(t, args...)
	mentions(t, text, "closed loop of 4 clients", "(voters bench:", "50 votes", "each is in the ledger exactly once", "latency (ms)", "p99.9")
	var report struct {
		Parameters struct{ Seed, Run string }
		Check      struct{ Votes int }
	}
	check(t, json.Unmarshal([]byte(succeed(t, append(args, "-o", "json", "--seed", "18446744073709551615")...)), &report))
	if report.Parameters.Seed != "18446744073709551615" || report.Parameters.Run == "" || report.Check.Votes != 50 {
		t.Errorf("%+v", report)
	}
}

func TestBenchIntakeFinds(t *testing.T) {
	t.Setenv("PALDIES_TOKEN", "noslepums")
	a := paldies(t, "bench", "intake", "--url", benchServer(t, true).URL, "--campaign", "c", "--votes", "50", "--warm-up", "0s")
	if a.code != 3 {
		t.Errorf("exit code %d", a.code)
	}
	mentions(t, a.out, "7 DISCREPANCIES", "missing: voter bench:", "it was acknowledged and is not in the ledger")
	mentions(t, a.err, "7 of what the API promises")
}

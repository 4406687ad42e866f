package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// told is what a process answers to who has a token, if any.
type told struct {
	status int
	tag    string
	text   string
}

func (d *daemon) ask(t *testing.T, path, token string, headers ...string) told {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.base()+path, nil)
	check(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	return told{answer.StatusCode, answer.Header.Get("ETag"), string(text)}
}

// code is that of a problem.
func (a told) code(t *testing.T) string {
	t.Helper()
	var problem struct{ Code string }
	if err := json.Unmarshal([]byte(a.text), &problem); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.text, err)
	}
	return problem.Code
}

// counted is what is read of results here.
type counted struct {
	AsOfSequence uint64 `json:"as_of_sequence"`
	Votes        int
	Results      []struct {
		SpecialistID string `json:"specialist_id"`
		Votes        int
	}
}

// TestReading: a node, and a dashboard over Postgres, tell the Chancellery what
// is counted and nobody else; votes are for channels alone, and the log's events
// for auditors; nothing that operators see tells who got votes.
func TestReading(t *testing.T) {
	data, databaseURL, id := t.TempDir(), migrated(t), "labais-serviss"
	file := filepath.Join(t.TempDir(), "speciālisti.csv")
	check(t, os.WriteFile(file, []byte("specialist_id,name,institution\nzane-cirule,Zane Cīrule,Ziedoņu klientu centrs\nkaspars-nukss,Kaspars Ņukšs,Ūdensrožu reģistrs\n"), 0o600))
	openForVotes(t, data, id, file)
	const events = 6
	for _, vote := range [][2]string{{"Anna", "zane-cirule"}, {"Bruno", "zane-cirule"}, {"Cilda", "kaspars-nukss"}} {
		paldies(t, data, "vote", "cast", "--campaign", id, "--voter", vote[0], "--specialist", vote[1], "--channel", "web")
	}
	tokens := map[string]string{"nobody": "", "channel": addToken(t, data, "web"), "auditors": "marķieris"}
	for _, role := range []string{"auditor", "chancellery", "institution"} {
		args := []string{"credential", "add", "--role", role}
		if role == "institution" {
			args = append(args, "--institution", "Ziedoņu klientu centrs")
		}
		tokens[role] = strings.TrimSpace(paldies(t, data, args...))
	}
	t.Setenv("PALDIES_AUDITOR_TOKEN", tokens["auditors"])
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0")
	paldies(t, data, "project", "--once", "--database-url", databaseURL)
	reader := startDaemon(t, data, "dashboard", "--database-url", databaseURL, "--http", "127.0.0.1:0", "--log-level", "warn")
	node.becomesReady(t)
	reader.becomesReady(t)

	results, timeline := "/api/v1/campaigns/"+id+"/results", "/api/v1/campaigns/"+id+"/timeline?by=hour"
	for name, d := range map[string]*daemon{"dev": node, "dashboard": reader} {
		for who, token := range tokens {
			for _, path := range []string{results, timeline, results + "?as_of=latest", results + fmt.Sprintf("?as_of_sequence=%d", events)} {
				a := d.ask(t, path, token)
				switch {
				case who == "chancellery" && a.status != http.StatusOK, who == "auditors" && a.code(t) != "unauthorized",
					who != "chancellery" && who != "auditors" && a.code(t) != "embargoed":
					t.Errorf("%s tells %s %s: %d %s", name, who, path, a.status, a.text)
				}
			}
		}
		for sequence, votes := range map[int]int{events: 3, events - 2: 1, 2: 0} {
			var now counted
			a := d.ask(t, fmt.Sprintf("%s?as_of_sequence=%d", results, sequence), tokens["chancellery"])
			check(t, json.Unmarshal([]byte(a.text), &now))
			if now.AsOfSequence != uint64(sequence) || now.Votes != votes || votes == 3 && (now.Results[0].SpecialistID != "zane-cirule" || now.Results[0].Votes != 2) {
				t.Errorf("%s, as of event %d: %s", name, sequence, a.text)
			}
			if again := d.ask(t, fmt.Sprintf("%s?as_of_sequence=%d", results, sequence), tokens["chancellery"], "If-None-Match", a.tag); again.status != http.StatusNotModified || again.text != "" {
				t.Errorf("%s, as of event %d, asked again: %d %s", name, sequence, again.status, again.text)
			}
		}
		assertNoCounts(t, name+" /metrics", d.get(t, "/metrics"))
		_, ready, err := d.ready(t)
		check(t, err)
		assertNoCounts(t, name+" /readyz", ready)
	}
	if a := reader.ask(t, "/api/v1/campaigns/"+id+"/votes", tokens["channel"]); a.code(t) != "not_found" {
		t.Errorf("the dashboard takes votes: %d %s", a.status, a.text)
	}
	eventually(t, "the log is sealed", func() bool {
		return strings.Contains(node.ask(t, "/log/"+id+"/checkpoint", "").text, fmt.Sprintf("\n%d\n", events))
	})
	for who, token := range tokens {
		want := http.StatusUnauthorized
		if who == "auditor" || who == "auditors" {
			want = http.StatusOK
		}
		if a := node.ask(t, "/log/"+id+"/tile/entries/000.p/6", token); a.status != want {
			t.Errorf("%s gets the events with %d", who, a.status)
		}
		if a := node.ask(t, "/log/"+id+"/checkpoint", token); a.status != http.StatusOK {
			t.Errorf("%s gets the checkpoint with %d", who, a.status)
		}
	}

	// The end of a credential ends it everywhere, at once.
	paldies(t, data, "credential", "revoke", strings.Split(tokens["chancellery"], "_")[1])
	paldies(t, data, "credential", "revoke", strings.Split(tokens["auditor"], "_")[1])
	for name, d := range map[string]*daemon{"dev": node, "dashboard": reader} {
		eventually(t, name+" knows of the revocation", func() bool { return d.ask(t, results, tokens["chancellery"]).status == http.StatusUnauthorized })
	}
	eventually(t, "the log knows of the revocation", func() bool {
		return node.ask(t, "/log/"+id+"/tile/entries/000.p/6", tokens["auditor"]).status == http.StatusUnauthorized
	})
	reader.stop(t)
	node.stop(t)
}

// TestPublication: with the certification nothing is public, with the publication
// what was certified is, to anybody, and a correction is when it is published
// too. A process that was started after the archiving tells the same.
func TestPublication(t *testing.T) {
	data, databaseURL, id := t.TempDir(), migrated(t), "labais-serviss"
	file := filepath.Join(t.TempDir(), "speciālisti.csv")
	check(t, os.WriteFile(file, []byte("specialist_id,name\nzane-cirule,Zane Cīrule\nkaspars-nukss,Kaspars Ņukšs\n"), 0o600))
	openForVotes(t, data, id, file)
	for _, vote := range [][2]string{{"Anna", "zane-cirule"}, {"Bruno", "zane-cirule"}, {"Cilda", "kaspars-nukss"}} {
		paldies(t, data, "vote", "cast", "--campaign", id, "--voter", vote[0], "--specialist", vote[1], "--channel", "web")
	}
	token := strings.TrimSpace(paldies(t, data, "credential", "add", "--role", "chancellery"))
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	start := func() *daemon {
		d := startDaemon(t, data, "dashboard", "--database-url", databaseURL, "--http", "127.0.0.1:0", "--log-level", "warn")
		d.becomesReady(t)
		return d
	}
	reader := start()
	results := "/api/v1/campaigns/" + id + "/results"
	annul := filepath.Join(t.TempDir(), "anulēt.csv")
	check(t, os.WriteFile(annul, []byte("sequence\n4\n"), 0o600))
	for _, step := range []struct {
		args   []string
		latest int    // votes that the Chancellery sees
		votes  int    // that anybody sees; 0: none are public
		asOf   uint64 // of what anybody sees
	}{
		{[]string{"campaign", "close", id}, 3, 0, 0},                // event 7
		{[]string{"results", "certify", "--campaign", id}, 3, 0, 0}, // event 8
		{[]string{"results", "publish", "--campaign", id}, 3, 3, 7}, // event 9
		{[]string{"vote", "annul", "--campaign", id, "--file", annul, "--decision", "VK-2018/1", "--reason", "Balsots cita vārdā."}, 2, 3, 7}, // event 10
		{[]string{"results", "certify", "--campaign", id, "--supersedes", "8", "--reason", "Anulēta balss."}, 2, 3, 7},                        // event 11
		{[]string{"results", "publish", "--campaign", id}, 2, 2, 10},                                                                          // event 12
		{[]string{"campaign", "archive", id}, 2, 2, 10},
	} {
		what := strings.Join(step.args[:2], " ")
		paldies(t, data, step.args...)
		paldies(t, data, "project", "--once", "--database-url", databaseURL)
		if step.args[1] == "archive" {
			reader.stop(t)
			reader = start()
		}
		var at counted
		check(t, json.Unmarshal([]byte(reader.ask(t, results+"?as_of=latest", token).text), &at))
		for name, d := range map[string]*daemon{"dev": node, "dashboard": reader} {
			var latest counted
			eventually(t, name+" has counted "+what, func() bool {
				check(t, json.Unmarshal([]byte(d.ask(t, results+"?as_of=latest", token).text), &latest))
				return latest.AsOfSequence == at.AsOfSequence
			})
			if latest.Votes != step.latest {
				t.Errorf("%s, %s: the Chancellery sees %+v", what, name, latest)
			}
			public := d.ask(t, results, "")
			if step.votes == 0 {
				if public.code(t) != "embargoed" {
					t.Errorf("%s, %s: anybody sees %s", what, name, public.text)
				}
				continue
			}
			var seen counted
			check(t, json.Unmarshal([]byte(public.text), &seen))
			if seen.Votes != step.votes || seen.AsOfSequence != step.asOf {
				t.Errorf("%s, %s: anybody sees %+v", what, name, seen)
			}
			for _, query := range []string{"?as_of=latest", fmt.Sprintf("?as_of_sequence=%d", step.asOf+1), fmt.Sprintf("?as_of_sequence=%d", step.asOf-1)} {
				if a := d.ask(t, results+query, ""); a.code(t) != "embargoed" {
					t.Errorf("%s, %s: %s is answered with %s", what, name, query, a.text)
				}
			}
			if now := d.ask(t, results, token); now.text != public.text {
				t.Errorf("%s, %s: the Chancellery sees %s, the public %s", what, name, now.text, public.text)
			}
		}
	}
	reader.stop(t)
	node.stop(t)
}

// label is one of a metric.
var label = regexp.MustCompile(`([a-z_]+)="`)

// assertNoCounts wants no name of those who can be praised, and no label that
// could tell counts apart. How many events a campaign has is in every
// checkpoint.
func assertNoCounts(t *testing.T, where, text string) {
	t.Helper()
	for _, name := range []string{"zane-cirule", "kaspars-nukss", "Zane", "Ņukšs", "Ziedoņu", "Ūdensrožu"} {
		if strings.Contains(text, name) {
			t.Errorf("%s names %s", where, name)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || !strings.HasPrefix(line, "paldies_") {
			continue
		}
		for _, l := range label.FindAllStringSubmatch(line, -1) {
			switch l[1] {
			case "operation", "code", "le", "model", "status":
			case "campaign": // with its events, not with its votes
				if !strings.HasPrefix(line, "paldies_read_model_") && !strings.HasPrefix(line, "paldies_ledger_last") && !strings.HasPrefix(line, "paldies_log_") {
					t.Errorf("%s: %s", where, line)
				}
			default:
				t.Errorf("%s: %s has the label %s", where, line, l[1])
			}
		}
	}
}

package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// annulledVotes is how many votes of one entrant were annulled in 2015.
const annulledVotes = 3590

// endKills is how often a command is killed at the end of a campaign.
const endKills = 4

// ending is a campaign of real ballots on its way to the archive.
type ending struct {
	*testing.T
	data, id, rules string
	random          *rand.Rand
	asOf            map[uint64]string // results as of an event, as they were told first
}

// TestEndOfACampaign takes real ballots through the end of a campaign, beside a
// node that signs the log: two specialists turn out to be one, thousands of
// votes are annulled under one decision, the results are certified, corrected,
// published and archived. Commands are killed on the way.
func TestEndOfACampaign(t *testing.T) {
	sets := ballotSets(t)
	set := sets[slices.IndexFunc(sets, func(s ballotSet) bool { return s.votesPerVoter == 3 })]
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	e := ending{T: t, data: t.TempDir(), id: set.name, rules: filepath.Join(t.TempDir(), "rules.json"),
		random: rand.New(rand.NewPCG(seed, 0)), asOf: make(map[uint64]string)}
	if err := os.WriteFile(e.rules, []byte(`{"specialists":3,"institutions":1,"institutions_by":"institution","letters":20,"minimum_votes":10}`), 0o600); err != nil {
		t.Fatal(err)
	}
	set.open(t, e.data)
	paldies(t, e.data, set.importArgs()...)
	stop := startNode(t, e.data)
	e.event(e.run("campaign", "close", e.id))
	places := e.standings()
	e.votesRefused(places[0], "closed")
	e.merged(places[1], places[2])
	e.annulled(places[0])
	first := e.event(e.killed("results", "certify", "--campaign", e.id, "--rules", e.rules))
	e.votesRefused(places[0], "certified")
	e.corrected(places[0], first)
	e.archived(places[0])
	e.unchanged()
	e.proven(e.data, "--campaign", e.id)
	stop()
	log := filepath.Join(e.data, "log", e.id)
	e.proven(filepath.Join(t.TempDir(), "nowhere"), "--log", log, "--key", filepath.Join(log, "vkey"))
}

// run is a command that must succeed, about the campaign.
func (e ending) run(args ...string) string {
	e.Helper()
	return paldies(e.T, e.data, args...)
}

// event is the number of the event that a command says it has recorded.
func (e ending) event(out string) uint64 {
	e.Helper()
	m := regexp.MustCompile(`\(event (\d+)\)`).FindStringSubmatch(out)
	if m == nil {
		e.Fatalf("no event in %q", out)
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		e.Fatal(err)
	}
	e.remember(n)
	return n
}

// remember notes the results as of an event.
func (e ending) remember(sequence uint64) {
	e.Helper()
	e.asOf[sequence] = e.run("results", "--campaign", e.id, "-o", "csv", "--as-of-sequence", strconv.FormatUint(sequence, 10))
}

// votesRefused wants every submission of a voter to be refused.
func (e ending) votesRefused(specialist, when string) {
	e.Helper()
	for _, action := range []string{"cast", "retract"} {
		_, errOut, code := try(e.T, e.data, "vote", action, "--campaign", e.id, "--voter", "Vēlais Vilnis", "--specialist", specialist, "--channel", "web")
		if code != 5 || !strings.Contains(errOut, "refused: campaign_closed") {
			e.Errorf("%s: vote %s: exit code %d, %s", when, action, code, errOut)
		}
	}
}

// killed runs a command again and again and kills it at random moments, until
// the last time.
func (e ending) killed(args ...string) string {
	e.Helper()
	for range endKills {
		cmd := command(e.Context(), e.data, args...)
		if err := cmd.Start(); err != nil {
			e.Fatal(err)
		}
		// The moment is what is tested here, not what is waited for.
		kill := time.AfterFunc(time.Duration(e.random.Int64N(int64(time.Second))), func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // killed, or done
		kill.Stop()
	}
	return e.run(args...)
}

// standings are the ids of the specialists, the best first.
func (e ending) standings() (ids []string) {
	e.Helper()
	rows, err := csv.NewReader(strings.NewReader(e.run("results", "--campaign", e.id, "-o", "csv"))).ReadAll()
	if err != nil {
		e.Fatal(err)
	}
	for _, row := range rows[1:] {
		ids = append(ids, row[1])
	}
	return ids
}

// votes are the votes in force of a specialist as they are listed, with the
// header.
func (e ending) votes(specialist string) (rows [][]string) {
	e.Helper()
	all, err := csv.NewReader(strings.NewReader(e.run("vote", "list", "--campaign", e.id, "--specialist", specialist))).ReadAll()
	if err != nil {
		e.Fatal(err)
	}
	status := slices.Index(all[0], "status")
	return slices.DeleteFunc(all, func(row []string) bool { return row[status] != "in_force" && row[status] != "status" })
}

// merged makes one of two who have many voters in common.
func (e ending) merged(from, into string) {
	voters := make(map[string]bool)
	votes := 0
	for _, id := range []string{from, into} {
		for _, row := range e.votes(id)[1:] {
			voters[row[3]] = true
			votes++
		}
	}
	if len(voters) == votes {
		e.Fatalf("%s and %s have no voter in common", from, into)
	}
	out := e.killed("specialist", "merge", from, into, "--campaign", e.id, "--decision", "VK lēmums Nr. 3")
	if !strings.Contains(out, "was merged before") {
		e.Log("every merge was killed before its event")
	}
	got := column(e.T, e.run("results", "--campaign", e.id, "-o", "csv"), "specialist_id", "votes")
	if got[into] != strconv.Itoa(len(voters)) || got[from] != "" {
		e.Errorf("%s was merged into %s: %s and %s votes, of %d voters", from, into, got[from], got[into], len(voters))
	}
	if annulled := strings.Count(e.run("audit", "replay", "--campaign", e.id, "--type", "vote.annulled"), "\n"); annulled != votes-len(voters) {
		e.Errorf("%d votes are annulled, %d voters had two", annulled, votes-len(voters))
	}
	e.run("audit", "verify", "--campaign", e.id)
}

// annulled annuls many votes of one specialist under one decision.
func (e ending) annulled(specialist string) {
	rows := e.votes(specialist)
	n := min(annulledVotes, (len(rows)-1)/2)
	if set := e.id; !strings.HasPrefix(set, "generated") {
		n = annulledVotes
	}
	list := filepath.Join(e.TempDir(), "list.csv")
	writeCSV(e.T, list, rows[:n+1])
	out := e.run("vote", "annul", "--campaign", e.id, "--file", list, "--decision", "VK lēmums Nr. 12", "--reason", "balsis iegūtas negodīgi")
	if want := fmt.Sprintf("%d votes: %d annulled,", n, n); !strings.HasPrefix(out, want) {
		e.Errorf("the annulment says %q, want %q", out, want)
	}
	if left := len(e.votes(specialist)); left != len(rows)-n {
		e.Errorf("%s has %d votes left of %d, %d were annulled", specialist, left-1, len(rows)-1, n)
	}
}

// corrected annuls one more vote, which what is certified does not feel, and
// certifies anew.
func (e ending) corrected(specialist string, first uint64) {
	list := filepath.Join(e.TempDir(), "one.csv")
	writeCSV(e.T, list, e.votes(specialist)[:2])
	e.run("vote", "annul", "--campaign", e.id, "--file", list, "--decision", "VK lēmums Nr. 13", "--reason", "balsots cita vārdā")
	correction := []string{"results", "certify", "--campaign", e.id, "--rules", e.rules, "--supersedes", strconv.FormatUint(first, 10)}
	if _, errOut, code := try(e.T, e.data, correction...); code != 5 || !strings.Contains(errOut, "a correction needs a reason") {
		e.Errorf("a correction without a reason: exit code %d, %s", code, errOut)
	}
	second := e.event(e.killed(append(correction, "--reason", "anulēta viena balss")...))
	if _, errOut, code := try(e.T, e.data, "results", "publish", "--campaign", e.id, "--certification", strconv.FormatUint(first, 10)); code != 5 {
		e.Errorf("what was corrected can be published: exit code %d, %s", code, errOut)
	}
	e.event(e.run("results", "publish", "--campaign", e.id, "--certification", strconv.FormatUint(second, 10)))
	e.votesRefused(specialist, "published")
}

func (e ending) archived(specialist string) {
	e.event(e.killed("campaign", "archive", e.id))
	e.votesRefused(specialist, "archived")
	list := filepath.Join(e.TempDir(), "late.csv")
	writeCSV(e.T, list, e.votes(specialist)[:2])
	if _, errOut, code := try(e.T, e.data, "vote", "annul", "--campaign", e.id, "--file", list, "--decision", "VK lēmums Nr. 14", "--reason", "par vēlu"); code != 5 || !strings.Contains(errOut, "campaign_closed") {
		e.Errorf("an annulment after the archiving: exit code %d, %s", code, errOut)
	}
	e.run("doctor")
}

// unchanged wants results as of every event to be what they were told to be.
func (e ending) unchanged() {
	for sequence, told := range e.asOf {
		if now := e.run("results", "--campaign", e.id, "-o", "csv", "--as-of-sequence", strconv.FormatUint(sequence, 10)); now != told {
			e.Errorf("the results as of event %d have changed", sequence)
		}
	}
}

// proven audits the ledger, or a log's folder alone: the certified digests must
// follow from the events, and there are two, whatever was killed.
func (e ending) proven(data string, args ...string) {
	var report struct {
		Status string
		Checks []struct{ Title, Status string }
	}
	if err := json.Unmarshal([]byte(paldies(e.T, data, append([]string{"audit", "verify", "-o", "json"}, args...)...)), &report); err != nil {
		e.Fatal(err)
	}
	certified := false
	for _, c := range report.Checks {
		certified = certified || c.Title == "Certified results (2) are those of the events"
		if c.Status != "ok" {
			e.Errorf("%s: %s", c.Title, c.Status)
		}
	}
	if !certified || report.Status != "archived" {
		e.Errorf("the audit of %v says %+v", args, report)
	}
}

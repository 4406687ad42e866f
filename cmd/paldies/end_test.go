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
// votes are annulled under one decision, a winner is withdrawn, the results are
// certified, corrected, published, corrected again and archived. Commands are
// killed on the way.
func TestEndOfACampaign(t *testing.T) {
	t.Parallel()
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
	winner := e.withdrawn()
	first := e.event(e.killed("results", "certify", "--campaign", e.id, "--rules", e.rules))
	e.votesRefused(places[0], "certified")
	second := e.corrected(places[0], first)
	e.correctedAgain(places[0], second)
	e.passedOver(winner)
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
	left := len(e.votes(specialist))
	if left != len(rows)-n {
		e.Errorf("%s has %d votes left of %d, %d were annulled", specialist, left-1, len(rows)-1, n)
	}
	// Nothing else was recorded meanwhile: as of any event amid them, those above it
	// are not annulled yet.
	last := e.last()
	for _, above := range []int{n, n - 1, n / 2} {
		sequence := last - uint64(above)
		e.remember(sequence)
		if got := column(e.T, e.asOf[sequence], "specialist_id", "votes")[specialist]; got != strconv.Itoa(left-1+above) {
			e.Errorf("as of event %d, before %d of %d annulments, %s has %s votes, want %d", sequence, above, n, specialist, got, left-1+above)
		}
	}
}

// last is the number of the ledger's last event.
func (e ending) last() uint64 {
	e.Helper()
	var results struct {
		AsOfSequence uint64 `json:"as_of_sequence"`
	}
	if err := json.Unmarshal([]byte(e.run("results", "--campaign", e.id, "-o", "json")), &results); err != nil {
		e.Fatal(err)
	}
	return results.AsOfSequence
}

// withdrawn withdraws who would get an award.
func (e ending) withdrawn() (winner string) {
	awards, err := csv.NewReader(strings.NewReader(e.run("results", "awards", "--campaign", e.id, "--rules", e.rules, "-o", "csv"))).ReadAll()
	if err != nil || len(awards) < 2 || awards[1][0] != "specialists" {
		e.Fatalf("the awards are %v, %v", awards, err)
	}
	winner = awards[1][slices.Index(awards[0], "specialist_id")]
	e.event(e.run("specialist", "withdraw", "--campaign", e.id, winner))
	return winner
}

// passedOver wants somebody not to be among the certified winners, and to be told
// of.
func (e ending) passedOver(withdrawn string) {
	e.Helper()
	told := e.run("results", "awards", "--campaign", e.id)
	if strings.Count(told, withdrawn) != 1 || !strings.Contains(told, "specialists: "+withdrawn+" would have been honoured with ") {
		e.Errorf("%s was withdrawn, and the awards are\n%s", withdrawn, told)
	}
}

// annulOne annuls one more vote, which what is certified does not feel.
func (e ending) annulOne(specialist, decision string) {
	e.Helper()
	list := filepath.Join(e.TempDir(), "one.csv")
	writeCSV(e.T, list, e.votes(specialist)[:2])
	e.run("vote", "annul", "--campaign", e.id, "--file", list, "--decision", decision, "--reason", "balsots cita vārdā")
}

// correction is the command that certifies anew, without the reason.
func (e ending) correction(supersedes uint64) []string {
	return []string{"results", "certify", "--campaign", e.id, "--rules", e.rules, "--supersedes", strconv.FormatUint(supersedes, 10)}
}

// corrected certifies anew before the publication, and publishes that.
func (e ending) corrected(specialist string, first uint64) (second uint64) {
	e.annulOne(specialist, "VK lēmums Nr. 13")
	correction := e.correction(first)
	if _, errOut, code := try(e.T, e.data, correction...); code != 5 || !strings.Contains(errOut, "a correction needs a reason") {
		e.Errorf("a correction without a reason: exit code %d, %s", code, errOut)
	}
	second = e.event(e.killed(append(correction, "--reason", "anulēta viena balss")...))
	if _, errOut, code := try(e.T, e.data, "results", "publish", "--campaign", e.id, "--certification", strconv.FormatUint(first, 10)); code != 5 {
		e.Errorf("what was corrected can be published: exit code %d, %s", code, errOut)
	}
	e.event(e.run("results", "publish", "--campaign", e.id, "--certification", strconv.FormatUint(second, 10)))
	e.votesRefused(specialist, "published")
	return second
}

// correctedAgain certifies and publishes anew what was published: it is not
// archived before.
func (e ending) correctedAgain(specialist string, second uint64) {
	e.annulOne(specialist, "VK lēmums Nr. 14")
	e.notArchived("has changed the results since event " + strconv.FormatUint(second, 10))
	third := strconv.FormatUint(e.event(e.run(append(e.correction(second), "--reason", "anulēta vēl viena balss")...)), 10)
	e.notArchived("its results were corrected by event " + third + ", which is not published")
	e.event(e.run("results", "publish", "--campaign", e.id, "--certification", third))
}

func (e ending) notArchived(says string) {
	e.Helper()
	if _, errOut, code := try(e.T, e.data, "campaign", "archive", e.id); code != 5 || !strings.Contains(errOut, says) {
		e.Errorf("campaign archive: exit code %d, %s, want %q", code, errOut, says)
	}
}

func (e ending) archived(specialist string) {
	e.event(e.killed("campaign", "archive", e.id))
	e.votesRefused(specialist, "archived")
	list := filepath.Join(e.TempDir(), "late.csv")
	writeCSV(e.T, list, e.votes(specialist)[:2])
	if _, errOut, code := try(e.T, e.data, "vote", "annul", "--campaign", e.id, "--file", list, "--decision", "VK lēmums Nr. 15", "--reason", "par vēlu"); code != 5 || !strings.Contains(errOut, "campaign_closed") {
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
// follow from the events, and there are three, whatever was killed.
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
		certified = certified || c.Title == "Certified results (3) are those of the events"
		if c.Status != "ok" {
			e.Errorf("%s: %s", c.Title, c.Status)
		}
	}
	if !certified || report.Status != "archived" {
		e.Errorf("the audit of %v says %+v", args, report)
	}
}

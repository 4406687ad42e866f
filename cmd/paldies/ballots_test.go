package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// importResult is what `vote import -o json` prints.
type importResult struct {
	Rows, Recorded, Known, Unreadable int
	Refused                           map[string]int
}

func parseImport(t *testing.T, out string) importResult {
	t.Helper()
	var r importResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return r
}

// column reads two columns of a CSV table into a map.
func column(t *testing.T, table, key, value string) map[string]string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(table)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int)
	for i, name := range rows[0] {
		at[name] = i
	}
	m := make(map[string]string)
	for _, row := range rows[1:] {
		m[row[at[key]]] = row[at[value]]
	}
	return m
}

// assertExpected compares the results with the publisher's totals and verifies
// the ledger. The options are for both commands.
func (s ballotSet) assertExpected(t *testing.T, data string, options ...string) {
	t.Helper()
	expected, err := os.ReadFile(filepath.Join(s.dir, "expected.csv"))
	if err != nil {
		t.Fatal(err)
	}
	want := column(t, string(expected), "specialist_id", "votes")
	got := column(t, paldies(t, data, append([]string{"results", "--campaign", s.name, "-o", "csv"}, options...)...), "specialist_id", "votes")
	if len(got) < len(want) {
		t.Errorf("%d specialists in the results, %d expected", len(got), len(want))
	}
	for id, votes := range got {
		if w, ok := want[id]; votes != w && (ok || votes != "0") {
			t.Errorf("specialist %s has %s votes, expected %q", id, votes, w)
		}
	}
	for id := range want {
		if _, ok := got[id]; !ok {
			t.Errorf("specialist %s is missing in the results", id)
		}
	}
	paldies(t, data, append([]string{"audit", "verify", "--campaign", s.name}, options...)...)
}

// TestBallots counts every set of ballots: import, results, audit, and the
// import again, which must recognise every row and refuse again what it
// refused. The read models of all sets are side by side in one database, and
// must say the same as the ledgers.
func TestBallots(t *testing.T) {
	t.Parallel()
	databaseURL, sets := migrated(t), ballotSets(t)
	data := make([]string, len(sets))
	for i := range sets {
		data[i] = t.TempDir()
	}
	t.Run("sets", func(t *testing.T) { // ends when all of them have
		for i, set := range sets {
			t.Run(set.name, func(t *testing.T) {
				t.Parallel()
				set.assertImported(t, data[i], databaseURL)
			})
		}
	})
	last := len(sets) - 1
	sets[last].assertTamperingIsFound(t, data[last], databaseURL)
}

// assertImported imports the set and wants everything of it to be right.
func (s ballotSet) assertImported(t *testing.T, data, databaseURL string) {
	t.Helper()
	s.open(t, data)
	dry := parseImport(t, paldies(t, data, append(s.importArgs(), "--dry-run")...))
	first := parseImport(t, paldies(t, data, s.importArgs()...))
	if dry.Rows != first.Rows || dry.Recorded != first.Recorded || dry.Refused["already_voted"] != first.Refused["already_voted"] {
		t.Errorf("the dry run said %+v, the import %+v", dry, first)
	}
	if n := first.Refused["already_voted"]; n != s.alreadyVoted || len(first.Refused) > 1 {
		t.Errorf("already_voted is the answer %d times, expected %d; refusals: %v", n, s.alreadyVoted, first.Refused)
	}
	if first.Recorded+s.alreadyVoted != first.Rows || first.Known != 0 || first.Unreadable != 0 {
		t.Errorf("import: %+v", first)
	}
	assertProjected(t, data, databaseURL, s)
	s.assertSame(t, data, databaseURL)
	s.assertSealed(t, data)
	s.assertExported(t, data)
	again := parseImport(t, paldies(t, data, s.importArgs()...))
	if again.Recorded != 0 || again.Known != first.Recorded || again.Refused["already_voted"] != s.alreadyVoted {
		t.Errorf("the same import again: %+v, the first was %+v", again, first)
	}
}

// assertExported wants the rows of an export to add up to the publisher's totals.
func (s ballotSet) assertExported(t *testing.T, data string) {
	t.Helper()
	expected, err := os.ReadFile(filepath.Join(s.dir, "expected.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(paldies(t, data, "report", "export", "--campaign", s.name))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	specialist, status := slices.Index(rows[0], "counts_for"), slices.Index(rows[0], "status")
	active := make(map[string]int)
	for _, row := range rows[1:] {
		if row[status] == "active" {
			active[row[specialist]]++
		}
	}
	for id, want := range column(t, string(expected), "specialist_id", "votes") {
		if got := strconv.Itoa(active[id]); got != want {
			t.Errorf("specialist %s has %s active votes in the export, expected %s", id, got, want)
		}
	}
}

// assertSealed seals the set's ledger, checks the log without a server, makes
// the ledger again from it, and goes on voting there.
func (s ballotSet) assertSealed(t *testing.T, data string) {
	t.Helper()
	root := sealedRoot(t, paldies(t, data, "seal", "--campaign", s.name, "--once"))
	log := filepath.Join(data, "log", s.name)
	key := filepath.Join(log, "vkey")
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	paldies(t, nowhere, "audit", "verify", "--log", log, "--key", key)
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("a check without a server has made a data directory")
	}
	paldies(t, data, "audit", "verify", "--campaign", s.name, "--checkpoint", filepath.Join(log, "checkpoint"), "--key", key)

	again := t.TempDir()
	out := paldies(t, again, "restore", "--log", log, "--key", key)
	if !strings.Contains(out, root) {
		t.Errorf("%s was sealed with the root %s: %s", s.name, root, out)
	}
	if err := os.Mkdir(filepath.Join(again, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{s.name + ".key", s.name + ".signer"} {
		key, err := os.ReadFile(filepath.Join(data, "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(again, "keys", name), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := sealedRoot(t, paldies(t, again, "seal", "--campaign", s.name, "--once")); got != root {
		t.Errorf("%s is sealed with the root %s, it was %s", s.name, got, root)
	}
	s.assertExpected(t, again)
	specialist := strings.Split(paldies(t, again, "specialist", "list", "--campaign", s.name, "-o", "csv"), "\n")[1]
	paldies(t, again, "vote", "cast", "--campaign", s.name, "--voter", "kāds, kas vēl nav balsojis", "--channel", "web",
		"--specialist", strings.Split(specialist, ",")[0], "--cast-at", "2020-05-04T12:00:00Z")
}

// sealedRoot is the root that `seal --once` prints.
func sealedRoot(t *testing.T, out string) string {
	t.Helper()
	_, root, ok := strings.Cut(strings.TrimSpace(out), ", root ")
	if !ok {
		t.Fatalf("seal says %q", out)
	}
	return root
}

// TestTwoImportsAtOnce runs two imports of one file beside each other on one
// node: together they are one import.
func TestTwoImportsAtOnce(t *testing.T) {
	t.Parallel()
	sets := ballotSets(t)
	set := sets[len(sets)-1] // the one with most repeats and retractions
	data := t.TempDir()
	set.open(t, data)
	stop := startNode(t, data)
	var results [2]importResult
	var both sync.WaitGroup
	for i := range results {
		both.Go(func() { results[i] = parseImport(t, paldies(t, data, set.importArgs()...)) })
	}
	both.Wait()
	for _, r := range results {
		if r.Recorded+r.Known+set.alreadyVoted != r.Rows || r.Refused["already_voted"] != set.alreadyVoted {
			t.Errorf("two imports at once: %+v", results)
		}
	}
	if got, want := set.voterEvents(t, data), results[0].Rows-set.alreadyVoted; got != want {
		t.Errorf("two imports at once left %d events of voters, one leaves %d", got, want)
	}
	set.assertExpected(t, data)
	stop()
}

// voterEvents counts the events besides those of the campaign's opening and of
// the specialists' registration.
func (s ballotSet) voterEvents(t *testing.T, data string) int {
	t.Helper()
	var campaign struct{ Events, Specialists int }
	if err := json.Unmarshal([]byte(paldies(t, data, "campaign", "show", s.name, "-o", "json")), &campaign); err != nil {
		t.Fatal(err)
	}
	return campaign.Events - campaign.Specialists - 1
}

package main

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// generateBallots makes two sets of the shape of the real ones: one with three
// votes for each voter, and one without a limit in which people vote again,
// take back and vote again. What the ledger must end with is counted here, in
// the plainest way.
func generateBallots(t *testing.T) []ballotSet {
	t.Helper()
	const seed = 20181111
	t.Logf("generated ballots, seed %d", seed)
	limited := ballotSet{name: "generated-limited", votesPerVoter: 3, dir: t.TempDir()}
	free := ballotSet{name: "generated-free", dir: t.TempDir()}
	generate(t, rand.New(rand.NewPCG(seed, 1)), &limited, 20_000)
	generate(t, rand.New(rand.NewPCG(seed, 2)), &free, 8_000)
	return []ballotSet{limited, free}
}

func generate(t *testing.T, random *rand.Rand, set *ballotSet, voters int) {
	t.Helper()
	const specialists = 60
	rows := [][]string{{"submission_id", "voter", "specialist_id", "channel", "action", "at"}}
	totals := make(map[int]int)
	at := time.Date(2018, 3, 1, 8, 0, 0, 0, time.UTC)
	add := func(voter, specialist int, action string) {
		at = at.Add(137 * time.Millisecond)
		channel := []string{"web", "mobile", "in_person"}[random.IntN(3)]
		rows = append(rows, []string{fmt.Sprintf("%s-%d", set.name, len(rows)), fmt.Sprintf("balsotājs %d", voter),
			fmt.Sprintf("s%d", specialist), channel, action, at.Format(time.RFC3339Nano)})
	}
	for voter := range voters {
		for _, specialist := range random.Perm(specialists)[:3] {
			add(voter, specialist, "vote")
			totals[specialist]++
			if set.votesPerVoter > 0 {
				continue
			}
			if random.IntN(20) == 0 {
				add(voter, specialist, "vote") // a repeat
				set.alreadyVoted++
				if random.IntN(2) == 0 {
					add(voter, specialist, "retract")
					totals[specialist]--
				}
			}
		}
	}
	writeCSV(t, filepath.Join(set.dir, "votes.csv.gz"), rows)
	people := [][]string{{"specialist_id", "name", "position", "institution", "branch", "region"}}
	expected := [][]string{{"specialist_id", "votes"}}
	for i := range specialists {
		id := fmt.Sprintf("s%d", i)
		people = append(people, []string{id, fmt.Sprintf("Žanete Ņēģe %d", i), "klientu apkalpošanas speciāliste",
			fmt.Sprintf("Iestāde %d", i%7), fmt.Sprintf("Gulbenes filiāle %d", i%5), "Vidzeme"})
		expected = append(expected, []string{id, strconv.Itoa(totals[i])})
	}
	writeCSV(t, filepath.Join(set.dir, "specialists.csv"), people)
	writeCSV(t, filepath.Join(set.dir, "expected.csv"), expected)
}

// writeCSV writes rows, packed when the name says so.
func writeCSV(t *testing.T, path string, rows [][]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := csv.NewWriter(f)
	if filepath.Ext(path) == ".gz" {
		z := gzip.NewWriter(f)
		defer z.Close()
		w = csv.NewWriter(z)
	}
	if err := w.WriteAll(rows); err != nil {
		t.Fatal(err)
	}
}

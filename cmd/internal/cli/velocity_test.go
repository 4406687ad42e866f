package cli

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

// guests lets so many people vote at the same moment.
func (s *story) guests(at time.Time, n int, specialist, channel string) {
	s.t.Helper()
	s.now = at
	var voting sync.WaitGroup
	for range n {
		s.said++
		voter := fmt.Sprintf("Ģertrūde Šņore %d", s.said)
		voting.Go(func() {
			if _, err := s.intake.Submit(s.ctx, intake.Command{Action: domain.Vote, Voter: voter, Specialist: specialist, Channel: channel}); err != nil {
				s.t.Errorf("%s votes for %s at %v: %v", voter, specialist, at, err)
			}
		})
	}
	voting.Wait()
}

// TestBurstIsListedAndAnnulled goes the auditor's way from `audit velocity` over
// `vote list` to `vote annul`. The burst lies in the second of the two hours that
// were both called three to four in Riga on 27 October 2019; what came in during
// the first one, and by another channel, stays.
func TestBurstIsListedAndAnnulled(t *testing.T) {
	const burst, campaign = 300, "rudens-2019"
	putBack := time.Date(2019, 10, 27, 1, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	data := filepath.Join(dir, "dati")
	s := newStory(t, data)
	s.say(1, `Campaign rudens-2019 "Laba servisa kustība" opens 2019-10-01 and closes 2019-11-11 (Europe/Riga). One voter has any number of votes.`)
	for _, name := range []string{"Līga Žagare", "Anna Zvirbule", "Jānis Čiekurs"} {
		s.say(2, name+" works at Ziedoņu klientu centrs, Cēsis.")
	}
	known := s.said
	for hour := putBack.AddDate(0, 0, -3); hour.Before(putBack.AddDate(0, 0, 3)); hour = hour.Add(time.Hour) {
		switch {
		case hour.Equal(putBack):
			s.guests(putBack.Add(-time.Millisecond), 5, "liga-zagare", "web")
			s.guests(putBack, 2, "liga-zagare", "mobile")
			s.guests(putBack, 1, "liga-zagare", "web")
			s.guests(putBack.Add(30*time.Minute), burst-2, "liga-zagare", "web")
			s.guests(putBack.Add(time.Hour-time.Millisecond), 1, "liga-zagare", "web")
			s.guests(putBack.Add(time.Hour), 3, "liga-zagare", "web")
		case hour.Hour() >= 5 && hour.Hour() < 18:
			for i, specialist := range []string{"liga-zagare", "anna-zvirbule", "janis-ciekurs"} {
				s.guests(hour.Add(20*time.Minute), 1+(hour.Hour()+i)%3, specialist, "web")
			}
		}
	}
	votes := s.said - known
	s.end()
	run := func(args ...string) string {
		t.Helper()
		code, out, said := runHere(t, node.Config{}, append(args, "--data", data)...)
		wants(t, code, exitOK, said)
		return out
	}

	found, err := csv.NewReader(strings.NewReader(run("audit", "velocity", "--campaign", campaign, "-o", "csv"))).ReadAll()
	if err != nil || len(found) != 2 {
		t.Fatalf("%q, %v", found, err)
	}
	wantRow(t, found, "specialist_id", "liga-zagare", "name", "Līga Žagare", "channel", "web",
		"from", "2019-10-27T03:00+02:00", "to", "2019-10-27T04:00+02:00", "votes", "300")
	selection := strings.Fields(found[1][len(found[1])-1])[1:] // without the program
	list := filepath.Join(dir, "saraksts.csv")
	listed := run(selection...)
	if n := strings.Count(listed, "in_force"); n != burst {
		t.Errorf("%d votes are listed, the burst has %d", n, burst)
	}
	if err := os.WriteFile(list, []byte(listed), 0o600); err != nil {
		t.Fatal(err)
	}
	annulled := run("vote", "annul", "--campaign", campaign, "--file", list, "--decision", "VK 2019/7", "--reason", "balsots no viena datora")
	if !strings.HasPrefix(annulled, "300 votes: 300 annulled") {
		t.Error(annulled)
	}
	all := run("vote", "list", "--campaign", campaign)
	if n, rest := strings.Count(all, ",annulled\n"), strings.Count(all, ",in_force\n"); n != burst || rest != votes-burst {
		t.Errorf("%d votes are annulled and %d of %d in force", n, rest, votes)
	}
	if again := run(selection...); strings.Count(again, ",annulled\n") != burst {
		t.Error("others were annulled than were listed")
	}
	run("audit", "verify", "--campaign", campaign)
}

// wantRow wants values in the first row of a table, by their columns.
func wantRow(t *testing.T, table [][]string, pairs ...string) {
	t.Helper()
	got := make(map[string]string)
	for i, column := range table[0] {
		got[column] = table[1][i]
	}
	for i := 0; i < len(pairs); i += 2 {
		if got[pairs[i]] != pairs[i+1] {
			t.Errorf("%s is %q, want %q", pairs[i], got[pairs[i]], pairs[i+1])
		}
	}
}

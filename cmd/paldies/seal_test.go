package main

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sealKills is how often a signer is killed.
const sealKills = 40

// TestKilledSigner kills a real signer with SIGKILL at random moments while
// votes come in. Whenever it is dead, the log that it has left must be honest and
// have grown out of what it was before; in the end it is whole.
func TestKilledSigner(t *testing.T) {
	t.Parallel()
	sets := ballotSets(t)
	set := sets[slices.IndexFunc(sets, func(s ballotSet) bool { return s.alreadyVoted > 100 })]
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	data := t.TempDir()
	set.open(t, data)
	log := filepath.Join(t.TempDir(), "log")
	sealArgs := []string{"seal", "--campaign", set.name, "--log", log}
	start := time.Now()
	paldies(t, data, append(slices.Clone(sealArgs), "--once")...) // makes the key
	reach := time.Since(start)                                    // a moment at which a signer has begun to work
	key := filepath.Join(log, "vkey")
	verify := []string{"audit", "verify", "--log", log, "--key", key}
	kept, grown := filepath.Join(t.TempDir(), "kept"), 0
	// keep takes a copy of the checkpoint and says whether it is another one.
	keep := func() bool {
		now, err := os.ReadFile(filepath.Join(log, "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(kept) // none the first time
		if err := os.WriteFile(kept, now, 0o600); err != nil {
			t.Fatal(err)
		}
		return string(now) != string(before)
	}
	keep()

	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	for _, part := range set.split(t, sealKills) {
		importing := command(t.Context(), data, "vote", "import", "--campaign", set.name, part)
		if err := importing.Start(); err != nil {
			t.Fatal(err)
		}
		signer := command(t.Context(), data, append(slices.Clone(sealArgs), "--interval", "10ms")...)
		if err := signer.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment is what is tested here, not what is waited for. It is
		// aimed so that half of the signers come to sign something.
		moment := reach/2 + time.Duration(random.Int64N(int64(reach)))
		kill := time.AfterFunc(moment, func() { signer.Process.Kill() })
		err := signer.Wait()
		kill.Stop()
		if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != -1) {
			t.Fatalf("a signer after a kill: %v", err)
		}
		if err := importing.Wait(); err != nil {
			t.Fatalf("the import of %s: %v", part, err)
		}
		paldies(t, data, append(slices.Clone(verify), "--checkpoint", kept)...)
		if keep() {
			grown++
			reach -= reach / 10
		} else {
			reach += reach / 10
		}
	}
	t.Logf("%d of %d signers have signed something before they were killed", grown, sealKills)
	if grown < sealKills/10 {
		t.Errorf("only %d of %d signers have signed anything before they were killed", grown, sealKills)
	}
	node.stop(t)
	sealed := paldies(t, data, append(slices.Clone(sealArgs), "--once")...)
	events := set.voterEvents(t, data)
	if first, _, _ := strings.Cut(strings.TrimPrefix(sealed, "sealed "), " "); first == "0" || !atLeast(first, events) {
		t.Errorf("%d events of voters, and %s", events, sealed)
	}
	paldies(t, data, append(verify, "--checkpoint", kept)...)
	paldies(t, data, "audit", "verify", "--campaign", set.name)
}

// split cuts the set's votes into so many files.
func (s ballotSet) split(t *testing.T, parts int) (names []string) {
	t.Helper()
	rows := s.rows(t)
	header, rows := rows[0], rows[1:]
	for part := range slices.Chunk(rows, (len(rows)+parts-1)/parts) {
		name := filepath.Join(t.TempDir(), "votes.csv")
		writeCSV(t, name, append([][]string{header}, part...))
		names = append(names, name)
	}
	return names
}

// rows are the set's votes as they stand in its file, with the header.
func (s ballotSet) rows(t *testing.T) [][]string {
	t.Helper()
	file, err := os.Open(s.votes())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(unpacked).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func atLeast(number string, n int) bool {
	m, err := strconv.Atoi(number)
	return err == nil && m >= n
}

// TestTwoSigners runs two signers with folders of their own: what both have
// signed is one log, and one of them ends when it notices the other.
func TestTwoSigners(t *testing.T) {
	t.Parallel()
	set := generateBallots(t)[1]
	data := t.TempDir()
	set.open(t, data)
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	folders := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
	args := func(i int) []string {
		return []string{"seal", "--campaign", set.name, "--log", folders[i], "--interval", "10ms"}
	}
	paldies(t, data, append(args(0), "--once")...)
	if out, errOut, code := try(t, data, append(args(0), "--once", "--signing-key-file", filepath.Join(data, "none"))...); code != 1 {
		t.Errorf("a second key for one log: exit code %d\n%s%s", code, out, errOut)
	}
	var signers []*exec.Cmd
	for i := range folders {
		signer := command(t.Context(), data, args(i)...)
		if err := signer.Start(); err != nil {
			t.Fatal(err)
		}
		signers = append(signers, signer)
	}
	paldies(t, data, set.importArgs()...)
	ended := make(chan error, len(signers))
	for _, signer := range signers {
		go func() { ended <- signer.Wait() }()
	}
	if code := exitOf(<-ended); code != 4 {
		t.Errorf("the signer that was fenced off ends with exit code %d, want 4", code)
	}
	for _, signer := range signers {
		_ = signer.Process.Kill() // one has ended already
	}
	<-ended
	key := filepath.Join(folders[0], "vkey")
	for _, folder := range folders {
		checkpoint := filepath.Join(folder, "checkpoint")
		if out, err := exec.Command("test", "-e", checkpoint).Output(); err != nil {
			fmt.Printf("%s was fenced off before its first checkpoint %s\n", folder, out)
			continue
		}
		paldies(t, data, "audit", "verify", "--log", folder, "--key", key)
		paldies(t, data, "audit", "verify", "--campaign", set.name, "--checkpoint", checkpoint, "--key", key)
	}
	node.stop(t)
}

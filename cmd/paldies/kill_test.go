package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// startNode starts `paldies dev` and waits until it serves. The returned
// function asks it to stop and waits for it.
func startNode(t *testing.T, data string, args ...string) (stop func()) {
	t.Helper()
	node := startDaemon(t, data, append([]string{"dev", "--http", "127.0.0.1:0"}, args...)...)
	return func() {
		t.Helper()
		node.stop(t)
	}
}

// kills is how often an import is killed.
const kills = 50

// TestKilledImport kills a real import with SIGKILL at random moments, each
// time starting it again, and wants the totals of an undisturbed run.
func TestKilledImport(t *testing.T) {
	t.Parallel()
	sets := ballotSets(t)
	set := sets[slices.IndexFunc(sets, func(s ballotSet) bool { return s.alreadyVoted > 100 })]
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	undisturbed := t.TempDir()
	set.open(t, undisturbed)
	start := time.Now()
	want := parseImport(t, paldies(t, undisturbed, set.importArgs()...))
	duration := time.Since(start)

	data := t.TempDir()
	set.open(t, data)
	hits := 0
	for i := range kills {
		start := time.Now()
		cmd := command(t.Context(), data, set.importArgs()...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment is what is tested here, not what is waited for. It comes
		// later from kill to kill, so that recording goes on until the last one.
		moment := time.Duration(random.Int64N(2 * int64(duration) * int64(i+1) / kills))
		kill := time.AfterFunc(moment, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		switch exitOf(err) {
		case -1:
			hits++
		case 0: // a run that finds votes recorded is faster than the first one
			duration = time.Since(start)
		default:
			t.Fatalf("an import after a kill: %v", err)
		}
	}
	t.Logf("%d of %d imports were killed before they had ended", hits, kills)
	if hits < kills/10 {
		t.Errorf("only %d of %d imports were killed before they had ended", hits, kills)
	}
	got := parseImport(t, paldies(t, data, set.importArgs()...))
	if got.Recorded+got.Known != want.Recorded || got.Refused["already_voted"] != want.Refused["already_voted"] {
		t.Errorf("after %d kills: %+v, undisturbed: %+v", kills, got, want)
	}
	set.assertExpected(t, data)
}

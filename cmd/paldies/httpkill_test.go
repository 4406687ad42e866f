package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// workerKills is how often an intake worker is killed.
const workerKills = 20

// randomSeed is a seed that the test's log names.
func randomSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// TestKilledWorkers kills one of two intake workers with SIGKILL at random
// moments while a crowd votes at both, and starts another one.
func TestKilledWorkers(t *testing.T) {
	const momentMax = 300 * time.Millisecond
	seed, data := randomSeed(t), t.TempDir()
	random := rand.New(rand.NewPCG(seed, 1))
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	openForVotes(t, data, "laba-servisa-kustiba", specialistsFile(t))
	token := addToken(t, data, "web")
	two := []*daemon{startWorker(t, data), startWorker(t, data)}
	at := workersAt(two...)
	c := startCrowd(t, at, "laba-servisa-kustiba", token, seed)
	for range workerKills {
		c.goesOn(crowdClients)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(momentMax))))
		victim := random.IntN(len(two))
		two[victim].kill()
		two[victim] = startWorker(t, data)
		at.set(victim, two[victim])
	}
	c.goesOn(crowdClients)
	c.assertRecorded(data, 0)
	for _, d := range two {
		d.stop(t)
	}
	node.stop(t)
}

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// closes is how many campaigns are closed while everybody votes.
const closes = 20

// TestClosedAtFullLoad closes campaigns while a crowd votes at a node and at a
// worker beside it. What was acknowledged is what counts, and whoever asks later
// is refused.
func TestClosedAtFullLoad(t *testing.T) {
	t.Parallel()
	const momentMax = 200 * time.Millisecond
	seed, data := randomSeed(t), t.TempDir()
	random := rand.New(rand.NewPCG(seed, 1))
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	specialists, token := specialistsFile(t), addToken(t, data, "web")
	worker := startWorker(t, data)
	for i := range closes {
		campaign := fmt.Sprintf("slegums-%d", i)
		openForVotes(t, data, campaign, specialists)
		c := startCrowd(t, workersAt(node, worker), campaign, token, seed+uint64(i))
		c.goesOn(crowdClients)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(momentMax))))
		paldies(t, data, "campaign", "close", campaign)
		c.everybodyLeaves()
		c.assertRecorded(data, fenceOf(t, data, campaign))
	}
	worker.stop(t)
	node.stop(t)
}

// everybodyLeaves waits until every client was told that the campaign is closed.
// From then on a new vote is refused, and who asks again for an acknowledged one
// gets the same receipt.
func (c *crowd) everybodyLeaves() {
	c.t.Helper()
	c.voting.Wait()
	for _, m := range c.members {
		if m.refused != 1 {
			c.t.Errorf("%s was told %d times that the campaign is closed", m.name, m.refused)
		}
		late := m.wish(m.name+" vēlu", crowdSpecialist(0))
		if a, err := m.insist(late); err != nil || a.code != "campaign_closed" || a.status != http.StatusConflict {
			c.t.Errorf("%s votes after the close: %+v, %v", m.name, a, err)
		}
		if m.kept.path == "" {
			continue
		}
		if a, err := m.insist(m.kept); err != nil || a.text != m.keptAnswer.text {
			c.t.Errorf("%s asks after the close for what was acknowledged: %+v, %v; the first answer was %+v", m.name, a, err, m.keptAnswer)
		}
		m.hangUp()
	}
}

// fenceOf is the sequence of the event that closed a campaign.
func fenceOf(t *testing.T, data, campaign string) uint64 {
	t.Helper()
	var closed struct{ Sequence uint64 }
	out := paldies(t, data, "audit", "replay", "--campaign", campaign, "--type", "campaign.closed", "-o", "json")
	check(t, json.Unmarshal([]byte(out), &closed))
	return closed.Sequence
}

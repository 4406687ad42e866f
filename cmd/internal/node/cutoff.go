package node

import (
	"context"
	"time"
)

const (
	// leaderInterval is the time between two looks whether JetStream has a leader.
	leaderInterval = 2 * time.Second
	// leaderTimeout is the longest that the leader may take to answer, in time.
	leaderTimeout = 2 * time.Second
	// electionMax is how long an election takes at most, in time, unless votes are split.
	electionMax = 9 * time.Second
	// leaderlessMax is how long a server may be without a leader, as it shows to who
	// looks from time to time.
	leaderlessMax = electionMax + 2*leaderInterval + leaderTimeout
	// moveMax bounds the time between two moves that do not help, each of which waits
	// twice as long as the one before.
	moveMax = 2 * time.Minute
)

// leaveCutOff goes to another server when the one that is connected no longer
// reaches JetStream's leader. A server that is cut off from the others keeps its
// clients, and they would wait for the end of the partition, although most servers
// go on without it. It returns when the connection is closed.
func (c *connection) leaveCutOff(ctx context.Context) {
	ticker := time.NewTicker(leaderInterval)
	defer ticker.Stop()
	led, wait := time.Now(), leaderlessMax
	for {
		select {
		case <-ticker.C:
		case <-c.closed:
			return
		}
		asking, stop := context.WithTimeout(ctx, leaderTimeout)
		_, err := c.js.AccountInfo(asking)
		stop()
		switch {
		case err == nil:
			led, wait = time.Now(), leaderlessMax
		case !c.IsConnected():
			led = time.Now()
		case time.Since(led) > wait:
			_ = c.ForceReconnect() // it fails only when the connection is closed
			led, wait = time.Now(), min(2*wait, moveMax)
		}
	}
}

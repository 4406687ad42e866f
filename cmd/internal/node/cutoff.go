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
	// leaderlessMax is how long a server may be without it. An election takes up to
	// 9 s.
	leaderlessMax = 10 * time.Second
)

// leaveCutOff goes to another server when the one that is connected no longer
// reaches JetStream's leader. A server that is cut off from the others keeps its
// clients, and they would wait for the end of the partition, although most servers
// go on without it. It returns when the connection is closed.
func (c *connection) leaveCutOff(ctx context.Context) {
	ticker := time.NewTicker(leaderInterval)
	defer ticker.Stop()
	for led := time.Now(); ; {
		select {
		case <-ticker.C:
		case <-c.closed:
			return
		}
		asking, stop := context.WithTimeout(ctx, leaderTimeout)
		_, err := c.js.AccountInfo(asking)
		stop()
		if err == nil || !c.IsConnected() {
			led = time.Now()
		} else if time.Since(led) > leaderlessMax {
			_ = c.ForceReconnect() // it fails only when the connection is closed
			led = time.Now()
		}
	}
}

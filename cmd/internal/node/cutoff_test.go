package node

import (
	"testing"

	"sakipaldies.lv/ledger/eventstore/storetest"
)

// TestServerThatIsCutOff takes the others away from a server that stays connected.
func TestServerThatIsCutOff(t *testing.T) {
	t.Parallel()
	cluster, other := storetest.NewCluster(t), storetest.NewServer(t)
	var cutOff *storetest.Server
	for _, s := range cluster.Servers {
		if !s.NATS().JetStreamIsLeader() {
			cutOff = s
		}
	}
	n := openAt(t, cutOff, other)
	for _, s := range cluster.Servers {
		if s != cutOff {
			s.Stop()
		}
	}
	storetest.Eventually(t, "the connection is at a server with a leader", func() bool { return n.Conn().ConnectedUrl() == other.URL() })
}

// openAt opens a node that knows two servers and is connected to the first. The
// client chooses at random.
func openAt(t *testing.T, first, second *storetest.Server) *Node {
	t.Helper()
	for {
		n, err := Open(contextFor(t), Config{NATSURL: first.URL() + "," + second.URL(), Command: "test"})
		must(t, err)
		if n.Conn().ConnectedUrl() == first.URL() {
			t.Cleanup(func() { must(t, n.Close()) })
			return n
		}
		must(t, n.Close())
	}
}

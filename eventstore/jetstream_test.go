package eventstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// closeLimit is how long a ledger may take to close.
const closeLimit = 30 * time.Second

// create makes the suite's stream and opens ledgers on it, each on the next of
// the connections.
func create(t *testing.T, stream string, replicas int, connections ...*nats.Conn) storetest.Store {
	t.Helper()
	config := storetest.Config(stream, replicas)
	if err := eventstore.Create(t.Context(), connections[0], config); err != nil {
		t.Fatal(err)
	}
	opened := 0
	return func(t testing.TB) storetest.Ledger {
		nc := connections[opened%len(connections)]
		opened++
		return eventstore.WithSubjects{Ledger: open(t, nc, config)}
	}
}

// open opens a ledger and closes it with the test.
func open(t testing.TB, nc *nats.Conn, config eventstore.Config) *eventstore.Ledger {
	t.Helper()
	ledger, err := eventstore.Open(t.Context(), nc, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		if err := ledger.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return ledger
}

func TestLedgerOnOneServer(t *testing.T) {
	s := storetest.NewServer(t)
	inProcess := s.Connect(t, nats.InProcessServer(s.NATS()))
	overTCP := s.Connect(t)
	storetest.Run(t, func(t *testing.T, stream string) storetest.Store {
		return create(t, stream, 1, inProcess, overTCP)
	})
}

func TestLedgerOnThreeServers(t *testing.T) {
	c := storetest.NewCluster(t)
	var connections []*nats.Conn
	for _, s := range c.Servers {
		connections = append(connections, s.Connect(t))
	}
	storetest.Run(t, func(t *testing.T, stream string) storetest.Store {
		return create(t, stream, 3, connections...)
	})
}

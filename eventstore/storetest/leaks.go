package storetest

import "go.uber.org/goleak"

// Leftovers let pass, in a check for leaked goroutines, what nats-server 2.15
// leaves behind when it is stopped while an atomic batch is staged: the store of
// that batch.
func Leftovers() []goleak.Option {
	const server = "github.com/nats-io/nats-server/v2/server"
	return []goleak.Option{
		goleak.IgnoreTopFunction(server + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction(server + ".(*msgBlock).flushLoop"),
		goleak.IgnoreTopFunction(server + "/ats.Register.func1"),
	}
}

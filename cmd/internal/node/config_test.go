package node_test

import (
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/node"
)

// TestRedactServers: no password and no token is shown, with a scheme or without.
func TestRedactServers(t *testing.T) {
	for servers, want := range map[string]string{
		"nats://intake:parole@nats-1:4222":                   "nats://xxxxx@nats-1:4222",
		"intake:parole@nats-1:4222, tls://zeton@nats-2:4222": "nats://xxxxx@nats-1:4222,tls://xxxxx@nats-2:4222",
		"nats-1:4222": "nats://nats-1:4222",
		"nats://intake:pa role@nats-1:4222,nats://nats-2": "(unreadable),nats://nats-2",
	} {
		if got := node.RedactServers(servers); got != want {
			t.Errorf("%s is shown as %s, want %s", servers, got, want)
		}
	}
}

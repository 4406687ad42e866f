package node

import (
	"errors"
	"strings"
	"testing"
)

func TestJoinNeverStartsAServer(t *testing.T) {
	dir := t.TempDir()
	join := Config{DataDir: dir, Join: true, Command: "project"}
	if _, err := Open(contextFor(t), join); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no node runs on "+dir) {
		t.Errorf("without a node: %v", err)
	}
	alone := open(t, Config{DataDir: dir, Command: "vote import"})
	if _, err := Open(contextFor(t), join); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "vote import") {
		t.Errorf("beside a command: %v", err)
	}
	must(t, alone.Close())
	served := open(t, Config{DataDir: dir, Serve: true, Command: "dev"})
	joined := open(t, join)
	if joined.Embedded() || joined.URL() != served.URL() {
		t.Errorf("joined: embedded %v at %s, served at %s", joined.Embedded(), joined.URL(), served.URL())
	}
	if err := (Config{Serve: true, Join: true}).Validate(); err == nil {
		t.Error("a node may both serve and join")
	}
}

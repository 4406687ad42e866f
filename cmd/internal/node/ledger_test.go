package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/eventstore"
)

func ledgerConfig() eventstore.Config {
	return eventstore.Config{
		Stream:   "LEDGER_2018",
		Subjects: []string{"ledger.2018.campaign", "ledger.2018.specialist.*", "ledger.2018.voter.*"},
		Control:  "ledger.2018.campaign",
		Replicas: 1,
	}
}

func TestLedgerOnOwnServer(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	n := open(t, Config{DataDir: dir})
	if _, err := n.OpenLedger(ctx, ledgerConfig()); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("opening what does not exist: %v", err)
	}
	must(t, n.CreateLedger(ctx, ledgerConfig()))
	if err := n.CreateLedger(ctx, ledgerConfig()); !errors.Is(err, eventstore.ErrExists) {
		t.Errorf("creating what exists: %v", err)
	}
	const voters = 500
	appendVotes(t, n, voters)
	must(t, n.Close())

	n = open(t, Config{DataDir: dir})
	ledger, err := n.OpenLedger(ctx, ledgerConfig())
	must(t, err)
	info, err := ledger.Info(ctx)
	must(t, err)
	if info.Last != voters {
		t.Errorf("%d votes were acknowledged, %d are there", voters, info.Last)
	}
	must(t, ledger.Close(ctx))
}

// appendVotes has each voter append one event, all at once, so that they are
// committed in batches.
func appendVotes(t *testing.T, n *Node, voters int) {
	t.Helper()
	ctx := contextFor(t)
	ledger, err := n.OpenLedger(ctx, ledgerConfig())
	must(t, err)
	var done sync.WaitGroup
	for voter := range voters {
		done.Go(func() {
			m := eventstore.Message{Subject: fmt.Sprintf("ledger.2018.voter.%d", voter), Data: []byte(batchData(voter, 1))}
			if _, err := ledger.Append(ctx, m, 0); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	must(t, ledger.Close(ctx))
}

// TestLedgerOverJoinedNode: the folders of a server belong to its process.
func TestLedgerOverJoinedNode(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	served := open(t, Config{DataDir: dir, Serve: true})
	joined := open(t, Config{DataDir: dir})
	must(t, joined.CreateLedger(ctx, ledgerConfig()))
	appendVotes(t, joined, 50)
	link := filepath.Join(served.staging.streams, ledgerConfig().Stream, batchesName)
	if entry, err := os.Lstat(link); err == nil && entry.Mode().Type() == os.ModeSymlink {
		t.Error("a process staged batches for the server of another")
	}

	ledger, err := served.OpenLedger(ctx, ledgerConfig())
	must(t, err)
	m := eventstore.Message{Subject: "ledger.2018.voter.7", Data: []byte("kāds cits balsojums")}
	if _, err := ledger.Append(ctx, m, 0); !errors.Is(err, eventstore.ErrConflict) {
		t.Errorf("another first event of a voter: %v", err)
	}
	must(t, ledger.Close(ctx))
	must(t, joined.Close())
}

// TestLedgerWithoutRoom: whatever an append says when there is no room, the
// node knows the cause.
func TestLedgerWithoutRoom(t *testing.T) {
	ctx := contextFor(t)
	dir := t.TempDir()
	n := open(t, Config{DataDir: dir, MaxStoreBytes: 64 << 10})
	must(t, n.CreateLedger(ctx, ledgerConfig()))
	ledger, err := n.OpenLedger(ctx, ledgerConfig())
	must(t, err)
	stored := 0
	for stored < 100 {
		waiting, stop := context.WithTimeout(ctx, time.Second)
		_, err = ledger.Append(waiting, eventstore.Message{Subject: fmt.Sprintf("ledger.2018.voter.%d", stored), Data: make([]byte, 8<<10)}, 0)
		stop()
		if err != nil {
			break
		}
		stored++
	}
	explained := n.Explain(err)
	if !errors.Is(explained, ErrStorageFull) {
		t.Errorf("after %d events: %v", stored, explained)
	}
	t.Logf("after %d events: %v", stored, explained)
	must(t, ledger.Close(ctx))
	must(t, n.Close())
	n = open(t, Config{DataDir: dir})
	ledger, err = n.OpenLedger(ctx, ledgerConfig())
	must(t, err)
	info, err := ledger.Info(ctx)
	must(t, err)
	if info.Last != uint64(stored) {
		t.Errorf("%d events were acknowledged, %d are there", stored, info.Last)
	}
	must(t, ledger.Close(ctx))
}

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// settingsWait is how long Durability waits for the first server to tell its
	// settings, and for each one after it.
	settingsWait = 500 * time.Millisecond
	// statesMax bounds how many servers are listened to.
	statesMax = 64
	// stateSubject asks all servers for the state of JetStream. Only the system
	// account is answered, and accounts that it lets ask.
	stateSubject = "$SYS.REQ.SERVER.PING.JSZ"
	// letAsk is the remedy when the servers do not answer.
	letAsk = "let this account import the service " + stateSubject + " from the system account."
	// diskFreeAdvised is the free space in bytes below which Durability warns.
	diskFreeAdvised = 1 << 30
)

// Status is what became of one check.
type Status int

const (
	// OK needs no attention.
	OK Status = iota
	// Warning needs attention: events can be lost, or soon cannot be recorded.
	Warning
	// Unknown cannot be seen from here.
	Unknown
)

// String is the status in one word.
func (s Status) String() string {
	switch s {
	case OK:
		return "ok"
	case Warning:
		return "warning"
	default:
		return "unknown"
	}
}

// Finding is one thing that the safety of acknowledged events depends on.
type Finding struct {
	Name   string
	Status Status
	Detail string // one sentence
	Remedy string // one sentence, empty when there is nothing to do
}

// Durability reports what can be seen from here of whether an acknowledged
// event survives a power loss and whether there is room for more. It returns
// an error only when the context ends or the server is lost meanwhile.
func (n *Node) Durability(ctx context.Context) ([]Finding, error) {
	if n.Embedded() {
		return n.embeddedFindings()
	}
	findings := []Finding{n.serverFinding()}
	if n.address != nil {
		return append(findings, n.joinedFinding(), n.diskFinding(), n.accessFinding()), nil
	}
	servers, err := n.states(ctx, server.JSzOptions{}, settingsWait)
	if err != nil {
		return nil, err
	}
	return append(findings, n.clusterFinding(), syncFinding(servers)), nil
}

func (n *Node) embeddedFindings() ([]Finding, error) {
	info, err := n.server.Jsz(&server.JSzOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking the embedded server: %w", err)
	}
	health := Finding{Name: "server", Detail: "embedded nats-server " + server.VERSION + " works."}
	if fault := n.server.health(); fault != "" {
		health.Status = Warning
		health.Detail = fmt.Sprintf("embedded nats-server %s: %s.", server.VERSION, fault)
		health.Remedy = "Make room or repair the disk, then start the command again."
	}
	written := syncFinding([]state{{server: "the embedded server", JSInfo: info}})
	return []Finding{health, written, n.stagingFinding(), n.diskFinding(), n.accessFinding()}, nil
}

// stagingFinding tells a slow node from a fast one. Neither loses anything.
func (n *Node) stagingFinding() Finding {
	f := Finding{Name: "batches", Detail: "Uncommitted batches are staged in memory, committed ones on disk."}
	if n.config.StageOnDisk {
		f.Detail = "Uncommitted batches are staged on disk, as configured."
	} else if err := n.staging.reason(); err != nil {
		f.Detail = fmt.Sprintf("Uncommitted batches are staged on disk, which is safe but slower: %v.", err)
	}
	return f
}

func (n *Node) diskFinding() Finding {
	f := Finding{Name: "disk"}
	free, err := diskFree(n.DataDir())
	switch {
	case err != nil:
		f.Status = Unknown
		f.Detail = fmt.Sprintf("How much space is free for %s cannot be seen: %v.", n.DataDir(), err)
	case free < diskFreeAdvised:
		f.Status = Warning
		f.Detail = fmt.Sprintf("%d MiB are free for %s.", free>>20, n.DataDir())
		f.Remedy = "Free space before the disk is full: votes are then refused until the node is started again."
	default:
		f.Detail = fmt.Sprintf("%d GiB are free for %s.", free>>30, n.DataDir())
	}
	return f
}

// accessFinding looks whether other users can rename or remove what is in the
// data directory. What the node makes there is closed to them, but it does not
// close a directory that it was given.
func (n *Node) accessFinding() Finding {
	f := Finding{Name: "access", Detail: "Other users cannot change " + n.DataDir() + "."}
	entry, err := os.Stat(n.DataDir())
	switch {
	case err != nil:
		f.Status = Unknown
		f.Detail = fmt.Sprintf("Who can change the data directory cannot be seen: %v.", err)
	case runtime.GOOS == "windows":
		f.Status = Unknown
		f.Detail = "Who can change " + n.DataDir() + " is not looked at on Windows."
	case entry.Mode().Perm()&0o022 != 0:
		f.Status = Warning
		f.Detail = fmt.Sprintf("Other users can change %s (mode %v).", n.DataDir(), entry.Mode())
		f.Remedy = "Close it with chmod 700."
	}
	return f
}

func (n *Node) serverFinding() Finding {
	return Finding{Name: "server", Detail: fmt.Sprintf("nats-server %s at %s answers.", n.Conn().ConnectedServerVersion(), n.Conn().ConnectedUrlRedacted())}
}

// joinedFinding trusts the node that runs on the data directory: it is this
// program too.
func (n *Node) joinedFinding() Finding {
	f := Finding{Name: "sync", Detail: fmt.Sprintf("The node of process %d writes every event to the disk before it acknowledges it.", n.address.PID)}
	if !n.address.SyncAlways {
		f.Status = Warning
		f.Detail = fmt.Sprintf("The node of process %d acknowledges events before they are on the disk.", n.address.PID)
		f.Remedy = "Stop it and start it again with this version of paldies."
	}
	return f
}

func (n *Node) clusterFinding() Finding {
	count := len(n.Conn().Servers())
	f := Finding{Name: "cluster", Detail: fmt.Sprintf("The connection knows %d servers of cluster %q.", count, n.Conn().ConnectedClusterName())}
	if n.Conn().ConnectedClusterName() == "" {
		f.Status = Warning
		f.Detail = "The server is alone: its disk holds the only copy."
		f.Remedy = "Run three servers as a cluster, or copy the ledger elsewhere regularly."
	}
	return f
}

// state is what one server tells of JetStream.
type state struct {
	server  string // its name
	cluster string
	*server.JSInfo
}

// states asks all servers, and waits so long for the first answer and for each one
// after it. It returns none when this user may not ask.
func (n *Node) states(ctx context.Context, what server.JSzOptions, wait time.Duration) ([]state, error) {
	nc := n.Conn()
	inbox, err := nc.SubscribeSync(nc.NewRespInbox())
	if err != nil {
		return nil, fmt.Errorf("asking the servers for their state: %w", err)
	}
	defer inbox.Unsubscribe() // The connection may be lost; there is nothing to undo then.
	question, err := json.Marshal(what)
	if err != nil {
		return nil, fmt.Errorf("asking the servers for their state: %w", err)
	}
	if err := nc.PublishRequest(stateSubject, inbox.Subject, question); err != nil {
		return nil, fmt.Errorf("asking the servers for their state: %w", err)
	}
	var servers []state
	var unwell *server.ApiError
	for len(servers) < statesMax && !allOf(servers) {
		s, err := nextState(ctx, inbox, wait)
		switch {
		case err == nil:
			servers = append(servers, s)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return servers, nil
		case errors.As(err, &unwell): // as good as silent
		default:
			return nil, fmt.Errorf("asking the servers for their state: %w", err)
		}
	}
	return servers, nil
}

// allOf says whether these are all servers of their cluster that are up.
func allOf(servers []state) bool {
	size, away, members := 0, 0, 0
	for _, s := range servers {
		if s.Meta == nil {
			continue // it has no part in JetStream, or is alone
		}
		members++
		size = max(size, s.Meta.Size)
		if s.Meta.Leader == s.server {
			for _, peer := range s.Meta.Replicas {
				if peer.Offline {
					away++
				}
			}
		}
	}
	return members > 0 && members >= size-away
}

func nextState(ctx context.Context, inbox *nats.Subscription, wait time.Duration) (state, error) {
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	m, err := inbox.NextMsgWithContext(waiting)
	if err != nil {
		return state{}, err
	}
	var answer server.ServerAPIJszResponse
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return state{}, err
	}
	switch {
	case answer.Error != nil:
		return state{}, answer.Error
	case answer.Server == nil || answer.Data == nil:
		return state{}, errors.New("a server's answer does not say its state")
	}
	return state{answer.Server.Name, answer.Server.Cluster, answer.Data}, nil
}

// syncFinding judges how the servers write. They tell only who may ask them.
func syncFinding(servers []state) Finding {
	const remedy = "Set `jetstream { sync_interval: always }` on every server and restart them one after the other."
	if len(servers) == 0 {
		return Finding{
			Name: "sync", Status: Unknown,
			Detail: "Whether the servers write every event to the disk before they acknowledge it cannot be seen from here.",
			Remedy: "Look for `sync_interval: always` in the jetstream block of every server's configuration, or " + letAsk,
		}
	}
	var late []string
	for _, s := range servers {
		if c := s.Config; !c.SyncAlways {
			late = append(late, fmt.Sprintf("%s (every %v)", s.server, c.SyncInterval))
		}
	}
	if len(late) > 0 {
		return Finding{
			Name: "sync", Status: Warning, Remedy: remedy,
			Detail: "Events are acknowledged before they are on the disk by " + strings.Join(late, ", ") + ".",
		}
	}
	return Finding{Name: "sync", Detail: fmt.Sprintf("Every event is on the disk before it is acknowledged (servers asked: %d).", len(servers))}
}

package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// copiesRounds is how often the servers are asked for a copy that is not seen to
	// be there, and copiesPause what is between two rounds, in time. While votes come
	// in, a copy is behind by a few of them at many moments, and not at all of these.
	copiesRounds = 6
	copiesPause  = 200 * time.Millisecond
	// copiesWait is how long each server has for its answer, in time: it looks at all
	// streams.
	copiesWait = 2 * time.Second
	// copiesNamedMax is how many streams and consumers are named at once.
	copiesNamedMax = 5
)

// Copies looks whether all servers of a cluster have their copies of all streams and
// durable consumers. What a majority of the three copies has is safe; a copy that is
// empty or behind does not count, and has no say in an election. Before it has caught
// up, a second server that fails stops the stream. It returns an error only when the
// context ends or the server is lost meanwhile, and no finding for a server that is
// alone.
func (n *Node) Copies(ctx context.Context) ([]Finding, error) {
	if n.Embedded() || n.address != nil || n.Conn().ConnectedClusterName() == "" {
		return nil, nil
	}
	ask := func(ctx context.Context) ([]state, error) {
		return n.states(ctx, server.JSzOptions{Accounts: true, Streams: true, Consumer: true}, copiesWait)
	}
	return findCopies(ctx, ask, copiesPause)
}

// findCopies asks round after round until all copies were seen, or all but those on
// servers that are away.
func findCopies(ctx context.Context, ask func(context.Context) ([]state, error), between time.Duration) ([]Finding, error) {
	c := copies{goal: make(map[string]uint64), leaderless: make(map[string]bool), seen: make(map[held]sight)}
	for round := 1; ; round++ {
		servers, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		clusters := make(map[string]bool) // that have JetStream together
		for _, s := range servers {
			if s.Meta != nil {
				clusters[s.cluster] = true
			}
		}
		switch {
		case len(servers) == 0:
			return []Finding{unknownCopies("Before you stop a server, " + letAsk)}, nil
		case len(clusters) == 0:
			return nil, nil // a server that is alone has its name for a cluster's when it has leaf nodes
		case len(clusters) > 1:
			return []Finding{unknownCopies("There are several clusters: look at them with `nats server report jetstream`.")}, nil
		}
		c.add(servers)
		if round == copiesRounds || !c.mayPass() {
			return []Finding{c.finding()}, nil
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func unknownCopies(remedy string) Finding {
	return Finding{Name: "copies", Status: Unknown, Remedy: remedy,
		Detail: "Whether all servers have their copies of all streams cannot be seen from here."}
}

// copies is what is known of the copies after some rounds.
type copies struct {
	goal       map[string]uint64 // the leader's last message when it was seen first, by stream
	leaderless map[string]bool   // streams and consumers that nobody led in the last round
	seen       map[held]sight
	servers    []state // of the last round
}

// held is a copy: of a stream or consumer, on a server.
type held struct{ server, what string }

// sight is what was seen of a copy.
type sight struct {
	follows string // the leader that its server followed, as it said itself
	there   bool   // it had all that the leader had when that was seen first
	offline bool   // its server was, in the last round
}

// report is what a server says of a copy of its own.
type report struct {
	server string
	group  *server.ClusterInfo
	last   uint64 // message of a stream; of a consumer whether any was acked
}

// reports are all of them, by stream or consumer.
func reports(servers []state) map[string][]report {
	all := make(map[string][]report)
	for _, s := range servers {
		add := func(what string, group *server.ClusterInfo, last uint64) {
			// Of what has one copy, and of what it has found on its disk and not yet
			// been told to whom it belongs, a server says that it leads it alone.
			if group != nil && group.RaftGroup != "" {
				all[what] = append(all[what], report{s.server, group, last})
			}
		}
		if m := s.Meta; m != nil {
			add("the list of streams", &server.ClusterInfo{RaftGroup: "meta", Leader: m.Leader, Replicas: m.Replicas}, 0)
		}
		for _, account := range s.AccountDetails {
			of := ""
			if account.Name != server.DEFAULT_GLOBAL_ACCOUNT {
				of = account.Name + " > "
			}
			for _, stream := range account.Streams {
				add(of+stream.Name, stream.Cluster, stream.State.LastSeq)
				for _, c := range stream.Consumer {
					add(of+stream.Name+" > "+c.Name, c.Cluster, min(c.AckFloor.Stream, 1))
				}
			}
		}
	}
	return all
}

// add takes what the servers say in one round.
//
// A leader takes a server that was away for a copy that is there until it has heard
// from it. So it counts only after that server has said that it follows this leader,
// and with what that server itself has of a stream. How far its copy of a consumer is
// says little: that of a server that was killed may differ for good (nats-server
// 2.15.2), so that messages come again when it leads.
func (c *copies) add(servers []state) {
	c.servers = servers
	clear(c.leaderless)
	all := reports(servers)
	maps.DeleteFunc(c.seen, func(h held, _ sight) bool { return all[h.what] == nil }) // it was deleted
	for what, told := range all {
		i := slices.IndexFunc(told, func(r report) bool { return r.group.Leader == r.server })
		if i < 0 {
			c.leaderless[what] = true
			continue
		}
		leader := told[i]
		if _, known := c.goal[what]; !known {
			c.goal[what] = leader.last
		}
		maps.DeleteFunc(c.seen, func(h held, _ sight) bool { // it leads now, or was replaced
			return h.what == what && !slices.ContainsFunc(leader.group.Replicas, func(p *server.PeerInfo) bool { return p.Name == h.server })
		})
		for _, peer := range leader.group.Replicas {
			h := held{peer.Name, what}
			s := c.seen[h]
			s.offline = peer.Offline
			own := slices.IndexFunc(told, func(r report) bool { return r.server == peer.Name })
			if own >= 0 {
				if s.follows == leader.server && peer.Current && !peer.Offline && told[own].last >= c.goal[what] {
					s.there = true
				}
				s.follows = told[own].group.Leader
			}
			c.seen[h] = s
		}
	}
}

// mayPass says whether another round may see more.
func (c *copies) mayPass() bool {
	for _, s := range c.seen {
		if !s.there && !s.offline {
			return true
		}
	}
	return len(c.leaderless) > 0 || !allOf(c.servers)
}

// finding says whose copies are not there.
func (c *copies) finding() Finding {
	f := Finding{Name: "copies"}
	lacking := make(map[string][]string) // by server
	for h, s := range c.seen {
		if !s.there || s.offline {
			lacking[h.server] = append(lacking[h.server], h.what)
		}
	}
	var wrong []string
	if len(c.leaderless) > 0 {
		wrong = append(wrong, "nobody leads "+some(slices.Collect(maps.Keys(c.leaderless))))
	}
	for _, name := range slices.Sorted(maps.Keys(lacking)) {
		wrong = append(wrong, name+" is offline or behind with "+some(lacking[name]))
	}
	if !allOf(c.servers) {
		wrong = append(wrong, fmt.Sprintf("not all servers have answered (%d have)", len(c.servers)))
	}
	if len(wrong) == 0 {
		f.Detail = fmt.Sprintf("Every copy of every stream and consumer is there (servers: %d).", len(c.servers))
		return f
	}
	f.Status = Warning
	f.Detail = "Copies are missing: " + strings.Join(wrong, "; ") + "."
	f.Remedy = "Start the servers that are down and ask again until all copies are there: a second server that fails before stops what lacks a copy."
	return f
}

// some names the first few.
func some(names []string) string {
	slices.Sort(names)
	if more := len(names) - copiesNamedMax; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:copiesNamedMax], ", "), more)
	}
	return strings.Join(names, ", ")
}

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
	// copiesTries is how often the servers are asked for a copy that is behind, and
	// copiesPause what is between two questions, in time. While votes come in, a copy
	// is behind by a few of them at many moments, and not at all of these.
	copiesTries = 5
	copiesPause = 200 * time.Millisecond
	// copiesNamedMax is how many streams and consumers are named at once.
	copiesNamedMax = 5
)

// lack is a copy that is not there. Each stream and each durable consumer has one on
// three servers, and what a majority of them has is safe. One that is behind does not
// count: before it has caught up, a second server that fails stops the stream.
type lack struct {
	server string // empty: nobody leads it, so that nobody knows
	what   string
}

// copies looks whether all servers have their copies.
func (n *Node) copies(ctx context.Context, servers []state) (Finding, error) {
	lacking, behind := lacks(servers)
	for try := 1; behind && try < copiesTries; try++ {
		if err := pause(ctx, copiesPause); err != nil {
			return Finding{}, err
		}
		again, err := n.states(ctx)
		if err != nil {
			return Finding{}, err
		}
		if !allOf(again) {
			continue // who does not answer may know of some
		}
		var still map[lack]bool
		still, behind = lacks(again)
		maps.DeleteFunc(lacking, func(l lack, _ bool) bool { return !still[l] })
		behind = behind && len(lacking) > 0
	}
	return copiesFinding(servers, lacking), nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lacks are the copies that are not there, and whether some of them may be there
// soon: their server is.
func lacks(servers []state) (lacking map[lack]bool, behind bool) {
	lacking = make(map[lack]bool)
	led := make(map[string]bool)
	note := func(by, what string, group *server.ClusterInfo) {
		leads := group != nil && group.Leader == by
		led[what] = led[what] || leads
		if !leads {
			return // and cannot know
		}
		for _, peer := range group.Replicas {
			if peer.Offline || !peer.Current {
				lacking[lack{peer.Name, what}] = true
				behind = behind || !peer.Offline
			}
		}
	}
	for _, s := range servers {
		if m := s.Meta; m != nil {
			note(s.server, "the list of streams", &server.ClusterInfo{Leader: m.Leader, Replicas: m.Replicas})
		}
		for _, account := range s.AccountDetails {
			for _, stream := range account.Streams {
				note(s.server, stream.Name, stream.Cluster)
				for _, consumer := range stream.Consumer {
					note(s.server, "consumer "+consumer.Name+" of "+stream.Name, consumer.Cluster)
				}
			}
		}
	}
	for what, is := range led {
		if !is {
			lacking[lack{what: what}] = true
			behind = true // an election may be under way
		}
	}
	return lacking, behind
}

// copiesFinding says whose copies are not there.
func copiesFinding(servers []state, lacking map[lack]bool) Finding {
	f := Finding{Name: "copies"}
	if len(servers) == 0 {
		f.Status = Unknown
		f.Detail = "Whether all servers have their copies of all streams cannot be seen from here."
		f.Remedy = "Before you stop a server, " + letAsk
		return f
	}
	of := make(map[string][]string) // by server
	for l := range lacking {
		of[l.server] = append(of[l.server], l.what)
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		who := "nobody leads "
		if name != "" {
			who = name + " is offline or behind with "
		}
		wrong = append(wrong, who+some(of[name]))
	}
	if !allOf(servers) {
		wrong = append(wrong, fmt.Sprintf("not all servers have answered (%d have)", len(servers)))
	}
	if len(wrong) == 0 {
		f.Detail = fmt.Sprintf("All servers have their copies of all streams and consumers (servers: %d).", len(servers))
		return f
	}
	f.Status = Warning
	f.Detail = "Copies are missing: " + strings.Join(wrong, "; ") + "."
	f.Remedy = "Start the servers that are down and ask again until all copies are there: if another server fails before, nobody can vote."
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

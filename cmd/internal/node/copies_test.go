package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// follower is what becomes of the last of three servers with a ledger of 400 events,
// in one round.
type follower struct {
	silent  bool   // it does not answer
	offline bool   // the leader has lost it
	late    bool   // the leader knows that it is behind
	without bool   // it has no copy
	gone    bool   // nobody has one any more
	leader  string // whom it follows
	last    uint64 // its last event
	elects  bool   // nobody leads the ledger
	found   bool   // it has found the ledger on its disk, and answers first
	chief   string // who leads; empty: the first
}

var (
	names = []string{"ausma", "blāzma", "rīts"}
	well  = follower{leader: names[0], last: 400}
	away  = follower{silent: true, offline: true}
)

// three are the states of three servers of which the first leads everything.
func three(f follower) (servers []state) {
	chief := cmp.Or(f.chief, names[0])
	replicas := []*server.PeerInfo{{Name: names[2], Current: !f.late, Offline: f.offline}}
	for _, name := range names[:2] {
		if name != chief {
			replicas = append(replicas, &server.PeerInfo{Name: name, Current: true})
		}
	}
	for _, name := range names {
		leader, last, streams := chief, uint64(400), true
		if name == names[2] {
			leader, last, streams = f.leader, f.last, !f.without
			if f.silent {
				continue
			}
		}
		group := func(leader string) *server.ClusterInfo {
			g := &server.ClusterInfo{RaftGroup: "S-R3F", Leader: leader}
			if name == leader {
				g.Replicas = replicas
			}
			return g
		}
		ledger := group(leader)
		if f.found && name == names[2] {
			ledger = &server.ClusterInfo{Leader: name}
		}
		if f.elects {
			ledger = group("")
		}
		detail := &server.AccountDetail{Name: server.DEFAULT_GLOBAL_ACCOUNT}
		if streams && !f.gone {
			detail.Streams = []server.StreamDetail{
				{Name: "LEDGER_2018", Cluster: ledger, State: server.StreamState{LastSeq: last}},
				{Name: "SUBMISSIONS", Cluster: group(leader), Consumer: []*server.ConsumerInfo{{Name: "intake", Cluster: group(leader)}}},
			}
		}
		meta := group(leader)
		servers = append(servers, state{name, "kopa", &server.JSInfo{
			Meta:           &server.MetaClusterInfo{Leader: meta.Leader, Replicas: meta.Replicas, Size: len(names)},
			AccountDetails: []*server.AccountDetail{detail},
		}})
	}
	if f.found {
		slices.Reverse(servers)
	}
	return servers
}

func TestCopies(t *testing.T) {
	empty, other, late, silent, elects := well, well, well, well, well
	empty.last = 0
	other.leader = names[1]
	late.late = true
	silent.silent = true
	elects.elects = true
	wiped := follower{without: true}
	const isBehind = "rīts is offline or behind with "
	for _, c := range []struct {
		name   string
		rounds []follower // the last one again and again
		want   Status
		says   string
		asked  int // rounds
	}{
		{"all is well", []follower{well}, OK, "(servers: 3)", 2},
		{"it is behind at times", []follower{late, well, late, well}, OK, "", 2},
		{"an election passes", []follower{elects, elects, well}, OK, "", 4},
		{"it answers late", []follower{silent, well}, OK, "", 3},
		{"it catches up", []follower{wiped, empty, late, well}, OK, "", 4},
		{"it is behind", []follower{late}, Warning, isBehind + "LEDGER_2018, SUBMISSIONS, SUBMISSIONS > intake, the list of streams.", copiesRounds},
		{"its disk is new, which its leader has not noticed", []follower{wiped}, Warning, isBehind + "LEDGER_2018, SUBMISSIONS, SUBMISSIONS > intake, the list of streams.", copiesRounds},
		{"it has nothing yet", []follower{empty}, Warning, isBehind + "LEDGER_2018.", copiesRounds},
		{"it follows another leader", []follower{other}, Warning, isBehind, copiesRounds},
		{"another one leads", []follower{well, {leader: names[1], last: 400, chief: names[1]}}, OK, "", 3},
		{"it is put back old", []follower{{found: true, leader: names[0], last: 100}, {leader: names[0], last: 100}}, Warning, isBehind + "LEDGER_2018.", copiesRounds},
		{"it goes away", []follower{well, late, away}, Warning, isBehind, 3},
		{"a stream is deleted", []follower{late, {gone: true, leader: names[0]}}, OK, "", 2},
		{"it is away", []follower{away}, Warning, isBehind, 2},
		{"it does not answer", []follower{silent}, Warning, "not all servers have answered (2 have)", copiesRounds},
		{"nobody leads", []follower{elects}, Warning, "nobody leads LEDGER_2018.", copiesRounds},
	} {
		round := 0
		ask := func(context.Context) ([]state, error) {
			f := c.rounds[min(round, len(c.rounds)-1)]
			round++
			return three(f), nil
		}
		found, err := findCopies(t.Context(), ask, 0)
		must(t, err)
		f := found[0]
		if f.Name != "copies" || f.Status != c.want || (f.Status == OK) != (f.Remedy == "") || round != c.asked {
			t.Errorf("%s: after %d rounds %+v", c.name, round, f)
		}
		contains(t, f.Detail, c.says)
	}
}

func TestCopiesThatNobodyTells(t *testing.T) {
	alone := []state{{"ausma", "ausma", &server.JSInfo{}}} // with a leaf node, its cluster has its name
	many := three(well)
	many[1].cluster = "cita"
	for name, c := range map[string]struct {
		servers  []state
		findings int
	}{"nobody answers": {nil, 1}, "a server alone": {alone, 0}, "two clusters": {many, 1}} {
		asked := 0
		found, err := findCopies(t.Context(), func(context.Context) ([]state, error) { asked++; return c.servers, nil }, 0)
		must(t, err)
		if len(found) != c.findings || asked != 1 || slices.ContainsFunc(found, func(f Finding) bool { return f.Status != Unknown || f.Remedy == "" }) {
			t.Errorf("%s: asked %d times, %+v", name, asked, found)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := findCopies(ctx, func(context.Context) ([]state, error) { cancel(); return three(follower{without: true}), nil }, copiesPause)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestCopiesAreNamedInPart(t *testing.T) {
	var all []string
	for i := range copiesNamedMax + 3 {
		all = append(all, fmt.Sprint("OUTCOMES_", i))
	}
	contains(t, some(all), "OUTCOMES_4 and 3 more")
}

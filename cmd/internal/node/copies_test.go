package node

import (
	"context"
	"errors"
	"fmt"
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
}

var (
	names = []string{"ausma", "blāzma", "rīts"}
	well  = follower{leader: names[0], last: 400}
	away  = follower{silent: true, offline: true}
)

// three are the states of three servers of which the first leads everything.
func three(f follower) (servers []state) {
	replicas := []*server.PeerInfo{{Name: names[1], Current: true}, {Name: names[2], Current: !f.late, Offline: f.offline}}
	for _, name := range names {
		leader, last, streams := names[0], uint64(400), true
		if name == names[2] {
			leader, last, streams = f.leader, f.last, !f.without
			if f.silent {
				continue
			}
		}
		group := func(leader string) *server.ClusterInfo {
			g := &server.ClusterInfo{Leader: leader}
			if name == leader {
				g.Replicas = replicas
			}
			return g
		}
		ledger := group(leader)
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
		f, err := findCopies(t.Context(), ask, 0)
		must(t, err)
		if f.Name != "copies" || f.Status != c.want || (f.Status == OK) != (f.Remedy == "") || round != c.asked {
			t.Errorf("%s: after %d rounds %+v", c.name, round, f)
		}
		contains(t, f.Detail, c.says)
	}
}

func TestCopiesThatNobodyTells(t *testing.T) {
	f, err := findCopies(t.Context(), func(context.Context) ([]state, error) { return nil, nil }, 0)
	must(t, err)
	if f.Status != Unknown || f.Remedy == "" {
		t.Errorf("%+v", f)
	}
	alone := []state{{"ausma", "ausma", &server.JSInfo{}}} // with a leaf node, its cluster has its name
	if f, err = findCopies(t.Context(), func(context.Context) ([]state, error) { return alone, nil }, 0); err != nil || f.Status != Unknown {
		t.Errorf("%+v %v", f, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = findCopies(ctx, func(context.Context) ([]state, error) { cancel(); return three(follower{without: true}), nil }, copiesPause)
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

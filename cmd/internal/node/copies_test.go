package node

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// three are the states of three servers of which the first leads everything and the
// last is as given with each stream and consumer.
func three(last server.PeerInfo) []state {
	names := []string{"ausma", "blāzma", "rīts"}
	group := func() *server.ClusterInfo {
		last := server.PeerInfo{Name: names[2], Current: last.Current, Offline: last.Offline}
		return &server.ClusterInfo{Leader: names[0], Replicas: []*server.PeerInfo{{Name: names[1], Current: true}, &last}}
	}
	var servers []state
	for _, name := range names {
		detail := &server.AccountDetail{Streams: []server.StreamDetail{
			{Name: "LEDGER_2018", Cluster: group()},
			{Name: "SUBMISSIONS", Cluster: group(), Consumer: []*server.ConsumerInfo{{Name: "intake", Cluster: group()}}},
		}}
		meta := &server.MetaClusterInfo{Leader: names[0], Size: len(names)}
		if name == names[0] {
			meta.Replicas = group().Replicas
		}
		servers = append(servers, state{name, &server.JSInfo{Meta: meta, AccountDetails: []*server.AccountDetail{detail}}})
	}
	return servers
}

func TestCopies(t *testing.T) {
	well := server.PeerInfo{Current: true}
	leaderless := three(well)
	for _, s := range leaderless {
		s.AccountDetails[0].Streams[1].Consumer[0].Cluster.Leader = ""
	}
	// What a follower says of others counts for nothing.
	stale := three(well)
	stale[1].AccountDetails[0].Streams[0].Cluster.Replicas[1].Current = false
	many := three(server.PeerInfo{Offline: true})
	for i := range 4 {
		d := many[0].AccountDetails[0]
		d.Streams = append(d.Streams, server.StreamDetail{Name: fmt.Sprint("OUTCOMES_", i), Cluster: d.Streams[0].Cluster})
	}
	for _, c := range []struct {
		name    string
		servers []state
		want    Status
		behind  bool
		words   []string
	}{
		{"all is well", three(well), OK, false, []string{"servers: 3"}},
		{"a follower's view", stale, OK, false, nil},
		{"one is behind", three(server.PeerInfo{}), Warning, true, []string{"rīts is offline or behind with LEDGER_2018, SUBMISSIONS, consumer intake of SUBMISSIONS, the list of streams."}},
		{"one is away", three(server.PeerInfo{Offline: true, Current: true}), Warning, false, []string{"rīts is offline"}},
		{"one is away with many", many, Warning, false, []string{"and 3 more"}},
		{"one does not answer", three(well)[:2], Warning, false, []string{"not all servers have answered (2 have)"}},
		{"the leader does not answer", three(well)[1:], Warning, true, []string{"nobody leads LEDGER_2018, SUBMISSIONS"}},
		{"nobody leads", leaderless, Warning, true, []string{"nobody leads consumer intake of SUBMISSIONS."}},
		{"nobody answers", nil, Unknown, false, []string{"cannot be seen from here"}},
	} {
		lacking, behind := lacks(c.servers)
		f := copiesFinding(c.servers, lacking)
		if behind != c.behind {
			t.Errorf("%s: it may pass: %v, want %v", c.name, behind, c.behind)
		}
		if f.Name != "copies" || f.Status != c.want || (f.Status == OK) != (f.Remedy == "") {
			t.Errorf("%s: %+v", c.name, f)
		}
		contains(t, f.Detail, c.words...)
	}
}

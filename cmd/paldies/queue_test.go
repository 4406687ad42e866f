package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
)

const (
	// queueKills is how often a worker at the queue is killed.
	queueKills = 50
	// queueWorkers run beside each other: one is active.
	queueWorkers = 3
	// queueVoters each submit a vote, the same again, a retraction and a vote.
	queueVoters = 1000
	// queueParts is in how many files they do.
	queueParts = 10
)

// submitResult is what `vote submit --wait -o json` prints.
type submitResult struct {
	Submitted, Poisoned, Repeated int
	Outcomes                      map[string]int
}

// queueState is what `queue status -o json` prints.
type queueState struct {
	Pending, Poison int
	InFlight        int `json:"in_flight"`
	Outcomes        map[string]map[string]int
}

func parseJSON[T any](t *testing.T, out string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &value); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return value
}

// queueRows are the submissions of some voters, in the order in which they must
// be decided.
func queueRows(from, to int) [][]string {
	rows := [][]string{{"submission_id", "voter", "specialist_id", "channel", "action", "at"}}
	for v := from; v < to; v++ {
		for i, action := range []string{"vote", "vote", "retract", "vote"} {
			rows = append(rows, []string{fmt.Sprintf("%d-%d", v, i), fmt.Sprintf("balsotājs %d", v), crowdSpecialist(v % crowdSpecialists), "web", action, ""})
		}
	}
	return rows
}

// queueLoad are submissions that come in while something breaks.
type queueLoad struct {
	t          *testing.T
	data       string
	campaign   string
	servers    []string // flags
	files      []string
	submitting sync.WaitGroup
}

// startQueueLoad leaves them in the queue, part by part, each until it is in.
func startQueueLoad(t *testing.T, data, campaign string, servers []string) *queueLoad {
	t.Helper()
	l := &queueLoad{t: t, data: data, campaign: campaign, servers: servers, files: make([]string, queueParts)}
	for i := range l.files {
		l.files[i] = filepath.Join(t.TempDir(), "part.csv")
		writeCSV(t, l.files[i], queueRows(i*queueVoters/queueParts, (i+1)*queueVoters/queueParts))
	}
	l.submitting.Go(func() {
		for _, file := range l.files {
			eventually(t, "a part is submitted", func() bool {
				_, _, code := try(t, data, l.submit(file)...)
				return code == 0
			})
		}
	})
	return l
}

func (l *queueLoad) submit(file string, more ...string) []string {
	return slices.Concat([]string{"vote", "submit", "--campaign", l.campaign, "--file", file}, more, l.servers)
}

// worker starts one that soon takes another one for dead.
func (l *queueLoad) worker() *daemon {
	l.t.Helper()
	d, err := launch(l.t.Context(), l.data, append([]string{"intake", "--http", "127.0.0.1:0", "--queue", "--queue-takeover", "1s", "--log-level", "error"}, l.servers...)...)
	check(l.t, err)
	l.t.Cleanup(d.kill)
	return d
}

// assertDecided waits until all of it is decided: every submission has one
// outcome, the right one for its place among its voter's, and the ledger has what
// was accepted once.
func (l *queueLoad) assertDecided() {
	t := l.t
	t.Helper()
	l.submitting.Wait()
	for _, file := range l.files { // All of it again: nothing is doubled.
		got := parseJSON[submitResult](t, paldies(t, l.data, l.submit(file, "--wait", "-o", "json")...))
		n := queueVoters / queueParts
		if got.Submitted != 4*n || got.Outcomes["accepted"] != 3*n || got.Outcomes["already_voted"] != n || len(got.Outcomes) != 2 || got.Poisoned+got.Repeated > 0 {
			t.Errorf("%s: %+v", file, got)
		}
	}
	assertQueueEmpty(t, l.data, l.campaign, map[string]int{"accepted": 3 * queueVoters, "already_voted": queueVoters}, l.servers...)
	events := voterEvents(t, l.data, l.campaign, l.servers...)
	byVoter := make(map[string]string)
	for _, sequence := range slices.Sorted(maps.Keys(events)) {
		e := events[sequence]
		byVoter[e.Event.Data.Voter] += e.action() + " "
	}
	for voter, did := range byVoter {
		if did != "vote retract vote " {
			t.Errorf("voter %s: %s", voter, did)
		}
	}
	if len(byVoter) != queueVoters {
		t.Errorf("%d voters are in the ledger, %d have submitted", len(byVoter), queueVoters)
	}
	paldies(t, l.data, append([]string{"audit", "verify", "--campaign", l.campaign}, l.servers...)...)
}

// TestKilledQueueWorkers kills workers at random moments while submissions come
// in, and the server too.
func TestKilledQueueWorkers(t *testing.T) {
	t.Parallel()
	seed, data, campaign := randomSeed(t), t.TempDir(), "valka"
	random := rand.New(rand.NewPCG(seed, 3))
	config := serverConfig{Name: "mezgls", Dir: t.TempDir(), Port: freePorts(t, 1)[0]}
	server := config.start(t)
	servers := []string{"--nats-url", natsURL(config)}
	openForVotes(t, data, campaign, specialistsFile(t), servers...)
	load := startQueueLoad(t, data, campaign, servers)
	var all []*daemon
	for range queueWorkers {
		all = append(all, load.worker())
	}
	for i := range queueKills {
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(600 * time.Millisecond))))
		if i%20 == 10 {
			server.kill()
			server = config.start(t)
		}
		victim := random.IntN(queueWorkers)
		all[victim].kill()
		all[victim] = load.worker()
	}
	load.assertDecided()
	for _, d := range all {
		d.stop(t)
	}
}

// TestKilledLeadersOfQueue kills, of a cluster of three servers, the one that leads
// the queue, the outcomes or the ledger, while workers begin and submissions come in.
func TestKilledLeadersOfQueue(t *testing.T) {
	t.Parallel()
	seed, data, campaign := randomSeed(t), t.TempDir(), "smiltene"
	random := rand.New(rand.NewPCG(seed, 4))
	three := startCluster(t)
	openForVotes(t, data, campaign, specialistsFile(t), three.flags...)
	load := startQueueLoad(t, data, campaign, three.flags)
	two := []*daemon{load.worker(), load.worker()}
	for _, stream := range []string{queue.SubmissionsStream, domain.StreamName(campaign), queue.OutcomesStream(campaign)} {
		leader := three.settled(stream)
		// The moment is what is tested here, not what is waited for.
		time.Sleep(time.Duration(random.Int64N(int64(killMomentMax))))
		t.Logf("%s is killed, which leads %s", three.configs[leader].Name, stream)
		three.members[leader].kill()
		outcomes := func() (n int) {
			out, _, code := try(t, data, append([]string{"queue", "status", "-o", "json"}, three.flags...)...)
			if code != 0 {
				return -1
			}
			for _, count := range parseJSON[queueState](t, out).Outcomes[campaign] {
				n += count
			}
			return n
		}
		before := -1
		eventually(t, "submissions are decided without it", func() bool {
			n := outcomes()
			if before < 0 {
				before = n
			}
			return before >= 0 && (n > before || n == 4*queueVoters)
		})
		three.members[leader] = three.configs[leader].start(t)
	}
	load.assertDecided()
	for _, d := range two {
		d.stop(t)
	}
}

// assertQueueEmpty waits until the queue is empty, and wants the outcomes of a
// campaign.
func assertQueueEmpty(t *testing.T, data, campaign string, want map[string]int, options ...string) {
	t.Helper()
	var s queueState
	eventually(t, "the queue is empty", func() bool {
		s = parseJSON[queueState](t, paldies(t, data, append([]string{"queue", "status", "-o", "json"}, options...)...))
		return s.Pending+s.InFlight == 0
	})
	if !maps.Equal(s.Outcomes[campaign], want) || s.Poison > 0 {
		t.Errorf("the outcomes are %v and %d in the poison, want %v", s.Outcomes[campaign], s.Poison, want)
	}
}

// TestQueueStoppedUnderLoad asks a worker to stop while it has submissions in
// hand: what it has recorded it has told, and nothing is lost or told twice. The
// next worker goes on at once, and not when it takes the first one for dead.
func TestQueueStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	data, campaign, rows := t.TempDir(), "salacgriva", 6000
	config := serverConfig{Name: "mezgls", Dir: t.TempDir(), Port: freePorts(t, 1)[0]}
	config.start(t)
	servers := []string{"--nats-url", natsURL(config)}
	openForVotes(t, data, campaign, specialistsFile(t), servers...)
	file := filepath.Join(t.TempDir(), "balsis.csv")
	table := [][]string{{"submission_id", "voter", "specialist_id", "channel", "action", "at"}}
	for i := range rows {
		table = append(table, []string{strconv.Itoa(i), fmt.Sprintf("balsotājs %d", i), crowdSpecialist(i % crowdSpecialists), "web", "vote", ""})
	}
	writeCSV(t, file, table)
	paldies(t, data, append([]string{"vote", "submit", "--campaign", campaign, "--file", file}, servers...)...)
	status := func() queueState {
		return parseJSON[queueState](t, paldies(t, data, append([]string{"queue", "status", "-o", "json"}, servers...)...))
	}
	options := append([]string{"--queue", "--queue-takeover", "10m"}, servers...)
	worker := startWorker(t, data, options...)
	eventually(t, "some are decided", func() bool { return len(status().Outcomes[campaign]) > 0 })
	begun := time.Now()
	check(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	wantStopped(t, worker, begun)
	s := status()
	recorded := len(voterEvents(t, data, campaign, servers...))
	if told := s.Outcomes[campaign]["accepted"]; told != recorded || told+s.Pending+s.InFlight != rows {
		t.Errorf("%d rows: %d are recorded, %d are told, %d wait", rows, recorded, told, s.Pending+s.InFlight)
	}
	t.Logf("stopped with %d of %d recorded", recorded, rows)
	worker = startWorker(t, data, options...)
	assertQueueEmpty(t, data, campaign, map[string]int{"accepted": rows}, servers...)
	if recorded := len(voterEvents(t, data, campaign, servers...)); recorded != rows {
		t.Errorf("%d of %d are recorded", recorded, rows)
	}
	worker.stop(t)
}

// TestBallotsThroughQueue leaves every set of ballots in the queue, and wants of
// the ledger what it wants after an import. As over HTTP, only slips state when
// they were cast; all others are cast now.
func TestBallotsThroughQueue(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0", "--seal=false")
	node.becomesReady(t)
	for _, set := range ballotSets(t) {
		t.Run(set.name, func(t *testing.T) {
			openForVotes(t, data, set.name, filepath.Join(set.dir, "specialists.csv"), "--votes-per-voter", fmt.Sprint(set.votesPerVoter))
			begun := time.Now()
			got := parseJSON[submitResult](t, paldies(t, data, "vote", "submit", "--campaign", set.name, "--file", set.votes(), "--undated", "--wait", "-o", "json"))
			t.Logf("%d rows, %.0f a second", got.Submitted, float64(got.Submitted)/time.Since(begun).Seconds())
			want := map[string]int{"accepted": got.Submitted - set.alreadyVoted}
			if set.alreadyVoted > 0 {
				want["already_voted"] = set.alreadyVoted
			}
			if !maps.Equal(got.Outcomes, want) || got.Poisoned+got.Repeated > 0 {
				t.Errorf("%+v, want %v", got, want)
			}
			set.assertExpected(t, data)
		})
	}
	node.stop(t)
}

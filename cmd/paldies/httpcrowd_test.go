package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// crowdSpecialists is how many specialists a crowd votes for, and
	// crowdVotes for how many of them each voter does.
	crowdSpecialists, crowdVotes = 12, 3
	// crowdClients is how many clients vote at the same time.
	crowdClients = 48
)

// crowd is clients that vote at workers until they are told to stop, and what
// they were told. Besides voting they repeat, take back and vote again, so that
// there are wrong answers that could be given.
type crowd struct {
	t        *testing.T
	campaign string
	token    string
	members  []*member
	stopping context.CancelFunc
	voting   sync.WaitGroup

	acknowledged atomic.Int64

	mu         sync.Mutex
	last       time.Time     // when an event was acknowledged; guarded by mu
	standstill time.Duration // the longest time without one; guarded by mu
}

// member is one client of a crowd. What it was told is its own until the crowd
// has stopped.
type member struct {
	client
	crowd   *crowd
	name    string
	serial  int // of the last key
	left    bool
	told    []receipt
	unknown map[intent]bool // given up while nobody knew what had happened
	never   map[intent]bool // given up after "nothing was recorded"
	refused int             // answers campaign_closed

	kept       request // the last that was acknowledged, and how
	keptAnswer answer
}

// receipt is an acknowledged event.
type receipt struct {
	intent
	sequence uint64
	eventID  string
}

// intent is what a voter wanted. No two of a crowd are alike, but for votes
// again after a retraction.
type intent struct{ action, voter, specialist string }

// specialistsFile is a file with the specialists that crowds vote for.
func specialistsFile(t *testing.T) string {
	t.Helper()
	rows := [][]string{{"specialist_id", "name", "position", "institution", "branch", "region"}}
	for i := range crowdSpecialists {
		rows = append(rows, []string{crowdSpecialist(i), fmt.Sprintf("Sarmīte Ķirse %d", i), "", "Gulbenes klientu centrs", "", "Vidzeme"})
	}
	name := filepath.Join(t.TempDir(), "specialists.csv")
	writeCSV(t, name, rows)
	return name
}

func crowdSpecialist(i int) string { return fmt.Sprintf("s%d", i) }

// startCrowd lets clients vote in a campaign.
func startCrowd(t *testing.T, at *workers, campaign, token string, seed uint64) *crowd {
	t.Helper()
	return startCrowdOf(t, at, campaign, token, seed, (*member).vote)
}

// startCrowdOf lets clients do something in a campaign.
func startCrowdOf(t *testing.T, at *workers, campaign, token string, seed uint64, life func(*member, context.Context)) *crowd {
	t.Helper()
	for _, place := range at.addresses { // a busy worker may not know it yet
		eventually(t, "the token is known at "+place, func() bool {
			first := client{workers: &workers{addresses: []string{place}}, ended: t.Context().Done()}
			defer first.hangUp()
			a, err := first.send(request{method: "GET", path: "/api/v1/campaigns/" + campaign + "/specialists", token: token})
			return err == nil && a.status != 401
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	c := &crowd{t: t, campaign: campaign, token: token, stopping: stop, last: time.Now()}
	for place := range crowdClients {
		m := &member{crowd: c, name: fmt.Sprintf("balsotājs %d", place), unknown: make(map[intent]bool), never: make(map[intent]bool),
			client: client{workers: at, place: place, ended: t.Context().Done(), random: rand.New(rand.NewPCG(seed, uint64(place)))}}
		c.members = append(c.members, m)
		c.voting.Go(func() { life(m, ctx) })
	}
	t.Cleanup(func() { c.stop() })
	return c
}

// stop lets every client come to the end of what it wants, and waits for them.
func (c *crowd) stop() {
	c.stopping()
	c.voting.Wait()
}

// goesOn waits until so many more events were acknowledged.
func (c *crowd) goesOn(events int64) {
	c.t.Helper()
	goal := c.acknowledged.Load() + events
	eventually(c.t, fmt.Sprintf("%d more events are acknowledged", events), func() bool {
		return c.acknowledged.Load() >= goal || c.t.Failed()
	})
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// acknowledges counts an event.
func (c *crowd) acknowledges() {
	c.acknowledged.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.standstill = max(c.standstill, now.Sub(c.last))
	c.last = now
}

// stoodStill is the longest time without an acknowledged event since this was
// asked last.
func (c *crowd) stoodStill() (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	longest, c.standstill = c.standstill, 0
	return longest
}

// unsure is how many tries there were after which nobody knew what had
// happened, and denied how many that were turned away.
func (c *crowd) unsure() (tries int64) {
	for _, m := range c.members {
		tries += m.unsure.Load()
	}
	return tries
}

func (c *crowd) denied() (tries int64) {
	for _, m := range c.members {
		tries += m.denied.Load()
	}
	return tries
}

// vote is the life of a client.
func (m *member) vote(ctx context.Context) {
	defer m.hangUp()
	for i := 0; ctx.Err() == nil && !m.left; i++ {
		voter := fmt.Sprintf("%s-%d", m.name, i)
		for _, specialist := range m.random.Perm(crowdSpecialists)[:crowdVotes] {
			if err := m.praise(voter, crowdSpecialist(specialist)); err != nil {
				m.crowd.t.Errorf("%s and %d: %v", voter, specialist, err)
				return
			}
			if m.left {
				break
			}
		}
	}
}

// praise votes for a specialist, and sometimes does what else voters do.
func (m *member) praise(voter, specialist string) error {
	if m.random.IntN(8) == 0 {
		return m.tryOnce(voter, specialist)
	}
	asked := m.wish(voter, specialist)
	first, err := m.ask(asked, intent{"vote", voter, specialist})
	if err != nil || m.left {
		return err
	}
	if m.random.IntN(8) == 0 {
		again, err := m.insist(asked)
		if err != nil {
			return err
		}
		if again.text != first.text {
			return fmt.Errorf("the same key again: %+v; the first answer was %+v", again, first)
		}
	}
	if m.random.IntN(8) == 0 {
		if err := m.repeat(voter, specialist, first); err != nil || m.left {
			return err
		}
	}
	if m.random.IntN(8) > 0 {
		return nil
	}
	back := retractRequest(m.crowd.campaign, m.crowd.token, m.key(), voter, first.sequence)
	if _, err := m.ask(back, intent{"retract", voter, specialist}); err != nil || m.left || m.random.IntN(2) == 0 {
		return err
	}
	_, err = m.ask(m.wish(voter, specialist), intent{"vote", voter, specialist})
	return err
}

// repeat votes for a second time, which must be refused.
func (m *member) repeat(voter, specialist string, first answer) error {
	a, err := m.insist(m.wish(voter, specialist))
	switch {
	case err != nil:
		return err
	case m.isClosed(a):
		return nil
	case a.code != "already_voted" || a.status != http.StatusConflict || a.sequence != first.sequence:
		return fmt.Errorf("a second vote beside event %d: %+v", first.sequence, a)
	}
	return nil
}

// wish is a vote with a key of its own.
func (m *member) wish(voter, specialist string) request {
	return voteRequest(m.crowd.campaign, m.crowd.token, m.key(), voter, specialist, "")
}

func (m *member) key() string {
	m.serial++
	return fmt.Sprintf("%d-%d", m.place, m.serial) + "-" + strconv.FormatUint(m.random.Uint64(), 36)
}

// ask insists on what must be recorded, unless the campaign was closed.
func (m *member) ask(r request, what intent) (answer, error) {
	a, err := m.insist(r)
	switch {
	case err != nil:
		return a, err
	case m.isClosed(a):
		return a, nil
	}
	m.kept, m.keptAnswer = r, a
	return a, m.note(a, what)
}

// note keeps what was acknowledged.
func (m *member) note(a answer, what intent) error {
	if a.status != http.StatusCreated {
		return fmt.Errorf("a wrong answer to %v: %+v", what, a)
	}
	m.told = append(m.told, receipt{what, a.sequence, a.eventID})
	m.crowd.acknowledges()
	return nil
}

// isClosed says whether the campaign was closed; then the client leaves.
func (m *member) isClosed(a answer) bool {
	if a.code != "campaign_closed" || a.status != http.StatusConflict {
		return false
	}
	m.refused++
	m.left = true
	return true
}

// tryOnce votes and gives up at the first trouble. Only an answer that says
// that nothing was recorded may be believed.
func (m *member) tryOnce(voter, specialist string) error {
	what := intent{"vote", voter, specialist}
	a, err := m.send(m.wish(voter, specialist))
	switch {
	case err != nil || a.code == "outcome_unknown":
		m.unknown[what] = true
	case a.undecided():
		m.never[what] = true
	case m.isClosed(a):
	default:
		return m.note(a, what)
	}
	if err != nil || a.undecided() {
		m.place++
		m.hangUp()
	}
	return nil
}

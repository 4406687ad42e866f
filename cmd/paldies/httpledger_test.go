package main

import (
	"bufio"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/domain"
)

// recordedEvent is an event of a voter as the ledger has it.
type recordedEvent struct {
	Sequence uint64
	Event    struct {
		ID   string
		Type string
		Data struct {
			Voter      string
			Specialist string `json:"specialist_id"`
		}
	}
}

// action is what the voter did.
func (e recordedEvent) action() string {
	return map[string]string{"lv.sakipaldies.vote.cast.v1": "vote", "lv.sakipaldies.vote.retracted.v1": "retract"}[e.Event.Type]
}

// intent is what the event says that somebody wanted.
func (e recordedEvent) intent() intent {
	return intent{e.action(), e.Event.Data.Voter, e.Event.Data.Specialist}
}

// voterEvents are all events of voters, by sequence.
func voterEvents(t *testing.T, data, campaign string, options ...string) map[uint64]recordedEvent {
	t.Helper()
	out := paldies(t, data, append([]string{"audit", "replay", "--campaign", campaign, "--type", "vote", "-o", "json"}, options...)...)
	events := make(map[uint64]recordedEvent)
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		var e recordedEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		events[e.Sequence] = e
	}
	return events
}

// assertRecorded wants the ledger below the fence to be what was acknowledged:
// each event once, as it was acknowledged, and beside them nothing but votes
// that were given up while nobody knew what had happened. The results must say
// the same, and the audit find nothing. The fence is 0 for none. Returned is how
// many votes were recorded and not acknowledged.
func (c *crowd) assertRecorded(data string, fence uint64, options ...string) (unacknowledged int) {
	t := c.t
	t.Helper()
	c.stop()
	key, err := keyring.Load(keyring.Path(data, c.campaign))
	check(t, err)
	events := voterEvents(t, data, c.campaign, options...)
	void := 0
	for sequence := range events {
		if fence > 0 && sequence > fence {
			delete(events, sequence)
			void++
		}
	}
	counts := make(map[string]int)
	for _, e := range events {
		counts[e.Event.Data.Specialist] += map[string]int{"vote": 1, "retract": -1}[e.action()]
	}
	told := c.takeTold(events, key)
	c.assertRest(events, key)
	t.Logf("%s: %d events acknowledged, %d more recorded, %d void; %d tries of unknown outcome, %d denied",
		c.campaign, told, len(events), void, c.unsure(), c.denied())
	c.assertResults(data, counts, options...)
	paldies(t, data, append([]string{"audit", "verify", "--campaign", c.campaign}, options...)...)
	return len(events)
}

// takeTold takes away the events that were acknowledged, each of which must be
// there, and be the one that was acknowledged.
func (c *crowd) takeTold(events map[uint64]recordedEvent, key domain.PseudonymKey) (told int) {
	c.t.Helper()
	for _, m := range c.members {
		for _, r := range m.told {
			e, ok := events[r.sequence]
			if want := c.recorded(r.intent, key); !ok || e.intent() != want || e.Event.ID != r.eventID {
				c.t.Errorf("acknowledged: %+v of voter %s; recorded and not acknowledged to anybody else: %+v", r, want.voter, e)
			}
			delete(events, r.sequence)
			told++
		}
	}
	return told
}

// assertRest wants every event to be a vote that was given up while nobody knew
// what had happened.
func (c *crowd) assertRest(events map[uint64]recordedEvent, key domain.PseudonymKey) {
	c.t.Helper()
	unknown, never := make(map[intent]bool), make(map[intent]bool)
	for _, m := range c.members {
		for what := range m.unknown {
			unknown[c.recorded(what, key)] = true
		}
		for what := range m.never {
			never[c.recorded(what, key)] = true
		}
	}
	c.t.Logf("given up: %d votes while nobody knew, %d after \"nothing was recorded\"", len(unknown), len(never))
	for sequence, e := range events {
		switch what := e.intent(); {
		case never[what]:
			c.t.Errorf("event %d was recorded, and the client was told that nothing was", sequence)
		case !unknown[what]:
			c.t.Errorf("event %d was never acknowledged, or is there twice: %+v", sequence, e)
		default:
			delete(unknown, what) // It may be there once.
		}
	}
}

// recorded is what somebody wanted as the ledger names it.
func (c *crowd) recorded(what intent, key domain.PseudonymKey) intent {
	c.t.Helper()
	voter, err := key.Voter(what.voter)
	check(c.t, err)
	what.voter = voter.String()
	return what
}

// assertResults wants the results to be the votes that count.
func (c *crowd) assertResults(data string, want map[string]int, options ...string) {
	c.t.Helper()
	got := column(c.t, paldies(c.t, data, append([]string{"results", "--campaign", c.campaign, "-o", "csv"}, options...)...), "specialist_id", "votes")
	for i := range crowdSpecialists {
		if id := crowdSpecialist(i); got[id] != strconv.Itoa(want[id]) {
			c.t.Errorf("%s has %q votes in the results, %d were acknowledged", id, got[id], want[id])
		}
	}
}

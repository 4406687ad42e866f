package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// same fails the test when two answers are not the same to a client.
func same(t testing.TB, a, b response) {
	t.Helper()
	if a.status != b.status || a.body != b.body || a.header.Get("Location") != b.header.Get("Location") {
		t.Errorf("two answers to one submission:\n%d %s %s\n%d %s %s", a.status, a.header.Get("Location"), a.body, b.status, b.header.Get("Location"), b.body)
	}
}

// TestSameKey: the retry of an accepted submission gets the same answer byte
// for byte, on any worker, however the key and the time are written.
func TestSameKey(t *testing.T) {
	w := newWorld(t)
	first, second := w.worker(), w.worker()
	at := w.now().AddDate(0, 0, -1)
	v := castAt(at.In(time.FixedZone("EET", 2*60*60))).by("in_person").with("Idempotency-Key", "k1")
	cast := first.ask(v)
	receipt := cast.receipt(t)
	if receipt.CastAt == "" || receipt.Vote != 0 || receipt.Action != "vote" {
		t.Errorf("the receipt is %+v", receipt)
	}
	same(t, cast, first.ask(v))
	same(t, cast, second.ask(v))
	same(t, cast, second.ask(v.with("Idempotency-Key", `"k1"`)))
	inUTC := castAt(at.UTC()).by("in_person").with("Idempotency-Key", "k1")
	same(t, cast, second.ask(inUTC))
	p := refused(t, second.ask(castAt(w.now()).by("in_person").with("Idempotency-Key", "k1")), domain.IdempotencyMismatch)
	if p.Sequence != receipt.Sequence {
		t.Errorf("the mismatch names event %d", p.Sequence)
	}
	take := request{method: http.MethodDelete, path: fmt.Sprintf("votes/%d", receipt.Sequence), channel: "in_person"}.of(anna).with("Idempotency-Key", "k1")
	taken := second.ask(take) // the same key for another action is another submission
	if r := taken.receipt(t); r.Vote != receipt.Sequence || r.Action != "retract" {
		t.Errorf("the receipt of the retraction is %+v", r)
	}
	same(t, taken, first.ask(take))
	same(t, taken, second.ask(take))
	same(t, cast, second.ask(v)) // that it was taken back does not undo that it was accepted
	again := v.with("Idempotency-Key", "k2")
	if first.ask(again).receipt(t).Sequence <= receipt.Sequence {
		t.Error("a vote that was taken back cannot be cast again")
	}
	receiptAt := first.ask(request{path: cast.header.Get("Location"), channel: "in_person"}.of(anna))
	if receiptAt.status != http.StatusOK {
		t.Errorf("at the Location: %d %s", receiptAt.status, receiptAt.body)
	}
}

// TestRetryAfterUnknown: whatever became of the first try, a retry with the
// key gets the one receipt, and one without learns its number.
func TestRetryAfterUnknown(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.StoredUnknown, storetest.LostUnknown} {
		d := newDesk(t)
		d.failing(fault, storetest.None)
		v := vote(anna, "ilze-berzina", "k1")
		refused(t, d.ask(v), api.OutcomeUnknown)
		d.ledger.SetFaults(storetest.Faults{})
		cast := d.ask(v)
		same(t, cast, d.ask(v))
		if p := refused(t, d.ask(vote(anna, "ilze-berzina", "")), domain.AlreadyVoted); p.Sequence != cast.receipt(t).Sequence {
			t.Errorf("the duplicate names event %d", p.Sequence)
		}
	}
}

// A storm is as many clients as at the close of a campaign, all for one voter.
const (
	stormVoters  = 1000
	stormClients = 64
	// stormLanes is how many voters have their storm at a time: with one alone
	// the machine would mostly wait.
	stormLanes = 8
	// sharedEach is of how many voters one has the storm with one key, too.
	sharedEach = 10
)

// storm is clients with a connection each, half of them to each worker.
type storm struct {
	t       testing.TB
	workers [2]*worker
	wires   [stormClients]*wire
}

func newStorm(t testing.TB, workers [2]*worker) *storm {
	s := &storm{t: t, workers: workers}
	for i := range s.wires {
		s.wires[i] = dial(t, workers[i%2].addr())
	}
	return s
}

// ask lets all clients ask at once.
func (s *storm) ask(of func(client int) request) [stormClients]response {
	var answers [stormClients]response
	var all sync.WaitGroup
	start := make(chan struct{})
	for i, wire := range s.wires {
		text := s.workers[i%2].text(of(i))
		all.Go(func() {
			<-start
			var err error
			if answers[i], err = wire.ask(text); err != nil {
				s.t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	return answers
}

// TestStorm: of 64 clients that cast the same vote at once, with a key each,
// one is answered 201 and the others 409 with its number; with one key all are
// answered alike. Two workers take them.
func TestStorm(t *testing.T) {
	t.Parallel() // it takes longest
	w := newWorld(t)
	workers := [2]*worker{w.worker(), w.worker()}
	voters := stormVoters
	if testing.Short() {
		voters /= 10
	}
	var lanes sync.WaitGroup
	for lane := range stormLanes {
		s := newStorm(t, workers)
		lanes.Go(func() {
			for i := lane; i < voters && !t.Failed(); i += stormLanes {
				s.voter(i)
			}
		})
	}
	lanes.Wait()
	if got, want := len(w.events()), voters+(voters+sharedEach-1)/sharedEach; got != want && !t.Failed() {
		t.Errorf("the ledger has %d events of voters, and %d votes were accepted", got, want)
	}
}

// voter lets a voter have the storm.
func (s *storm) voter(i int) {
	voter := fmt.Sprintf("sms:%d", i)
	s.oneWins(s.ask(func(client int) request { return vote(voter, "ilze-berzina", fmt.Sprintf("k%d", client)) }))
	if i%sharedEach != 0 {
		return
	}
	answers := s.ask(func(int) request { return vote(voter, "zane-cirule", "shared") })
	for _, a := range answers {
		if a.status != http.StatusCreated {
			s.t.Errorf("voter %d: %d %s", i, a.status, a.body)
		}
		same(s.t, answers[0], a)
	}
}

// oneWins fails the test unless one is accepted and all others name its number.
func (s *storm) oneWins(answers [stormClients]response) {
	s.t.Helper()
	won, number := 0, ""
	for _, a := range answers {
		if a.status == http.StatusCreated {
			won++
			number = a.header.Get("Location")[strings.LastIndex(a.header.Get("Location"), "/")+1:]
		}
	}
	if won != 1 {
		s.t.Errorf("%d were accepted", won)
	}
	for _, a := range answers {
		if a.status != http.StatusCreated && (a.status != http.StatusConflict ||
			!strings.Contains(a.body, `"code":"already_voted","sequence":`+number+"}")) {
			s.t.Errorf("the receipt number is %s, and a duplicate was told %d %s", number, a.status, a.body)
		}
	}
}

// votersSubject is that of all that voters did.
const votersSubject = "ledger." + campaign + ".voter.*"

// events are all that voters did, as the leader has it.
func (w *world) events() []eventstore.Recorded {
	w.t.Helper()
	l := w.open(w.server.Connect(w.t), campaign)
	events, err := l.History(w.t.Context(), votersSubject, 0, eventstore.Leader)
	check(w.t, err)
	return events
}

// Package storetest holds what tests of ledgers, and of what stands on them,
// share: one suite that every ledger must pass, a ledger in memory that fails
// on demand, nats-servers in the test's process, and a network that breaks.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sakipaldies.lv/ledger/eventstore"
)

// Ledger is what the suite asks of a ledger.
//
// Durability: what Append has acknowledged is there after any reopening.
// Ordering: sequences begin with 1 and have no gaps; a subject's events are in
// the order of their expectations. Concurrency: all methods may be called at
// once, by several opened ledgers on the same storage too. Retries: an append
// that failed with ErrOutcomeUnknown may be repeated with the same bytes and
// the same expectation, and then gives the sequence of the first time.
type Ledger interface {
	Append(ctx context.Context, m eventstore.Message, expected uint64) (eventstore.Appended, error)
	History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error)
	Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error
	Close(ctx context.Context) error
}

// Store opens ledgers on one storage, which is empty at first and has the
// subjects of Config. It closes them with the test at the latest.
type Store func(t testing.TB) Ledger

// Config is the ledger that the suite works on.
func Config(stream string, replicas int) eventstore.Config {
	return eventstore.Config{
		Stream:   stream,
		Subjects: []string{Control(stream), stream + ".balsotājs.*"},
		Control:  Control(stream),
		Replicas: replicas,
	}
}

// Control is the control subject of Config.
func Control(stream string) string { return stream + ".kampaņa" }

// Subject is the n-th of the other subjects of Config.
func Subject(stream string, n int) string { return fmt.Sprintf("%s.balsotājs.Ērgļi-%d", stream, n) }

// Event is a message that no other call makes: its bytes hold a number.
func Event(subject string) eventstore.Message {
	text := fmt.Sprintf(`{"id":"%d","teksts":"Paldies Žanetei par sirsnību, ķipari un ģimenes pūļiem!"}`, events.Add(1))
	return eventstore.Message{Subject: subject, Data: []byte(text)}
}

var events atomic.Uint64

// limit is how long one test of the suite may take.
const limit = 2 * time.Minute

// suite is one test's ledger and what the tests use all the time.
type suite struct {
	*testing.T
	ctx    context.Context
	stream string
	open   Store
	ledger Ledger
}

// Run checks every promise of a ledger. For each test, create returns an empty
// store for the stream's Config.
func Run(t *testing.T, create func(t *testing.T, stream string) Store) {
	for name, test := range map[string]func(*suite){
		"AppendsAreReadBack":               appendsAreReadBack,
		"OneWriterWins":                    oneWriterWins,
		"WritersTakeTurns":                 writersTakeTurns,
		"OnlyStaleExpectationsFail":        onlyStaleExpectationsFail,
		"ExpectationsAheadFail":            expectationsAheadFail,
		"TheSameBytesAreRecordedOnce":      theSameBytesAreRecordedOnce,
		"OrderHasNoGaps":                   orderHasNoGaps,
		"ReplayFromAnywhere":               replayFromAnywhere,
		"ReplayPassesErrorsOn":             replayPassesErrorsOn,
		"ReopeningKeepsAll":                reopeningKeepsAll,
		"AppendsAfterACloseKnowOfIt":       appendsAfterACloseKnowOfIt,
		"AnEndedContextRecordsNothing":     anEndedContextRecordsNothing,
		"ClosingAnswersWhatWasAccepted":    closingAnswersWhatWasAccepted,
		"AClosedLedgerSaysSo":              aClosedLedgerSaysSo,
		"WhatIsInvalidIsNotRecorded":       whatIsInvalidIsNotRecorded,
		"ReadersCannotChangeTheLedger":     readersCannotChangeTheLedger,
		"HistoriesOfManyPages":             historiesOfManyPages,
		"LargestEventsOfManyCallersAtOnce": largestEventsOfManyCallersAtOnce,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			stream := "LEDGER_" + name
			s := &suite{T: t, ctx: ctx, stream: stream, open: create(t, stream)}
			s.ledger = s.open(t)
			test(s)
		})
	}
}

func (s *suite) subject(n int) string { return Subject(s.stream, n) }

// append records an event that must succeed.
func (s *suite) append(m eventstore.Message, expected uint64) eventstore.Appended {
	s.Helper()
	a, err := s.ledger.Append(s.ctx, m, expected)
	if err != nil {
		s.Fatalf("append: %v", err)
	}
	return a
}

// replay returns all events from a sequence to another.
func (s *suite) replay(l Ledger, from, to uint64) []eventstore.Recorded {
	s.Helper()
	var all []eventstore.Recorded
	err := l.Replay(s.ctx, from, to, func(batch []eventstore.Recorded) error {
		all = append(all, batch...)
		return nil
	})
	if err != nil {
		s.Fatalf("replay from %d to %d: %v", from, to, err)
	}
	return all
}

// wantLedger checks that the ledger holds exactly these events, each where its
// append said.
func (s *suite) wantLedger(want map[uint64]eventstore.Message) {
	s.Helper()
	all := s.replay(s.ledger, 1, 0)
	if len(all) != len(want) {
		s.Errorf("the ledger holds %d events, %d were acknowledged", len(all), len(want))
	}
	for i, got := range all {
		if got.Sequence != uint64(i)+1 {
			s.Fatalf("event %d of the replay has the sequence %d", i+1, got.Sequence)
		}
		if m := want[got.Sequence]; m.Subject != got.Subject || !bytes.Equal(m.Data, got.Data) {
			s.Errorf("sequence %d: %s %s, acknowledged was %s %s", got.Sequence, got.Subject, got.Data, m.Subject, m.Data)
		}
	}
}

// wantConflict checks that err says which event came first.
func (s *suite) wantConflict(err error, subject string, expected, actual uint64) {
	s.Helper()
	var conflict *eventstore.ConflictError
	if !errors.Is(err, eventstore.ErrConflict) || !errors.As(err, &conflict) {
		s.Fatalf("got the error %v, want a conflict", err)
	}
	if want := (eventstore.ConflictError{Subject: subject, Expected: expected, Actual: actual}); *conflict != want {
		s.Errorf("got the conflict %+v, want %+v", *conflict, want)
	}
}

func appendsAreReadBack(s *suite) {
	opened := s.append(Event(Control(s.stream)), 0)
	if want := (eventstore.Appended{Sequence: 1, Control: 1}); opened != want {
		s.Errorf("the first event: %+v, want %+v", opened, want)
	}
	first, second := Event(s.subject(1)), Event(s.subject(1))
	s.append(first, 0)
	s.append(Event(s.subject(2)), 0)
	if got, want := s.append(second, 2), (eventstore.Appended{Sequence: 4, Control: 1}); got != want {
		s.Errorf("the fourth event: %+v, want %+v", got, want)
	}
	history, err := s.ledger.History(s.ctx, s.subject(1), 0, eventstore.Leader)
	if err != nil || len(history) != 2 {
		s.Fatalf("history: %v, %v", history, err)
	}
	for i, want := range []eventstore.Message{first, second} {
		got := history[i]
		if got.Subject != want.Subject || !bytes.Equal(got.Data, want.Data) || got.Time.IsZero() {
			s.Errorf("history[%d] = %+v, want %+v", i, got, want)
		}
	}
	if rest, err := s.ledger.History(s.ctx, s.subject(1), 2, eventstore.Leader); err != nil || len(rest) != 1 || rest[0].Sequence != 4 {
		s.Errorf("history after 2: %+v, %v", rest, err)
	}
	if none, err := s.ledger.History(s.ctx, s.subject(3), 0, eventstore.Leader); err != nil || len(none) != 0 {
		s.Errorf("history of an unknown subject: %+v, %v", none, err)
	}
	if all, err := s.ledger.History(s.ctx, s.stream+".balsotājs.*", 0, eventstore.AnyReplica); err != nil || len(all) > 3 {
		s.Errorf("history with a wildcard: %+v, %v", all, err)
	}
}

// oneWriterWins lets writers on two opened ledgers race for one subject.
func oneWriterWins(s *suite) {
	const writers, rounds = 16, 10
	ledgers := []Ledger{s.ledger, s.open(s.T)}
	recorded := make(map[uint64]eventstore.Message)
	for round := range rounds {
		subject := s.subject(round)
		var wg sync.WaitGroup
		messages := make([]eventstore.Message, writers)
		answers := make([]eventstore.Appended, writers)
		errs := make([]error, writers)
		start := make(chan struct{})
		for w := range writers {
			messages[w] = Event(subject)
			wg.Go(func() {
				<-start
				answers[w], errs[w] = ledgers[w%len(ledgers)].Append(s.ctx, messages[w], 0)
			})
		}
		close(start)
		wg.Wait()
		winner := slices.Index(errs, nil)
		if winner < 0 {
			s.Fatalf("nobody won: %v", errs)
		}
		recorded[answers[winner].Sequence] = messages[winner]
		for w, err := range errs {
			if w != winner {
				s.wantConflict(err, subject, 0, answers[winner].Sequence)
			}
		}
	}
	s.wantLedger(recorded)
}

// writersTakeTurns lets writers on one subject lose, read and try again.
func writersTakeTurns(s *suite) {
	const writers, rounds = 6, 10
	ledgers := []Ledger{s.ledger, s.open(s.T)}
	subject := s.subject(1)
	var wg sync.WaitGroup
	for w := range writers {
		ledger := ledgers[w%len(ledgers)]
		wg.Go(func() {
			for range rounds {
				if err := appendAfterLast(s.ctx, ledger, Event(subject)); err != nil {
					s.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	history, err := s.ledger.History(s.ctx, subject, 0, eventstore.Leader)
	if err != nil || len(history) != writers*rounds {
		s.Fatalf("%d events in the history, want %d: %v", len(history), writers*rounds, err)
	}
	seen := make(map[string]bool)
	for _, e := range history {
		seen[string(e.Data)] = true
	}
	if len(seen) != writers*rounds {
		s.Errorf("%d different events, want %d", len(seen), writers*rounds)
	}
}

// appendAfterLast appends one event behind whatever is there.
func appendAfterLast(ctx context.Context, l Ledger, m eventstore.Message) error {
	for {
		history, err := l.History(ctx, m.Subject, 0, eventstore.Leader)
		if err != nil {
			return err
		}
		var last uint64
		if len(history) > 0 {
			last = history[len(history)-1].Sequence
		}
		if _, err = l.Append(ctx, m, last); !errors.Is(err, eventstore.ErrConflict) {
			return err
		}
	}
}

// onlyStaleExpectationsFail sends right and wrong expectations together, so
// that they meet in one batch.
func onlyStaleExpectationsFail(s *suite) {
	const total, everyStale = 400, 7
	recorded := make(map[uint64]eventstore.Message)
	first := make(map[int]uint64) // where a subject's earlier event is
	for i := 0; i < total; i += everyStale {
		m := Event(s.subject(i))
		first[i] = s.append(m, 0).Sequence
		recorded[first[i]] = m
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for i := range total {
		wg.Go(func() {
			m := Event(s.subject(i))
			<-start
			a, err := s.ledger.Append(s.ctx, m, 0)
			mu.Lock()
			defer mu.Unlock()
			if sequence, stale := first[i]; stale {
				var conflict *eventstore.ConflictError
				if !errors.As(err, &conflict) || conflict.Actual != sequence {
					s.Errorf("stale append %d: %v, want a conflict with %d", i, err, sequence)
				}
				return
			}
			if err != nil {
				s.Errorf("append %d: %v", i, err)
				return
			}
			recorded[a.Sequence] = m
		})
	}
	close(start)
	wg.Wait()
	s.wantLedger(recorded)
}

func expectationsAheadFail(s *suite) {
	m := Event(s.subject(1))
	_, err := s.ledger.Append(s.ctx, m, 7)
	s.wantConflict(err, m.Subject, 7, 0)
	s.append(m, 0)
	_, err = s.ledger.Append(s.ctx, Event(m.Subject), 7)
	s.wantConflict(err, m.Subject, 7, 1)
	s.wantLedger(map[uint64]eventstore.Message{1: m})
}

// theSameBytesAreRecordedOnce repeats appends as a caller does that does not
// know what became of them: alone, together, and when others came after.
func theSameBytesAreRecordedOnce(s *suite) {
	first, second := Event(s.subject(1)), Event(s.subject(1))
	want := s.append(first, 0)
	if again := s.append(first, 0); again != want {
		s.Errorf("the same append again: %+v, want %+v", again, want)
	}
	s.append(second, want.Sequence)
	if again := s.append(first, 0); again != want {
		s.Errorf("the same append after another: %+v, want %+v", again, want)
	}
	recorded := map[uint64]eventstore.Message{1: first, 2: second}

	m := Event(s.subject(2))
	ledgers := []Ledger{s.ledger, s.open(s.T)}
	answers := make([]eventstore.Appended, 12)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			var err error
			if answers[i], err = ledgers[i%len(ledgers)].Append(s.ctx, m, 0); err != nil {
				s.Errorf("append: %v", err)
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		recorded[a.Sequence] = m
	}
	s.wantLedger(recorded)
}

// fill records n events by many callers, each on a subject of its own, and
// returns them by their sequences.
func (s *suite) fill(n int) map[uint64]eventstore.Message {
	s.Helper()
	const callers = 64
	recorded := make(map[uint64]eventstore.Message)
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				m := Event(s.subject(int(i)))
				a, err := s.ledger.Append(s.ctx, m, 0)
				if err != nil {
					s.Errorf("append %d: %v", i, err)
					return
				}
				mu.Lock()
				recorded[a.Sequence] = m
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return recorded
}

func orderHasNoGaps(s *suite) {
	s.wantLedger(s.fill(3000))
}

func replayFromAnywhere(s *suite) {
	const total = 5000
	s.fill(total)
	if none := s.replay(s.ledger, total+1, 0); len(none) != 0 {
		s.Errorf("from beyond the end: %d events", len(none))
	}
	for _, span := range []struct{ from, to, first, last uint64 }{
		{0, 0, 1, total}, {1, 1, 1, 1}, {2500, 0, 2500, total}, {10, 20, 10, 20},
		{total, 0, total, total}, {4990, 9999, 4990, total}, {20, 10, 0, 0},
	} {
		got := s.replay(s.ledger, span.from, span.to)
		if span.first == 0 {
			if len(got) > 0 {
				s.Errorf("replay from %d to %d: %d events", span.from, span.to, len(got))
			}
			continue
		}
		for i, e := range got {
			if e.Sequence != span.first+uint64(i) {
				s.Fatalf("replay from %d to %d: event %d has the sequence %d", span.from, span.to, i, e.Sequence)
			}
		}
		if want := span.last - span.first + 1; uint64(len(got)) != want {
			s.Errorf("replay from %d to %d: %d events, want %d", span.from, span.to, len(got), want)
		}
	}
}

func replayPassesErrorsOn(s *suite) {
	s.fill(50)
	mine := errors.New("pietiek")
	calls := 0
	err := s.ledger.Replay(s.ctx, 1, 0, func([]eventstore.Recorded) error { calls++; return mine })
	if !errors.Is(err, mine) || calls != 1 {
		s.Errorf("replay: %v after %d calls, want the error of the first", err, calls)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.ledger.Replay(ctx, 1, 0, func([]eventstore.Recorded) error { return nil }); !errors.Is(err, context.Canceled) {
		s.Errorf("replay with an ended context: %v", err)
	}
}

func reopeningKeepsAll(s *suite) {
	recorded := s.fill(200)
	if err := s.ledger.Close(s.ctx); err != nil {
		s.Fatalf("close: %v", err)
	}
	s.ledger = s.open(s.T)
	s.wantLedger(recorded)
	m := Event(s.subject(1))
	_, err := s.ledger.Append(s.ctx, m, 0)
	if !errors.Is(err, eventstore.ErrConflict) {
		s.Errorf("append with an expectation from before the first event: %v", err)
	}
}

// appendsAfterACloseKnowOfIt is the fence: whoever was recorded above a control
// event was told so.
func appendsAfterACloseKnowOfIt(s *suite) {
	const writers = 24
	opened := s.append(Event(Control(s.stream)), 0).Sequence
	ledgers := []Ledger{s.ledger, s.open(s.T)}
	var wg sync.WaitGroup
	var closed atomic.Uint64
	var mu sync.Mutex
	var answers []eventstore.Appended
	underWay := make(chan struct{}) // closed when enough is recorded for a close to race with
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				stop := closed.Load() > 0
				a, err := ledgers[w%len(ledgers)].Append(s.ctx, Event(s.subject(w*1_000_000+i)), 0)
				if err != nil {
					s.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				if answers = append(answers, a); len(answers) == 10*writers {
					close(underWay)
				}
				mu.Unlock()
				if stop {
					return // one append after the close is enough
				}
			}
		})
	}
	select {
	case <-underWay:
	case <-s.ctx.Done():
	}
	a, err := s.ledger.Append(s.ctx, Event(Control(s.stream)), opened)
	if err != nil {
		s.Errorf("the close: %v", err)
	}
	closed.Store(max(a.Sequence, 1))
	wg.Wait()
	var above int
	for _, got := range answers {
		if got.Sequence > a.Sequence {
			above++
			if got.Control < a.Sequence {
				s.Errorf("the event %d above the close %d was told that the control subject ends at %d", got.Sequence, a.Sequence, got.Control)
			}
		}
		if got.Control != opened && got.Control != a.Sequence {
			s.Errorf("the event %d was told of a control event %d that does not exist", got.Sequence, got.Control)
		}
	}
	if above < writers/2 {
		s.Errorf("only %d events came after the close: the test shows nothing", above)
	}
}

func anEndedContextRecordsNothing(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.ledger.Append(ctx, Event(s.subject(1)), 0)
	if !errors.Is(err, context.Canceled) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		s.Errorf("append: %v", err)
	}
	s.wantLedger(nil)
}

// closingAnswersWhatWasAccepted closes while appends are under way.
func closingAnswersWhatWasAccepted(s *suite) {
	const callers = 200
	seed := rand.Uint64()
	s.Logf("seed %d", seed)
	closeAfter := rand.New(rand.NewPCG(seed, 0)).IntN(callers)
	recorded := make(map[uint64]eventstore.Message)
	var mu sync.Mutex
	var wg sync.WaitGroup
	started := make(chan struct{}, callers)
	for i := range callers {
		wg.Go(func() {
			m := Event(s.subject(i))
			started <- struct{}{}
			a, err := s.ledger.Append(s.ctx, m, 0)
			switch {
			case err == nil:
				mu.Lock()
				recorded[a.Sequence] = m
				mu.Unlock()
			case !errors.Is(err, eventstore.ErrClosed):
				s.Errorf("append %d: %v", i, err)
			}
		})
	}
	for range closeAfter {
		<-started
	}
	if err := s.ledger.Close(s.ctx); err != nil {
		s.Errorf("close: %v", err)
	}
	wg.Wait()
	s.ledger = s.open(s.T)
	s.wantLedger(recorded)
}

func aClosedLedgerSaysSo(s *suite) {
	for range 2 {
		if err := s.ledger.Close(s.ctx); err != nil {
			s.Fatalf("close: %v", err)
		}
	}
	_, appendErr := s.ledger.Append(s.ctx, Event(s.subject(1)), 0)
	_, historyErr := s.ledger.History(s.ctx, s.subject(1), 0, eventstore.AnyReplica)
	replayErr := s.ledger.Replay(s.ctx, 1, 0, func([]eventstore.Recorded) error { return nil })
	for _, err := range []error{appendErr, historyErr, replayErr} {
		if !errors.Is(err, eventstore.ErrClosed) {
			s.Errorf("got %v, want ErrClosed", err)
		}
	}
}

func whatIsInvalidIsNotRecorded(s *suite) {
	data := []byte("paldies")
	long := s.stream + ".balsotājs." + string(bytes.Repeat([]byte("ā"), eventstore.MaxSubjectBytes))
	for _, m := range []eventstore.Message{
		{Subject: "", Data: data},
		{Subject: s.stream + ".balsotājs.*", Data: data},
		{Subject: s.stream + ".balsotājs.>", Data: data},
		{Subject: s.stream + ".balsotājs.", Data: data},
		{Subject: s.stream + "..balsotājs", Data: data},
		{Subject: s.stream + ".balsotājs.Jānis Bērziņš", Data: data},
		{Subject: s.stream + ".balsotājs.a\r\nPUB x 1", Data: data},
		{Subject: s.stream + ".balsotājs.\x00", Data: data},
		{Subject: long, Data: data},
		{Subject: s.subject(1), Data: nil},
		{Subject: s.subject(1), Data: make([]byte, eventstore.MaxEventBytes+1)},
	} {
		if a, err := s.ledger.Append(s.ctx, m, 0); err == nil {
			s.Errorf("%q with %d bytes was recorded at %d", m.Subject, len(m.Data), a.Sequence)
		}
	}
	s.wantLedger(nil)
}

// readersCannotChangeTheLedger overwrites everything that reads return.
func readersCannotChangeTheLedger(s *suite) {
	recorded := s.fill(20)
	for _, e := range s.replay(s.ledger, 1, 0) {
		clear(e.Data)
	}
	for i := range 20 {
		history, err := s.ledger.History(s.ctx, s.subject(i), 0, eventstore.AnyReplica)
		if err != nil {
			s.Fatal(err)
		}
		for _, e := range history {
			clear(e.Data)
		}
	}
	s.wantLedger(recorded)
}

// historiesOfManyPages reads a subject with more events than any page holds.
func historiesOfManyPages(s *suite) {
	const total = 700
	var last uint64
	for range total {
		last = s.append(Event(s.subject(1)), last).Sequence
	}
	for _, after := range []uint64{0, 1, 255, 256, 257, 512, total - 1, total} {
		history, err := s.ledger.History(s.ctx, s.subject(1), after, eventstore.Leader)
		if err != nil || uint64(len(history)) != total-after {
			s.Fatalf("history after %d: %d events, %v", after, len(history), err)
		}
		for i, e := range history {
			if e.Sequence != after+uint64(i)+1 {
				s.Fatalf("history after %d: event %d has the sequence %d", after, i, e.Sequence)
			}
		}
	}
}

func largestEventsOfManyCallersAtOnce(s *suite) {
	const callers = 300
	recorded := make(map[uint64]eventstore.Message)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			m := Event(s.subject(i))
			m.Data = append(m.Data, bytes.Repeat([]byte("š"), (eventstore.MaxEventBytes-len(m.Data))/len("š"))...)
			a, err := s.ledger.Append(s.ctx, m, 0)
			if err != nil {
				s.Errorf("append: %v", err)
				return
			}
			mu.Lock()
			recorded[a.Sequence] = m
			mu.Unlock()
		})
	}
	wg.Wait()
	s.wantLedger(recorded)
}

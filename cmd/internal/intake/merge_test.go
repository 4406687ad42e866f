package intake_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// merge is the command that makes one of Ilze and Žanete.
var merge = intake.Merge{SpecialistMerged: domain.SpecialistMerged{Specialist: "ilze", Into: "zanete", Decision: "VK lēmums Nr. 3/2018"},
	Reason: "Reģistrēta divreiz."}

func (w *world) submit(in *intake.Intake, commands ...intake.Command) {
	w.t.Helper()
	for _, c := range commands {
		_, err := in.Submit(w.t.Context(), c)
		must(w.t, err)
	}
}

// counted are the votes of Žanete and of all, after the audit is content.
func (w *world) counted() string {
	w.t.Helper()
	w.audited()
	tally := w.count()
	for _, s := range tally.Standings() {
		if s.Specialist.ID == "zanete" {
			return fmt.Sprintf("%d of %d", s.Votes, tally.Votes())
		}
	}
	return "nobody"
}

// annulments are the votes that the merge's decision has annulled.
func (w *world) annulments() (votes []uint64) {
	for _, e := range w.events() {
		if d, ok := e.Data.(domain.VoteAnnulled); ok && d.Decision == merge.Decision && d.Reason == merge.Reason {
			votes = append(votes, d.Vote.Sequence)
		}
	}
	return votes
}

// TestMerge: whoever voted for both counts once from then on, and results as of
// earlier events stay.
func TestMerge(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprint("closed ", closed), func(t *testing.T) {
			w := newWorld(t, 0)
			in := w.intake(w.ledger)
			w.submit(in, vote("Anna", "ilze", "1"), vote("Anna", "zanete", "2"), vote("Anna", "janis", "3"),
				vote("Pēteris", "zanete", "4"), vote("Pēteris", "ilze", "5"), retraction("Pēteris", "zanete", "6"),
				vote("Līga", "ilze", "7"), vote("Jānis", "zanete", "8"), vote("Zane", "ilze", "9"), vote("Zane", "zanete", "10"))
			if closed {
				_, err := in.Close(t.Context(), "beigas")
				must(t, err)
			}
			before := w.count()
			result, err := in.MergeSpecialist(t.Context(), merge)
			must(t, err)
			if result.Annulled != 2 || result.Receipt.Known {
				t.Errorf("the merge is %+v, want 2 votes annulled", result)
			}
			if got := w.counted(); got != "5 of 6" {
				t.Errorf("Žanete has %s votes, want 5 of 6", got)
			}
			var again domain.Tally
			for _, e := range w.events()[:before.Position()] {
				_, err := again.Apply(e.sequence, e.Event)
				must(t, err)
			}
			if again.Digest() != before.Digest() {
				t.Error("the results before the merge have changed")
			}
			events := len(w.events())
			result, err = w.intake(w.ledger).MergeSpecialist(t.Context(), merge)
			must(t, err)
			if result.Annulled != 0 || !result.Receipt.Known || len(w.events()) != events {
				t.Errorf("the merge again is %+v", result)
			}
			if !closed {
				_, err = w.intake(w.ledger).Submit(t.Context(), vote("Līga", "zanete", "11"))
				refusedWith(t, err, domain.AlreadyVoted)
				_, err = w.intake(w.ledger).Submit(t.Context(), vote("Anna", "zanete", "12"))
				refusedWith(t, err, domain.AlreadyVoted)
				_, err = w.intake(w.ledger).Submit(t.Context(), vote("Elza", "ilze", "13"))
				refusedWith(t, err, domain.WithdrawnSpecialist)
			}
		})
	}
}

// TestMergeIsFinishedAgain: what an intake lets pass that has not heard of a
// merge is found by the audit, and the same command annuls it.
func TestMergeIsFinishedAgain(t *testing.T) {
	w := newWorld(t, 0)
	unaware := w.intake(w.ledger)
	w.submit(unaware, vote("Anna", "ilze", "1"))
	_, err := w.intake(w.ledger).MergeSpecialist(t.Context(), merge)
	must(t, err)
	w.submit(unaware, vote("Anna", "zanete", "2"), vote("Pēteris", "zanete", "3"), vote("Pēteris", "ilze", "4"))
	in := w.intake(w.ledger)
	doubled, err := in.Doubled(t.Context(), w.count().Register(), 0)
	must(t, err)
	if len(doubled) != 2 {
		t.Errorf("%d votes count beside another one, want 2", len(doubled))
	}
	result, err := in.MergeSpecialist(t.Context(), merge)
	must(t, err)
	if got := w.counted(); result.Annulled != 2 || got != "2 of 2" {
		t.Errorf("%d votes are annulled and %s counted, want 2 and 2 of 2", result.Annulled, got)
	}
}

// TestMergeRacesVotes: however votes for both race with the merge and with the
// close, nobody counts twice in the end.
func TestMergeRacesVotes(t *testing.T) {
	const voters = 32
	for round := range 10 {
		w := newWorld(t, 0)
		var all sync.WaitGroup
		for i := range voters {
			in := w.intake(w.ledger)
			for j, specialist := range []string{"ilze", "zanete"} {
				all.Go(func() {
					_, err := in.Submit(t.Context(), vote(fmt.Sprint("balsotājs ", i), specialist, fmt.Sprint("s", j)))
					if refusal := (*domain.Refusal)(nil); err != nil && !errors.As(err, &refusal) {
						t.Error(err)
					}
				})
			}
		}
		merger := w.intake(w.ledger)
		all.Go(func() {
			if _, err := merger.MergeSpecialist(t.Context(), merge); err != nil {
				t.Error(err)
			}
		})
		if round%2 == 1 {
			closer := w.intake(w.ledger)
			all.Go(func() {
				if _, err := closer.Close(t.Context(), "beigas"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		_, err := merger.MergeSpecialist(t.Context(), merge)
		must(t, err)
		w.audited()
		if n := w.count(); n.Votes() != n.Voters() || n.Votes() > voters {
			t.Errorf("round %d: %d votes of %d voters count for one specialist", round, n.Votes(), n.Voters())
		}
	}
}

// TestMergeIsInterrupted at every append, and in every way: the same command of
// another process finishes it, and annuls nothing twice.
func TestMergeIsInterrupted(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Unavailable, storetest.LostUnknown, storetest.StoredUnknown} {
		for failing := range 4 { // the merge, then three annulments
			w := newWorld(t, 0)
			for i := range 3 {
				person := fmt.Sprint("balsotājs ", i)
				w.submit(w.intake(w.ledger), vote(person, "ilze", "1"), vote(person, "zanete", "2"))
			}
			faulty := w.ledger.Reopen()
			in := w.intake(faulty)
			var mu sync.Mutex
			appends := 0
			faulty.SetFaults(storetest.Faults{Append: func(eventstore.Message, uint64) storetest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if appends++; appends > failing {
					return fault // and all that come after: the process is gone
				}
				return storetest.None
			}})
			if _, err := in.MergeSpecialist(t.Context(), merge); err == nil {
				t.Fatalf("fault %d at append %d is not answered", fault, failing)
			}
			_, err := w.intake(w.ledger).MergeSpecialist(t.Context(), merge)
			must(t, err)
			votes := w.annulments()
			slices.Sort(votes)
			if got := w.counted(); got != "3 of 3" || len(votes) != 3 || len(slices.Compact(votes)) != 3 {
				t.Errorf("fault %d at append %d: %s votes count, annulled are %v", fault, failing, got, votes)
			}
		}
	}
}

// TestMergesThatMeet: two organisers merge two specialists at the same moment, in
// both directions. They are one, and nothing stops.
func TestMergesThatMeet(t *testing.T) {
	opposite := merge
	opposite.Specialist, opposite.Into = merge.Into, merge.Specialist
	for range 10 {
		w := newWorld(t, 0)
		w.submit(w.intake(w.ledger), vote("Anna", "ilze", "1"), vote("Anna", "zanete", "2"), vote("Pēteris", "ilze", "3"))
		var both sync.WaitGroup
		for _, m := range []intake.Merge{merge, opposite} {
			in := w.intake(w.ledger)
			both.Go(func() {
				_, err := in.MergeSpecialist(t.Context(), m)
				if notAllowed := (*intake.NotAllowedError)(nil); err != nil && !errors.As(err, &notAllowed) {
					t.Error(err)
				}
			})
		}
		both.Wait()
		w.audited()
		r := w.count().Register()
		if r.Canonical("ilze") != r.Canonical("zanete") || w.count().Votes() != 2 {
			t.Errorf("the votes count for %s and %s, and there are %d", r.Canonical("ilze"), r.Canonical("zanete"), w.count().Votes())
		}
		in := w.intake(w.ledger)
		for _, specialist := range []string{"ilze", "zanete"} {
			_, err := in.Submit(t.Context(), vote("Pēteris", specialist, "4"+specialist))
			refusedWith(t, err, domain.AlreadyVoted)
		}
	}
}

func TestMergesThatCannotBe(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	_, err := in.MergeSpecialist(t.Context(), merge)
	must(t, err)
	for _, c := range []struct{ from, into, says string }{
		{"neviens", "zanete", `specialist "neviens" is not registered`},
		{"zanete", "neviens", `specialist "neviens" is not registered`},
		{"janis", "janis", "specialist janis cannot be merged into itself"},
		{"ilze", "janis", "specialist ilze was merged into zanete already"},
		{"janis", "ilze", "specialist ilze was itself merged into zanete; name that one"},
	} {
		m := merge
		m.Specialist, m.Into = c.from, c.into
		_, err := in.MergeSpecialist(t.Context(), m)
		var notAllowed *intake.NotAllowedError
		if !errors.As(err, &notAllowed) || err.Error() != c.says {
			t.Errorf("%s into %s: %v, want %q", c.from, c.into, err, c.says)
		}
	}
	m := merge
	m.Specialist, m.Decision = "janis", ""
	var invalid *intake.InvalidError
	if _, err := in.MergeSpecialist(t.Context(), m); !errors.As(err, &invalid) {
		t.Errorf("without a decision: %v", err)
	}
}

// TestMergeIsItsOwn: what another merge has left undone is finished under that
// one's decision, and by nobody else.
func TestMergeIsItsOwn(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	for _, id := range []string{"liga-1", "liga-2"} {
		_, err := in.SetSpecialist(t.Context(), id, domain.Profile{Name: "Līga Ķēniņa"})
		must(t, err)
	}
	w.submit(in, vote("Anna", "ilze", "1"), vote("Anna", "zanete", "2"), vote("Anna", "liga-1", "3"), vote("Anna", "liga-2", "4"))
	faulty := w.ledger.Reopen()
	unfinished := w.intake(faulty)
	faulty.SetFaults(storetest.Faults{Append: func(m eventstore.Message, _ uint64) storetest.Fault {
		if m.Subject == domain.SpecialistSubject(campaign, "ilze") {
			return storetest.None
		}
		return storetest.Unavailable
	}})
	if _, err := unfinished.MergeSpecialist(t.Context(), merge); err == nil {
		t.Fatal("nothing was left undone")
	}
	other := intake.Merge{SpecialistMerged: domain.SpecialistMerged{Specialist: "liga-1", Into: "liga-2", Decision: "VK lēmums Nr. 4/2018"}, Reason: merge.Reason}
	result, err := in.MergeSpecialist(t.Context(), other)
	must(t, err)
	if result.Annulled != 1 || len(w.annulments()) != 0 {
		t.Errorf("%d votes are annulled, %v of the other merge", result.Annulled, w.annulments())
	}
	wrong := merge
	wrong.Decision = other.Decision
	if _, err = in.MergeSpecialist(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), merge.Decision) {
		t.Errorf("finished under another decision: %v", err)
	}
	result, err = in.MergeSpecialist(t.Context(), merge)
	must(t, err)
	if !result.Receipt.Known || result.Annulled != 1 || w.counted() != "1 of 2" {
		t.Errorf("finished: %+v, %s votes count", result, w.counted())
	}
}

// TestMergeIntoAWithdrawn would take somebody out of the ranking without a word.
func TestMergeIntoAWithdrawn(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	_, err := in.WithdrawSpecialist(t.Context(), "zanete", "")
	must(t, err)
	var notAllowed *intake.NotAllowedError
	if _, err = in.MergeSpecialist(t.Context(), merge); !errors.As(err, &notAllowed) || !strings.Contains(err.Error(), "the other way round") {
		t.Errorf("merged into one who was withdrawn: %v", err)
	}
}

// TestDoubledAsOf: a merge that is under way changes nothing about results as of
// earlier events, and doubles those as of its own.
func TestDoubledAsOf(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	w.submit(in, vote("Anna", "ilze", "1"), vote("Anna", "zanete", "2"))
	before := w.count().Register().Clone()
	last := uint64(len(w.events()))
	_, err := in.MergeSpecialist(t.Context(), merge)
	must(t, err)
	for to, want := range map[uint64]int{last: 0, last + 1: 1, last + 2: 0} {
		r := w.count().Register()
		if to == last {
			r = before
		}
		doubled, err := in.Doubled(t.Context(), r, to)
		if must(t, err); len(doubled) != want {
			t.Errorf("as of event %d: %+v", to, doubled)
		}
	}
}

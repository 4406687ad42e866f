package intake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// rivals is how many goroutines want the same.
const rivals = 64

// allAtOnce submits a command of each rival, over four intakes.
func allAtOnce(t *testing.T, w *world, command func(i int) intake.Command) (receipts []intake.Receipt, errs []error) {
	t.Helper()
	var intakes []*intake.Intake
	for range 4 {
		intakes = append(intakes, w.intake(w.ledger))
	}
	receipts, errs = make([]intake.Receipt, rivals), make([]error, rivals)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range rivals {
		all.Go(func() {
			<-begin
			receipts[i], errs[i] = intakes[i%len(intakes)].Submit(t.Context(), command(i))
		})
	}
	close(begin)
	all.Wait()
	return receipts, errs
}

// outcomes counts answers: accepted ones under "", refusals by their code.
func outcomes(t *testing.T, errs []error) map[domain.Code]int {
	t.Helper()
	counts := make(map[domain.Code]int)
	for _, err := range errs {
		var refusal *domain.Refusal
		switch {
		case err == nil:
			counts[""]++
		case errors.As(err, &refusal):
			counts[refusal.Code]++
		default:
			t.Error(err)
		}
	}
	return counts
}

func TestOneVoterOneSpecialist(t *testing.T) {
	w := newWorld(t, 0)
	_, errs := allAtOnce(t, w, func(i int) intake.Command { return vote("Anna", "ilze", fmt.Sprint("s", i)) })
	if got := outcomes(t, errs); got[""] != 1 || got[domain.AlreadyVoted] != rivals-1 {
		t.Errorf("answers: %v", got)
	}
	if votes, voters := w.count().Total("ilze"); votes != 1 || voters != 1 {
		t.Errorf("%d votes of %d voters are counted", votes, voters)
	}
	w.audited()
}

func TestLimitUnderContention(t *testing.T) {
	w := newWorld(t, 2)
	names := []string{"ilze", "zanete", "janis"}
	_, errs := allAtOnce(t, w, func(i int) intake.Command { return vote("Anna", names[i%3], fmt.Sprint("s", i)) })
	got := outcomes(t, errs)
	if got[""] != 2 || got[domain.AlreadyVoted]+got[domain.VoteLimitReached] != rivals-2 {
		t.Errorf("answers: %v", got)
	}
	if n := w.count().Votes(); n != 2 {
		t.Errorf("%d votes are counted", n)
	}
	w.audited()
}

func TestOneSubmissionManyTimes(t *testing.T) {
	w := newWorld(t, 0)
	before := len(w.events())
	receipts, errs := allAtOnce(t, w, func(int) intake.Command { return vote("Anna", "ilze", "pieteikums") })
	fresh := 0
	for i, r := range receipts {
		must(t, errs[i])
		if !r.Known {
			fresh++
		}
		r.Known = receipts[0].Known
		if r != receipts[0] {
			t.Errorf("receipts %+v and %+v", receipts[0], r)
		}
	}
	if n := len(w.events()) - before; n != 1 || fresh != 1 {
		t.Errorf("%d events, and %d receipts say that theirs is new", n, fresh)
	}
}

func TestSameIDOtherContent(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	first, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	must(t, err)
	_, err = in.Submit(t.Context(), vote("Anna", "zanete", "s1"))
	refusedWith(t, err, domain.IdempotencyMismatch)
	at := vote("Anna", "ilze", "s1")
	at.At = start
	_, err = in.Submit(t.Context(), at)
	refusedWith(t, err, domain.IdempotencyMismatch)
	again, err := in.Submit(t.Context(), vote(" Anna ", "ilze", "s1"))
	must(t, err)
	if first.Known = true; again != first {
		t.Errorf("receipts %+v and %+v", first, again)
	}
	// The voter's id is not part of the content: somebody else's submission
	// with that id is another submission.
	_, err = in.Submit(t.Context(), vote("Līga", "zanete", "s1"))
	must(t, err)
	w.audited()
}

func TestMalformedCommands(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	before := len(w.events())
	for name, c := range map[string]intake.Command{
		"no voter":          vote("", "ilze", "s"),
		"a voter of 100 kB": vote(strings.Repeat("ā", 50_000), "ilze", "s"),
		"a bell":            vote("An\ana", "ilze", "s"),
		"not UTF-8":         vote("B\xe7rzi\xf2\xf0", "ilze", "s"),
		"a subject":         vote("Anna", "ilze.*", "s"),
		"a wildcard":        vote("Anna", ">", "s"),
		"no specialist":     vote("Anna", "", "s"),
		"a long id":         vote("Anna", "ilze", strings.Repeat("s", 129)),
		"no action":         {Voter: "Anna", Specialist: "ilze", Channel: "web"},
		"a slip's voter":    {Action: domain.Vote, Voter: "Anna", Specialist: "ilze", Channel: "slip"},
	} {
		var invalid *intake.InvalidError
		if _, err := in.Submit(t.Context(), c); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(w.events()); n != before {
		t.Errorf("%d events came of it", n-before)
	}
	// Dots, spaces and wildcards in a voter's id are nothing special.
	for i, voter := range []string{"a.b", "a b", "*", ">", "Ķēniņš Žanis", "lv-pk:010180-12345"} {
		_, err := in.Submit(t.Context(), vote(voter, "ilze", fmt.Sprint("s", i)))
		must(t, err)
	}
	w.audited()
}

func TestKeys(t *testing.T) {
	w := newWorld(t, 0)
	cfg := intake.Config{Campaign: campaign, Ledger: w.ledger, Codec: w.codec, Now: w.clock}
	cfg.Key = &domain.PseudonymKey{1}
	if _, err := intake.New(t.Context(), cfg); !errors.Is(err, intake.ErrWrongKey) {
		t.Errorf("with another campaign's key: %v", err)
	}
	cfg.Key = nil
	in, err := intake.New(t.Context(), cfg)
	must(t, err)
	if _, err := in.Submit(t.Context(), vote("Anna", "ilze", "s")); !errors.Is(err, intake.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	empty := storetest.NewMemory(t, domain.ControlSubject(campaign))
	cfg.Ledger = empty
	if _, err := intake.New(t.Context(), cfg); !errors.Is(err, intake.ErrNotOpened) {
		t.Errorf("without a campaign: %v", err)
	}
}

// behind is a replica that has only the first events of every ballot. It notes
// who is asked about ballots.
type behind struct {
	intake.Ledger
	has int // events of each ballot

	mu     sync.Mutex
	leader int // reads of ballots that the leader answered; guarded by mu
}

func (b *behind) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	h, err := b.Ledger.History(ctx, subject, after, read)
	if err != nil || !strings.Contains(subject, ".voter.") {
		return h, err
	}
	if read == eventstore.Leader {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.leader++
		return h, nil
	}
	return h[:min(b.has, len(h))], nil
}

// TestRefusalsAreConfirmed: what a replica says that is behind is no reason to
// refuse.
func TestRefusalsAreConfirmed(t *testing.T) {
	for _, c := range []struct {
		name    string
		done    []intake.Command
		has     int
		then    intake.Command
		refused domain.Code
		asked   int // how often the leader is asked for the ballot
	}{
		{"a retraction is not there yet", []intake.Command{vote("Anna", "ilze", "1"), retraction("Anna", "ilze", "2")}, 1, vote("Anna", "ilze", "3"), "", 1},
		{"a vote is not there yet, for its retraction", []intake.Command{vote("Anna", "ilze", "1")}, 0, retraction("Anna", "ilze", "2"), "", 1},
		{"a vote is not there yet, for a second one", []intake.Command{vote("Anna", "ilze", "1")}, 0, vote("Anna", "ilze", "2"), domain.AlreadyVoted, 2},
		{"a vote is not there yet, for its retry", []intake.Command{vote("Anna", "ilze", "1")}, 0, vote("Anna", "ilze", "1"), "", 1},
		{"a refusal that is right", []intake.Command{vote("Anna", "ilze", "1")}, 1, vote("Anna", "ilze", "2"), domain.AlreadyVoted, 1},
		{"nothing is in the way", nil, 0, vote("Anna", "ilze", "1"), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 0)
			for _, command := range c.done {
				_, err := w.intake(w.ledger).Submit(t.Context(), command)
				must(t, err)
			}
			stale := &behind{Ledger: w.ledger, has: c.has}
			_, err := w.intake(stale).Submit(t.Context(), c.then)
			if c.refused != "" {
				refusedWith(t, err, c.refused)
			} else {
				must(t, err)
			}
			if stale.leader != c.asked {
				t.Errorf("the leader was asked %d times instead of %d", stale.leader, c.asked)
			}
			w.audited()
		})
	}
}

// TestRegisterIsConfirmed: neither is a campaign or a specialist that changed
// since this intake has looked.
func TestRegisterIsConfirmed(t *testing.T) {
	w := newWorld(t, 1)
	old, other := w.intake(w.ledger), w.intake(w.ledger)
	_, err := other.SetSpecialist(t.Context(), "adele", domain.Profile{Name: "Ādele Zariņa"})
	must(t, err)
	_, err = old.Submit(t.Context(), vote("Anna", "adele", "s1"))
	must(t, err)
	two := 2
	_, err = other.Amend(t.Context(), domain.CampaignAmended{VotesPerVoter: &two, Reason: "lūgums"})
	must(t, err)
	_, err = old.Submit(t.Context(), vote("Anna", "ilze", "s2"))
	must(t, err)
	_, err = old.Submit(t.Context(), vote("Anna", "zanete", "s3"))
	refusedWith(t, err, domain.VoteLimitReached)
	w.audited()
}

// TestSmallCache: a cache that forgets nearly everything changes no answer.
func TestSmallCache(t *testing.T) {
	w := newWorld(t, 0)
	in, err := intake.New(t.Context(), intake.Config{Campaign: campaign, Ledger: w.ledger, Codec: w.codec, Key: &w.key, Now: w.clock, Ballots: 1})
	must(t, err)
	for round := range 3 {
		for i := range 10 {
			_, err := in.Submit(t.Context(), vote(fmt.Sprint("balsotājs ", i), "ilze", fmt.Sprint(round, i)))
			if round == 0 {
				must(t, err)
				continue
			}
			refusedWith(t, err, domain.AlreadyVoted)
		}
	}
	w.audited()
}

package intake_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// TestCloseRacesVotes: whatever is acknowledged lies below the close and
// counts, and nothing else does.
func TestCloseRacesVotes(t *testing.T) {
	for round := range 25 {
		w := newWorld(t, 0)
		a, b := w.intake(w.ledger), w.intake(w.ledger)
		const voters, enough = 64, 8
		acknowledged := make(chan uint64, voters)
		var all sync.WaitGroup
		for i := range voters {
			in := a
			if i%2 == 1 {
				in = b
			}
			all.Go(func() {
				receipt, err := in.Submit(t.Context(), vote(fmt.Sprint("balsotājs ", i), "ilze", fmt.Sprint("s", i)))
				var refusal *domain.Refusal
				switch {
				case err == nil:
					acknowledged <- receipt.Sequence
				case !errors.As(err, &refusal) || refusal.Code != domain.ClosedCampaign:
					t.Error(err)
				}
			})
		}
		receipts := make(map[uint64]bool)
		for range enough {
			receipts[<-acknowledged] = true
		}
		closed, err := b.Close(t.Context(), "beigas")
		must(t, err)
		all.Wait()
		close(acknowledged)
		for sequence := range acknowledged {
			receipts[sequence] = true
		}
		for _, e := range w.events() {
			if _, ok := e.Data.(domain.VoteCast); ok && receipts[e.sequence] != (e.sequence < closed.Sequence) {
				t.Errorf("round %d: vote %d, close %d, acknowledged %v", round, e.sequence, closed.Sequence, receipts[e.sequence])
			}
		}
		if n := w.count().Votes(); n != int64(len(receipts)) {
			t.Errorf("round %d: %d votes are counted, %d were acknowledged", round, n, len(receipts))
		}
		w.audited()
	}
}

// TestRetryOfAVoidVote: a vote that lies above the close is refused, and so is
// its retry: by who has recorded it, by who comes later, and by who has not
// heard of the close.
func TestRetryOfAVoidVote(t *testing.T) {
	w := newWorld(t, 0)
	a, unaware, b := w.intake(w.ledger), w.intake(w.ledger), w.intake(w.ledger)
	closed, err := b.Close(t.Context(), "beigas")
	must(t, err)
	c := vote("Anna", "ilze", "s1")
	_, err = a.Submit(t.Context(), c)
	refusedWith(t, err, domain.ClosedCampaign)
	events := w.events()
	if last := events[len(events)-1]; last.sequence != closed.Sequence+1 {
		t.Fatalf("this was to be recorded above the close %d; the last event is %d", closed.Sequence, last.sequence)
	}
	for name, in := range map[string]*intake.Intake{"who recorded it": a, "who has not heard of the close": unaware, "who closed": b, "who came later": w.intake(w.ledger)} {
		_, err := in.Submit(t.Context(), c)
		var refusal *domain.Refusal
		if !errors.As(err, &refusal) || refusal.Code != domain.ClosedCampaign {
			t.Errorf("%s answers %v", name, err)
		}
	}
	if n := w.count().Votes(); n != 0 || len(w.events()) != len(events) {
		t.Errorf("%d votes are counted, %d events came of the retries", n, len(w.events())-len(events))
	}
	if report := w.audited(); len(report.Void) != 1 {
		t.Errorf("the audit lists %v", report.Void)
	}
}

// TestRetryOfAVoteBeforeTheClose: what was acknowledged stays acknowledged.
func TestRetryOfAVoteBeforeTheClose(t *testing.T) {
	w := newWorld(t, 0)
	a, b := w.intake(w.ledger), w.intake(w.ledger)
	first, err := a.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	must(t, err)
	closed, err := b.Close(t.Context(), "")
	must(t, err)
	again, err := b.Close(t.Context(), "")
	must(t, err)
	if !again.Known || again.Sequence != closed.Sequence {
		t.Errorf("closed at %d and, again, at %d", closed.Sequence, again.Sequence)
	}
	for _, in := range []*intake.Intake{a, b, w.intake(w.ledger)} {
		r, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
		must(t, err)
		if r.Sequence != first.Sequence || !r.Known || !r.RecordedAt.Equal(first.RecordedAt) {
			t.Errorf("receipts %+v and %+v", first, r)
		}
		_, err = in.Submit(t.Context(), retraction("Anna", "ilze", "s2"))
		refusedWith(t, err, domain.ClosedCampaign)
	}
}

// TestAnnulmentByWhoHasNotHeardOfTheClose: it is recorded twice, and counts
// once.
func TestAnnulmentByWhoHasNotHeardOfTheClose(t *testing.T) {
	w := newWorld(t, 0)
	a, b := w.intake(w.ledger), w.intake(w.ledger)
	receipt, err := a.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	must(t, err)
	_, err = b.Close(t.Context(), "")
	must(t, err)
	annulment := w.annulment("Anna", receipt.Sequence)
	first, err := a.Annul(t.Context(), annulment)
	must(t, err)
	for _, in := range []*intake.Intake{a, b, w.intake(w.ledger)} {
		again, err := in.Annul(t.Context(), annulment)
		must(t, err)
		if !again.Known || again.Sequence != first.Sequence {
			t.Errorf("receipts %+v and %+v", first, again)
		}
	}
	if n := w.count().Votes(); n != 0 {
		t.Errorf("%d votes are counted", n)
	}
	if report := w.audited(); len(report.Void) != 1 {
		t.Errorf("the audit lists %v", report.Void)
	}
}

func (w *world) annulment(voter string, sequence uint64) domain.Annulment {
	w.t.Helper()
	pseudonym, err := w.key.Voter(voter)
	must(w.t, err)
	return domain.Annulment{Voter: pseudonym, Vote: sequence, Decision: "SIF-2018/7", Reason: "negodīga balsu vākšana"}
}

// TestCloseRacesAnnulments: a decision that is carried out while the campaign
// is closed is carried out wholly, once.
func TestCloseRacesAnnulments(t *testing.T) {
	for range 10 {
		w := newWorld(t, 0)
		a, b := w.intake(w.ledger), w.intake(w.ledger)
		const voters = 100
		var list []domain.Annulment
		for i := range voters {
			name := fmt.Sprint("balsotājs ", i)
			receipt, err := a.Submit(t.Context(), vote(name, "ilze", fmt.Sprint("s", i)))
			must(t, err)
			list = append(list, w.annulment(name, receipt.Sequence))
		}
		var closing sync.WaitGroup
		closing.Go(func() {
			_, err := b.Close(t.Context(), "")
			if err != nil {
				t.Error(err)
			}
		})
		result, err := a.AnnulAll(t.Context(), list)
		must(t, err)
		closing.Wait()
		if result != (intake.AnnulResult{Recorded: voters}) {
			t.Errorf("result %+v", result)
		}
		again, err := b.AnnulAll(t.Context(), list)
		must(t, err)
		if again != (intake.AnnulResult{Known: voters}) {
			t.Errorf("again: %+v", again)
		}
		if n := w.count().Votes(); n != 0 {
			t.Errorf("%d votes are counted", n)
		}
		w.audited()
	}
}

// TestAnnulments: what is no vote in force cannot be annulled, and an annulled
// vote keeps its place but frees one of the voter's votes.
func TestAnnulments(t *testing.T) {
	w := newWorld(t, 1)
	in := w.intake(w.ledger)
	receipt, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	must(t, err)
	taken, err := in.Submit(t.Context(), vote("Līga", "ilze", "s1"))
	must(t, err)
	_, err = in.Submit(t.Context(), retraction("Līga", "ilze", "s2"))
	must(t, err)
	list := []domain.Annulment{w.annulment("Anna", receipt.Sequence), w.annulment("Līga", taken.Sequence), w.annulment("Zane", 1)}
	result, err := in.AnnulAll(t.Context(), list)
	must(t, err)
	if result != (intake.AnnulResult{Recorded: 1, Gone: 2}) {
		t.Errorf("result %+v", result)
	}
	_, err = in.Submit(t.Context(), vote("Anna", "ilze", "s2"))
	refusedWith(t, err, domain.AlreadyVoted)
	_, err = in.Submit(t.Context(), retraction("Anna", "ilze", "s3"))
	refusedWith(t, err, domain.UnknownVote)
	_, err = in.Submit(t.Context(), vote("Anna", "zanete", "s4"))
	must(t, err)
	empty, err := in.AnnulAll(t.Context(), nil)
	must(t, err)
	if empty != (intake.AnnulResult{}) {
		t.Errorf("an empty list: %+v", empty)
	}
	w.audited()
}

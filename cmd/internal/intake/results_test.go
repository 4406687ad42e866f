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

// certified are the results as of now.
func (w *world) certified() domain.ResultsCertified {
	w.t.Helper()
	tally := w.count()
	return domain.ResultsCertified{Sequence: tally.Position(), TallyDigest: tally.Digest(), AwardRule: &domain.AwardRule{Specialists: 1}}
}

// annulmentOf is an auditor's command about a vote.
func (w *world) annulmentOf(vote uint64) domain.Annulment {
	w.t.Helper()
	d := w.events()[vote-1].Data.(domain.VoteCast)
	return domain.Annulment{Voter: d.Voter, Vote: vote, Decision: "VK lēmums Nr. 12/2018", Reason: "Balsis iegūtas negodīgi."}
}

// TestEndOfACampaign: each step is possible once and in its order, is answered
// again when it is repeated, and votes are refused at every one.
func TestEndOfACampaign(t *testing.T) {
	w := newWorld(t, 0)
	ctx, in := t.Context(), w.intake(w.ledger)
	var votes []uint64
	for i := range 4 {
		receipt, err := in.Submit(ctx, vote(fmt.Sprint("balsotājs ", i), "ilze", "1"))
		must(t, err)
		votes = append(votes, receipt.Sequence)
	}
	tie := domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: "janis"}}, Decision: "VK-4", Reason: "Žūrijas balsojums."}
	notAllowed := func(what string, err error, says string) {
		t.Helper()
		var refused *intake.NotAllowedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", what, err, says)
		}
	}
	// Each step is taken by another process than the one before, and once more.
	step := func(what string, take func(*intake.Intake) (intake.Receipt, error)) uint64 {
		t.Helper()
		first, err := take(w.intake(w.ledger))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		again, err := take(w.intake(w.ledger))
		if err != nil || !again.Known || again.Sequence != first.Sequence || first.Known {
			t.Errorf("%s again: %+v, %v; it was %+v", what, again, err, first)
		}
		for _, unaware := range []*intake.Intake{in, w.intake(w.ledger)} {
			_, err = unaware.Submit(ctx, vote("Vēlais", "ilze", what))
			refusedWith(t, err, domain.ClosedCampaign)
			_, err = unaware.Submit(ctx, retraction("balsotājs 3", "ilze", what))
			refusedWith(t, err, domain.ClosedCampaign)
		}
		return first.Sequence
	}
	_, err := in.Certify(ctx, w.certified(), w.control())
	notAllowed("certify", err, "it is open; close it before its results are certified")
	_, err = in.DecideTie(ctx, tie)
	notAllowed("decide", err, "it is open; close it before a tie is decided")
	step("close", func(in *intake.Intake) (intake.Receipt, error) { return in.Close(ctx, "beigas") })
	_, err = in.Publish(ctx, 0)
	notAllowed("publish", err, "it is closed; certify its results before they are published")
	_, err = in.Archive(ctx)
	notAllowed("archive", err, "it is closed; only a campaign whose results are published can be archived")
	step("decide", func(in *intake.Intake) (intake.Receipt, error) { return in.DecideTie(ctx, tie) })
	_, err = in.Annul(ctx, w.annulmentOf(votes[0]))
	must(t, err)

	results := w.certified()
	first := step("certify", func(in *intake.Intake) (intake.Receipt, error) {
		if c, ok := in.Register().Campaign().Certification(); ok {
			results.Sequence = c.Event // what a repetition counts up to
		}
		return in.Certify(ctx, results, w.control())
	})
	_, err = in.Annul(ctx, w.annulmentOf(votes[1]))
	must(t, err)
	_, err = in.Certify(ctx, w.certified(), w.control())
	notAllowed("certify", err, fmt.Sprintf("its results are certified by event %d; a correction must supersede that one", first))
	correction := w.certified()
	correction.Supersedes = first
	_, err = in.Certify(ctx, correction, w.control())
	notAllowed("certify", err, "a correction needs a reason")
	correction.Reason = "Vēl viena balss iegūta negodīgi."
	corrected, err := in.Certify(ctx, correction, w.control())
	must(t, err)
	_, err = in.Publish(ctx, first)
	notAllowed("publish", err, fmt.Sprintf("event %d is not the newest certification", first))
	step("publish", func(in *intake.Intake) (intake.Receipt, error) { return in.Publish(ctx, corrected.Sequence) })
	if whichever, err := in.Publish(ctx, 0); err != nil || !whichever.Known {
		t.Errorf("publish what is published: %+v, %v", whichever, err)
	}

	_, err = in.Annul(ctx, w.annulmentOf(votes[2]))
	must(t, err)
	correction = w.certified()
	correction.Supersedes, correction.Reason = corrected.Sequence, "Un vēl viena."
	_, err = in.Certify(ctx, correction, w.control())
	must(t, err)
	_, err = in.Archive(ctx)
	notAllowed("archive", err, "which is not published")
	_, err = in.Publish(ctx, 0)
	must(t, err)
	archived := step("archive", func(in *intake.Intake) (intake.Receipt, error) { return in.Archive(ctx) })

	for what, take := range map[string]func(*intake.Intake) error{
		"annul":   func(in *intake.Intake) error { _, err := in.Annul(ctx, w.annulmentOf(votes[3])); return err },
		"certify": func(in *intake.Intake) error { _, err := in.Certify(ctx, w.certified(), w.control()); return err },
		"decide": func(in *intake.Intake) error {
			d := tie
			d.Reason = "Cits."
			_, err := in.DecideTie(ctx, d)
			return err
		},
		"publish":  func(in *intake.Intake) error { _, err := in.Publish(ctx, first); return err },
		"withdraw": func(in *intake.Intake) error { _, err := in.WithdrawSpecialist(ctx, "ilze", ""); return err },
		"register": func(in *intake.Intake) error {
			_, err := in.SetSpecialist(ctx, "zane", domain.Profile{Name: "Zane"})
			return err
		},
		"amend": func(in *intake.Intake) error {
			_, err := in.Amend(ctx, domain.CampaignAmended{Title: "Paldies"})
			return err
		},
		"merge":      func(in *intake.Intake) error { _, err := in.MergeSpecialist(ctx, merge); return err },
		"import one": func(in *intake.Intake) error { return in.ImportSpecialists(ctx, []intake.SpecialistRow{{ID: "zane"}}) },
	} {
		err := take(w.intake(w.ledger))
		var refusal *domain.Refusal
		if !errors.As(err, &refusal) || refusal.Code != domain.ClosedCampaign || refusal.Sequence != archived {
			t.Errorf("%s on an archived campaign: %v", what, err)
		}
	}
	report := w.audited()
	if report.Votes != 1 {
		t.Errorf("%d votes are in force, want 1", report.Votes)
	}
}

// control is the sequence of the last event about the campaign as a whole.
func (w *world) control() uint64 { return w.count().Register().Campaign().Control }

// TestCertifyWhatWasCountedBefore: a decision that is recorded after the results
// were counted is not overlooked.
func TestCertifyWhatWasCountedBefore(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	_, err := in.Close(t.Context(), "beigas")
	must(t, err)
	d, control := w.certified(), w.control()
	_, err = w.intake(w.ledger).DecideTie(t.Context(), domain.ResultsDecided{Award: domain.Letter, Places: 1,
		Winners: []domain.Candidate{{Specialist: "janis"}}, Decision: "VK-4", Reason: "Žūrijas balsojums."})
	must(t, err)
	if _, err = in.Certify(t.Context(), d, control); !errors.Is(err, intake.ErrOutdated) {
		t.Errorf("the decision is overlooked: %v", err)
	}
	first, err := in.Certify(t.Context(), w.certified(), w.control())
	must(t, err)
	d.Supersedes, d.Reason = first.Sequence, "Kļūda."
	if _, err = in.Certify(t.Context(), d, w.control()); err == nil || !strings.Contains(err.Error(), "older than the certification") {
		t.Errorf("a correction by older results: %v", err)
	}
}

// TestCertificationRacesAnnulments: what is certified is what was counted up to
// its place in the ledger, whatever comes meanwhile, and of two certifications
// at once one is refused.
func TestCertificationRacesAnnulments(t *testing.T) {
	const voters = 16
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	var annulments []domain.Annulment
	for i := range voters {
		receipt, err := in.Submit(t.Context(), vote(fmt.Sprint("balsotājs ", i), "ilze", "1"))
		must(t, err)
		annulments = append(annulments, w.annulmentOf(receipt.Sequence))
	}
	_, err := in.Close(t.Context(), "beigas")
	must(t, err)
	d, control := w.certified(), w.control() // who counts the other's certification makes it again
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := in.AnnulAll(t.Context(), annulments); err != nil {
			t.Error(err)
		}
	})
	refused := make(chan bool, 2)
	for range 2 {
		certifier := w.intake(w.ledger)
		all.Go(func() {
			_, err := certifier.Certify(t.Context(), d, control)
			var notAllowed *intake.NotAllowedError
			if err != nil && !errors.As(err, &notAllowed) {
				t.Error(err)
			}
			refused <- err != nil
		})
	}
	all.Wait()
	if a, b := <-refused, <-refused; a == b {
		t.Errorf("of two certifications at once one is to be refused: %v, %v", a, b)
	}
	if report := w.audited(); report.Votes != 0 {
		t.Errorf("%d votes are in force, want none", report.Votes)
	}
}

// TestStepsAreInterrupted: a step of which nobody knows whether it was recorded
// is taken again, and happens once.
func TestStepsAreInterrupted(t *testing.T) {
	steps := []func(context.Context, *world, *intake.Intake) (intake.Receipt, error){
		func(ctx context.Context, _ *world, in *intake.Intake) (intake.Receipt, error) {
			return in.Close(ctx, "beigas")
		},
		func(ctx context.Context, w *world, in *intake.Intake) (intake.Receipt, error) {
			return in.Certify(ctx, w.certified(), w.control())
		},
		func(ctx context.Context, _ *world, in *intake.Intake) (intake.Receipt, error) {
			return in.Publish(ctx, 0)
		},
		func(ctx context.Context, w *world, in *intake.Intake) (intake.Receipt, error) {
			return in.Archive(ctx)
		},
	}
	for _, fault := range []storetest.Fault{storetest.Unavailable, storetest.LostUnknown, storetest.StoredUnknown} {
		w := newWorld(t, 0)
		before := len(w.events())
		for i, step := range steps {
			faulty := w.ledger.Reopen()
			in := w.intake(faulty)
			faulty.SetFaults(storetest.Faults{Append: func(eventstore.Message, uint64) storetest.Fault { return fault }})
			if _, err := step(t.Context(), w, in); err == nil {
				t.Fatalf("fault %d at step %d is not answered", fault, i)
			}
			receipt, err := step(t.Context(), w, w.intake(w.ledger))
			must(t, err)
			if stored := fault == storetest.StoredUnknown; receipt.Known != stored {
				t.Errorf("fault %d at step %d: the receipt is %+v", fault, i, receipt)
			}
		}
		if n := len(w.events()) - before; n != len(steps) {
			t.Errorf("fault %d: %d steps are recorded, want %d", fault, n, len(steps))
		}
		w.audited()
	}
}

// sealedLedger takes nothing, as a stream does that is sealed.
type sealedLedger struct{ *storetest.Memory }

func (sealedLedger) Append(context.Context, eventstore.Message, uint64) (eventstore.Appended, error) {
	return eventstore.Appended{}, eventstore.ErrSealed
}

// TestASealedLedger refuses what an intake has let pass that had not heard of the
// archiving.
func TestASealedLedger(t *testing.T) {
	w := newWorld(t, 0)
	unaware := w.intake(sealedLedger{w.ledger.Reopen()})
	receipt, err := w.intake(w.ledger).Submit(t.Context(), vote("Anna", "ilze", "1"))
	must(t, err)
	_, err = unaware.Submit(t.Context(), vote("Pēteris", "ilze", "1"))
	refusedWith(t, err, domain.ClosedCampaign)
	_, err = unaware.Annul(t.Context(), w.annulmentOf(receipt.Sequence))
	refusedWith(t, err, domain.ClosedCampaign)
	_, err = unaware.SetSpecialist(t.Context(), "zane", domain.Profile{Name: "Zane"})
	refusedWith(t, err, domain.ClosedCampaign)
	refusedWith(t, unaware.ImportSpecialists(t.Context(), []intake.SpecialistRow{{ID: "zane"}}), domain.ClosedCampaign)
}

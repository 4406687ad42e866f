package intake_test

import (
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// TestBallot: a voter sees what was acknowledged, by whichever intake, and
// nothing of others.
func TestBallot(t *testing.T) {
	w := newWorld(t, 0)
	one, other := w.intake(w.ledger), w.intake(w.ledger)
	ctx := t.Context()
	ballot := func(in *intake.Intake, who intake.Command) domain.Ballot {
		t.Helper()
		b, err := in.Ballot(ctx, who)
		must(t, err)
		return b
	}
	līga := intake.Command{Voter: "līga", Channel: "web"}
	if b := ballot(one, līga); len(b) != 0 {
		t.Errorf("before the first vote: %+v", b)
	}
	first, err := one.Submit(ctx, vote("līga", "ilze", "a"))
	must(t, err)
	ballot(one, līga)
	second, err := other.Submit(ctx, vote("līga", "zanete", "b"))
	must(t, err)
	_, err = other.Submit(ctx, vote("oto", "zanete", "b"))
	must(t, err)
	back := intake.Command{Action: domain.Retract, Voter: "līga", Channel: "web", SubmissionID: "c", Vote: first.Sequence}
	third, err := other.Submit(ctx, back)
	must(t, err)
	b := ballot(one, līga)
	if len(b) != 3 || b[0].Sequence != first.Sequence || b[1].Sequence != second.Sequence || b[2].Sequence != third.Sequence {
		t.Errorf("the ballot is %+v", b)
	}
	if taker, ok := b.Taker(first.Sequence); !ok || taker.Sequence != third.Sequence {
		t.Errorf("the first vote is taken away by %+v, %v", taker, ok)
	}
	if _, ok := b.Taker(second.Sequence); ok {
		t.Error("the second vote is taken away")
	}

	slip, err := one.Submit(ctx, intake.Command{Action: domain.Vote, Specialist: "ilze", Channel: "slip", SubmissionID: "lapiņa-7"})
	must(t, err)
	if b := ballot(other, intake.Command{Channel: "slip", SubmissionID: "lapiņa-7"}); len(b) != 1 || b[0].Sequence != slip.Sequence {
		t.Errorf("the slip's ballot is %+v", b)
	}
	_, err = one.Ballot(ctx, intake.Command{Voter: "līga", Channel: "pasts"})
	refusedWith(t, err, domain.ChannelNotAccepted)
}

// TestBallotAfterClose: a vote above the fence is nobody's vote.
func TestBallotAfterClose(t *testing.T) {
	w := newWorld(t, 0)
	in, late := w.intake(w.ledger), w.intake(w.ledger)
	ctx := t.Context()
	first, err := in.Submit(ctx, vote("līga", "ilze", "a"))
	must(t, err)
	_, err = in.Close(ctx, "")
	must(t, err)
	_, err = late.Submit(ctx, vote("līga", "zanete", "b")) // recorded above the fence, or refused
	refusedWith(t, err, domain.ClosedCampaign)
	b, err := in.Ballot(ctx, intake.Command{Voter: "līga", Channel: "web"})
	must(t, err)
	if len(b) != 1 || b[0].Sequence != first.Sequence {
		t.Errorf("the ballot is %+v", b)
	}
}

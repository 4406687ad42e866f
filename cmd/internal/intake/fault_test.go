package intake_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// failing is a ledger whose next appends fail, one with each fault.
func (w *world) failing(faults ...storetest.Fault) *storetest.Memory {
	l := w.ledger.Reopen()
	var next atomic.Int64
	l.SetFaults(storetest.Faults{Append: func(eventstore.Message, uint64) storetest.Fault {
		if i := int(next.Add(1)) - 1; i < len(faults) {
			return faults[i]
		}
		return storetest.None
	}})
	return l
}

// TestFailedAppends: after every fault the same submission again gets one
// event and its receipt, on the same intake or on another one, whether the
// ballot was known or not.
func TestFailedAppends(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  storetest.Fault
		err    error
		stored bool
	}{
		{"stored", storetest.StoredUnknown, eventstore.ErrOutcomeUnknown, true},
		{"not stored", storetest.LostUnknown, eventstore.ErrOutcomeUnknown, false},
		{"unavailable", storetest.Unavailable, eventstore.ErrUnavailable, false},
		{"busy", storetest.Busy, eventstore.ErrBusy, false},
	} {
		for _, cached := range []bool{false, true} {
			name := c.name + ", unknown ballot"
			if cached {
				name = c.name + ", cached ballot"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, 0)
				faults := []storetest.Fault{c.fault}
				if cached {
					faults = []storetest.Fault{storetest.None, c.fault}
				}
				in := w.intake(w.failing(faults...))
				if cached {
					_, err := in.Submit(t.Context(), vote("Anna", "zanete", "s0"))
					must(t, err)
				}
				before := len(w.events())
				_, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
				if !errors.Is(err, c.err) {
					t.Fatalf("the first answer is %v", err)
				}
				first, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
				must(t, err)
				if first.Known != c.stored {
					t.Errorf("the retry's receipt is %+v", first)
				}
				second, err := w.intake(w.ledger).Submit(t.Context(), vote("Anna", "ilze", "s1"))
				must(t, err)
				if first.Known = true; second != first {
					t.Errorf("receipts %+v and %+v", first, second)
				}
				_, err = in.Submit(t.Context(), vote("Anna", "ilze", "s2"))
				refusedWith(t, err, domain.AlreadyVoted)
				if n := len(w.events()) - before; n != 1 {
					t.Errorf("%d events", n)
				}
				w.audited()
			})
		}
	}
}

// TestUnknownAnnulment: the same for annulments.
func TestUnknownAnnulment(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.StoredUnknown, storetest.LostUnknown} {
		w := newWorld(t, 0)
		receipt, err := w.intake(w.ledger).Submit(t.Context(), vote("Anna", "ilze", "s1"))
		must(t, err)
		in := w.intake(w.failing(fault))
		list := []domain.Annulment{w.annulment("Anna", receipt.Sequence)}
		if _, err := in.AnnulAll(t.Context(), list); !errors.Is(err, eventstore.ErrOutcomeUnknown) {
			t.Errorf("the first answer is %v", err)
		}
		result, err := in.AnnulAll(t.Context(), list)
		must(t, err)
		if result.Recorded+result.Known != 1 || w.count().Votes() != 0 {
			t.Errorf("the second one is %+v, and %d votes are counted", result, w.count().Votes())
		}
		w.audited()
	}
}

// TestFenceThatCannotBeSeen: a vote that is recorded, while it cannot be seen
// whether the campaign was closed before it, is not acknowledged.
func TestFenceThatCannotBeSeen(t *testing.T) {
	w := newWorld(t, 0)
	l := w.ledger.Reopen()
	in := w.intake(l)
	_, err := w.intake(w.ledger).Amend(t.Context(), domain.CampaignAmended{Title: "Laba servisa kustība", Reason: "nosaukums"})
	must(t, err)
	l.SetFaults(storetest.Faults{Read: func(subject string, _ eventstore.Read) storetest.Fault {
		if strings.HasSuffix(subject, ".campaign") {
			return storetest.Unavailable
		}
		return storetest.None
	}})
	_, err = in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	if !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("the answer is %v", err)
	}
	_, err = in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	if err == nil {
		t.Fatal("a retry was acknowledged without a look at the fence")
	}
	l.SetFaults(storetest.Faults{})
	receipt, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	must(t, err)
	if n := w.count().Votes(); n != 1 || !receipt.Known {
		t.Errorf("%d votes are counted, the receipt is %+v", n, receipt)
	}
}

// TestUnreadableLedger: without reads nothing is decided.
func TestUnreadableLedger(t *testing.T) {
	w := newWorld(t, 0)
	l := w.ledger.Reopen()
	in := w.intake(l)
	l.SetFaults(storetest.Faults{Read: func(string, eventstore.Read) storetest.Fault { return storetest.Unavailable }})
	before := len(w.events())
	if _, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1")); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a vote: %v", err)
	}
	if _, err := in.Close(t.Context(), ""); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a close: %v", err)
	}
	if _, err := intake.New(t.Context(), intake.Config{Campaign: campaign, Ledger: l, Codec: w.codec}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a new intake: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := in.Submit(ctx, vote("Anna", "ilze", "s1")); err == nil {
		t.Error("a vote was recorded for nobody")
	}
	if n := len(w.events()); n != before {
		t.Errorf("%d events came of it", n-before)
	}
}

// TestContention: a ballot on which others always come first is given up.
func TestContention(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(always{w.ledger})
	if _, err := in.Submit(t.Context(), vote("Anna", "ilze", "s1")); !errors.Is(err, intake.ErrContention) {
		t.Errorf("a vote: %v", err)
	}
	if _, err := in.Close(t.Context(), ""); !errors.Is(err, intake.ErrContention) {
		t.Errorf("a close: %v", err)
	}
}

// always is a ledger on which somebody else is always first.
type always struct{ intake.Ledger }

func (always) Append(_ context.Context, m eventstore.Message, expected uint64) (eventstore.Appended, error) {
	return eventstore.Appended{}, &eventstore.ConflictError{Subject: m.Subject, Expected: expected, Actual: expected + 1}
}

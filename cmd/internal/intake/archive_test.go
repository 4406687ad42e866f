package intake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// published closes the campaign, certifies what is there, and publishes it.
func (w *world) published() {
	w.t.Helper()
	in := w.intake(w.ledger)
	_, err := in.Close(w.t.Context(), "beigas")
	must(w.t, err)
	w.correct(in)
}

// correct certifies what is there, anew if need be, and publishes it.
func (w *world) correct(in *intake.Intake) {
	w.t.Helper()
	results, c := w.certified(), w.count().Register().Campaign()
	if newest, ok := c.Certification(); ok {
		results.Supersedes, results.Reason = newest.Event, "Labojums."
	}
	_, err := in.Certify(w.t.Context(), results, c.Control)
	must(w.t, err)
	_, err = in.Publish(w.t.Context(), 0)
	must(w.t, err)
}

// notArchived wants the archiving to be refused in these words.
func (w *world) notArchived(says string) {
	w.t.Helper()
	_, err := w.intake(w.ledger).Archive(w.t.Context())
	var refused *intake.NotAllowedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), says) {
		w.t.Fatalf("the archiving is answered by %v, want %q", err, says)
	}
}

// TestUnfinishedMergesAreNotArchived: nobody could finish them afterwards.
func TestUnfinishedMergesAreNotArchived(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	w.submit(in, vote("Anna", "ilze", "1"), vote("Anna", "zanete", "2"))
	w.published()
	// It is killed after its event.
	_, err := w.intake(w.failing(storetest.None, storetest.Unavailable)).MergeSpecialist(t.Context(), merge)
	if err == nil {
		t.Fatal("the merge was finished")
	}
	w.notArchived("1 votes count beside another one of their voter for a specialist who was registered twice, the first is event 6; run the same `paldies specialist merge` again")
	_, err = in.MergeSpecialist(t.Context(), merge)
	must(t, err)
	w.notArchived(fmt.Sprintf("event %d has changed the results since event 8", len(w.events())))
	w.correct(in)
	_, err = in.Archive(t.Context())
	must(t, err)
	if got := w.counted(); got != "1 of 1" {
		t.Errorf("%s votes count, want 1 of 1", got)
	}
}

// TestWhatNobodyCertifiedIsNotArchived, as it could not be certified any more.
func TestWhatNobodyCertifiedIsNotArchived(t *testing.T) {
	for what, change := range map[string]func(context.Context, *world, *intake.Intake) error{
		"annul": func(ctx context.Context, w *world, in *intake.Intake) error {
			_, err := in.Annul(ctx, w.annulmentOf(5))
			return err
		},
		"register": func(ctx context.Context, _ *world, in *intake.Intake) error {
			_, err := in.SetSpecialist(ctx, "ruta", domain.Profile{Name: "Rūta Ozola"})
			return err
		},
		"withdraw": func(ctx context.Context, _ *world, in *intake.Intake) error {
			_, err := in.WithdrawSpecialist(ctx, "ilze", "")
			return err
		},
		"decide": func(ctx context.Context, _ *world, in *intake.Intake) error {
			_, err := in.DecideTie(ctx, domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: "janis"}}, Decision: "VK-4", Reason: "Žūrijas balsojums."})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, 0)
			unaware := w.intake(w.ledger)
			w.submit(unaware, vote("Anna", "ilze", "1"))
			w.published()
			_, err := unaware.Submit(t.Context(), vote("Pēteris", "ilze", "2")) // void, and no change
			refusedWith(t, err, domain.ClosedCampaign)
			must(t, change(t.Context(), w, w.intake(w.ledger)))
			w.notArchived(fmt.Sprintf("event %d has changed the results since event 7, which certifies those as of event 6; "+
				"run `paldies results certify --campaign %s --supersedes 7` with a reason, and `paldies results publish --campaign %[2]s`", len(w.events()), campaign))
			w.correct(unaware)
			_, err = unaware.Archive(t.Context())
			must(t, err)
			w.audited()
		})
	}
}

// TestArchivingLooksAgain: what is recorded while it looks is looked at, too.
func TestArchivingLooksAgain(t *testing.T) {
	w := newWorld(t, 0)
	in := w.intake(w.ledger)
	w.submit(in, vote("Anna", "ilze", "1"))
	w.published()
	busy := w.reads()
	busy.after = func() {
		busy.after = nil
		_, err := in.Annul(t.Context(), w.annulmentOf(5))
		must(t, err)
	}
	_, err := w.intake(busy).Archive(t.Context())
	var refused *intake.NotAllowedError
	if !errors.As(err, &refused) || busy.count != 2 {
		t.Errorf("after %d looks the archiving is answered by %v", busy.count, err)
	}
}

// outrun is a ledger in which something happens just before the next append.
type outrun struct {
	intake.Ledger
	first atomic.Pointer[func()]
}

func (l *outrun) Append(ctx context.Context, m eventstore.Message, expected uint64) (eventstore.Appended, error) {
	if first := l.first.Swap(nil); first != nil {
		(*first)()
	}
	return l.Ledger.Append(ctx, m, expected)
}

// TestSpecialistsRaceWithTheArchiving: what lands above it is refused, then and
// when it is tried again, counts for nothing, and accuses nobody.
func TestSpecialistsRaceWithTheArchiving(t *testing.T) {
	for what, change := range map[string]func(context.Context, *world, *intake.Intake) error{
		"register": func(ctx context.Context, _ *world, in *intake.Intake) error {
			_, err := in.SetSpecialist(ctx, "ruta", domain.Profile{Name: "Rūta Ozola"})
			return err
		},
		"update": func(ctx context.Context, _ *world, in *intake.Intake) error {
			_, err := in.SetSpecialist(ctx, "ilze", domain.Profile{Name: "Ilze Bērziņa-Ozola"})
			return err
		},
		"import": func(ctx context.Context, _ *world, in *intake.Intake) error {
			return in.ImportSpecialists(ctx, []intake.SpecialistRow{{ID: "ruta"}})
		},
		"withdraw": func(ctx context.Context, _ *world, in *intake.Intake) error {
			_, err := in.WithdrawSpecialist(ctx, "ilze", "")
			return err
		},
		"merge": func(ctx context.Context, w *world, in *intake.Intake) error {
			_, err := in.MergeSpecialist(ctx, merge)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, 0)
			w.submit(w.intake(w.ledger), vote("Anna", "ilze", "1"), vote("Anna", "zanete", "2"))
			w.published()
			ledger := &outrun{Ledger: w.ledger}
			in := w.intake(ledger)
			archive := func() {
				_, err := w.intake(w.ledger).Archive(t.Context())
				must(t, err)
			}
			ledger.first.Store(&archive)
			refusedWith(t, change(t.Context(), w, in), domain.ClosedCampaign)
			refusedWith(t, change(t.Context(), w, in), domain.ClosedCampaign)
			archived := w.count().Register().Campaign().ArchivedAt
			if last := w.count().Position(); last != archived+1 {
				t.Fatalf("the archiving is event %d and the last one event %d", archived, last)
			}
			if report := w.audited(); len(report.Void) != 1 || report.Void[0].Sequence != archived+1 {
				t.Errorf("the audit lists %v", report.Void)
			}
			if after := w.count(); after.Void() != 1 || after.Votes() != 2 {
				t.Errorf("%d events are void and %d votes count", after.Void(), after.Votes())
			}
		})
	}
}

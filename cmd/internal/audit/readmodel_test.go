package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// readModel is a read model of a world's first events.
func (w *world) readModel(events uint64) *audit.ReadModel {
	w.t.Helper()
	ctx := context.Background()
	fold, models := projections.NewFold(campaign), new(projections.MemoryModels)
	for _, rec := range w.recorded().events[:events] {
		e, err := w.codec.Decode(rec.Data)
		if err == nil {
			err = fold.Add(projections.Event{Sequence: rec.Sequence, Event: e}, rec.Data)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	model, err := models.Model(ctx, campaign)
	if err == nil {
		err = model.Apply(ctx, fold.Take())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := audit.LoadReadModel(ctx, models, campaign)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// compare audits a ledger and compares a read model.
func (w *world) compare(l audit.Ledger, m *audit.ReadModel) *audit.Report {
	w.t.Helper()
	report, err := audit.Verify(context.Background(), campaign, l, w.codec, audit.Options{})
	if err == nil {
		err = report.AddReadModel(context.Background(), l, w.codec, m)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// voted is a world with a registration, three votes and a retraction.
func voted(t *testing.T) (w *world, specialist string) {
	w = newWorld(t, t)
	specialist = w.specialist()
	v := w.stranger()
	w.cast(v, specialist)
	w.cast(w.stranger(), specialist)
	w.clock = w.clock.Add(time.Hour)
	w.cast(w.stranger(), specialist)
	w.retract(v, specialist)
	return w, specialist
}

// TestReadModelAtAnyPosition: whatever the position, an honest read model is
// that of the ledger, and is compared there and not at the ledger's end.
func TestReadModelAtAnyPosition(t *testing.T) {
	w, _ := voted(t)
	for events := range uint64(len(w.log)) {
		report := w.compare(w.ledger, w.readModel(events+1))
		wantMismatches(t, report)
		if got := status(t, report, audit.CheckReadModel); got != audit.Passed {
			t.Errorf("at event %d: %s", events+1, got)
		}
	}
}

// TestReadModelDiffers changes one thing at a time.
func TestReadModelDiffers(t *testing.T) {
	w, specialist := voted(t)
	for what, c := range map[string]struct {
		change func(*audit.ReadModel)
		want   string
	}{
		"votes": {func(m *audit.ReadModel) { m.Standings[0].Votes = 9 },
			"specialist " + specialist + " (Žanete Ķirsone): the read model says 9 votes, the ledger 2"},
		"voters": {func(m *audit.ReadModel) { m.Standings[0].Voters-- },
			"specialist " + specialist + " (Žanete Ķirsone): the read model says 1 voters, the ledger 2"},
		"name": {func(m *audit.ReadModel) {
			m.Standings[0].Specialist = &domain.Specialist{ID: specialist, Profile: domain.Profile{Name: "Žanete Ķirsona", Institution: "Nodarbinātības aģentūra", Branch: "Gulbene"}}
		},
			"specialist " + specialist + " (Žanete Ķirsone), name: the read model says Žanete Ķirsona, the ledger Žanete Ķirsone"},
		"lacking": {func(m *audit.ReadModel) { m.Standings = nil }, "the read model lacks it, the ledger says 2 votes"},
		"invented": {func(m *audit.ReadModel) {
			m.Standings = append(m.Standings, domain.Standing{Specialist: &domain.Specialist{ID: "liga"}, Votes: 3})
		}, "specialist liga (): the read model says 3 votes, the ledger lacks it"},
		"cell": {func(m *audit.ReadModel) { m.Cells[0].Votes = 5 },
			"Gulbene, channel web, in the hour from 2018-05-04T09:00:00.000Z: the read model says 5 votes, the ledger 1"},
		"moved cell": {func(m *audit.ReadModel) { m.Cells[0].Channel = "mobile" }, "channel mobile, in the hour from 2018-05-04T09:00:00.000Z: the read model says 1 votes, the ledger 0"},
		"hours": {func(m *audit.ReadModel) { m.Groups[domain.ByHour][0].Votes += 100 },
			"the read model says 101 votes, the ledger 1"},
		"institutions": {func(m *audit.ReadModel) { m.Groups[domain.ByInstitution][0].Keys[0] = "Cita aģentūra" },
			"institution Cita aģentūra: the read model says 2 votes, the ledger 0"},
		"channels": {func(m *audit.ReadModel) { m.Groups[domain.ByChannel] = nil }, "channel web: the read model says 0 votes, the ledger 2"},
		"sum":      {func(m *audit.ReadModel) { m.Votes++ }, "votes in force: the read model says 3, the ledger 2"},
		"distinct": {func(m *audit.ReadModel) { m.Voters++ }, "voters: the read model says 3, the ledger 2"},
		"void":     {func(m *audit.ReadModel) { m.Void = 1 }, "events that count for nothing: the read model says 1, the ledger 0"},
		"title":    {func(m *audit.ReadModel) { m.Campaign.Title = "Cita" }, "title: the read model says Cita, the ledger Laba servisa kustība"},
		"identity": {func(m *audit.ReadModel) { m.Position.Identity[0]++ }, "SHA-256 of event 1"},
		"hash":     {func(m *audit.ReadModel) { m.Position.Hash[0]++ }, "SHA-256 of event 6"},
	} {
		t.Run(what, func(t *testing.T) {
			m := w.readModel(uint64(len(w.log)))
			c.change(m)
			report := w.compare(w.ledger, m)
			found := mismatches(report)
			if len(found) == 0 || !strings.Contains(strings.Join(found, "\n"), c.want) {
				t.Errorf("the audit finds %q, want %q", found, c.want)
			}
			for _, f := range found {
				if !strings.HasPrefix(f, "read_model: event 6: ") {
					t.Errorf("%q does not say of which check and event it is", f)
				}
			}
			if report.OK() || status(t, report, audit.CheckReadModel) != audit.Failed {
				t.Error("the report passes")
			}
		})
	}
}

// TestReadModelOfAnotherFold: one that was counted by other rules is not blamed for
// each figure.
func TestReadModelOfAnotherFold(t *testing.T) {
	w, _ := voted(t)
	m := w.readModel(6)
	m.Fold, m.Votes = projections.FoldVersion+1, m.Votes+1
	wantMismatches(t, w.compare(w.ledger, m),
		fmt.Sprintf("read_model: event 6: it cannot be compared: fold %d has counted it, and this paldies counts by fold %d: "+
			"build an older one anew with `paldies projection rebuild`, audit a newer one with the paldies that made it",
			projections.FoldVersion+1, projections.FoldVersion))
}

// TestReadModelAheadOfLedger: a ledger that has lost its end cannot be compared.
func TestReadModelAheadOfLedger(t *testing.T) {
	w, _ := voted(t)
	short := w.recorded()
	short.events = short.events[:4]
	wantMismatches(t, w.compare(short, w.readModel(6)),
		"read_model: event 6: it cannot be compared: the ledger could be counted up to event 4 only")
}

// TestReadModelAndAFailingLedger: a fault of the service is an error and no
// mismatch.
func TestReadModelAndAFailingLedger(t *testing.T) {
	w, _ := voted(t)
	down := errors.New("nobody answers")
	report := w.verify()
	err := report.AddReadModel(context.Background(), tape{err: down}, w.codec, w.readModel(3))
	if !errors.Is(err, down) || len(mismatches(report)) > 0 {
		t.Errorf("%v, %q", err, mismatches(report))
	}
}

var _ audit.Ledger = (*eventstore.Ledger)(nil)

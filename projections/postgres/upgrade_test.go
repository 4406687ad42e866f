package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// TestUpgrade: a read model of an older version becomes one of this version,
// with the results that it had, and goes on.
func TestUpgrade(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	h := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018")
	campaigns.Add(h.Campaign, h.Ledger)
	for h.Last() < 200 {
		h.Act(random.IntN)
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	check(t, db.MigrateBack(t.Context(), 2))
	_, err := postgres.Migrate(t.Context(), postgres.Config{URL: url})
	check(t, err)
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
	for h.Last() < 300 {
		h.Act(random.IntN)
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

// TestUpgradeDuringReport: who migrates waits for a report that has the tables open,
// but not for ever, and is told what to do.
func TestUpgradeDuringReport(t *testing.T) {
	url := pgtest.NewDatabase(t)
	db := open(t, url)
	check(t, db.MigrateBack(t.Context(), 1))
	report, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer func() { check(t, report.Close(context.Background())) }()
	lines(t, report, `begin`)
	lines(t, report, `table paldies.campaigns`)
	impatient := postgres.Config{URL: url + "?lock_timeout=100ms"}
	if strings.Contains(url, "?") {
		impatient.URL = url + "&lock_timeout=100ms"
	}
	_, err = postgres.Migrate(t.Context(), impatient)
	oneSentence(t, err, postgres.ErrUnavailable, "has the tables open", "run paldies migrate again")
	lines(t, report, `commit`)
	m, err := postgres.Migrate(t.Context(), postgres.Config{URL: url})
	if err != nil || m.From != 1 {
		t.Errorf("after the report it migrates %+v: %v", m, err)
	}
}

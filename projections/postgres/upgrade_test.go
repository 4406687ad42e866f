package postgres_test

import (
	"testing"

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

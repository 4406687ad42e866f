package postgres_test

import (
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main(m)) }

func check(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open migrates a database and opens it for as long as the test runs.
func open(t testing.TB, url string) *postgres.DB {
	t.Helper()
	config := postgres.Config{URL: url}
	_, err := postgres.Migrate(t.Context(), config)
	check(t, err)
	db, err := postgres.Open(t.Context(), config)
	check(t, err)
	t.Cleanup(db.Close)
	return db
}

func TestReadModel(t *testing.T) {
	projectiontest.Run(t, func(t testing.TB) projectiontest.Store { return open(t, pgtest.NewDatabase(t)) })
}

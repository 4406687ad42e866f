package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// TestOrderOfNames: a report that sorts by ICU's Latvian collation shows names
// in the order of the results, whatever Latvian letters they are made of.
// Only y has another place, see the package's documentation.
func TestOrderOfNames(t *testing.T) {
	const names = 5000
	letters := []rune("aāAĀbBcčČdeēfgģĢhiīĪjkķĶlļĻmnņŅoprsšŠtuūŪvzžŽxwq -'.,09()")
	random := seeded(t)
	var list []domain.Standing
	for i := range names {
		var name strings.Builder
		for range 1 + random.IntN(5) {
			name.WriteRune(letters[random.IntN(len(letters))])
		}
		list = append(list, domain.Standing{Specialist: &domain.Specialist{ID: fmt.Sprintf("s%04d", i), Profile: domain.Profile{Name: name.String()}}})
	}
	ids, texts := make([]string, names), make([]string, names)
	for i, s := range list {
		ids[i], texts[i] = s.Specialist.ID, s.Specialist.Name
	}
	conn, err := pgx.Connect(t.Context(), pgtest.NewDatabase(t))
	check(t, err)
	defer func() { check(t, conn.Close(t.Context())) }()
	rows, err := conn.Query(t.Context(), `
		select id from unnest($1::text[], $2::text[]) u (id, name)
		order by name collate "lv-x-icu", id collate "C"`, ids, texts)
	check(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	check(t, err)
	domain.RankStandings(list)
	for i, s := range list {
		if s.Specialist.ID != got[i] {
			name := texts[slices.Index(ids, got[i])]
			t.Fatalf("place %d: %q here, %q in Postgres", i, s.Specialist.Name, name)
		}
	}
}

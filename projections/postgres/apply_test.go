package postgres_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// TestLargeBatches stores batches of many cells, of hours that lie behind those that
// are there, and of some that do not.
func TestLargeBatches(t *testing.T) {
	const batches, window, step, placements = 6, 120, 40, 40
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	m, err := db.Model(t.Context(), "laba-servisa-kustiba-2018")
	check(t, err)
	at, sum := projections.Position{Stream: "LEDGER"}, make(map[projections.CellKey]int64)
	for n := range int64(batches) {
		b := &projections.Batch{From: at, Timezone: "Europe/Riga"}
		at.Sequence, at.RecordedAt = at.Sequence+1, time.Unix(n, 0)
		at.Hash = projections.HashOf(fmt.Append(nil, n))
		b.To = at
		for hour := range int64(window) {
			for placement := range uint64(placements) {
				if random.IntN(3) == 0 {
					continue
				}
				key := projections.CellKey{Hour: 420_000 + n*step + hour, Placement: 1 + placement, Channel: random.IntN(2)}
				votes := 1 + random.Int64N(5)
				if sum[key] > 0 && random.IntN(2) == 0 {
					votes = -sum[key] // all are taken back
				}
				b.Cells, sum[key] = append(b.Cells, projections.Cell{CellKey: key, Votes: votes}), sum[key]+votes
			}
		}
		check(t, m.Apply(t.Context(), b))
	}
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `select extract(epoch from hour)::bigint / 3600, placement, channel, votes from paldies.cells`)
	check(t, err)
	got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c projections.Cell, err error) {
		err = row.Scan(&c.Hour, &c.Placement, &c.Channel, &c.Votes)
		return c, err
	})
	check(t, err)
	have := make(map[projections.CellKey]int64)
	for _, c := range got {
		have[c.CellKey] = c.Votes
	}
	if !maps.Equal(have, sum) || len(got) != len(sum) {
		t.Errorf("%d cells, want %d", len(got), len(sum))
	}
	var hours, cells int64
	check(t, conn.QueryRow(t.Context(), `select (select sum(votes) from paldies.hours)::bigint, (select sum(votes) from paldies.cells)::bigint`).Scan(&hours, &cells))
	if hours != cells {
		t.Errorf("%d votes by hours, %d in the cells", hours, cells)
	}
}

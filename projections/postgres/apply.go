package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// copyMin is from how many cells on a batch is copied.
const copyMin = 1000

// model is the read model of one campaign.
type model struct {
	db       *DB
	table    string // where its position is: livePositions or builtPositions
	campaign string
	begun    bool // it is not to be begun: without a position it is ErrNoRebuild
}

// Model implements projections.Models.
func (db *DB) Model(_ context.Context, campaign string) (projections.Model, error) {
	return &model{db: db, table: livePositions, campaign: campaign}, nil
}

// Position implements projections.Model.
func (m *model) Position(ctx context.Context) (projections.Position, error) {
	if err := m.db.checkSchema(ctx, m.db.pool); err != nil {
		return projections.Position{}, err
	}
	at, err := m.stored(ctx, m.db.pool, "")
	if err == nil && at.Sequence == 0 && m.begun {
		err = fmt.Errorf("%w %s", ErrNoRebuild, m.campaign)
	}
	if err == nil && at.Sequence > 0 && at.fold != projections.FoldVersion {
		err = fmt.Errorf("%w: its fold has version %d, that of this program %d", projections.ErrOtherFold, at.fold, projections.FoldVersion)
	}
	return at.Position, m.db.explain(err)
}

// storedPosition is a row of positions, or of rebuilds.
type storedPosition struct {
	projections.Position
	key  int32 // of the read model in the other tables
	fold int   // FoldVersion of who built it
}

// querier is a pool, a connection, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// stored reads the position, the zero one where there is none. With locking, "for
// update", nobody else moves it until the transaction ends.
func (m *model) stored(ctx context.Context, from querier, locking string) (at storedPosition, err error) {
	rows, err := from.Query(ctx, `
		select stream, identity, sequence, hash, recorded_at, campaign, fold from `+m.table+` where id = $1 `+locking, m.campaign)
	if err == nil {
		at, err = pgx.CollectExactlyOneRow(rows, scanPosition)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return storedPosition{}, nil
	}
	return at, err
}

func scanPosition(row pgx.CollectableRow) (at storedPosition, err error) {
	var identity, hash []byte
	var recorded time.Time
	err = row.Scan(&at.Stream, &identity, &at.Sequence, &hash, &recorded, &at.key, &at.fold)
	copy(at.Identity[:], identity)
	copy(at.Hash[:], hash)
	at.RecordedAt = recorded.UTC()
	return at, err
}

// Apply implements projections.Model: one transaction that first moves the
// position. Whoever else moves it waits for that row, and then finds that it
// is no longer where their batch begins.
func (m *model) Apply(ctx context.Context, b *projections.Batch) error {
	err := pgx.BeginFunc(ctx, m.db.pool, func(tx pgx.Tx) error {
		key, err := m.move(ctx, tx, b)
		if err != nil {
			return err
		}
		if b.From.Sequence == 0 && m.table == livePositions {
			if _, err := tx.Exec(ctx, `insert into live (campaign, id) values ($1, $2)`, key, m.campaign); err != nil {
				return err
			}
		}
		added, err := copyCells(ctx, tx, key, b.Cells)
		if err != nil {
			return err
		}
		statements, err := changes(key, b, b.Cells[:len(b.Cells)-added])
		if err != nil {
			return err
		}
		return tx.SendBatch(ctx, statements).Close()
	})
	return m.db.explain(err)
}

// copyCells copies those cells of a large batch of which there are none yet, which is
// twice as fast as to insert them, and returns how many there are at the end of the
// list. Votes come in the order of time, more or less: nearly all hours of a large
// batch lie behind those that are there.
func copyCells(ctx context.Context, tx pgx.Tx, campaign int32, cells []projections.Cell) (added int, err error) {
	if len(cells) < copyMin {
		return 0, nil
	}
	var last *time.Time // nil where there are none
	if err := tx.QueryRow(ctx, `select max(hour) from cells where campaign = $1`, campaign).Scan(&last); err != nil {
		return 0, err
	}
	behind := cells
	if last != nil {
		behind = cells[sort.Search(len(cells), func(i int) bool { return cells[i].Begin().After(*last) }):]
	}
	if len(behind) < copyMin {
		return 0, nil
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"cells"}, []string{"campaign", "hour", "placement", "channel", "votes"},
		pgx.CopyFromSlice(len(behind), func(i int) ([]any, error) {
			c := behind[i]
			return []any{campaign, c.Begin(), int64(c.Placement), int16(c.Channel), c.Votes}, nil
		}))
	return len(behind), err
}

// move sets the position, and returns the read model's key. It does not when the
// tables have become those of another program, or the rows those of another fold:
// whoever then asks for the position is told.
func (m *model) move(ctx context.Context, tx pgx.Tx, b *projections.Batch) (key int32, err error) {
	from, to := b.From, b.To
	if from.Sequence == 0 {
		err = tx.QueryRow(ctx, `
			insert into `+m.table+` (id, stream, identity, sequence, hash, recorded_at, votes, voters, void, changed, fold)
			select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
			where (select max(version_id) from `+versionTable+` where is_applied) = $12
			on conflict (id) do nothing
			returning campaign`,
			m.campaign, to.Stream, to.Identity[:], to.Sequence, to.Hash[:], to.RecordedAt, b.Votes, b.Voters, b.Void, b.Changed,
			projections.FoldVersion, latestVersion).Scan(&key)
	} else {
		err = tx.QueryRow(ctx, `
			update `+m.table+`
			set sequence = $5, hash = $6, recorded_at = $7, votes = votes + $8, voters = voters + $9, void = void + $10,
			    changed = greatest(changed, $11)
			where id = $1 and identity = $2 and sequence = $3 and hash = $4 and fold = $12
			  and (select max(version_id) from `+versionTable+` where is_applied) = $13
			returning campaign`,
			m.campaign, from.Identity[:], from.Sequence, from.Hash[:], to.Sequence, to.Hash[:], to.RecordedAt, b.Votes, b.Voters, b.Void, b.Changed,
			projections.FoldVersion, latestVersion).Scan(&key)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("%w: the batch begins after event %d", projections.ErrMoved, from.Sequence)
	}
	return key, err
}

// changes are the statements that follow the move: one for each table that
// changes, however many rows, all of them sent at once.
func changes(campaign int32, b *projections.Batch, cells []projections.Cell) (*pgx.Batch, error) {
	statements := new(pgx.Batch)
	if b.Campaign != nil {
		if err := setCampaign(statements, campaign, b.Campaign); err != nil {
			return nil, err
		}
	}
	if len(b.Specialists) > 0 {
		setSpecialists(statements, campaign, b.Specialists)
	}
	if len(b.Placements) > 0 {
		addPlacements(statements, campaign, b.Placements)
	}
	if len(b.Totals) > 0 {
		addTotals(statements, campaign, b.Totals)
	}
	if len(b.Cells) > 0 {
		addCells(statements, campaign, cells)
		if err := addHours(statements, campaign, b); err != nil {
			return nil, err
		}
	}
	return statements, nil
}

func setCampaign(statements *pgx.Batch, campaign int32, c *domain.Campaign) error {
	location, err := time.LoadLocation(c.Timezone)
	if err != nil {
		return fmt.Errorf("campaign %s: %w", c.ID, err)
	}
	statements.Queue(`
		insert into campaigns (campaign, title, opens_at, opens_on, closes_at, timezone, votes_per_voter, status, closed_at, published_event, published_sequence)
		values ($1, $2, $3, $11, $4, $5, $6, $7, $8, $9, $10)
		on conflict (campaign) do update
		set (title, opens_at, opens_on, closes_at, timezone, votes_per_voter, status, closed_at, published_event, published_sequence)
		  = (excluded.title, excluded.opens_at, excluded.opens_on, excluded.closes_at, excluded.timezone,
		     excluded.votes_per_voter, excluded.status, excluded.closed_at, excluded.published_event, excluded.published_sequence)`,
		campaign, c.Title, c.OpensAt, c.ClosesAt, c.Timezone, c.VotesPerVoter, string(c.Status), c.ClosedAt,
		c.Public.Certification, c.Public.Sequence, local(c.OpensAt, location))
	names, identities := columns(c.Channels, func(ch domain.Channel) (string, string) { return ch.Name, string(ch.Identity) })
	statements.Queue(`
		insert into channels (campaign, channel, name, identity)
		select $1, u.ordinal - 1, u.name, u.identity
		from unnest($2::text[], $3::text[]) with ordinality u (name, identity, ordinal)
		on conflict (campaign, channel) do nothing`,
		campaign, names, identities)
	return nil
}

func setSpecialists(statements *pgx.Batch, campaign int32, list []*domain.Specialist) {
	keys, last := columns(list, func(s *domain.Specialist) (uint64, uint64) { return s.Registered, s.Last })
	ids, names := columns(list, func(s *domain.Specialist) (string, string) { return s.ID, s.Name })
	positions, institutions := columns(list, func(s *domain.Specialist) (string, string) { return s.Position, s.Institution })
	branches, regions := columns(list, func(s *domain.Specialist) (string, string) { return s.Branch, s.Region })
	withdrawn, merged := columns(list, func(s *domain.Specialist) (bool, string) { return s.Withdrawn, s.MergedInto })
	statements.Queue(`
		insert into specialists (campaign, specialist, id, name, "position", institution, branch, region, withdrawn, merged_into, last)
		select $1, u.*
		from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[], $10::text[], $11::bigint[]) u
		on conflict (campaign, specialist) do update
		set (name, "position", institution, branch, region, withdrawn, merged_into, last)
		  = (excluded.name, excluded."position", excluded.institution, excluded.branch, excluded.region,
		     excluded.withdrawn, excluded.merged_into, excluded.last)`,
		campaign, keys, ids, names, positions, institutions, branches, regions, withdrawn, merged, last)
}

// addPlacements cannot meet a placement that is there: each has the sequence
// of an event that was not folded before.
func addPlacements(statements *pgx.Batch, campaign int32, list []projections.Placement) {
	keys, specialists := columns(list, func(p projections.Placement) (uint64, uint64) { return p.Sequence, p.Specialist })
	institutions, branches := columns(list, func(p projections.Placement) (string, string) { return p.Institution, p.Branch })
	regions, _ := columns(list, func(p projections.Placement) (string, struct{}) { return p.Region, struct{}{} })
	statements.Queue(`
		insert into placements (campaign, placement, specialist, institution, branch, region)
		select $1, u.* from unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[]) u`,
		campaign, keys, specialists, institutions, branches, regions)
}

func addTotals(statements *pgx.Batch, campaign int32, list []projections.Total) {
	placements, specialists := columns(list, func(t projections.Total) (uint64, uint64) { return t.Placement, t.Specialist })
	votes, voters := columns(list, func(t projections.Total) (int64, int64) { return t.Votes, t.Voters })
	statements.Queue(`
		insert into totals (campaign, placement, specialist, votes, voters)
		select $1, u.* from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) u
		on conflict (campaign, placement) do update
		set votes = totals.votes + excluded.votes, voters = totals.voters + excluded.voters`,
		campaign, placements, specialists, votes, voters)
}

func addCells(statements *pgx.Batch, campaign int32, list []projections.Cell) {
	placements, votes := columns(list, func(c projections.Cell) (uint64, int64) { return c.Placement, c.Votes })
	channels, hours := columns(list, func(c projections.Cell) (int, time.Time) { return c.Channel, c.Begin() })
	statements.Queue(`
		insert into cells (campaign, hour, placement, channel, votes)
		select $1, u.* from unnest($2::timestamptz[], $3::bigint[], $4::smallint[], $5::bigint[]) u
		on conflict (campaign, hour, placement, channel) do update
		set votes = cells.votes + excluded.votes`,
		campaign, hours, placements, channels, votes)
}

// addHours sums the cells of a batch over all placements. What an hour is called
// at the place of the campaign is for Go to say, as everywhere else: Postgres
// has a table of time zones of its own.
func addHours(statements *pgx.Batch, campaign int32, b *projections.Batch) error {
	location, err := time.LoadLocation(b.Timezone)
	if err != nil {
		return fmt.Errorf("time zone of the campaign: %w", err)
	}
	sums := make(map[projections.CellKey]int64)
	for _, c := range b.Cells {
		sums[projections.CellKey{Hour: c.Hour, Channel: c.Channel}] += c.Votes
	}
	list := slices.SortedFunc(maps.Keys(sums), func(a, b projections.CellKey) int {
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Channel, b.Channel))
	})
	hours, locals := columns(list, func(k projections.CellKey) (time.Time, time.Time) { return k.Begin(), local(k.Begin(), location) })
	channels, votes := columns(list, func(k projections.CellKey) (int, int64) { return k.Channel, sums[k] })
	statements.Queue(`
		insert into hours (campaign, hour, channel, local, votes)
		select $1, u.* from unnest($2::timestamptz[], $3::smallint[], $4::timestamp[], $5::bigint[]) u
		on conflict (campaign, hour, channel) do update
		set votes = hours.votes + excluded.votes`,
		campaign, hours, channels, locals, votes)
	return nil
}

// local is what clocks show at a moment, as a timestamp without a zone.
func local(at time.Time, location *time.Location) time.Time {
	year, month, day := at.In(location).Date()
	hour, minute, second := at.In(location).Clock()
	return time.Date(year, month, day, hour, minute, second, 0, time.UTC)
}

// columns are two of the columns of a list, as unnest wants them.
func columns[T, A, B any](list []T, of func(T) (A, B)) ([]A, []B) {
	as, bs := make([]A, len(list)), make([]B, len(list))
	for i, row := range list {
		as[i], bs[i] = of(row)
	}
	return as, bs
}

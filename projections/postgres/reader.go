package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// snapshot is what every question of a Read sees.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// Campaigns implements projections.Reader.
func (db *DB) Campaigns(ctx context.Context) (list []projections.Summary, err error) {
	err = pgx.BeginTxFunc(ctx, db.pool, snapshot, func(tx pgx.Tx) error {
		keys, err := query(ctx, &results{db: db, tx: tx}, scanKey, `select campaign, id from positions order by id collate "C"`)
		for _, r := range keys {
			r.db, r.tx = db, tx
			summary, err := r.Summary(ctx)
			if err != nil {
				return err
			}
			list = append(list, summary)
		}
		return err
	})
	return list, db.explain(err)
}

// Read implements projections.Reader.
func (db *DB) Read(ctx context.Context, campaign string, fn func(projections.Results) error) error {
	var failed error
	err := pgx.BeginTxFunc(ctx, db.pool, snapshot, func(tx pgx.Tx) error {
		found, err := query(ctx, &results{db: db, tx: tx}, scanKey, `select campaign, id from positions where id = $1`, campaign)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return fmt.Errorf("%w %s", projections.ErrNoCampaign, campaign)
		}
		r := found[0]
		r.db, r.tx = db, tx
		failed = fn(&r)
		return nil
	})
	if failed != nil {
		return failed
	}
	return db.explain(err)
}

// results are those of one campaign within one transaction.
type results struct {
	campaign int32
	id       string
	db       *DB
	tx       pgx.Tx
}

func scanKey(row pgx.CollectableRow) (r results, err error) {
	err = row.Scan(&r.campaign, &r.id)
	return r, err
}

// query collects all rows.
func query[T any](ctx context.Context, r *results, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := r.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, r.db.explain(err)
	}
	list, err := pgx.CollectRows(rows, scan)
	return list, r.db.explain(err)
}

// Summary implements projections.Results.
func (r *results) Summary(ctx context.Context) (projections.Summary, error) {
	list, err := query(ctx, r, scanSummary, `
		select id, stream, identity, sequence, hash, recorded_at, votes, voters, void, fold,
		       title, opens_at, closes_at, timezone, votes_per_voter, status, closed_at, published_event, published_sequence
		from positions join campaigns using (campaign)
		where campaign = $1`, r.campaign)
	if err != nil {
		return projections.Summary{}, err
	}
	if len(list) == 0 {
		return projections.Summary{}, fmt.Errorf("campaign %s has a position and no row in campaigns: build the read model anew", r.id)
	}
	s := list[0]
	s.Build = r.campaign
	s.Campaign.Channels, err = query(ctx, r, pgx.RowToStructByPos[domain.Channel], `
		select name, identity from channels where campaign = $1 order by channel`, r.campaign)
	return s, err
}

func scanSummary(row pgx.CollectableRow) (s projections.Summary, err error) {
	var identity, hash []byte
	at, c := &s.Position, &s.Campaign
	err = row.Scan(&c.ID, &at.Stream, &identity, &at.Sequence, &hash, &at.RecordedAt, &s.Votes, &s.Voters, &s.Void, &s.Fold,
		&c.Title, &c.OpensAt, &c.ClosesAt, &c.Timezone, &c.VotesPerVoter, &c.Status, &c.ClosedAt,
		&c.Public.Certification, &c.Public.Sequence)
	copy(at.Identity[:], identity)
	copy(at.Hash[:], hash)
	for _, t := range []*time.Time{&at.RecordedAt, &c.OpensAt, &c.ClosesAt} {
		*t = t.UTC()
	}
	return s, err
}

// Standings implements projections.Results.
func (r *results) Standings(ctx context.Context) ([]domain.Standing, error) {
	list, err := query(ctx, r, scanStanding, `
		select id, name, "position", institution, branch, region, specialist, last, withdrawn, votes, voters
		from standings($1)`, r.campaign)
	domain.RankStandings(list)
	return list, err
}

func scanStanding(row pgx.CollectableRow) (domain.Standing, error) {
	s := &domain.Specialist{}
	st := domain.Standing{Specialist: s}
	err := row.Scan(&s.ID, &s.Name, &s.Position, &s.Institution, &s.Branch, &s.Region, &s.Registered, &s.Last, &s.Withdrawn,
		&st.Votes, &st.Voters)
	return st, err
}

// sums are the votes of each group, and zero for the groups that exist by
// registration. All have the columns of a cell but the specialist.
var sums = map[domain.GroupBy]string{
	domain.ByInstitution: placeSums("institution, '', ''"),
	domain.ByBranch:      placeSums("institution, branch, ''"),
	domain.ByRegion:      placeSums("'', '', region"),
	domain.ByChannel: `
		select '', '', '', ch.name, 'epoch'::timestamptz, coalesce(sum(h.votes), 0)::bigint
		from channels ch left join hours h using (campaign, channel)
		where campaign = $1 group by ch.name`,
	domain.ByDay:  hourSums,
	domain.ByHour: hourSums,
}

// hourSums are finer than days. Which day an hour belongs to is for domain to
// say, which has its own table of time zones.
const hourSums = `
	select '', '', '', '', hour, sum(votes)::bigint
	from hours where campaign = $1 and votes <> 0 group by hour`

// placeSums groups by institution, branch and region, as far as they are named.
func placeSums(columns string) string {
	return `
		select ` + columns + `, '', 'epoch'::timestamptz, sum(votes)::bigint
		from places($1)
		group by 1, 2, 3`
}

// Groups implements projections.Results.
func (r *results) Groups(ctx context.Context, by domain.GroupBy) ([]domain.Group, error) {
	sql, ok := sums[by]
	if !ok {
		return domain.GroupCells(by, time.UTC, slices.Values[[]domain.Cell](nil)) // says what is possible
	}
	summary, err := r.Summary(ctx)
	if err != nil {
		return nil, err
	}
	location, err := summary.Location()
	if err != nil {
		return nil, err
	}
	cells, err := query(ctx, r, scanSum, sql, r.campaign)
	if err != nil {
		return nil, err
	}
	return domain.GroupCells(by, location, slices.Values(cells))
}

func scanSum(row pgx.CollectableRow) (c domain.Cell, err error) {
	err = row.Scan(&c.Institution, &c.Branch, &c.Region, &c.Channel, &c.Hour, &c.Votes)
	return c, err
}

// Cells implements projections.Results.
func (r *results) Cells(ctx context.Context) ([]domain.Cell, error) {
	return query(ctx, r, scanCell, `
		select s.id, p.institution, p.branch, p.region, ch.name, c.hour, c.votes
		from cells c
		join placements p using (campaign, placement)
		join specialists s using (campaign, specialist)
		join channels ch using (campaign, channel)
		where campaign = $1 and c.votes <> 0
		order by s.id collate "C", p.institution collate "C", p.branch collate "C", p.region collate "C", ch.name collate "C", c.hour`,
		r.campaign)
}

func scanCell(row pgx.CollectableRow) (c domain.Cell, err error) {
	err = row.Scan(&c.Specialist, &c.Institution, &c.Branch, &c.Region, &c.Channel, &c.Hour, &c.Votes)
	c.Hour = c.Hour.UTC()
	return c, err
}

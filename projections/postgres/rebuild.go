package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// The tables that hold positions.
const (
	livePositions  = "positions" // of the read models that are read
	builtPositions = "rebuilds"  // of those that are built anew beside them
)

// positionColumns are what both have, but for the key.
const positionColumns = "id, stream, identity, sequence, hash, recorded_at, votes, voters, void, changed, fold"

// counted are the tables that hold what was counted, each by the read model's key,
// and which of their rows say something: who retracts the only vote leaves a row of
// zeros, which is not there when both are counted in one batch.
var counted = []countedTable{
	{"campaigns", "true"}, {"channels", "true"}, {"specialists", "true"}, {"placements", "true"},
	{"totals", "votes <> 0 or voters <> 0"}, {"hours", "votes <> 0"}, {"cells", "votes <> 0"},
}

type countedTable struct{ table, rows string }

const (
	// nearEvents is how near a rebuild comes to the read model before that one is
	// held still, in events. They are folded while it is.
	nearEvents = 10_000
	// stillTimeout bounds how long it is held still. Projectors wait longer.
	stillTimeout = 5 * time.Second
	// stillTries is how often it is tried; others may hold the position.
	stillTries = 30
	// rebuildConns is how many connections it needs at the same time: to hold still, to
	// see, and to store, and one to spare.
	rebuildConns = 4
	// sweepRows is how many rows are deleted at a time.
	sweepRows = 20_000
	// DifferencesMax is how many differences of a table are shown.
	DifferencesMax = 20
	// The first halves of the keys of their locks, see leaderKey.
	rebuildKey = leaderKey + 1
	sweepKey   = leaderKey + 2
)

var (
	// ErrRebuilding says that another process rebuilds the campaign.
	ErrRebuilding = errors.New("another process rebuilds the read model of campaign")
	// ErrNewerFold says that a newer version of paldies has built it or is about to.
	ErrNewerFold = errors.New("a newer version of paldies has built the read model")
	// ErrNoRebuild says that there is nothing that could be compared or switched to.
	ErrNoRebuild = errors.New("no read model is built anew of campaign")
)

// Rebuild builds the read model of a campaign anew, from event 1, beside the one
// that is read, which its projector keeps up to date meanwhile. It aims at where that
// one is, and no further: the switch gives the same position another set of rows, and
// the projector goes on with the next batch as if nothing had happened.
//
// What was built stays when the process dies, and the next Rebuild goes on from
// there.
type Rebuild struct {
	Campaign string
	Ledger   projections.Ledger
	Codec    *domain.Codec
	// Progress is told up to which event it is built. It may be nil.
	Progress func(event uint64)

	db          *DB
	live, built *model
}

// Rebuild runs fn while nobody else rebuilds the campaign; otherwise the error is
// ErrRebuilding. What an older version of the fold has begun to build is thrown away,
// and what a newer one has to do with is left to that.
//
// The lock only spares work, and can be lost unnoticed. What keeps two rebuilds from
// spoiling anything is the compare-and-set of Apply.
func (db *DB) Rebuild(ctx context.Context, r Rebuild, fn func(*Rebuild) error) error {
	if have := db.pool.Config().MaxConns; have < rebuildConns {
		return fmt.Errorf("a rebuild needs %d connections, and may have %d", rebuildConns, have)
	}
	r.db, r.live, r.built = db, &model{db: db, table: livePositions, campaign: r.Campaign}, &model{db: db, table: builtPositions, campaign: r.Campaign}
	busy := fmt.Errorf("%w %s", ErrRebuilding, r.Campaign)
	return db.alone(ctx, rebuildKey, db.schema+" "+r.Campaign, busy, func() error {
		live, err := r.live.stored(ctx, db.pool, "")
		if err != nil {
			return db.explain(err)
		}
		built, err := r.built.stored(ctx, db.pool, "")
		switch {
		case err != nil:
			return db.explain(err)
		case max(live.fold, built.fold) > projections.FoldVersion:
			return fmt.Errorf("%w of campaign %s: run that", ErrNewerFold, r.Campaign)
		case built.Sequence > 0 && built.fold < projections.FoldVersion:
			if err := r.Discard(ctx); err != nil {
				return err
			}
		}
		return fn(&r)
	})
}

// Begun is ErrNoRebuild when nothing was built yet.
func (r *Rebuild) Begun(ctx context.Context) error {
	_, err := r.begun(ctx)
	return err
}

func (r *Rebuild) begun(ctx context.Context) (storedPosition, error) {
	at, err := r.built.stored(ctx, r.db.pool, "")
	if err == nil && at.Sequence == 0 {
		err = fmt.Errorf("%w %s", ErrNoRebuild, r.Campaign)
	}
	return at, r.db.explain(err)
}

// Fold builds until it is near to the read model that is read, or to the end of the
// ledger where there is none.
func (r *Rebuild) Fold(ctx context.Context) error {
	for {
		target, err := r.target(ctx)
		if err != nil {
			return err
		}
		at, err := r.built.Position(ctx)
		if err != nil {
			return err
		}
		if at.Sequence > target {
			return fmt.Errorf("campaign %s: what is built is at event %d, and what is read only at event %d: wait until the projector has come so far", r.Campaign, at.Sequence, target)
		}
		if at.Sequence+nearEvents >= target && at.Sequence > 0 || at.Sequence == target {
			return nil
		}
		if err := r.foldTo(ctx, target); err != nil {
			return err
		}
	}
}

// target is the event up to which it is built.
func (r *Rebuild) target(ctx context.Context) (uint64, error) {
	live, err := r.live.stored(ctx, r.db.pool, "")
	if err != nil {
		return 0, r.db.explain(err)
	}
	if live.Sequence > 0 {
		return live.Sequence, r.projection(live.Sequence).Check(ctx, live.Position)
	}
	info, err := r.Ledger.Info(ctx)
	return info.Last, err
}

func (r *Rebuild) projection(to uint64) *projections.Projection {
	p := &projections.Projection{Campaign: r.Campaign, Ledger: r.Ledger, Model: r.built, Codec: r.Codec, To: to}
	if r.Progress != nil {
		p.Stored = func(at projections.Position) { r.Progress(at.Sequence) }
	}
	return p
}

// foldTo builds up to an event; 0 is none. It can be moved by a COMMIT of a process
// that was killed, which arrives late; then it goes on from there.
func (r *Rebuild) foldTo(ctx context.Context, to uint64) error {
	if to == 0 {
		return nil
	}
	for {
		err := r.projection(to).Run(ctx)
		if !errors.Is(err, projections.ErrMoved) || ctx.Err() != nil {
			return err
		}
	}
}

// still runs fn while the read model that is read is held still and the other one is
// where it is. Its projector waits; who reads does not. fn gets the positions, of
// which the first is zero where nothing is read yet. It is tried again as long as
// others are in the way.
//
// It never begins to build: what is no longer there was switched to, by a COMMIT whose
// answer was lost or which arrives only now.
func (r *Rebuild) still(ctx context.Context, fn stillFunc) error {
	begun, built := *r, *r.built
	begun.built, built.begun = &built, true
	for try := 1; ; try++ {
		err := begun.Begun(ctx)
		if err == nil && try > 1 {
			err = begun.Fold(ctx)
		}
		if err == nil {
			err = begun.tryStill(ctx, fn)
		}
		inTheWay := errors.Is(err, ErrUnavailable) || errors.Is(err, projections.ErrMoved) || errors.Is(err, context.DeadlineExceeded)
		if !inTheWay || try == stillTries || ctx.Err() != nil {
			return err
		}
		pause(ctx)
	}
}

type stillFunc func(ctx context.Context, tx pgx.Tx, live, built storedPosition) error

func (r *Rebuild) tryStill(ctx context.Context, fn stillFunc) error {
	ctx, stop := context.WithTimeout(ctx, stillTimeout)
	defer stop()
	var folding error // of the ledger too
	err := pgx.BeginFunc(ctx, r.db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '1s'`); err != nil {
			return err
		}
		live, err := r.live.stored(ctx, tx, "for update")
		if err != nil {
			return err
		}
		built, err := r.built.stored(ctx, tx, "")
		if err == nil && live.Sequence > 0 && !live.Same(built.Position) {
			if folding = r.foldTo(ctx, live.Sequence); folding != nil {
				return folding
			}
		}
		if err == nil {
			built, err = r.built.stored(ctx, tx, "for update")
		}
		switch {
		case err != nil:
			return err
		case built.Sequence == 0:
			return fmt.Errorf("%w %s", ErrNoRebuild, r.Campaign)
		case live.Sequence > 0 && !live.Same(built.Position):
			return fmt.Errorf("%w: what is built is at event %d, what is read at event %d", projections.ErrMoved, built.Sequence, live.Sequence)
		}
		return fn(ctx, tx, live, built)
	})
	if folding != nil {
		return folding
	}
	return r.db.explain(err)
}

// Difference is a row that only one of two read models has.
type Difference struct {
	Table   string `json:"table"`
	Rebuilt bool   `json:"rebuilt"` // the one that was built anew has it
	Row     string `json:"row"`     // JSON
}

// Diff compares the read model that is read with the one that was built anew, as of
// one event, row by row. It returns how many rows only one of them has, and the first
// ones of each table. Nothing is held still while it compares.
func (r *Rebuild) Diff(ctx context.Context) (count int64, list []Difference, err error) {
	var live, built storedPosition
	var both pgx.Tx    // sees them as they are while they are held still
	forget := func() { // it has only read, and may be lost
		if both != nil {
			_ = both.Rollback(context.WithoutCancel(ctx))
		}
		both = nil
	}
	defer forget()
	err = r.still(ctx, func(_ context.Context, _ pgx.Tx, l, b storedPosition) (err error) {
		forget() // that of an earlier try
		live, built = l, b
		both, err = r.db.see(ctx)
		return err
	})
	if err != nil || live.Sequence == 0 {
		return 0, nil, err
	}
	for _, c := range append([]countedTable{{livePositions, "true"}}, counted...) {
		n, some, err := differences(ctx, both, c, live.key, built.key)
		if err != nil {
			return 0, nil, r.db.explain(err)
		}
		count, list = count+n, append(list, some...)
	}
	return count, list, nil
}

// see begins a transaction that sees everything as it is now.
func (db *DB) see(ctx context.Context) (pgx.Tx, error) {
	tx, err := db.pool.BeginTx(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	if _, err = tx.Exec(ctx, `set local statement_timeout = 0`); err == nil { // tables may be large
		_, err = tx.Exec(ctx, `select from positions limit 1`) // the first question fixes what is seen
	}
	if err != nil {
		return nil, errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return tx, nil
}

// differences are the rows of a table that one read model has and the other lacks.
func differences(ctx context.Context, tx pgx.Tx, c countedTable, live, built int32) (count int64, list []Difference, err error) {
	var columns string
	err = tx.QueryRow(ctx, `
		select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
		where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attname not in ('campaign', 'fold')`, c.table).Scan(&columns)
	if err != nil {
		return 0, nil, err
	}
	rows := func(table, key string) string {
		return fmt.Sprintf("select %s from %s where campaign = %s and (%s)", columns, table, key, c.rows)
	}
	old, renewed := rows(c.table, "$1::int"), rows(c.table, "$2::int")
	if c.table == livePositions {
		renewed = rows(builtPositions, "$2::int")
	}
	for _, side := range []struct {
		rebuilt   bool
		has, less string
	}{{false, old, renewed}, {true, renewed, old}} {
		var n int64
		var row string
		found, err := tx.Query(ctx, fmt.Sprintf(`
			with only_here as (%s except %s)
			select (select count(*) from only_here), row_to_json(o)::text from only_here o order by 2 limit %d`, side.has, side.less, DifferencesMax), live, built)
		if err != nil {
			return 0, nil, err
		}
		_, err = pgx.ForEachRow(found, []any{&n, &row}, func() error {
			list = append(list, Difference{c.table, side.rebuilt, row})
			return nil
		})
		if err != nil {
			return 0, nil, err
		}
		count += n
	}
	return count, list, nil
}

// Switch lets the read model that was built anew take the place of the one that is
// read, in one transaction and at the same event, and returns that. From then on
// everybody reads the new one; who is reading goes on with what they see. The rows of
// the old one are to be swept.
func (r *Rebuild) Switch(ctx context.Context) (at projections.Position, err error) {
	begun, err := r.begun(ctx)
	if err != nil {
		return at, err
	}
	err = r.still(ctx, func(ctx context.Context, tx pgx.Tx, live, built storedPosition) error {
		at = built.Position
		if live.Sequence == 0 {
			return r.switchFirst(ctx, tx)
		}
		statements := new(pgx.Batch)
		statements.Queue(`insert into retired (campaign) values ($1)`, live.key)
		// A projector that waits for this row finds its position in it, and adds to the new rows.
		statements.Queue(`
			update positions p
			set campaign = b.campaign, stream = b.stream, recorded_at = b.recorded_at,
			    votes = b.votes, voters = b.voters, void = b.void, changed = b.changed, fold = b.fold
			from rebuilds b where p.id = $1 and b.id = $1`, r.Campaign)
		statements.Queue(`update live set campaign = $2 where id = $1`, r.Campaign, built.key)
		statements.Queue(`delete from rebuilds where id = $1`, r.Campaign)
		return tx.SendBatch(ctx, statements).Close()
	})
	if !errors.Is(err, ErrNoRebuild) {
		return at, err
	}
	// A COMMIT was carried out whose answer was lost?
	live, readErr := r.live.stored(ctx, r.db.pool, "")
	if readErr != nil {
		return at, r.db.explain(readErr)
	}
	if live.key == begun.key {
		err = nil
	}
	return live.Position, err
}

// switchFirst is for a campaign that nobody has projected, unless somebody does by now.
func (r *Rebuild) switchFirst(ctx context.Context, tx pgx.Tx) error {
	inserted, err := tx.Exec(ctx, `
		insert into positions (campaign, `+positionColumns+`) select campaign, `+positionColumns+` from rebuilds where id = $1
		on conflict (id) do nothing`, r.Campaign)
	if err != nil {
		return err
	}
	if inserted.RowsAffected() == 0 {
		return fmt.Errorf("%w: there is one to be read by now", projections.ErrMoved)
	}
	_, err = tx.Exec(ctx, `
		with gone as (delete from rebuilds where id = $1 returning campaign, id)
		insert into live (campaign, id) select campaign, id from gone`, r.Campaign)
	return err
}

// Discard throws away what was built and not switched to, but for a first batch that
// a process was killed over and that arrives later.
func (r *Rebuild) Discard(ctx context.Context) error {
	_, err := r.db.pool.Exec(ctx, `
		with gone as (delete from rebuilds where id = $1 returning campaign)
		insert into retired (campaign) select campaign from gone`, r.Campaign)
	return r.db.explain(err)
}

// Sweep deletes the rows of read models that nobody reads any more, of all campaigns.
// It may be stopped at any moment. While another process sweeps it has nothing to do.
func (db *DB) Sweep(ctx context.Context) error {
	return db.alone(ctx, sweepKey, db.schema, nil, func() error { return db.explain(db.sweep(ctx)) })
}

func (db *DB) sweep(ctx context.Context) error {
	rows, err := db.pool.Query(ctx, `select campaign from retired order by campaign`)
	if err != nil {
		return err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	for _, key := range keys {
		for _, c := range counted {
			if err := db.sweepTable(ctx, c.table, key); err != nil {
				return err
			}
		}
		if _, err := db.pool.Exec(ctx, `delete from retired where campaign = $1`, key); err != nil {
			return err
		}
	}
	return err
}

func (db *DB) sweepTable(ctx context.Context, table string, key int32) error {
	for {
		deleted, err := db.pool.Exec(ctx, fmt.Sprintf(`
			delete from %[1]s where ctid = any (array (select ctid from %[1]s where campaign = $1 limit %[2]d))`, table, sweepRows), key)
		if err != nil || deleted.RowsAffected() == 0 {
			return err
		}
	}
}

// alone runs fn while nobody else holds a lock; otherwise it returns busy.
func (db *DB) alone(ctx context.Context, class int32, name string, busy error, fn func() error) error {
	conn, err := pgx.ConnectConfig(ctx, db.connect) // has a time limit
	if err != nil {
		return db.explain(err)
	}
	defer closeConn(conn)
	held, err := tryLock(ctx, conn, class, name)
	if err != nil {
		return db.explain(err)
	}
	if !held {
		return busy
	}
	defer unlock(conn, class, name)
	return fn()
}

// RebuildState says what there is to do about read models that are built anew.
type RebuildState struct {
	Begun    map[string]uint64 // by campaign: the last event of those that are not switched to yet
	Outdated []string          // campaigns whose read model an older version of the fold has built
	Newer    []string          // campaigns whose read model a newer one has built
	Retired  int               // read models whose rows wait to be swept
}

// RebuildState looks at all campaigns.
func (db *DB) RebuildState(ctx context.Context) (all RebuildState, err error) {
	all.Begun = make(map[string]uint64)
	var campaign string
	var sequence uint64
	rows, err := db.pool.Query(ctx, `select id, sequence from rebuilds`)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&campaign, &sequence}, func() error {
			all.Begun[campaign] = sequence
			return nil
		})
	}
	if err == nil {
		err = db.pool.QueryRow(ctx, `
			select coalesce(array_agg(id order by id collate "C") filter (where fold < $1), '{}'),
			       coalesce(array_agg(id order by id collate "C") filter (where fold > $1), '{}'),
			       (select count(*) from retired)
			from positions`,
			projections.FoldVersion).Scan(&all.Outdated, &all.Newer, &all.Retired)
	}
	return all, db.explain(err)
}

package postgres_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// rebuild runs fn with the rebuild of a history's read model.
func rebuild(t testing.TB, db *postgres.DB, h *projectiontest.History, campaigns *projectiontest.Campaigns, fn func(*postgres.Rebuild) error) error {
	t.Helper()
	l, err := campaigns.Open(t.Context(), h.Campaign)
	check(t, err)
	defer l.Close(t.Context())
	return db.Rebuild(t.Context(), postgres.Rebuild{Campaign: h.Campaign, Ledger: l, Codec: projectiontest.Codec(t)}, fn)
}

// projected is a read model of so many votes.
func projected(t testing.TB, votes int) (url string, db *postgres.DB, h *projectiontest.History, campaigns *projectiontest.Campaigns) {
	t.Helper()
	random := seeded(t)
	url = pgtest.NewDatabase(t)
	db = open(t, url)
	h, campaigns = campaign(t)
	for range votes {
		h.Vote(random.IntN)
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	return url, db, h, campaigns
}

// one is the only value of a query.
func one[T any](t testing.TB, url, query string, args ...any) (value T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `set timezone = 'UTC'`)
	check(t, err)
	check(t, conn.QueryRow(t.Context(), query, args...).Scan(&value))
	return value
}

// leftovers are the rows of read models that are not read.
func leftovers(t testing.TB, url string) (count int) {
	t.Helper()
	for _, table := range postgres.Keyed() {
		count += one[int](t, url, `select count(*) from paldies.`+table+` where campaign not in (select campaign from paldies.positions)`)
	}
	return count
}

// TestRebuild: a read model with wrong rows is built anew while its projector works
// and votes come in; the differences are found, and after the switch there are none.
func TestRebuild(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	act := func(n int) {
		for range n {
			h.Act(random.IntN)
		}
	}
	votes := func(n int) { // of which nothing else is changed
		for range n {
			h.Vote(random.IntN)
		}
	}
	votes(50) // first, for the campaign may be closed early
	act(300)
	_, stop := projectiontest.Start(t, projectiontest.Runner(t, campaigns, db))
	reached(t, db, h.Campaign, h.Last())
	key := one[int](t, url, `select campaign from paldies.positions`)
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		act(50)
		count, list, err := r.Diff(t.Context())
		check(t, err)
		if count != 0 {
			t.Errorf("%d differences from a sound read model: %v", count, list)
		}
		return nil
	}))
	projectiontest.Await(t, db, h)
	sql(t, url, strings.ReplaceAll(`
		set search_path = paldies;
		update positions set votes = votes + 1, changed = 1;
		update totals set votes = votes + 1 where placement = (select min(placement) from totals where votes > 0 and LIVE) and LIVE;
		update hours set local = local + interval '1 day' where votes <> 0 and LIVE;
		delete from cells where votes = (select max(votes) from cells where LIVE) and LIVE;
		update specialists set name = 'Žanis Ķēķis' where specialist = 2 and LIVE;
		update campaigns set opens_on = opens_on - 1 where LIVE`, "LIVE", fmt.Sprintf("campaign = %d", key)))
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		votes(50)
		count, list, err := r.Diff(t.Context())
		check(t, err)
		found := make(map[string]bool)
		for _, d := range list {
			found[d.Table] = true
		}
		for _, table := range []string{"positions", "totals", "hours", "cells", "specialists", "campaigns"} {
			if !found[table] {
				t.Errorf("the wrong rows of %s are not found", table)
			}
		}
		if count < int64(len(list)) || found["placements"] || found["channels"] {
			t.Errorf("%d differences: %v", count, list)
		}
		votes(50)
		at, err := r.Switch(t.Context())
		check(t, err)
		t.Logf("switched at event %d", at.Sequence)
		return nil
	}))
	votes(50)
	projectiontest.Await(t, db, h)
	stop()
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
	if one[int](t, url, `select campaign from paldies.positions`) == key {
		t.Error("the old rows are still read")
	}
	check(t, db.Sweep(t.Context()))
	if n := leftovers(t, url); n != 0 {
		t.Errorf("%d rows are left behind", n)
	}
	if err := rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		_, err := r.Switch(t.Context())
		return err
	}); !errors.Is(err, postgres.ErrNoRebuild) {
		t.Errorf("switching to nothing: %v", err)
	}
}

// TestRebuildOfNothing is the first read model of a campaign.
func TestRebuildOfNothing(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	for range 100 {
		h.Act(random.IntN)
	}
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		count, _, err := r.Diff(t.Context())
		check(t, err)
		at, err := r.Switch(t.Context())
		if count != 0 || at.Sequence != h.Last() {
			t.Errorf("%d differences, at event %d of %d", count, at.Sequence, h.Last())
		}
		return err
	}))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

// TestRebuildsMeet: one at a time, and what is thrown away leaves nothing.
func TestRebuildsMeet(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	for range 100 {
		h.Act(random.IntN)
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		err := rebuild(t, db, h, campaigns, func(*postgres.Rebuild) error { return nil })
		if !errors.Is(err, postgres.ErrRebuilding) {
			t.Errorf("a second rebuild: %v", err)
		}
		all, err := db.RebuildState(t.Context())
		if err != nil || all.Begun[h.Campaign] != h.Last() || len(all.Outdated) > 0 || all.Retired != 0 {
			t.Errorf("rebuilds are %+v, %v", all, err)
		}
		return r.Discard(t.Context())
	}))
	if all, err := db.RebuildState(t.Context()); err != nil || len(all.Begun) != 0 || all.Retired != 1 {
		t.Errorf("after it was thrown away rebuilds are %+v, %v", all, err)
	}
	check(t, db.Sweep(t.Context()))
	if n := leftovers(t, url); n != 0 {
		t.Errorf("%d rows are left behind", n)
	}
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

// TestOtherFold: rows of another version of the fold are read as before, and nobody
// adds to them, not even a projector that was at work; a rebuild ends that.
func TestOtherFold(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	for range 100 {
		h.Vote(random.IntN)
	}
	runner := projectiontest.Runner(t, campaigns, db)
	changed, stop := projectiontest.Start(t, runner)
	defer stop()
	reached(t, db, h.Campaign, h.Last())
	before := h.Last()
	sql(t, url, `update paldies.positions set fold = 0`)
	for h.Last() == before { // most voters have voted
		h.Act(random.IntN)
	}
	storetest.Eventually(t, "the projector halts", func() bool {
		states, err := runner.States(t.Context())
		return err == nil && states[0].Status == projections.Halted && errors.Is(states[0].Err, projections.ErrOtherFold) &&
			strings.Contains(states[0].Err.Error(), "paldies projection rebuild")
	})
	check(t, db.Read(t.Context(), h.Campaign, func(r projections.Results) error {
		s, err := r.Summary(t.Context())
		if s.Position.Sequence != before {
			t.Errorf("it has moved from event %d to %d", before, s.Position.Sequence)
		}
		if s.Fold != 0 {
			t.Errorf("it says that fold %d has counted it", s.Fold)
		}
		return err
	}))
	if all, err := db.RebuildState(t.Context()); err != nil || !slices.Equal(all.Outdated, []string{h.Campaign}) {
		t.Errorf("rebuilds are %+v, %v", all, err)
	}
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		_, err := r.Switch(t.Context())
		return err
	}))
	changed <- struct{}{}
	projectiontest.Await(t, db, h)
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)

	// What an older version has begun to build is not gone on with.
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error { return r.Fold(t.Context()) }))
	sql(t, url, `update paldies.rebuilds set fold = 0, votes = votes + 1`)
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		count, list, err := r.Diff(t.Context())
		if count != 0 {
			t.Errorf("%d differences: %v", count, list)
		}
		return err
	}))
}

// TestNewerFold: what a newer version has built, or builds, is left to that.
func TestNewerFold(t *testing.T) {
	url, db, h, campaigns := projected(t, 20)
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error { return r.Fold(t.Context()) }))
	for _, table := range []string{"rebuilds", "positions"} {
		sql(t, url, `update paldies.`+table+` set fold = 99`)
		err := rebuild(t, db, h, campaigns, func(*postgres.Rebuild) error { return nil })
		if !errors.Is(err, postgres.ErrNewerFold) {
			t.Errorf("after %s: %v", table, err)
		}
		if one[int](t, url, `select count(*) from paldies.rebuilds`) != 1 {
			t.Error("it was thrown away")
		}
	}
	if all, err := db.RebuildState(t.Context()); err != nil || len(all.Outdated) != 0 || !slices.Equal(all.Newer, []string{h.Campaign}) {
		t.Errorf("the state is %+v, %v", all, err)
	}
}

// TestTablesChangeUnderProjector: a projector that has not heard of a migration
// stores nothing in tables that it does not know.
func TestTablesChangeUnderProjector(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	runner := projectiontest.Runner(t, campaigns, db)
	check(t, runner.RunToEnd(t.Context()))
	m, err := db.Model(t.Context(), h.Campaign)
	check(t, err)
	at, err := m.Position(t.Context())
	check(t, err)
	sql(t, url, `insert into paldies.schema_version (version_id, is_applied) values (999, true)`)
	fold := projections.NewFold(h.Campaign)
	if err := m.Apply(t.Context(), fold.Take()); !errors.Is(err, projections.ErrMoved) {
		t.Errorf("a first batch: %v", err)
	}
	for range 10 {
		h.Vote(random.IntN)
	}
	var schema *postgres.SchemaError
	if err := runner.RunToEnd(t.Context()); !errors.As(err, &schema) {
		t.Errorf("it goes on: %v", err)
	}
	if have := one[uint64](t, url, `select sequence from paldies.positions`); have != at.Sequence {
		t.Errorf("the position has moved from %d to %d", at.Sequence, have)
	}
}

// TestSwitchIsAnsweredLate: a switch whose COMMIT is lost is tried again, and one that
// was carried out is not done a second time, however late that is heard.
func TestSwitchIsAnsweredLate(t *testing.T) {
	for name, happens := range map[string]fate{"unsent": unsent, "unheard": unheard, "belated": belated} {
		t.Run(name, func(t *testing.T) {
			url, direct, h, campaigns := projected(t, 100)
			p, through := newProxy(t, url)
			cut := open(t, through)
			check(t, rebuild(t, cut, h, campaigns, func(r *postgres.Rebuild) error {
				check(t, r.Fold(t.Context()))
				built := one[int](t, url, `select campaign from paldies.rebuilds`)
				var once sync.Once
				p.set(func() (f fate) {
					once.Do(func() { f = happens })
					return f
				})
				at, err := r.Switch(t.Context())
				if err != nil || at.Sequence != h.Last() {
					t.Errorf("switched at event %d: %v", at.Sequence, err)
				}
				if live := one[int](t, url, `select campaign from paldies.positions`); live != built {
					t.Errorf("%d is read, and %d was built", live, built)
				}
				if n := one[int](t, url, `select count(*) from paldies.retired`); n != 1 {
					t.Errorf("%d read models are retired", n)
				}
				return nil
			}))
			projectiontest.Expect(t, direct, h.Campaign, &h.Tally)
			check(t, direct.Sweep(t.Context()))
			if n := leftovers(t, url); n != 0 {
				t.Errorf("%d rows are left behind", n)
			}
		})
	}
}

// TestDiffIsCutOff: a comparison goes on when Postgres has dropped all connections.
func TestDiffIsCutOff(t *testing.T) {
	url, _, h, campaigns := projected(t, 100)
	p, through := newProxy(t, url)
	cut := open(t, through)
	check(t, rebuild(t, cut, h, campaigns, func(r *postgres.Rebuild) error {
		check(t, r.Fold(t.Context()))
		var once sync.Once
		p.set(func() (f fate) {
			once.Do(func() {
				f = unsent
				go p.cut(false) // it waits for who decides
			})
			return f
		})
		count, list, err := r.Diff(t.Context())
		if count != 0 {
			t.Errorf("%d differences: %v", count, list)
		}
		return err
	}))
}

// TestRebuildAhead: what was built before a projector had begun waits for it.
func TestRebuildAhead(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	for range 20 {
		h.Vote(random.IntN)
	}
	sql(t, url, `alter table paldies.positions rename to hidden; create table paldies.positions (like paldies.hidden)`)
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error { return r.Fold(t.Context()) }))
	sql(t, url, `drop table paldies.positions; alter table paldies.hidden rename to positions`)
	check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
		if err := r.Fold(t.Context()); err == nil || !strings.Contains(err.Error(), "wait until the projector has come so far") {
			t.Errorf("it is not told to wait: %v", err)
		}
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		check(t, r.Fold(t.Context()))
		_, err := r.Switch(t.Context())
		return err
	}))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

// rowsOf holds what a FoldVersion stores of a history: a hash of all rows. Whoever
// changes what Apply makes of a batch raises FoldVersion, and notes the new hash here.
var rowsOf = struct {
	version int
	rows    string
}{1, "27bd9549cc2e38987e894e2fb650c399f6bd898bd1508ce00a7fd02fd95b6c64"}

// TestStoredVersion: what stores other rows has another version, see
// projections.FoldVersion.
func TestStoredVersion(t *testing.T) {
	url, random := pgtest.NewDatabase(t), rand.New(rand.NewPCG(31, 2))
	db := open(t, url)
	h, campaigns := campaign(t)
	for h.Last() < 500 {
		h.Act(random.IntN)
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	hash := sha256.New()
	for _, table := range slices.Sorted(slices.Values(postgres.Keyed())) {
		rows := one[string](t, url, `select coalesce(string_agg(r, e'\n' order by r collate "C"), '')
			from (select (to_jsonb(t) - 'campaign' - 'fold')::text as r from paldies.`+table+` t) rows`)
		fmt.Fprintln(hash, table, rows)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != rowsOf.rows || projections.FoldVersion != rowsOf.version {
		t.Errorf("version %d of hash %s was %d of hash %s: if other rows are stored, raise FoldVersion and note the hash; if not, mend it",
			projections.FoldVersion, got, rowsOf.version, rowsOf.rows)
	}
}

// TestRebuildKeepsReaders: who reads is not in the way of a switch, and neither in
// that of deleting the old rows; they see what they saw.
func TestRebuildKeepsReaders(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db := open(t, url)
	h, campaigns := campaign(t)
	for range 50 {
		h.Vote(random.IntN)
	}
	for range 200 {
		h.Act(random.IntN)
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	before := projectiontest.DescribeTally(t, &h.Tally)
	const long = `select s.* from reporting_v1.specialist_totals s, reporting_v1.timeline_hourly h`
	rows := one[int64](t, url, `select count(*) from (`+long+`) l`)
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	report, err := conn.Begin(t.Context())
	check(t, err)
	_, err = report.Exec(t.Context(), `declare long cursor for `+long)
	check(t, err)
	_, err = report.Exec(t.Context(), `fetch 1 from long`)
	check(t, err)
	text, err := projectiontest.Describe(t.Context(), between{db, func() {
		for range 50 {
			h.Act(random.IntN)
		}
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		begun := time.Now()
		check(t, rebuild(t, db, h, campaigns, func(r *postgres.Rebuild) error {
			check(t, r.Fold(t.Context()))
			_, err := r.Switch(t.Context())
			return err
		}))
		check(t, db.Sweep(t.Context()))
		t.Logf("rebuilt, switched and swept in %v", time.Since(begun).Round(time.Millisecond))
	}}, h.Campaign)
	check(t, err)
	if text != before {
		t.Error("a reader sees something else than it saw at its beginning")
	}
	if n := leftovers(t, url); n != 0 {
		t.Errorf("%d rows are left behind", n)
	}
	rest, err := report.Exec(t.Context(), `fetch all from long`)
	check(t, err)
	if rest.RowsAffected() != rows-1 || rows < 2 {
		t.Errorf("the rest of a long report has %d rows, of %d altogether", rest.RowsAffected(), rows)
	}
	check(t, report.Rollback(t.Context()))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

// between does something when a reader has got its first answer.
type between struct {
	projections.Reader
	do func()
}

func (b between) Read(ctx context.Context, campaign string, fn func(projections.Results) error) error {
	return b.Reader.Read(ctx, campaign, func(r projections.Results) error {
		if _, err := r.Summary(ctx); err != nil {
			return err
		}
		b.do()
		return fn(r)
	})
}

// TestRebuildCut breaks the connections of a rebuild at random while a projector
// works and votes come in. It is begun again until it gets through, and a reader
// never sees less than before.
func TestRebuildCut(t *testing.T) {
	const rounds = 6
	url, random := pgtest.NewDatabase(t), seeded(t)
	direct := open(t, url)
	p, through := newProxy(t, url)
	cut := open(t, through)
	h, campaigns := campaign(t)
	_, stop := projectiontest.Start(t, projectiontest.Runner(t, campaigns, direct))
	ctx, end := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { watchPosition(ctx, t, direct, h.Campaign) })
	chance := rand.New(rand.NewPCG(random.Uint64(), 1)) // of its own goroutine: the proxy locks it
	p.set(func() fate {
		if chance.IntN(3) > 0 {
			return passed
		}
		return fate(1 + chance.IntN(int(fatesEnd)-1))
	})
	failed := 0
	for range rounds {
		for range 40 {
			h.Act(random.IntN)
		}
		for try := 0; ; try++ {
			if try == 50 {
				t.Fatal("it does not get through")
			}
			err := rebuild(t, cut, h, campaigns, func(r *postgres.Rebuild) error {
				if err := r.Fold(t.Context()); err != nil {
					return err
				}
				for range 10 {
					h.Act(random.IntN)
				}
				if _, _, err := r.Diff(t.Context()); err != nil {
					return err
				}
				if _, err := r.Switch(t.Context()); err != nil {
					return err
				}
				return cut.Sweep(t.Context())
			})
			if err == nil {
				break
			}
			failed++
			if !errors.Is(err, postgres.ErrUnavailable) && !errors.Is(err, postgres.ErrRebuilding) {
				t.Fatal(err)
			}
		}
	}
	counts := p.seen()
	t.Logf("%d rebuilds were broken off, by fates of COMMITs %v", failed, counts)
	if counts[unsent]+counts[unheard]+counts[belated] == 0 {
		t.Error("nothing was broken off")
	}
	p.set(func() fate { return passed })
	projectiontest.Await(t, direct, h)
	end()
	watching.Wait()
	stop()
	projectiontest.Expect(t, direct, h.Campaign, &h.Tally)
	check(t, rebuild(t, direct, h, campaigns, func(r *postgres.Rebuild) error { return r.Discard(t.Context()) }))
	check(t, direct.Sweep(t.Context()))
	if n := leftovers(t, url); n != 0 {
		t.Errorf("%d rows are left behind", n)
	}
}

// watchPosition wants a read model to be there and never to go back.
func watchPosition(ctx context.Context, t *testing.T, db *postgres.DB, campaign string) {
	var before projections.Summary
	for ctx.Err() == nil {
		err := db.Read(ctx, campaign, func(r projections.Results) error {
			s, err := r.Summary(ctx)
			if err != nil {
				return err
			}
			if s.Position.Sequence < before.Position.Sequence || s.Position.Same(before.Position) && s.Votes != before.Votes {
				t.Errorf("from event %d with %d votes to event %d with %d", before.Position.Sequence, before.Votes, s.Position.Sequence, s.Votes)
			}
			before = s
			return nil
		})
		if err != nil && ctx.Err() == nil && !(errors.Is(err, projections.ErrNoCampaign) && before.Position.Sequence == 0) {
			t.Errorf("a reader gets %v", err)
			return
		}
	}
}

// TestKeyedTables: nothing of a read model is left out when it is compared and
// swept.
func TestKeyedTables(t *testing.T) {
	url := pgtest.NewDatabase(t)
	open(t, url)
	have := one[[]string](t, url, `
		select array_agg(relname::text order by relname) from pg_class c join pg_attribute a on a.attrelid = c.oid
		where relnamespace = 'paldies'::regnamespace and relkind = 'r' and attname = 'campaign'`)
	want := slices.Sorted(slices.Values(postgres.Keyed()))
	if !slices.Equal(have, want) {
		t.Errorf("tables with the key of a read model are %v, known are %v", have, want)
	}
}

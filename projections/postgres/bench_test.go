package postgres_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

var benchVotes = flag.Int("votes", 100_000, "votes in BenchmarkProjection; the figures in the package comment are of 5000000")

// empty begins anew.
const empty = `truncate paldies.positions, paldies.live, paldies.rebuilds, paldies.campaigns, paldies.channels, paldies.specialists,
	paldies.placements, paldies.totals, paldies.hours, paldies.cells`

// windowEvents is how many events at the beginning and at the end are compared.
const windowEvents = 100_000

// BenchmarkProjection brings an empty read model in a Postgres of full
// durability up to date with a ledger. It is compared with a bare ordered
// consumer, with a projector that writes one event a transaction, and its end
// with its beginning; and a rebuild beside it, its switch included, with it.
func BenchmarkProjection(b *testing.B) {
	nats := storetest.NewServer(b, func(o *server.Options) { o.SyncAlways = false }) // it is only read
	load := projectiontest.NewLoad(b, nats.Connect(b), *benchVotes)
	url := pgtest.NewServer(b, nil).URL("postgres")
	db := open(b, url)
	var bare, took, rebuilt time.Duration
	var slow, lastOfFirst float64
	for b.Loop() {
		sql(b, url, empty)
		slow = oneByOne(b, db, load)
		sql(b, url, empty+`; checkpoint`)
		bare += load.Bare(b)
		clock := &clocked{Models: db}
		start := time.Now()
		check(b, projectiontest.Runner(b, load, clock).RunToEnd(b.Context()))
		took += time.Since(start)
		lastOfFirst = clock.lastOfFirst(start, load.Events())
		rebuilt += rebuiltIn(b, db, load)
		b.Logf("events/s by tenths of the ledger: %.0f", clock.tenths(start, load.Events()))
	}
	rate := float64(b.N*load.Events()) / took.Seconds()
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(bare.Seconds()/took.Seconds(), "of-bare")
	b.ReportMetric(rate/slow, "of-one-by-one")
	b.ReportMetric(took.Seconds()/rebuilt.Seconds(), "rebuild-of-projection")
	b.ReportMetric(lastOfFirst, "last-of-first")
}

// rebuiltIn is how long it takes to build the read model anew and to switch to it.
// Nothing is there to be compared, and nothing left when it has ended.
func rebuiltIn(b *testing.B, db *postgres.DB, load *projectiontest.Load) time.Duration {
	b.Helper()
	defer func() { check(b, db.Sweep(b.Context())) }()
	start := time.Now()
	err := db.Rebuild(b.Context(), postgres.Rebuild{Campaign: load.Campaign, Ledger: load.Ledger, Codec: projectiontest.Codec(b)}, func(r *postgres.Rebuild) error {
		check(b, r.Fold(b.Context()))
		_, err := r.Switch(b.Context())
		return err
	})
	check(b, err)
	return time.Since(start)
}

// oneByOne is the rate of a projector that writes one event a transaction.
func oneByOne(b *testing.B, db *postgres.DB, load *projectiontest.Load) float64 {
	b.Helper()
	const events = 2000
	m, err := db.Model(b.Context(), load.Campaign)
	check(b, err)
	codec, fold := projectiontest.Codec(b), projections.NewFold(load.Campaign)
	start := time.Now()
	check(b, load.Ledger.Replay(b.Context(), 1, events, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := codec.Decode(rec.Data)
			check(b, err)
			check(b, fold.Add(projections.Event{Sequence: rec.Sequence, Event: e}, rec.Data))
			check(b, m.Apply(b.Context(), fold.Take()))
		}
		return nil
	}))
	return events / time.Since(start).Seconds()
}

// clocked notes when batches were stored. It is for one campaign.
type clocked struct {
	projections.Models

	mu     sync.Mutex
	stored []mark // guarded by mu
}

func (c *clocked) marks() []mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.stored)
}

type mark struct {
	sequence uint64
	at       time.Time
}

func (c *clocked) Model(ctx context.Context, campaign string) (projections.Model, error) {
	m, err := c.Models.Model(ctx, campaign)
	return clockedModel{m, c}, err
}

type clockedModel struct {
	projections.Model
	clock *clocked
}

func (m clockedModel) Apply(ctx context.Context, b *projections.Batch) error {
	err := m.Model.Apply(ctx, b)
	m.clock.mu.Lock()
	defer m.clock.mu.Unlock()
	m.clock.stored = append(m.clock.stored, mark{b.To.Sequence, time.Now()})
	return err
}

// lastOfFirst is the rate of the last events of a projection compared with
// that of the first ones, both by whole batches.
func (c *clocked) lastOfFirst(start time.Time, events int) float64 {
	window := uint64(min(windowEvents, events/2))
	marks := append([]mark{{0, start}}, c.marks()...)
	first := marks[slices.IndexFunc(marks, func(m mark) bool { return m.sequence >= window })]
	end := marks[len(marks)-1]
	var begun mark
	for _, m := range marks {
		if m.sequence <= uint64(events)-window {
			begun = m
		}
	}
	return rate(begun, end) / rate(marks[0], first)
}

// tenths are the rates of the parts of a projection, to see whether it slows
// down steadily or was disturbed.
func (c *clocked) tenths(start time.Time, events int) (rates []float64) {
	from := mark{0, start}
	for _, m := range c.marks() {
		if m.sequence >= uint64(events*(len(rates)+1)/10) {
			rates = append(rates, rate(from, m))
			from = m
		}
	}
	return rates
}

func rate(from, to mark) float64 {
	return float64(to.sequence-from.sequence) / to.at.Sub(from.at).Seconds()
}

// BenchmarkVisible measures the time from the acknowledgement of a vote until
// a reader of Postgres sees it, with votes coming at a steady rate.
func BenchmarkVisible(b *testing.B) {
	const votesPerSecond, votes = 10_000, 30_000
	load := projectiontest.NewLoad(b, storetest.NewServer(b).Connect(b), 0)
	clock := &clocked{Models: open(b, pgtest.NewServer(b, nil).URL("postgres"))}
	_, stop := projectiontest.Start(b, projectiontest.Runner(b, load, clock))
	var late []time.Duration
	for b.Loop() {
		n := len(late)
		acked := vote(b, load, n, n+votes, votesPerSecond)
		reached(b, clock.Models.(*postgres.DB), load.Campaign, acked[len(acked)-1].sequence)
		late = append(late, delays(acked, clock)...)
	}
	stop()
	slices.Sort(late)
	for _, percent := range []int{50, 99, 100} {
		d := late[(len(late)-1)*percent/100]
		b.ReportMetric(float64(d.Microseconds())/1000, fmt.Sprintf("p%d-ms", percent))
	}
}

// vote records votes at a steady rate and notes when each was acknowledged, in
// the order of their sequences.
func vote(b *testing.B, load *projectiontest.Load, from, to, perSecond int) []mark {
	b.Helper()
	const voters, ticksPerSecond = 256, 1000
	numbers, acked := make(chan int), make(chan mark, to-from)
	var work sync.WaitGroup
	for range voters {
		work.Go(func() {
			for i := range numbers {
				sequence, err := load.Vote(i)
				if err != nil {
					b.Error(err)
				}
				acked <- mark{sequence, time.Now()}
			}
		})
	}
	tick := time.NewTicker(time.Second / ticksPerSecond)
	defer tick.Stop()
	start := time.Now()
	for i := from; i < to; {
		<-tick.C
		due := from + int(time.Since(start).Seconds()*float64(perSecond))
		for ; i < min(due, to); i++ {
			numbers <- i
		}
	}
	close(numbers)
	work.Wait()
	b.ReportMetric(float64(to-from)/time.Since(start).Seconds(), "votes/s")
	close(acked)
	var list []mark
	for m := range acked {
		list = append(list, m)
	}
	slices.SortFunc(list, func(m, n mark) int { return cmp.Compare(m.sequence, n.sequence) })
	return list
}

// delays are the times from acknowledgement to storage. A vote may be stored
// before its voter hears of it.
func delays(acked []mark, clock *clocked) []time.Duration {
	var list []time.Duration
	stored := clock.marks()
	for _, m := range acked {
		i, _ := slices.BinarySearchFunc(stored, m.sequence, func(s mark, sequence uint64) int { return cmp.Compare(s.sequence, sequence) })
		list = append(list, max(0, stored[i].at.Sub(m.at)))
	}
	return list
}

// fill makes read models of closed campaigns by SQL: -votes votes in one of 10,000
// specialists, and ten smaller ones of the years before.
const fill = `
	insert into positions (id, stream, identity, sequence, hash, recorded_at, votes, voters, void, changed, fold)
	select 'kampana-' || n, '', sha256(''), 1, sha256(''), now(), 0, 0, 0, 1, 1 from generate_series(2008, 2018) n;
	insert into live select campaign, id from positions;
	insert into campaigns (campaign, title, opens_at, opens_on, closes_at, timezone, votes_per_voter, status, closed_at, published_event, published_sequence)
	select campaign, id, timestamptz '2017-11-12 22:00Z', '2017-11-13', timestamptz '2018-11-11 22:00Z', 'Europe/Riga', 0, 'published', 1, 1, 1 from positions;
	insert into channels select campaign, n, (array['web', 'mobile', 'in_person'])[n + 1], 'verified' from positions, generate_series(0, 2) n;
	insert into specialists
	select campaign, n, 's' || n, (array['Zane Ģēģere', 'Kaspars Ņukšs', 'Lāsma Čakāne', 'Žanete Šķēle'])[1 + n % 4] || ' ' || n * 7919 % 10007,
	       '', 'Iestāde ' || n % 150, 'Filiāle ' || n % 1500, 'Reģions ' || n % 5, n % 100 = 0, '', n
	from positions, generate_series(1, 10000) n order by campaign, n;
	insert into placements select campaign, specialist, specialist, institution, branch, region from specialists order by 1, 2;
	insert into cells
	select campaign, opens_at + h * interval '1 hour', 1 + (random() * 9999)::int, random() * 2, 1
	from campaigns join positions using (campaign) cross join lateral (
		select (random() * 8735)::int h from generate_series(1, case when id = 'kampana-2018' then VOTES else VOTES / 50 end) v
	) votes
	on conflict do nothing;
	insert into totals select campaign, placement, placement, sum(votes), sum(votes) from cells group by 1, 2;
	insert into hours select campaign, hour, channel, hour at time zone timezone, sum(votes) from cells join campaigns using (campaign) group by 1, 2, 3, timezone`

// BenchmarkReports asks every view for all rows of a large campaign, as a member of
// reporting_ro, for the first specialists in the order of the results, and what
// Grafana's dashboards ask. The figures are milliseconds a question, the fastest
// one. With -v it shows plans.
func BenchmarkReports(b *testing.B) {
	url := pgtest.NewDatabase(b)
	open(b, url)
	sql(b, url, `set search_path = paldies; `+strings.ReplaceAll(fill, "VOTES", strconv.Itoa(*benchVotes)))
	sql(b, url, `vacuum analyze`)
	conn := reader(b, url, public)
	fastest := make(map[string]time.Duration)
	ask := func(query string) (rows int64) {
		result, err := conn.Exec(b.Context(), query)
		check(b, err)
		return result.RowsAffected()
	}
	queries := make(map[string]string)
	for _, view := range views {
		queries[view] = `select * from reporting_v1.` + view + ` where campaign_id = 'kampana-2018'`
	}
	queries["first-100"] = queries["specialist_totals"] + ` order by rank, name, specialist_id limit 100`
	for title, query := range dashboardQueries(b, map[string]string{"report": "kampana-2018", "before": "kampana-2017"}) {
		queries["grafana-"+strings.ReplaceAll(strings.ToLower(title), " ", "-")] = query
	}
	for name, query := range queries {
		b.Logf("%s: %d rows\n%s", name, ask(query), lines(b, conn, `explain (analyze, costs) `+query))
	}
	for b.Loop() {
		for name, query := range queries {
			start := time.Now()
			if ask(query) == 0 {
				b.Fatalf("%s has no rows", name)
			}
			if took := time.Since(start); fastest[name] == 0 || took < fastest[name] {
				fastest[name] = took
			}
		}
	}
	for name, took := range fastest {
		b.ReportMetric(float64(took.Microseconds())/1000, name+"-ms")
	}
}

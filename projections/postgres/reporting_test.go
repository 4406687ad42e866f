package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

const (
	public      = "reporting_ro"
	chancellery = "reporting_chancellery"
)

// reader is somebody who makes reports: a login that is a member of a group.
func reader(t testing.TB, url, group string) *pgx.Conn {
	t.Helper()
	conn, _ := listener(t, url, group)
	return conn
}

// listener is a reader, and all that the server tells it besides answers.
func listener(t testing.TB, url, group string) (*pgx.Conn, *strings.Builder) {
	t.Helper()
	name := "lasa_" + strings.ToLower(rand.Text())
	sql(t, url, `create role `+name+` login password '`+secret+`' in role `+group)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), url)
		check(t, err)
		_, err = conn.Exec(context.Background(), `drop owned by `+name+`; drop role `+name)
		check(t, err)
		check(t, conn.Close(context.Background()))
	})
	config, err := pgx.ParseConfig(as(t, url, name, secret, ""))
	check(t, err)
	told := new(strings.Builder)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { fmt.Fprintln(told, n.Severity, n.Message, n.Detail, n.Hint) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	check(t, err)
	t.Cleanup(func() { check(t, conn.Close(context.Background())) })
	return conn, told
}

// lines are the rows of a query, a line each.
func lines(t rapid.TB, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	rows, err := conn.Query(context.Background(), query, args...)
	check(t, err)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		for i, v := range values {
			if at, ok := v.(time.Time); ok {
				values[i] = at.UTC()
			}
		}
		return fmt.Sprintf("%q\n", fmt.Sprint(values...)), err
	})
	check(t, err)
	return strings.Join(list, "")
}

// reported is everything that the views say of a campaign and that a tally says
// too. Of a campaign that is not shown it is empty.
func reported(t rapid.TB, conn *pgx.Conn, campaign string) string {
	t.Helper()
	var text strings.Builder
	for _, query := range []string{
		`select specialist_id, '"' || name || '"', institution, branch, region, coalesce(rank, 0), votes, voters
		 from reporting_v1.specialist_totals where campaign_id = $1 order by rank nulls last, votes desc, name, specialist_id collate "C"`,
		`select 'institution', institution, rank, votes from reporting_v1.institution_totals where campaign_id = $1 order by rank, institution`,
		`select 'branch', institution, branch, rank, votes from reporting_v1.branch_totals where campaign_id = $1
		 order by rank, institution || ' ' || branch, institution`,
		`select 'channel', channel, votes from reporting_v1.channel_mix where campaign_id = $1 order by votes desc, channel collate "C"`,
		`select 'day', day, votes from reporting_v1.timeline_daily where campaign_id = $1 and votes <> 0 order by day`,
		`select 'hour', hour_start, local_time, utc_offset = local_time - (hour_start at time zone 'UTC'), votes
		 from reporting_v1.timeline_hourly where campaign_id = $1 order by hour_start`,
		`select 'all', votes, voters from reporting_v1.campaign_status where campaign_id = $1 and votes is not null`,
	} {
		text.WriteString(lines(t, conn, query, campaign))
	}
	return text.String()
}

// counted is what reported is to be: the results of a tally, by the channels that the
// campaign has now. One may have been added after the event as of which it was counted.
func counted(t rapid.TB, tally *domain.Tally, now *domain.Campaign) string {
	t.Helper()
	var text strings.Builder
	line := func(values ...any) { fmt.Fprintf(&text, "%q\n", fmt.Sprint(values...)) }
	for _, s := range tally.Standings() {
		sp := s.Specialist
		line(sp.ID, `"`+sp.Name+`"`, sp.Institution, sp.Branch, sp.Region, int64(s.Rank), s.Votes, s.Voters)
	}
	groups := func(by domain.GroupBy) []domain.Group { return grouped(t, tally, by) }
	for _, g := range groups(domain.ByInstitution) {
		line("institution", g.Keys[0], int64(g.Rank), g.Votes)
	}
	for _, g := range groups(domain.ByBranch) {
		line("branch", g.Keys[0], g.Keys[1], int64(g.Rank), g.Votes)
	}
	var unused []string
	for _, c := range now.Channels {
		unused = append(unused, c.Name)
	}
	for _, g := range groups(domain.ByChannel) {
		if g.Votes != 0 {
			line("channel", g.Keys[0], g.Votes)
			unused = slices.DeleteFunc(unused, func(name string) bool { return name == g.Keys[0] })
		}
	}
	slices.Sort(unused)
	for _, name := range unused {
		line("channel", name, 0)
	}
	for _, g := range groups(domain.ByDay) {
		day, err := time.Parse(time.DateOnly, g.Keys[0])
		check(t, err)
		line("day", day, g.Votes)
	}
	for _, g := range groups(domain.ByHour) {
		hour, err := time.Parse(domain.HourLayout, g.Keys[0])
		check(t, err)
		local, err := time.Parse("2006-01-02T15:04", g.Keys[0][:len("2006-01-02T15:04")])
		check(t, err)
		line("hour", hour.UTC(), local, true, g.Votes)
	}
	line("all", tally.Votes(), tally.Voters())
	return text.String()
}

// grouped are the votes of a tally in the campaign's time zone.
func grouped(t rapid.TB, tally *domain.Tally, by domain.GroupBy) []domain.Group {
	t.Helper()
	location, err := time.LoadLocation(tally.Register().Campaign().Timezone)
	check(t, err)
	list, err := tally.Groups(by, location)
	check(t, err)
	return list
}

// tallyAt counts the events of a history up to one of them, and says whether a
// later one changes the results.
func tallyAt(t rapid.TB, h *projectiontest.History, sequence uint64) (at *domain.Tally, changed bool) {
	t.Helper()
	at, all := new(domain.Tally), new(domain.Tally)
	codec := projectiontest.Codec(t)
	for _, rec := range h.Events() {
		e, err := codec.Decode(rec.Data)
		check(t, err)
		delta, err := all.Apply(rec.Sequence, e)
		check(t, err)
		if rec.Sequence <= sequence {
			_, err := at.Apply(rec.Sequence, e)
			check(t, err)
			continue
		}
		switch e.Data.(type) {
		case domain.SpecialistRegistered, domain.SpecialistUpdated, domain.SpecialistWithdrawn, domain.SpecialistMerged:
			changed = changed || !delta.Void
		default:
			changed = changed || delta.Votes != 0 && !delta.Void
		}
	}
	return at, changed
}

// publish closes a campaign if it is open, and publishes the results as of an
// event.
func publish(h *projectiontest.History, sequence uint64) {
	if h.Tally.Register().Campaign().Status == domain.StatusOpen {
		h.Record(domain.CampaignClosed{Reason: "Kampaņa noslēgusies."})
	}
	if sequence == 0 {
		sequence = h.Last()
	}
	h.Record(domain.ResultsCertified{Sequence: sequence, TallyDigest: "nav svarīgi"})
	h.Record(domain.ResultsPublished{Certified: h.Last()})
}

// TestReportsAreTheResults holds the views against the tally. The Chancellery
// sees it as of the newest event, everybody else as of the event whose results
// are public, and nothing while other results are all there is.
func TestReportsAreTheResults(t *testing.T) {
	url := pgtest.NewDatabase(t)
	db := open(t, url)
	all, some := reader(t, url, chancellery), reader(t, url, public)
	n, seen := 0, make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		n++
		h, campaigns := projectiontest.NewHistory(t, fmt.Sprintf("laba-servisa-kustiba-%d", n)), new(projectiontest.Campaigns)
		campaigns.Add(h.Campaign, h.Ledger)
		act := func(most int) {
			for range rapid.IntRange(0, most).Draw(rt, "actions") {
				h.Act(projectiontest.Draw(rt))
			}
			check(rt, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		}
		act(80)
		for range rapid.IntRange(0, 2).Draw(rt, "publications") {
			if h.Tally.Register().Campaign().Status == domain.StatusArchived {
				break
			}
			publish(h, h.Last()-rapid.Uint64Range(0, 2).Draw(rt, "before"))
			act(6)
		}
		if got, want := reported(rt, all, h.Campaign), counted(rt, &h.Tally, h.Tally.Register().Campaign()); got != want {
			rt.Fatalf("the Chancellery sees\n%s\nwant\n%s", got, want)
		}
		state, want := "embargo", ""
		if p := h.Tally.Register().Campaign().Public; p.Sequence > 0 {
			at, changed := tallyAt(rt, h, p.Sequence)
			if state = "correction pending"; !changed {
				state, want = "public", counted(rt, at, h.Tally.Register().Campaign())
			}
		}
		seen[state]++
		if got := reported(rt, some, h.Campaign); got != want {
			rt.Fatalf("with the state %s everybody sees\n%s\nwant\n%s", state, got, want)
		}
		got := lines(rt, some, `select results from reporting_v1.campaign_status where campaign_id = $1`, h.Campaign)
		if got != fmt.Sprintf("%q\n", state) {
			rt.Fatalf("the state is %s, want %s", got, state)
		}
	})
	for _, state := range []string{"embargo", "public", "correction pending"} {
		if seen[state] == 0 {
			t.Errorf("no history ended with the state %s: %v", state, seen)
		}
	}
}

// TestReportsOfTime looks at a campaign in which the clocks are put back, row by
// row: an hour that comes twice, a day of 25 hours, a day without votes.
func TestReportsOfTime(t *testing.T) {
	url := pgtest.NewDatabase(t)
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	h := projectiontest.NewHistory(t, "laba-servisa-kustiba-2019")
	campaigns.Add(h.Campaign, h.Ledger)
	voter := byte(0)
	for at, votes := range map[string]int{
		"2019-10-25T21:30:00+03:00": 3, // the evening
		"2019-10-27T00:10:00+03:00": 1,
		"2019-10-27T03:30:00+03:00": 2,
		"2019-10-27T03:30:00+02:00": 4, // an hour later
		"2019-10-27T23:59:59+02:00": 5,
	} {
		cast, err := time.Parse(time.RFC3339, at)
		check(t, err)
		for range votes {
			voter++
			h.Record(domain.VoteCast{Voter: domain.Pseudonym{0: voter}, Specialist: "s0", Channel: "web", Active: 1, CastAt: cast.UTC()})
		}
	}
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	conn := reader(t, url, chancellery)
	expect := func(query, want string) {
		t.Helper()
		if got := strings.ReplaceAll(lines(t, conn, query), `"`, ""); strings.TrimSpace(got) != strings.Join(strings.Fields(want), "\n") {
			t.Errorf("%s:\n%s", query, got)
		}
	}
	expect(`select concat_ws('|', to_char(local_time, 'DD-HH24:MI'), utc_offset, votes) from reporting_v1.timeline_hourly order by hour_start`, `
		25-21:00|03:00:00|3 27-00:00|03:00:00|1 27-03:00|03:00:00|2 27-03:00|02:00:00|4 27-23:00|02:00:00|5`)
	expect(`select concat_ws('|', day, votes, cumulative_votes) from reporting_v1.timeline_daily where day >= '2019-10-25' order by day`, `
		2019-10-25|3|3 2019-10-26|0|3 2019-10-27|12|15`)
	// The campaign opens on 13 November 2017 in Riga.
	expect(`select concat_ws('|', day_of_campaign, day, votes, cumulative_votes, cumulative_share)
		from reporting_v1.year_over_year where day_of_campaign = 1 or votes > 0 order by day_of_campaign`, `
		1|2017-11-13|0|0|0.000000 712|2019-10-25|3|3|0.200000 714|2019-10-27|12|15|1.000000`)
	expect(`select concat_ws('|', to_char(hour_start at time zone 'UTC', 'DD-HH24'), votes, votes_24h, votes_7d, votes_per_hour_24h, votes_per_hour_7d)
		from reporting_v1.velocity order by hour_start`, `
		25-18|3|3|3|0.13|0.02 26-21|1|1|4|0.04|0.02 27-00|2|3|6|0.13|0.04 27-01|4|7|10|0.29|0.06 27-21|5|11|15|0.46|0.09`)
	expect(`select concat_ws('|', channel, identity, votes, share) from reporting_v1.channel_mix order by votes desc`, `
		web|verified|15|1.000000 in_person|none|0|0.000000`)
}

// TestReportsSideBySide: a report that is open for hours neither stops projection
// nor changes under who reads it.
func TestReportsSideBySide(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	h := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018")
	campaigns.Add(h.Campaign, h.Ledger)
	vote := func() string {
		for before := h.Last(); h.Last() < before+20; {
			h.Vote(random.IntN)
		}
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		return counted(t, &h.Tally, h.Tally.Register().Campaign())
	}
	conn := reader(t, url, chancellery)
	before := vote()
	_, err := conn.Exec(t.Context(), `begin isolation level repeatable read`)
	check(t, err)
	if got := reported(t, conn, h.Campaign); got != before {
		t.Errorf("it begins with\n%s", got)
	}
	after := vote() // with the report open
	if got := reported(t, conn, h.Campaign); got != before {
		t.Errorf("the report has become\n%s", got)
	}
	_, err = conn.Exec(t.Context(), `commit`)
	check(t, err)
	if got := reported(t, conn, h.Campaign); got != after {
		t.Errorf("the next report is\n%s\nwant\n%s", got, after)
	}
}

// answer is the code of Postgres for a statement, "" where it succeeds.
func answer(t testing.TB, conn *pgx.Conn, statement string) string {
	t.Helper()
	_, err := conn.Exec(context.Background(), statement)
	refused := new(pgconn.PgError)
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("%s: %v", statement, err)
	}
	return refused.Code
}

// TestReportingLogin logs in as the roles of reports themselves: what limits them,
// what they can shake off, and that they hinder no projection even then.
func TestReportingLogin(t *testing.T) {
	url, random := pgtest.NewServer(t, map[string]string{"fsync": "off"}).URL("postgres"), seeded(t) // roles are the server's
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	h := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018")
	campaigns.Add(h.Campaign, h.Ledger)
	h.Vote(random.IntN)
	publish(h, 0)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	for _, role := range []string{public, chancellery} {
		login := as(t, url, role, secret, "")
		if conn, err := pgx.Connect(t.Context(), login); err == nil {
			check(t, conn.Close(t.Context()))
			t.Errorf("anybody can log in as %s", role)
		}
		// What an administrator has set stays.
		sql(t, url, `alter role `+role+` login password '`+secret+`'; alter role `+role+` set statement_timeout = '2s'`)
		open(t, url)
		var conns []*pgx.Conn
		for range 10 {
			conn, err := pgx.Connect(t.Context(), login)
			check(t, err)
			defer func() { check(t, conn.Close(context.Background())) }()
			conns = append(conns, conn)
		}
		conn := conns[0]
		limited(t, conn)
		refused := new(pgconn.PgError)
		if _, err := pgx.Connect(t.Context(), login); !errors.As(err, &refused) || refused.Code != "53300" {
			t.Errorf("one more connection as %s: %v", role, err)
		}
		reader(t, url, role) // a member counts for itself
		// Whoever may set the limits of a session may take them away, except how
		// many sessions there are, and rights.
		for _, conn := range conns {
			lines(t, conn, `set statement_timeout = 0`)
			lines(t, conn, `set idle_in_transaction_session_timeout = 0`)
			lines(t, conn, `set default_transaction_read_only = off`)
			lines(t, conn, `begin isolation level repeatable read`)
			if lines(t, conn, `select votes from specialist_totals`) == "" {
				t.Errorf("%s sees no published votes", role)
			}
		}
		for range 20 {
			h.Vote(random.IntN)
		}
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		open(t, url) // migrates
		for _, conn := range conns {
			lines(t, conn, `rollback`)
		}
		for _, statement := range writes {
			if code := answer(t, conn, statement); code != "42501" {
				t.Errorf("%s: %s is answered %q", role, statement, code)
			}
		}
	}
}

// limited wants a session of reports to have its limits.
func limited(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for name, want := range map[string]string{
		"statement_timeout": "2s", "idle_in_transaction_session_timeout": "10min", "lock_timeout": "10s",
		"default_transaction_read_only": "on", "search_path": "reporting_v1",
	} {
		if got := lines(t, conn, `show `+name); got != fmt.Sprintf("%q\n", want) {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if lines(t, conn, `select campaign_id from campaign_status`) == "" {
		t.Error("there is no campaign")
	}
	if code := answer(t, conn, `select pg_sleep(600)`); code != "57014" {
		t.Errorf("a statement that takes too long is answered %q", code)
	}
	if code := answer(t, conn, `create temporary table own (id int)`); code != "25006" {
		t.Errorf("a temporary table is answered %q", code)
	}
}

// writes are what nobody may do who only reads.
var writes = []string{
	`insert into paldies.channels values (1, 9, 'cits', 'none')`, `update paldies.totals set votes = votes + 1`, `delete from paldies.hours`,
	`truncate paldies.cells`, `drop table paldies.cells`, `alter table paldies.cells add column cits int`, `create table paldies.cita (id int)`,
	`do $$ begin lock table paldies.positions in access exclusive mode; end $$`, `drop view reporting_v1.velocity`,
	`create table reporting_v1.cita (id int)`, `create schema cita`, `create table public.cita (id int)`, `create role cits`,
	`alter role postgres password 'x'`, `alter role reporting_ro connection limit 100`, `select rolpassword from pg_authid`, `checkpoint`,
	`copy reporting_v1.campaign_status to '/tmp/cits'`, `select pg_read_file('/etc/passwd')`, `create extension dblink`,
}

// TestReportingPage runs the SQL of docs/reporting.md: what makes a login as the
// administrator, and everything else as somebody who has one.
func TestReportingPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reporting.md")
	check(t, err)
	url := pgtest.NewDatabase(t)
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	h := projectiontest.NewHistory(t, "2018")
	campaigns.Add(h.Campaign, h.Ledger)
	h.Vote(func(int) int { return 0 })
	publish(h, 0)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	conn, name := reader(t, url, public), "bi_"+strings.ToLower(rand.Text())
	logins, queries := 0, 0
	for _, block := range strings.Split(string(page), "```sql\n")[1:] {
		statement, _, _ := strings.Cut(block, "```")
		if strings.Contains(statement, "create role") {
			logins++
			sql(t, url, strings.ReplaceAll(statement, "bi_vards", name)+`; drop role `+name)
			continue
		}
		queries++
		if lines(t, conn, statement) == "" {
			t.Errorf("this shows nothing:\n%s", statement)
		}
	}
	if logins != 1 || queries != 2 {
		t.Errorf("the page has %d logins and %d queries", logins, queries)
	}
	for _, view := range views {
		if !strings.Contains(string(page), "`"+view+"`") {
			t.Errorf("the page does not mention %s", view)
		}
	}
}

// views are those of reports.
var views = []string{"branch_totals", "campaign_status", "channel_mix", "institution_totals", "specialist_totals",
	"timeline_daily", "timeline_hourly", "velocity", "year_over_year"}

// attacks are what somebody may try who wants to know counts under the embargo.
func attacks() (list []string) {
	list = []string{
		`set role reporting_chancellery`,
		`set session authorization postgres`,
		`create function pg_temp.tell(text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise notice 'sees %', $1; return true; end $$`,
		`create function pg_temp.sure(text) returns boolean language plpgsql leakproof as $$ begin raise notice 'sees %', $1; return true; end $$`,
		`create function pg_temp.as_owner() returns setof reporting_v1.specialist_totals language sql security definer as 'select * from reporting_v1.specialist_totals'`,
		`select * from pg_temp.as_owner()`,
		`create temporary view own as select * from reporting_v1.campaign_status`,
		`select * from own where pg_temp.tell(own::text)`,
		`select * from pg_catalog.pg_stats where schemaname in ('paldies', 'reporting_v1')`,
		`select * from pg_catalog.pg_stats_ext`,
		`select * from pg_catalog.pg_statistic`,
		`select votes from reporting_v1.specialist_totals union all select votes from paldies.totals`,
	}
	for _, table := range []string{"positions", "campaigns", "channels", "specialists", "placements", "totals", "hours", "cells", "live", "rebuilds", "reported"} {
		list = append(list, `table paldies.`+table, `explain table paldies.`+table, `copy paldies.`+table+` to stdout`)
	}
	for _, function := range []string{"reported_position", "reported_specialists", "reported_places", "reported_channels", "reported_hours", "reported_days", "standings", "places"} {
		list = append(list, `select * from paldies.`+function+`(1)`)
	}
	for _, view := range views {
		of := `reporting_v1.` + view + ` v`
		list = append(list,
			`select * from `+of,
			`select count(*) from `+of+` where campaign_id = 'slepena'`,
			`select * from `+of+` where pg_temp.tell(v::text)`,
			`select * from `+of+` where pg_temp.tell(v::text) and campaign_id = 'slepena'`,
			`select * from `+of+` where campaign_id = 'slepena' and campaign_id::int = 0`,
			`explain (verbose) select * from `+of+` where campaign_id = 'slepena'`,
			`explain (analyze, verbose, timing off, summary off) select * from `+of,
		)
		if view != "campaign_status" {
			list = append(list, `select 1 / (votes - votes) from `+of+` where campaign_id = 'slepena'`)
		}
		for _, bound := range []string{"1", "30", "1000"} {
			list = append(list, `explain select * from `+of+` where votes > `+bound,
				`explain (analyze, timing off, summary off) select * from `+of+` where votes > `+bound+` and pg_temp.tell(votes::text)`)
		}
	}
	return list
}

// attack writes down all that somebody hears who tries every attack, with every
// kind of join.
func attack(t *testing.T, conn *pgx.Conn, told *strings.Builder) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), `discard temp`)
	check(t, err)
	told.Reset()
	var text strings.Builder
	for _, without := range []string{"jit", "nestloop", "hashjoin", "mergejoin"} {
		_, err := conn.Exec(t.Context(), `reset all; set jit = off`)
		check(t, err)
		if without != "jit" {
			_, err := conn.Exec(t.Context(), `set enable_`+without+` = off`)
			check(t, err)
		}
		fmt.Fprintln(told, "without", without)
		for _, query := range attacks() {
			results, err := conn.PgConn().Exec(t.Context(), query).ReadAll()
			fmt.Fprintln(&text, query, err)
			for _, r := range results {
				for _, row := range r.Rows {
					fmt.Fprintf(&text, "%q\n", row)
				}
			}
		}
	}
	return text.String() + told.String()
}

// TestEmbargoInReports lets somebody try everything before publication, with few
// votes and with many. What they hear must be the same to the letter, and so
// cannot depend on the votes; afterwards they see all.
func TestEmbargoInReports(t *testing.T) {
	url, random := pgtest.NewDatabase(t), seeded(t)
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	secretly, openly := projectiontest.NewHistory(t, "slepena"), projectiontest.NewHistory(t, "atklata")
	campaigns.Add(secretly.Campaign, secretly.Ledger)
	campaigns.Add(openly.Campaign, openly.Ledger)
	for openly.Last() < 30 {
		openly.Vote(random.IntN)
	}
	publish(openly, 0)
	conn, told := listener(t, url, public)
	try := func() string {
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		// What the tables weigh is no secret, see docs/reporting.md; but here
		// nothing else may be different.
		sql(t, url, `vacuum (full, analyze)`)
		return attack(t, conn, told)
	}
	for secretly.Last() < 20 {
		secretly.Vote(random.IntN)
	}
	few := try()
	// The functions are there, and tell what they may.
	for _, want := range []string{"NOTICE sees (atklata,s0,", "NOTICE sees (slepena,", "division by zero", "permission denied", "Function Scan on paldies.reported_hours"} {
		if has := strings.Contains(few, want); has != (want != "division by zero") {
			t.Errorf("that %q is heard is %v:\n%.3000s", want, has, few)
		}
	}
	secretly.Record(domain.SpecialistRegistered{Specialist: "s3", Profile: domain.Profile{Name: "Ilze Ūdre", Institution: "Ēnu pārvalde"}})
	for i := range 100 { // each on a day of its own
		secretly.Record(domain.VoteCast{Voter: domain.Pseudonym{0: byte(i), 15: 2}, Specialist: "s3", Channel: "web", Active: 1,
			CastAt: secretly.Tally.AsOf().AddDate(0, 0, i)})
	}
	if many := try(); many != few {
		t.Errorf("what is heard depends on votes under the embargo:\n%s", firstDifference(few, many))
	}
	if got := reported(t, conn, secretly.Campaign); got != "" {
		t.Errorf("before the publication everybody sees\n%s", got)
	}

	publish(secretly, 0)
	after := try()
	if got, want := reported(t, conn, secretly.Campaign), counted(t, &secretly.Tally, secretly.Tally.Register().Campaign()); got != want {
		t.Errorf("after the publication everybody sees\n%s\nwant\n%s", got, want)
	}
	for _, want := range []string{"NOTICE sees (slepena,s0,", "division by zero"} {
		if !strings.Contains(after, want) {
			t.Errorf("after the publication %q is not heard", want)
		}
	}
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return strings.Join(as[max(0, i-5):i+1], "\n") + "\nor\n" + bs[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(as), len(bs))
}

// TestPagesUnderEmbargo: while somebody keeps old versions of rows, the table that
// every batch writes grows. EXPLAIN does not tell who may not see the counts.
func TestPagesUnderEmbargo(t *testing.T) {
	const batches = 300
	url, _, _, _ := projected(t, 20)
	keeper, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer keeper.Close(context.WithoutCancel(t.Context()))
	_, err = keeper.Exec(t.Context(), `begin isolation level repeatable read; select * from paldies.positions`)
	check(t, err)
	conn := reader(t, url, public)
	var questions []string
	for _, view := range views {
		questions = append(questions, `explain select * from reporting_v1.`+view,
			`explain (analyze, buffers, timing off, summary off) select * from reporting_v1.`+view)
	}
	before := make(map[string]string)
	for _, question := range questions {
		lines(t, conn, question) // what a session reads once
		before[question] = lines(t, conn, question)
	}
	sql(t, url, fmt.Sprintf(`do $$ begin for i in 1..%d loop update paldies.positions set recorded_at = now(); commit; end loop; end $$`, batches))
	sql(t, url, `analyze paldies.positions`) // as autovacuum does when it likes
	for _, question := range questions {
		after := lines(t, conn, question)
		// Statistics that are new, and catalogs that others change, are read again by
		// every session, and counted as pages; pages of the table would stay.
		for again := 0; again < 5 && after != before[question]; again++ {
			after = lines(t, conn, question)
		}
		if after != before[question] {
			t.Errorf("after %d batches the plan is another: %s", batches, firstDifference(before[question], after))
		}
	}
	if pages := one[int](t, url, `select pg_relation_size('paldies.positions') / current_setting('block_size')::int`); pages < 5 {
		t.Errorf("the table has %d pages, so that there is nothing to be seen", pages)
	}
}

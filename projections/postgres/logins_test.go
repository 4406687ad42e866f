package postgres_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// changing is what answers something else every time, and tells no amount: clocks,
// chance, and what a session has prepared.
var changing = regexp.MustCompile(` from (pg_catalog\.(clock_timestamp|gen_random_uuid|now|pg_prepared_statement|random|` +
	`statement_timestamp|timeofday|transaction_timestamp)\(\)|pg_prepared_statements)$`)

// transactions is how many transactions write the votes of TestAmountsInCatalogs.
const transactions = 30

// TestAmountsInCatalogs reads all that the server tells who may read reports, with
// few votes under the embargo and with many: every table and view of the catalogs,
// and every function that needs no more than the name of a table or the number of
// a transaction. On a server whose logins were made, nothing may be different.
func TestAmountsInCatalogs(t *testing.T) {
	url, random := pgtest.NewServer(t, map[string]string{"fsync": "off", "autovacuum": "off"}).URL("postgres"), seeded(t)
	check(t, postgres.MakeLogins(t.Context(), postgres.Config{URL: url}, nil))
	db, campaigns := open(t, url), new(projectiontest.Campaigns)
	h := projectiontest.NewHistory(t, "slepena")
	campaigns.Add(h.Campaign, h.Ledger)
	for h.Last() < 20 {
		h.Vote(random.IntN)
	}
	sql(t, url, `alter role reporting_ro login password '`+secret+`'`)
	conn, err := pgx.Connect(t.Context(), as(t, url, public, secret, ""))
	check(t, err)
	defer func() { check(t, conn.Close(t.Context())) }()
	settle := func() {
		t.Helper()
		check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		sql(t, url, `vacuum analyze paldies.cells, paldies.totals, paldies.hours, paldies.positions`)
		sql(t, url, `checkpoint`)
	}
	lines(t, conn, `do $$ begin end $$`)        // with the language its settings are there
	lines(t, conn, `set statement_timeout = 0`) // a busy machine takes long for some questions
	settle()
	// A transaction that is in the future now, and is not when all votes are there.
	later := one[string](t, url, `select (pg_current_xact_id()::text::bigint + $1)::text`, transactions/2)
	questions := append(column(t, conn, relations), column(t, conn, functions, later)...)
	few, again := everything(t, conn, questions), everything(t, conn, questions)
	for i := range 100 * transactions {
		h.Record(domain.VoteCast{Voter: domain.Pseudonym{0: byte(i), 1: byte(i >> 8), 15: 2}, Specialist: "s0", Channel: "web", Active: 1,
			CastAt: h.Tally.AsOf().AddDate(0, 0, i%100)})
		if i%100 == 0 {
			check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
		}
	}
	settle()
	many := everything(t, conn, questions)
	if len(few) < 500 {
		t.Errorf("only %d things are asked", len(few))
	}
	for _, what := range slices.Sorted(maps.Keys(few)) {
		switch {
		case changing.MatchString(what):
		case few[what] != again[what]:
			t.Errorf("%s tells something else every time:\n%s", what, firstDifference(few[what], again[what]))
		case few[what] != many[what]:
			t.Errorf("%s tells votes under the embargo:\n%s", what, firstDifference(few[what], many[what]))
		}
	}
}

// numbered are ways to the number of a transaction, each with a part that a session
// may set for itself.
var numbered = []string{
	`select txid_current()`, `select pg_current_snapshot()`, `select pg_export_snapshot()`,
	`select txid_status(1000)`, `select pg_xact_status('1000')`, `select pg_get_multixact_members('1')`, `select age('3'::xid)`,
	`select * from pg_locks`, `select * from pg_lock_status()`,
	`alter default privileges revoke execute on functions from public; select xmin from pg_default_acl`,
	`alter role reporting_ro set work_mem = '5MB'; select s.xmin from pg_db_role_setting s`,
	`alter role reporting_ro set work_mem = '5MB'; select s.ctid from pg_db_role_setting s`,
	`select xmin from pg_class`, `select max(xmax::text) from pg_attribute`,
}

// TestTransactionsInCatalogs: of the numbers of transactions nothing is said to who
// may read reports.
func TestTransactionsInCatalogs(t *testing.T) {
	url := pgtest.NewServer(t, map[string]string{"fsync": "off"}).URL("postgres")
	check(t, postgres.MakeLogins(t.Context(), postgres.Config{URL: url}, nil))
	open(t, url)
	sql(t, url, `alter role reporting_ro login password '`+secret+`'`)
	conn, err := pgx.Connect(t.Context(), as(t, url, public, secret, ""))
	check(t, err)
	defer func() { check(t, conn.Close(t.Context())) }()
	for _, table := range column(t, conn, stamped) {
		t.Errorf("system columns of %s can be read", table)
	}
	for _, statement := range numbered {
		if code := answer(t, conn, `begin read write; `+statement+`; rollback`); code != "42501" {
			t.Errorf("%s is answered %q", statement, code)
		}
		lines(t, conn, `rollback`)
	}
}

// TestLimitsStay: what somebody has set for a role of reports stays, until it is reset.
func TestLimitsStay(t *testing.T) {
	url := pgtest.NewServer(t, map[string]string{"fsync": "off"}).URL("postgres")
	expect := func(want string) {
		t.Helper()
		check(t, postgres.MakeLogins(t.Context(), postgres.Config{URL: url}, nil))
		const settings = `select string_agg(s, ' ' order by s) from pg_roles, unnest(rolconfig) s where rolname = 'reporting_ro' and s ~ '^(temp_file_limit|statement_timeout)='`
		if got := one[string](t, url, settings); got != want {
			t.Errorf("the limits are %s, want %s", got, want)
		}
	}
	expect(`statement_timeout=30s temp_file_limit=1GB`)
	sql(t, url, `alter role reporting_ro set temp_file_limit = '3GB'; alter role reporting_ro set statement_timeout = 0`)
	expect(`statement_timeout=0 temp_file_limit=3GB`)
	sql(t, url, `alter role reporting_ro reset all`)
	expect(`statement_timeout=30s temp_file_limit=1GB`)
}

// TestLoginsAtOnce: several make the logins of a server, through each of two
// databases.
func TestLoginsAtOnce(t *testing.T) {
	url := pgtest.NewServer(t, map[string]string{"fsync": "off"}).URL("postgres")
	sql(t, url, `create database cita`)
	var makers sync.WaitGroup
	for _, database := range []string{"postgres", "cita", "postgres", "cita"} {
		config := postgres.Config{URL: as(t, url, "", "", database)}
		makers.Go(func() {
			for range 3 {
				if err := postgres.MakeLogins(t.Context(), config, nil); err != nil {
					t.Errorf("through %s: %v", database, err)
				}
			}
		})
	}
	makers.Wait()
}

// everything is what somebody hears who asks all questions.
func everything(t *testing.T, conn *pgx.Conn, questions []string) map[string]string {
	t.Helper()
	heard := make(map[string]string)
	for _, question := range questions {
		results, err := conn.PgConn().Exec(t.Context(), question).ReadAll()
		var rows []string
		for _, r := range results {
			for _, row := range r.Rows {
				rows = append(rows, fmt.Sprintf("%q", row))
			}
		}
		slices.Sort(rows)
		heard[question] = fmt.Sprintln(err) + strings.Join(rows, "\n")
	}
	return heard
}

// relations are questions for all that can be read in the catalogs, and functions
// are those that take nothing, a table, an index, the database or a transaction ($1
// is one).
// stamped are catalogs that tell of a row in which transaction it was written.
const (
	stamped = `
		select distinct attrelid::regclass::text from pg_class c join pg_attribute on attrelid = c.oid
		where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r' and attnum < 0 and has_column_privilege(c.oid, attnum, 'select')`
	relations = `
		select format('select %s from %s', string_agg(quote_ident(attname), ', ' order by attnum), c.oid::regclass)
		from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) and c.relkind in ('r', 'v')
		  and has_column_privilege(c.oid, attnum, 'select')
		  and relname <> 'element_types' -- takes many seconds for what other views say
		group by c.oid`
	functions = `
		select format('select * from pg_catalog.%I(%s)', proname, value)
		from pg_proc left join (
			select unnest(array['oid', 'regclass']), c.oid::text from pg_class c join pg_namespace n on n.oid = relnamespace
			where nspname = 'paldies' and relname in ('cells', 'positions', 'cells_pkey')
			union all select 'oid', oid::text from pg_database where datname = current_database()
			union all select 'name', quote_literal(current_database())
			union all select 'xid', '''3'''
			union all select unnest(array['bigint', 'xid', 'xid8']), quote_literal($1::text)
			union all select unnest(array['int8', 'xid', 'xid8']), quote_literal($1::text)
		) argument (type, value) on proargtypes[0]::regtype::text = type
		where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f' and has_function_privilege(pg_proc.oid, 'execute')
		  and (pronargs = 0 or pronargs = 1 and value is not null)`
)

func column(t *testing.T, conn *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	check(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	check(t, err)
	return list
}

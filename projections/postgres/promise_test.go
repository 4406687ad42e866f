package postgres_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

var update = flag.Bool("update", false, "write what was added to reporting_v1 into testdata")

// promise is the description of reporting_v1 that people rely on.
const promise = "testdata/reporting_v1.txt"

// description is all there is to know about the schema: views and columns, in
// their order, with their types and comments, and every right that the roles of
// reports have anywhere in the database.
const description = `
	select line from (
	select 'view ' || c.relname || ' (' || array_to_string(c.reloptions, ', ') || '): ' || obj_description(c.oid, 'pg_class'), c.relname, 0
	from pg_class c where c.relnamespace = 'reporting_v1'::regnamespace
	union all
	select '  ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || coalesce(' collate ' || nullif(l.collname, 'default'), '') || ': ' || col_description(c.oid, a.attnum), c.relname, a.attnum
	from pg_class c join pg_attribute a on a.attrelid = c.oid left join pg_collation l on l.oid = a.attcollation
	where c.relnamespace = 'reporting_v1'::regnamespace and a.attnum > 0 and not a.attisdropped
	union all
	select pg_get_userbyid(grantee) || ' may ' || lower(privilege_type) || ' ' || what, '~' || pg_get_userbyid(grantee) || what, 0
	from (
		select 'schema ' || nspname as what, nspacl as acl from pg_namespace
		union all
		select relnamespace::regnamespace || '.' || relname, relacl from pg_class
		union all
		select 'function ' || pronamespace::regnamespace || '.' || proname, proacl from pg_proc
	) objects cross join lateral aclexplode(acl)
	where pg_get_userbyid(grantee) in ('reporting_ro', 'reporting_chancellery')
	) all_of_it (line, what, number) order by what::text collate "C", number`

// TestPromise compares reporting_v1 with what is checked in. With -update it
// writes down what was added; what is gone or has changed stays a failure, for
// somebody's report reads it: that takes a reporting_v2 beside this one.
func TestPromise(t *testing.T) {
	url := pgtest.NewDatabase(t)
	open(t, url)
	_, err := postgres.Migrate(t.Context(), postgres.Config{URL: url}) // again changes nothing
	check(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer func() { check(t, conn.Close(t.Context())) }()
	rows, err := conn.Query(t.Context(), description)
	check(t, err)
	have, err := pgx.CollectRows(rows, pgx.RowTo[string]) // fails where a comment is missing
	check(t, err)
	file, err := os.ReadFile(promise)
	if *update && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	check(t, err)
	promised := strings.Split(strings.TrimRight(string(file), "\n"), "\n")
	if missing := without(promised, have); len(missing) > 0 {
		t.Fatalf("reporting_v1 no longer has, as it was promised:\n%s", strings.Join(missing, "\n"))
	}
	if slices.Equal(promised, have) {
		return
	}
	if !*update {
		t.Fatalf("%s does not have (run with -update):\n%s", promise, strings.Join(without(have, promised), "\n"))
	}
	check(t, os.WriteFile(promise, []byte(strings.Join(have, "\n")+"\n"), 0o666))
}

// without are the lines of a list that another does not have, a column's with
// the view that it belongs to.
func without(list, other []string) (lines []string) {
	whole := func(list []string) (full []string) {
		view := ""
		for _, line := range list {
			if !strings.HasPrefix(line, " ") {
				view, _, _ = strings.Cut(line, ":")
			}
			full = append(full, view+" | "+line)
		}
		return full
	}
	if len(list) == 1 && list[0] == "" {
		return nil
	}
	there := whole(other)
	for _, line := range whole(list) {
		if !slices.Contains(there, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestMissingRoles: who may not create roles is told how they are made and
// limited, and gives them their rights when somebody else has made them.
func TestMissingRoles(t *testing.T) {
	server := pgtest.NewServer(t, map[string]string{"fsync": "off"}) // roles are the server's
	url := server.URL("postgres")
	sql(t, url, `create role ligita login password '`+secret+`'`)
	sql(t, url, `create database balsis owner ligita`)
	config := postgres.Config{URL: as(t, url, "ligita", secret, "balsis")}
	limits := func(role string) []string {
		set := `alter role ` + role + ` set `
		return []string{set + `statement_timeout = '30s'`, set + `idle_in_transaction_session_timeout = '10min'`, set + `lock_timeout = '10s'`,
			set + `default_transaction_read_only = 'on'`, set + `search_path = 'reporting_v1'`}
	}
	create := func(role string) []string {
		return append([]string{`create role ` + role + ` nologin connection limit 10`}, limits(role)...)
	}
	migrate := func(refused ...string) {
		t.Helper()
		m, err := postgres.Migrate(t.Context(), config)
		if err != nil || !slices.Equal(m.Refused, refused) {
			t.Errorf("migrated %+v, %v; want %v refused", m, err, refused)
		}
	}
	migrate(append(create(public), create(chancellery)...)...)
	// Without the roles nobody is the Chancellery, and nothing is broken.
	sql(t, as(t, url, "", "", "balsis"), `select * from reporting_v1.specialist_totals`)
	sql(t, url, `create role reporting_ro nologin`)
	migrate(slices.Concat([]string{`alter role reporting_ro connection limit 10`}, limits(public), create(chancellery))...)
	sql(t, url, strings.Join(create(chancellery), "; "))
	migrate(append([]string{`alter role reporting_ro connection limit 10`}, limits(public)...)...)
	// Who may change roles limits them, and leaves what is set.
	sql(t, url, `alter role ligita createrole; alter role reporting_ro set statement_timeout = '5min'`)
	migrate()
	migrate()
	balsis := as(t, url, "", "", "balsis")
	for _, role := range []string{public, chancellery} {
		if got := reported(t, reader(t, balsis, role), "nav"); got != "" {
			t.Errorf("%s sees %s", role, got)
		}
	}
}

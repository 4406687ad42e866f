package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Roles of which logins are members. Those of reports are made by Migrate; the
// others are for who wants a login for each process, see MakeLogins. Migrate
// gives each its rights on all tables.
const (
	ProjectorRole = "paldies_projector" // writes what it counts
	ReaderRole    = "paldies_reader"    // sees all counts, as dashboards do that keep the embargo by themselves
	ReportingRole = "reporting_ro"      // sees what is public
)

// Login is a user of a server.
type Login struct {
	Name string
	// Role is that of which it is a member, or the login's own name. The owner of
	// the tables has none: it may create schemas, and so migrates.
	Role string
	// Verifier is what the server compares a password with, as in pg_authid. A
	// password itself could get into the server's log.
	Verifier string
}

var verifier = regexp.MustCompile(`^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$`)

func (l Login) validate() error {
	if !schemaName.MatchString(l.Name) || l.Role != "" && !schemaName.MatchString(l.Role) {
		return fmt.Errorf("login %q of role %q: use lower case letters, digits and underscores, at most 63", l.Name, l.Role)
	}
	if !verifier.MatchString(l.Verifier) {
		return fmt.Errorf("login %s: what the server is to compare its password with is no verifier of SCRAM-SHA-256", l.Name)
	}
	return nil
}

// MakeLogins makes the users of a server that is there for these read models only,
// or gives those that are there other passwords, and takes from them what they are
// members of besides. What everybody may by default, Postgres' "public", is taken
// away where it connects to a database or tells how much is in the tables, from
// which one could guess counts under the embargo; whom somebody has given such a
// right by name keeps it. It needs a superuser.
func MakeLogins(ctx context.Context, c Config, logins []Login) error {
	for _, l := range logins {
		if err := l.validate(); err != nil {
			return err
		}
	}
	// Whoever owns a schema can put functions and operators there that match better
	// than Postgres' own, and that a superuser who looks there first would run.
	db, err := open(ctx, c, map[string]string{"search_path": "pg_catalog"})
	if err != nil {
		return err
	}
	defer db.Close()
	var super bool
	if err := db.pool.QueryRow(ctx, `select rolsuper from pg_roles where rolname = current_user`).Scan(&super); err != nil {
		return db.explain(err)
	}
	if !super {
		return fmt.Errorf("%w: user %s may not make logins: use a superuser", ErrRefused, db.connect.User)
	}
	for _, role := range reportingRoles {
		if _, err := db.makeRole(ctx, role); err != nil {
			return db.explain(err)
		}
	}
	for range roleAttempts {
		err = db.makeLogins(ctx, logins)
		if answer := new(pgconn.PgError); !errors.As(err, &answer) || !slices.Contains(roleChanged, answer.Code) {
			return db.explain(err)
		}
	}
	return fmt.Errorf("roles were changed by others at each of %d attempts: run it again (%w)", roleAttempts, err)
}

func (db *DB) makeLogins(ctx context.Context, logins []Login) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// Two who change one role at once fail. The lock is this database's: for
		// another one of the server it is tried again.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('paldies logins', 0))`); err != nil {
			return err
		}
		statements, err := loginStatements(ctx, tx, logins)
		if err != nil {
			return err
		}
		return execAll(ctx, tx, statements)
	})
}

// loginStatements make roles, give logins their passwords and one role each, and
// take from public what MakeLogins says.
func loginStatements(ctx context.Context, tx pgx.Tx, logins []Login) (list []string, err error) {
	roles, err := texts(ctx, tx, `select rolname from pg_roles`)
	if err != nil {
		return nil, err
	}
	databases, err := texts(ctx, tx, `select quote_ident(datname) from pg_database order by datname`)
	if err != nil {
		return nil, err
	}
	var here string
	if err := tx.QueryRow(ctx, `select quote_ident(current_database())`).Scan(&here); err != nil {
		return nil, err
	}
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	create := func(role string) {
		if !slices.Contains(roles, role) {
			add("create role %s nologin", role)
			roles = append(roles, role)
		}
	}
	for _, name := range databases {
		add("revoke all on database %s from public", name)
	}
	for _, role := range append([]string{ProjectorRole, ReaderRole}, reportingRoles...) {
		create(role)
		add("grant connect on database %s to %s", here, role)
	}
	var names, groups []string
	for _, l := range logins {
		names, groups = append(names, l.Name), append(groups, l.Role)
	}
	leaving, err := texts(ctx, tx, unwanted, names, groups)
	if err != nil {
		return nil, err
	}
	list = append(list, leaving...)
	for _, l := range logins {
		create(l.Name)
		add("alter role %s login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password '%s'", l.Name, l.Verifier)
		switch l.Role {
		case "":
			add("grant connect, create on database %s to %s", here, l.Name)
		case l.Name:
		default:
			add("grant %s to %s", l.Role, l.Name)
		}
	}
	sorting, err := texts(ctx, tx, unlimited, reportingRoles)
	if err != nil {
		return nil, err
	}
	list = append(list, sorting...)
	var owners []string
	for _, l := range logins {
		if l.Role == "" {
			owners = append(owners, l.Name)
		}
	}
	closing, err := texts(ctx, tx, closedToAll, amountFunctions, lockFunctions, append(owners, ProjectorRole))
	return append(list, closing...), err
}

// unwanted are the statements that take logins ($1) out of roles that are not theirs
// ($2): an administrator's mistake, or another version's roles.
const unwanted = `
	select format('revoke %I from %I', r.rolname, m.rolname)
	from pg_auth_members join pg_roles r on r.oid = roleid join pg_roles m on m.oid = member
	join unnest($1::text[], $2::text[]) login (name, role) on name = m.rolname
	where role <> r.rolname`

// unlimited are the statements that bound what reports sort, which can then fill no
// disk, where nobody has. Only a superuser may set that.
const unlimited = `
	select format('alter role %I set temp_file_limit = ''1GB''', rolname) from pg_roles
	where rolname = any ($1) and not exists (select from unnest(rolconfig) set where set like 'temp_file_limit=%')`

const (
	// amountFunctions are those that everybody may call by default, and that tell
	// how much there is or was written, or write without a right on anything:
	// large objects and the write-ahead log. Numbers of transactions are among
	// them, for a batch is one.
	amountFunctions = `^(pg_stat_get_.*|pg_(table|indexes|relation|total_relation|database|tablespace)_size|pg_current_wal_.*|pg_control_.*|` +
		`pg_get_replication_slots|pg_last_committed_xact|pg_xact_commit_timestamp.*|txid_current.*|pg_current_xact_id.*|pg_current_snapshot|` +
		`txid_status|pg_xact_status|pg_get_multixact_members|pg_lock_status|pg_export_snapshot|` +
		`age|mxid_age|lo_.*|lowrite|pg_logical_emit_message)$`
	// lockFunctions are those by which projectors and migrations know each other.
	// Whoever holds their locks keeps them from working.
	lockFunctions = `^pg_(try_)?advisory_(xact_)?lock(_shared)?$`
	// closedToAll are the statements that leave these functions to who needs them,
	// and of the catalogs their own columns: what says what there is, but not how
	// much, nor in which transaction it was written. Everybody can write a row, with
	// alter default privileges or alter role.
	closedToAll = `
		with f as (select oid::regprocedure as name, oid, proname ~ $2 as locks from pg_proc
		           where pronamespace = 'pg_catalog'::regnamespace and (proname ~ $1 and prorettype <> 'interval'::regtype or proname ~ $2))
		select format('revoke execute on function %s from public', name) from f where has_function_privilege('public', oid, 'execute')
		union all
		select format('grant execute on function %s to %s', name, role) from f, unnest($3::text[]) role where locks
		union all
		select format('revoke select on pg_catalog.%1$I from public; grant select (%2$s) on pg_catalog.%1$I to public',
		              relname, string_agg(quote_ident(attname), ', ' order by attnum))
		from pg_class join pg_attribute on attrelid = pg_class.oid
		where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r' and has_table_privilege('public', pg_class.oid, 'select')
		  and attnum > 0 and attname not in ('relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid')
		group by relname`
)

func texts(ctx context.Context, tx pgx.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func execAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

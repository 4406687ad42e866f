package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// reportingSchema is what people with SQL read.
const reportingSchema = "reporting_v1"

// reportingRoles are for those who read it: one sees counts that are public, the
// other all. Nobody can log in as these until an administrator gives a password;
// logins of one's own are members.
var reportingRoles = []string{ReportingRole, "reporting_chancellery"}

const (
	// reportingConnections is how many can be logged in as one of the roles at
	// once. Members have limits of their own: Postgres hands down rights, not limits.
	reportingConnections = 10
	// roleAttempts is how often one looks again after others have changed a role.
	roleAttempts = 10
)

// reportingSettings bind who is logged in as one of the roles, against mistakes
// and not against intent: whoever may set them may set them again.
var reportingSettings = []struct{ name, value string }{
	{"statement_timeout", "30s"},
	{"idle_in_transaction_session_timeout", "10min"},
	{"lock_timeout", "10s"},
	{"default_transaction_read_only", "on"},
	{"search_path", reportingSchema},
}

// access is what a role may do with the tables and views of a schema.
type access struct {
	role, schema string
	privileges   []string
	definer      bool // functions that count for views, rather than those for who may read the tables
}

// grant gives the roles that there are their rights, and nothing where they have
// them. It returns the statements by which somebody else must make roles.
//
// This is not a migration: an administrator may make the roles later, and a
// database that was restored elsewhere finds other roles.
func (db *DB) grant(ctx context.Context) (refused []string, err error) {
	list := []access{
		{ProjectorRole, db.schema, []string{"select", "insert", "update", "delete"}, false},
		{ReaderRole, db.schema, []string{"select"}, false},
	}
	for _, role := range reportingRoles {
		statements, err := db.makeRole(ctx, role)
		if err != nil {
			return nil, err
		}
		refused = append(refused, statements...)
		list = append(list, access{role, reportingSchema, []string{"select"}, true})
	}
	return refused, pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// Two who grant on one object at once fail.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1, 0))`, "paldies "+reportingSchema); err != nil {
			return err
		}
		for _, a := range list {
			grants, err := texts(ctx, tx, missingGrants, a.role, a.schema, a.privileges, db.schema, a.definer, versionTable)
			if err != nil {
				return err
			}
			if err := execAll(ctx, tx, grants); err != nil {
				return err
			}
		}
		return nil
	})
}

// missingGrants are the statements that give a role what it lacks. What version
// the tables have is for Migrate alone to write.
const missingGrants = `
	with role as (select oid, quote_ident(rolname) as name from pg_roles where rolname = $1)
	select format('grant usage on schema %I to %s', nspname, role.name)
	from role, pg_namespace
	where nspname = $2 and not has_schema_privilege(role.oid, pg_namespace.oid, 'usage')
	union all
	select format('grant %s on table %s to %s', privilege, c.oid::regclass, role.name)
	from role, pg_class c, unnest($3::text[]) privilege
	where c.relnamespace = $2::text::regnamespace and c.relkind in ('r', 'v')
	  and (privilege = 'select' or c.relkind = 'r' and c.relname <> $6) and not has_table_privilege(role.oid, c.oid, privilege)
	union all
	select format('grant usage on sequence %s to %s', c.oid::regclass, role.name)
	from role, pg_class c
	where c.relnamespace = $2::text::regnamespace and c.relkind = 'S' and 'insert' = any ($3::text[])
	  and not has_sequence_privilege(role.oid, c.oid, 'usage')
	union all
	select format('grant execute on function %s to %s', f.oid::regprocedure, role.name)
	from role, pg_proc f
	where f.pronamespace = $4::text::regnamespace and f.prosecdef = $5 and not has_function_privilege(role.oid, f.oid, 'execute')`

// makeRole makes a role of reports, and limits it where nobody has. It returns
// the statements for which this user lacks the right.
func (db *DB) makeRole(ctx context.Context, role string) (refused []string, err error) {
	for range roleAttempts {
		statements, err := db.lacking(ctx, role)
		if err != nil || len(statements) == 0 {
			return nil, err
		}
		_, err = db.pool.Exec(ctx, strings.Join(statements, "; "))
		answer := new(pgconn.PgError)
		switch {
		case err == nil:
			return nil, nil
		case !errors.As(err, &answer):
			return nil, err
		case answer.Code == "42501":
			return statements, nil
		case !slices.Contains(roleChanged, answer.Code):
			return nil, err
		}
	}
	return nil, fmt.Errorf("role %s was changed by others at each of %d attempts: run paldies migrate again", role, roleAttempts)
}

// roleChanged are the answers of Postgres to who changes a role while somebody
// else does. Roles belong to the whole server, so it may be for another database.
var roleChanged = []string{"42710", "23505", "XX000", "40P01"}

// lacking are the statements that make a role what it is to be. What somebody has
// set stays as it is.
func (db *DB) lacking(ctx context.Context, role string) (statements []string, err error) {
	var connections int
	var settings []string
	err = db.pool.QueryRow(ctx, `select rolconnlimit, coalesce(rolconfig, '{}') from pg_roles where rolname = $1`, role).Scan(&connections, &settings)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		statements = append(statements, fmt.Sprintf("create role %s nologin connection limit %d", role, reportingConnections))
	case err != nil:
		return nil, err
	case connections < 0:
		statements = append(statements, fmt.Sprintf("alter role %s connection limit %d", role, reportingConnections))
	}
	for _, s := range reportingSettings {
		if !slices.ContainsFunc(settings, func(set string) bool { return strings.HasPrefix(set, s.name+"=") }) {
			statements = append(statements, fmt.Sprintf("alter role %s set %s = '%s'", role, s.name, s.value))
		}
	}
	return statements, nil
}

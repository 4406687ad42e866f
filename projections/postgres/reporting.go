package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// reportingSchema is what people with SQL read.
const reportingSchema = "reporting_v1"

// reportingRoles are for those who read it: one sees counts that are public, the
// other all. Nobody logs in by them; logins are members.
var reportingRoles = []string{"reporting_ro", "reporting_chancellery"}

// reportingFunctions count for its views, each of them one campaign.
const reportingFunctions = `reported_specialists, reported_places, reported_channels, reported_hours, reported_days`

// letReport makes the roles of reports and gives them their rights, and nothing
// where they have them. It returns the roles that somebody else must make.
//
// This is not a migration: an administrator may make the roles later, and a
// database that was restored elsewhere finds other roles.
func (db *DB) letReport(ctx context.Context) (missing []string, err error) {
	var grants []string
	for _, role := range reportingRoles {
		made, err := db.createRole(ctx, role)
		if err != nil {
			return nil, err
		}
		if !made {
			missing = append(missing, role)
			continue
		}
		can, err := db.canReport(ctx, role)
		if err != nil {
			return nil, err
		}
		if !can {
			grants = append(grants,
				fmt.Sprintf("grant usage on schema %s to %s", reportingSchema, role),
				fmt.Sprintf("grant select on all tables in schema %s to %s", reportingSchema, role),
				fmt.Sprintf("grant execute on function %s to %s", reportingFunctions, role))
		}
	}
	if len(grants) == 0 {
		return missing, nil
	}
	return missing, pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// Two who grant on one object at once fail.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1, 0))`, "paldies "+reportingSchema); err != nil {
			return err
		}
		for _, grant := range grants {
			if _, err := tx.Exec(ctx, grant); err != nil {
				return err
			}
		}
		return nil
	})
}

// createRole says whether the role is there. Roles belong to the whole server,
// where somebody may make it at the same moment for another database.
func (db *DB) createRole(ctx context.Context, role string) (made bool, err error) {
	err = db.pool.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1)`, role).Scan(&made)
	if err != nil || made {
		return made, err
	}
	_, err = db.pool.Exec(ctx, "create role "+role+" nologin")
	if refused := new(pgconn.PgError); errors.As(err, &refused) {
		switch refused.Code {
		case "42501":
			return false, nil
		case "42710", "23505":
			return true, nil
		}
	}
	return err == nil, err
}

// canReport says whether a role has all rights that it is to have.
func (db *DB) canReport(ctx context.Context, role string) (can bool, err error) {
	err = db.pool.QueryRow(ctx, `
		select has_schema_privilege($1::name, $2::text, 'usage')
		   and (select bool_and(has_table_privilege($1::name, oid, 'select')) from pg_class where relnamespace = $2::text::regnamespace)
		   and (select bool_and(has_function_privilege($1::name, oid, 'execute')) from pg_proc
		        where pronamespace = $3::text::regnamespace and prosecdef)`,
		role, reportingSchema, db.schema).Scan(&can)
	return can, err
}

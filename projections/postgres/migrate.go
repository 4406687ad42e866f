package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var embedded embed.FS

const (
	// latestVersion is the version of the tables that this program works with:
	// the number of the last file in migrations.
	latestVersion = 5
	// versionTable is where goose notes what was done.
	versionTable = "schema_version"
	// migrationWait is how long a migration waits for another one, in seconds.
	migrationWait = 60
)

// Migration says what Migrate did, in versions of the tables.
type Migration struct {
	Schema   string
	From, To int64 // 0 means that there were no tables
	// Refused are the statements that make and limit the roles of reports, as far
	// as this user may not run them. Once an administrator has, Migrate gives
	// the roles their rights.
	Refused []string
}

// Migrate makes the tables those of this program, and the schema if need be.
// It makes the schema of reports, too, and the roles that may read it, which
// belong to the whole server. Several may run at once. It needs the right to
// create in the schemas, and where they are not there the right to create them
// in the database.
//
// Tables that are newer than the program are *SchemaError.
func Migrate(ctx context.Context, c Config) (Migration, error) {
	db, err := open(ctx, c, map[string]string{"statement_timeout": "0"}) // a table may be large
	if err != nil {
		return Migration{}, err
	}
	defer db.Close()
	m := Migration{Schema: db.schema}
	if m.From, err = db.version(ctx, db.pool); err != nil {
		return Migration{}, err
	}
	if m.From > latestVersion {
		return Migration{}, &SchemaError{db.schema, m.From, latestVersion}
	}
	if err := db.createSchema(ctx); err != nil {
		return Migration{}, err
	}
	if err := db.migrate(ctx); err != nil {
		return Migration{}, fmt.Errorf("migrating schema %s: %w", db.schema, db.explainMigration(err))
	}
	if m.To, err = db.version(ctx, db.pool); err != nil {
		return Migration{}, err
	}
	m.Refused, err = db.grant(ctx)
	return m, db.explain(err)
}

func (db *DB) migrate(ctx context.Context) (err error) {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, migrationWait))
	if err != nil {
		return err
	}
	connections := stdlib.OpenDBFromPool(db.pool)
	defer func() { err = errors.Join(err, connections.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, connections, files,
		goose.WithTableName(versionTable), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// explainMigration names another remedy than explain where nothing goes on by
// itself: a migration waits for who has a table open, and then gives up.
func (db *DB) explainMigration(err error) error {
	if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "55P03" {
		return &Error{ErrUnavailable, fmt.Sprintf("somebody at %s has the tables open: let reports that take long end, then run paldies migrate again (%s)", db.address(), oneLine(refused.Message)), err}
	}
	return db.explain(err)
}

// createSchema asks first, because without the right to create schemas even
// "if not exists" is refused.
func (db *DB) createSchema(ctx context.Context) error {
	var exists bool
	err := db.pool.QueryRow(ctx, `select exists (select from pg_namespace where nspname = $1)`, db.schema).Scan(&exists)
	if err == nil && !exists {
		_, err = db.pool.Exec(ctx, "create schema if not exists "+pgx.Identifier{db.schema}.Sanitize())
		if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "23505" {
			err = nil // another migration has made it at the same moment
		}
	}
	return db.explain(err)
}

// version is that of the tables, and 0 where there are none. It names the
// schema: without it, tables that this user may not see would not be there.
func (db *DB) version(ctx context.Context, from querier) (version int64, err error) {
	table := pgx.Identifier{db.schema, versionTable}.Sanitize()
	err = from.QueryRow(ctx, `select coalesce(max(version_id), 0) from `+table+` where is_applied`).Scan(&version)
	if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "42P01" {
		return 0, nil
	}
	return version, db.explain(err)
}

func (db *DB) checkSchema(ctx context.Context, from querier) error {
	have, err := db.version(ctx, from)
	if err == nil && have != latestVersion {
		err = &SchemaError{db.schema, have, latestVersion}
	}
	return err
}

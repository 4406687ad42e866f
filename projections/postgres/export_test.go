package postgres

import (
	"context"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// MigrateBack makes the tables those of an older version.
func (db *DB) MigrateBack(ctx context.Context, version int64) (err error) {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return err
	}
	connections := stdlib.OpenDBFromPool(db.pool)
	defer func() { err = errors.Join(err, connections.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, connections, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.DownTo(ctx, version)
	return err
}

// Keyed are the tables that hold rows of read models by their keys.
func Keyed() (tables []string) {
	for _, c := range counted {
		tables = append(tables, c.table)
	}
	return append(tables, livePositions, "live", builtPositions, "retired")
}

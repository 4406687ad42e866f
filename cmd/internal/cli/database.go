package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
)

// databaseName is the flag of the read model in Postgres.
const databaseName = "database-url"

// databaseFlag adds --database-url.
func databaseFlag(cmd *cobra.Command, usage string) *string {
	return cmd.Flags().String(databaseName, "", usage+", for example postgres://user:password@host:5432/database")
}

// withDatabase runs fn with the read models at a URL. It wants the tables of
// this program.
func withDatabase(ctx context.Context, url string, fn func(context.Context, *postgres.DB) error) error {
	config, err := databaseConfig(url)
	if err != nil {
		return err
	}
	db, err := postgres.Open(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(ctx, db)
}

// databaseConfig checks a URL. The error does not repeat it, for it may hold a
// password.
func databaseConfig(url string) (postgres.Config, error) {
	config := postgres.Config{URL: url}
	if err := config.Validate(); err != nil {
		return config, usagef("--%s: %w", databaseName, err)
	}
	return config, nil
}

// databaseAddress says where a database is, without the password.
func databaseAddress(url string) string {
	c, err := pgconn.ParseConfig(url)
	if err != nil {
		return "an unreadable URL"
	}
	return fmt.Sprintf("database %s at %s", c.Database, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))))
}

// explainModel adds the remedy to an error about a read model that is not
// there.
func explainModel(err error) error {
	if errors.Is(err, projections.ErrNoCampaign) {
		return fmt.Errorf("%w: bring it up to date with `paldies project`; `paldies campaign list` shows the campaigns there are", err)
	}
	return err
}

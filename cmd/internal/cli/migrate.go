package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/projections/postgres"
)

func (a *app) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --database-url URL",
		Short: "Make the tables of the read model in Postgres, or bring them up to date",
		Long: "Make the tables of the read model in Postgres, or bring them up to date.\n\n" +
			"It needs the right to create a schema in the database. It can be run again at any\n" +
			"time and several times at once; no other command changes tables on its own, except\n" +
			"dev, which is for one machine.",
		Args: cobra.NoArgs,
	}
	url := databaseFlag(cmd, "the database (needed)")
	required(cmd, databaseName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := databaseConfig(*url)
		if err != nil {
			return err
		}
		done, err := postgres.Migrate(cmd.Context(), config)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.out, describeMigration(done, databaseAddress(*url)))
		return err
	}
	return cmd
}

func describeMigration(m postgres.Migration, where string) string {
	if m.From == m.To {
		return fmt.Sprintf("schema %s of %s has version %d already", m.Schema, where, m.To)
	}
	return fmt.Sprintf("schema %s of %s went from version %d to %d", m.Schema, where, m.From, m.To)
}

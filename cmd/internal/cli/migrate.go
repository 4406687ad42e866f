package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/projections/postgres"
)

func (a *app) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --database-url URL",
		Short: "Make the tables of the read model in Postgres, or bring them up to date",
		Long: "Make the tables of the read model in Postgres, or bring them up to date.\n\n" +
			"It needs the right to create schemas in the database: the tables' own and reporting_v1,\n" +
			"which holds the views for reports. The roles that may read those, reporting_ro and\n" +
			"reporting_chancellery, are made if this user may create roles, otherwise it says what\n" +
			"an administrator has to do.\n\n" +
			"It can be run again at any time and several times at once; no other command changes\n" +
			"tables on its own, except dev, which is for one machine.",
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
		if len(done.MissingRoles) > 0 {
			fmt.Fprint(a.err, describeMissing(done.MissingRoles))
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

// describeMissing tells what an administrator has to do for those who read
// reports.
func describeMissing(roles []string) string {
	var text strings.Builder
	text.WriteString("Nobody can read the reports of these roles, which this user may not create. Let an administrator run:\n")
	for _, role := range roles {
		fmt.Fprintf(&text, "  create role %s nologin;\n", role)
	}
	text.WriteString("Then run `paldies migrate` again, which gives them their rights.\n")
	return text.String()
}

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
			"reporting_chancellery, are made and limited if this user may do that, otherwise it says\n" +
			"what an administrator has to do. What somebody has set for them stays. Where there are\n" +
			"roles paldies_projector and paldies_reader, they may write and read the tables.\n\n" +
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
		if len(done.Refused) > 0 {
			fmt.Fprint(a.err, describeRefused(done.Refused))
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

// describeRefused tells what an administrator has to do for those who read
// reports.
func describeRefused(statements []string) string {
	var text strings.Builder
	text.WriteString("Reports are read by roles that this user may not make, or not limit. Let an administrator run:\n")
	for _, s := range statements {
		fmt.Fprintf(&text, "  %s;\n", s)
	}
	text.WriteString("Then run `paldies migrate` again, which gives them their rights.\n")
	return text.String()
}

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/schema"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [NAME]",
		Short: "Print a JSON Schema of submissions, outcomes or events, or list those there are",
		Long: "Print a JSON Schema (2020-12) of what is exchanged with other programs: a submission,\n" +
			"an outcome, or an event of the ledger by its type. Without a name it lists them.",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: schema.Names(),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := fmt.Fprintln(a.out, strings.Join(schema.Names(), "\n"))
				return err
			}
			text, err := schema.Get(args[0])
			if errors.Is(err, schema.ErrUnknown) {
				return usagef("%v; `paldies schema` lists those there are", err)
			}
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
}

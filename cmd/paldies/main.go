// Command paldies is an auditable vote ledger. `paldies help` lists what it can
// do; everything is in package cli.
package main

import (
	"os"
	_ "time/tzdata" // campaigns name time zones, and not every machine has them

	"sakipaldies.lv/ledger/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

package cli

import (
	"errors"
	"fmt"
	"testing"

	"sakipaldies.lv/ledger/projections/postgres"
)

// TestDatabaseOnce: what is wrong with the database is said once, however many
// campaigns there are, and what is wrong with a campaign is said of each.
func TestDatabaseOnce(t *testing.T) {
	full := func(campaign string) error {
		return fmt.Errorf("campaign %s: %w", campaign, &postgres.Error{Kind: postgres.ErrUnavailable, Text: "the disk is full"})
	}
	misfit := errors.New("campaign b: the ledger is shorter")
	for _, c := range []struct {
		err  error
		says string
		code int
	}{
		{misfit, "campaign b: the ledger is shorter", exitFailure},
		{errors.Join(misfit, misfit), "campaign b: the ledger is shorter\ncampaign b: the ledger is shorter", exitFailure},
		{errors.Join(full("a")), "campaign a: the database is not available: the disk is full", exitUnavailable},
		{errors.Join(full("a"), full("c"), full("d")),
			"campaign a: the database is not available: the disk is full; it is the same with 2 more of the campaigns", exitUnavailable},
		{errors.Join(full("a"), misfit, full("c")),
			"campaign b: the ledger is shorter\ncampaign a: the database is not available: the disk is full; it is the same with 1 more of the campaigns", exitUnavailable},
	} {
		got := databaseOnce(c.err)
		if got.Error() != c.says || exitCode(got) != c.code {
			t.Errorf("%v becomes %v with exit code %d; want %s with %d", c.err, got, exitCode(got), c.says, c.code)
		}
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

func (a *app) voteAnnulCommand() *cobra.Command {
	var list, decision, reason string
	cmd := &cobra.Command{
		Use:   "annul --campaign ID --file LIST.csv --decision REF --reason S",
		Short: "Remove the votes of a list under one published decision",
		Long: "Remove the votes of a list under one published decision, before or after the\n" +
			"close. LIST.csv has a column sequence, such as `paldies vote list` writes; other\ncolumns are ignored. Running it again is safe.",
		Args: cobra.NoArgs,
	}
	resumable(cmd)
	campaign := campaignFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&list, "file", "", "votes to annul (needed)")
	f.StringVar(&decision, "decision", "", "reference of the published decision (needed)")
	f.StringVar(&reason, "reason", "", "why, for the public record; no personal data (needed)")
	required(cmd, "file", "decision", "reason")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sequences, bad, err := readSequences(list)
		if err != nil {
			return err
		}
		if len(bad) > 0 {
			return a.badRows(bad, nil) // half of a decision is not to be carried out
		}
		return a.withLedger(cmd, *campaign, func(ctx context.Context, l *eventstore.Ledger) error {
			in, err := intake.New(ctx, intake.Config{Campaign: *campaign, Ledger: l, Codec: a.codec, Now: a.now})
			if err != nil {
				return err
			}
			votes, err := a.findVotes(ctx, l, sequences)
			if err != nil {
				return fmt.Errorf("%s: %w", list, err)
			}
			for i := range votes {
				votes[i].Decision, votes[i].Reason = decision, reason
			}
			return a.annul(ctx, in, votes)
		})
	}
	return cmd
}

// readSequences reads the column sequence of a list.
func readSequences(path string) ([]uint64, []*csvfile.RowError, error) {
	file, err := csvfile.Open(path, csvfile.Columns{Required: []string{"sequence"}, Ignore: true})
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() // it was only read
	var sequences []uint64
	var bad []*csvfile.RowError
	for {
		row, err := file.Next()
		if errors.Is(err, io.EOF) {
			return sequences, bad, nil
		}
		var rowErr *csvfile.RowError
		if errors.As(err, &rowErr) {
			bad = append(bad, rowErr)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		n, err := strconv.ParseUint(row.Get("sequence"), 10, 64)
		if err != nil || n == 0 {
			bad = append(bad, file.RowError(row, errors.New("sequence is not the number of an event")))
			continue
		}
		sequences = append(sequences, n)
	}
}

// findVotes finds out whose the votes are. All must be votes: a list for
// another campaign would otherwise remove other people's.
func (a *app) findVotes(ctx context.Context, l *eventstore.Ledger, sequences []uint64) ([]domain.Annulment, error) {
	wanted := make(map[uint64]bool, len(sequences))
	for _, s := range sequences {
		wanted[s] = true
	}
	votes := make([]domain.Annulment, 0, len(wanted))
	err := projections.Replay(ctx, l, a.codec, 1, 0, func(sequence uint64, e domain.Event) error {
		if d, ok := e.Data.(domain.VoteCast); ok && wanted[sequence] {
			votes = append(votes, domain.Annulment{Voter: d.Voter, Vote: sequence})
			delete(wanted, sequence)
		}
		return nil
	})
	if err == nil && len(wanted) > 0 {
		missing := slices.Sorted(maps.Keys(wanted))
		return nil, fmt.Errorf("%d of %d sequences are not votes of this campaign, the first is %d; nothing was annulled", len(missing), len(sequences), missing[0])
	}
	return votes, err
}

func (a *app) annul(ctx context.Context, in *intake.Intake, votes []domain.Annulment) error {
	start := time.Now()
	result, err := in.AnnulAll(ctx, votes)
	var invalid *intake.InvalidError
	var refusal *domain.Refusal
	switch {
	case errors.As(err, &invalid):
		return usageError{err}
	case errors.As(err, &refusal): // running it again changes nothing
		return err
	case err != nil:
		return fmt.Errorf("%d votes annulled so far, run it again to go on: %w", result.Recorded, err)
	}
	fmt.Fprintf(a.out, "%d votes: %d annulled, %d annulled before, %d not in force any more\n",
		len(votes), result.Recorded, result.Known, result.Gone)
	fmt.Fprintf(a.err, "in %s\n", time.Since(start).Round(time.Millisecond))
	return nil
}

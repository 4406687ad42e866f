package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

func (a *app) voteCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vote", Short: "Cast, retract, submit, import, list and annul votes"}
	cmd.AddCommand(a.voteSubmitCommand(domain.Vote), a.voteSubmitCommand(domain.Retract),
		a.voteQueueCommand(), a.voteImportCommand(), a.voteListCommand(), a.voteAnnulCommand())
	return cmd
}

// keyFileFlag adds --key-file.
func keyFileFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("key-file", "", "pseudonym key (default DATA/keys/ID.key)")
}

// voterFromInput as the value of --voter means a line of standard input.
const voterFromInput = "-"

// voterID is the id that --voter names.
func (a *app) voterID(flag string) (string, error) {
	if flag != voterFromInput {
		return flag, nil
	}
	const longest = int64(domain.MaxVoterIDBytes + len("\r\n")) // what is longer is refused, whole or cut off
	line, err := bufio.NewReader(io.LimitReader(a.in, longest)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the voter's id from standard input: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usagef("--voter %s: standard input has no voter's id", voterFromInput)
	}
	return line, nil
}

// submitted is a receipt with what it takes to repeat the submission.
type submitted struct {
	intake.Receipt
	SubmissionID string `json:"submission_id"`
}

// voteSubmitCommand is `vote cast` or `vote retract`.
func (a *app) voteSubmitCommand(action domain.Action) *cobra.Command {
	use, short, done := "cast", "Cast one vote", "vote recorded"
	if action == domain.Retract {
		use, short, done = "retract", "Take the voter's own vote back", "retraction recorded"
	}
	submission := intake.Command{Action: action}
	cmd := &cobra.Command{
		Use:   use + " --campaign ID --voter V --specialist S --channel C",
		Short: short,
		Long: short + ".\n\n" +
			"Other people on this machine can see a command line. For real voters write\n" +
			"--voter - and give the id as a line of standard input, or use PALDIES_VOTER or\n" +
			"PALDIES_VOTER_FILE. The id is not stored.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	keyFile := keyFileFlag(cmd)
	f := cmd.Flags()
	voter := f.String("voter", "", "the voter's id, for example lv-pk:010180-12345, or - for a line of standard input")
	f.StringVar(&submission.Specialist, "specialist", "", "id of the specialist (needed)")
	f.StringVar(&submission.Channel, "channel", "", "channel by which it came (needed)")
	f.StringVar(&submission.SubmissionID, "submission-id", "", "the channel's own id; repeating it is safe (default: a new one)")
	at := timeFlag(cmd, "cast-at", "when the voter acted, if not now")
	format := formatFlag(cmd, asTable, asJSON)
	required(cmd, "specialist", "channel")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if submission.Voter, err = a.voterID(*voter); err != nil {
			return err
		}
		submission.At = *at
		o := intakeOptions{campaign: *campaign, key: true, keyFile: *keyFile}
		return a.withIntake(cmd, o, func(ctx context.Context, in *intake.Intake) error {
			receipt, err := submit(ctx, in, submission)
			if err != nil {
				return err
			}
			if *format == asJSON {
				return printJSON(a.out, receipt)
			}
			if receipt.Known {
				done = "recorded before"
			}
			fmt.Fprintf(a.out, "%s: receipt %d of campaign %s, %s\n", done, receipt.Sequence, *campaign, domain.FormatTime(receipt.RecordedAt))
			return nil
		})
	}
	return cmd
}

// submit gives a submission an id if it has none, so that it can be repeated
// whatever happens: without one, a slip that is repeated is another slip.
func submit(ctx context.Context, in *intake.Intake, c intake.Command) (submitted, error) {
	made := c.SubmissionID == ""
	if made {
		c.SubmissionID = uuid.Must(uuid.NewV7()).String()
	}
	receipt, err := in.Submit(ctx, c)
	var invalid *intake.InvalidError
	var refusal *domain.Refusal
	switch {
	case errors.As(err, &invalid):
		err = usageError{err}
	case err != nil && made && !errors.As(err, &refusal):
		err = &unsureError{err, c.SubmissionID}
	}
	return submitted{receipt, c.SubmissionID}, err
}

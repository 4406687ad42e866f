package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

func (a *app) receiptCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "receipt", Short: "Prove to anybody that one event is in a campaign's log"}
	cmd.AddCommand(a.receiptGetCommand(), a.receiptVerifyCommand())
	return cmd
}

func (a *app) receiptGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get --campaign ID SEQUENCE",
		Short: "Print the receipt of an event: a small file that proves it without any server",
		Long: "Print the receipt of an event: the event and a C2SP tlog-proof in one small file.\n" +
			"SEQUENCE is the number that `vote cast` printed. Its customary name ends with\n" +
			".tlog-proof. An event can be proven about a second after it was recorded.",
		Args: cobra.ExactArgs(1),
	}
	campaign := campaignFlag(cmd)
	dir := logFlag(cmd, "folder of the log (default: log/ID in the data directory)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		sequence, err := strconv.ParseUint(args[0], 10, 63)
		if err != nil || sequence == 0 {
			return usagef("sequence %q: write the number of the receipt, 1 or more", args[0])
		}
		f, err := a.logFolder(*dir, *campaign)
		if err != nil {
			return err
		}
		keys, err := f.Keys()
		if errors.Is(err, os.ErrNotExist) {
			return noLog(f.Dir(), *campaign)
		}
		if err != nil {
			return err
		}
		r, err := f.Receipt(keys, sequence)
		if err != nil {
			return err
		}
		_, err = a.out.Write(r.Marshal())
		return err
	}
	return cmd
}

func (a *app) receiptVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE --key VKEY",
		Short: "Check a receipt with nothing but itself and the log's verifier key",
		Args:  cobra.ExactArgs(1),
	}
	key := verifierFlag(cmd)
	required(cmd, "key")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		keys, err := verifierKeys(*key)
		if err != nil {
			return err
		}
		campaign, err := campaignOf(keys)
		if err != nil {
			return err
		}
		data, err := a.readReceipt(args[0])
		if err != nil {
			return err
		}
		r, err := transparency.ParseReceipt(data)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errMismatch, args[0], err)
		}
		c, err := r.Verify(keys)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errMismatch, args[0], err)
		}
		e, err := a.codec.Decode(r.Entry)
		if err != nil {
			return fmt.Errorf("%w: %s: event %d is in the log, but this program cannot read it: %w", errMismatch, args[0], r.Sequence, err)
		}
		if e.Campaign != campaign {
			return fmt.Errorf("%w: %s: event %d is in the log of %s, but says that it is of %s", errMismatch, args[0], r.Sequence, campaign, e.Campaign)
		}
		return a.printReceipt(*format, r, c, e)
	}
	return cmd
}

// readReceipt reads a file, or standard input for "-".
func (a *app) readReceipt(name string) ([]byte, error) {
	if name != "-" {
		return readFile("receipt", name, transparency.MaxReceiptBytes)
	}
	return io.ReadAll(io.LimitReader(a.in, transparency.MaxReceiptBytes+1))
}

func (a *app) printReceipt(f format, r *transparency.Receipt, c transparency.Checkpoint, e domain.Event) error {
	if f == asJSON {
		return printJSON(a.out, map[string]any{"sequence": r.Sequence, "log": c.Origin, "log_size": c.Size,
			"log_root": c.Root.String(), "recorded_at": e.Time, "event": jsonValue(r.Entry)})
	}
	_, err := fmt.Fprintf(a.out, `ok    Event %d of campaign %s: %s
      recorded at %s
      It is in the log of %d events with the root %v,
      which the holder of the log's key has signed.

Proven: exactly this event stands at place %d of that log; it cannot be changed or
removed without breaking what was signed.
Not proven: that it counts (a later event may retract or annul it, and above the
close of a campaign none counts: `+"`paldies audit verify`"+` tells), and that
everybody is shown the same log (compare the root above with what others see).
`, r.Sequence, e.Campaign, plain(describe(e)), domain.FormatTime(e.Time), c.Size, c.Root, r.Sequence)
	return err
}

// describe says in a line what an event is about. No voter is more than a
// pseudonym.
func describe(e domain.Event) string {
	switch d := e.Data.(type) {
	case domain.VoteCast:
		return fmt.Sprintf("a vote for specialist %s by channel %s, of the voter with the pseudonym %s", d.Specialist, d.Channel, d.Voter)
	case domain.VoteRetracted:
		return fmt.Sprintf("the voter with the pseudonym %s takes back the vote for specialist %s (event %d)", d.Voter, d.Specialist, d.Vote.Sequence)
	case domain.VoteAnnulled:
		return fmt.Sprintf("event %d, a vote for specialist %s, is annulled under decision %s", d.Vote.Sequence, d.Specialist, d.Decision)
	default:
		return domain.Kind(e)
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
)

// maxSubmittedRows is how many rows a file may have. They are in memory all at
// once.
const maxSubmittedRows = 5_000_000

// submitOptions say what is left in the queue.
type submitOptions struct {
	campaign string
	item     queue.Item
	voter    string // the flag
	action   string
	file     string // instead of all that
	undated  bool
	wait     bool
	format   format
}

// voteQueueCommand is `vote submit`.
func (a *app) voteQueueCommand() *cobra.Command {
	var o submitOptions
	cmd := &cobra.Command{
		Use:   "submit --campaign ID (--voter V --specialist S --channel C | --file FILE.csv[.gz])",
		Short: "Leave one submission, or those of a file, in the queue",
		Long: "Leave one submission, or those of a file, in the queue. It returns as soon as they\n" +
			"are durable there; `paldies intake --queue` or `paldies dev` decides them when it\n" +
			"can, those of one voter in their order. With --wait it waits for what they say.\n\n" +
			"A file has the columns of `paldies vote import`. Submitting it again is safe: each\n" +
			"submission has one outcome. The queue holds voters' ids until it is decided on them.\n\n" +
			"For --voter the same holds as for `paldies vote cast`: write --voter - for real\n" +
			"voters and give the id as a line of standard input.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.voter, "voter", "", "the voter's id, for example lv-pk:010180-12345, or - for a line of standard input")
	f.StringVar(&o.item.Specialist, "specialist", "", "id of the specialist")
	f.StringVar(&o.item.Channel, "channel", "", "channel by which it came")
	f.StringVar(&o.item.ID, "submission-id", "", "the channel's own id; repeating it is safe (default: a new one)")
	f.StringVar(&o.action, "action", string(domain.Vote), "vote or retract")
	at := timeFlag(cmd, "cast-at", "when the voter acted, if not now; only for channel in_person")
	f.StringVar(&o.file, "file", "", "file of submissions, plain or gzip")
	f.BoolVar(&o.undated, "undated", false, "leave out the times of a file that their channel may not state: those submissions are cast when they are decided")
	f.BoolVar(&o.wait, "wait", false, "wait for the outcomes")
	notFromEnvironment(cmd, "file", "undated", "wait")
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.campaign, o.format = *campaign, *format
		if o.file != "" && cmd.Flags().Changed("action") {
			return usagef("--file takes the place of --action: each row says what it does")
		}
		if !at.IsZero() {
			o.item.CastAt = domain.FormatTime(*at)
		}
		items, err := a.submittedItems(o)
		if err != nil {
			return err
		}
		if o.file != "" {
			resumable(cmd) // Now no argument names a voter.
		}
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error { return a.leaveInQueue(ctx, n, o, items) })
	}
	return cmd
}

// submittedItems are the submissions that the flags name.
func (a *app) submittedItems(o submitOptions) ([]queue.Item, error) {
	if o.file != "" {
		if o.voter != "" || o.item != (queue.Item{}) {
			return nil, usagef("--file takes the place of --voter, --specialist, --channel, --submission-id and --cast-at")
		}
		return readSubmissions(o.file, o.undated)
	}
	if o.item.Specialist == "" || o.item.Channel == "" {
		return nil, usagef("--specialist and --channel are needed, or --file")
	}
	var err error
	if o.item.Action, err = domain.ParseAction(o.action); err != nil {
		return nil, usageError{err}
	}
	if o.item.Voter, err = a.voterID(o.voter); err != nil {
		return nil, err
	}
	if o.item.ID == "" {
		o.item.ID = uuid.Must(uuid.NewV7()).String()
	}
	if err := o.item.Check(o.campaign); err != nil {
		return nil, usageError{err}
	}
	return []queue.Item{o.item}, nil
}

// readSubmissions reads a file to its end before anything is submitted. A row
// that cannot be read ends it: what is in the queue should be the whole file.
func readSubmissions(name string, undated bool) (items []queue.Item, err error) {
	file, err := csvfile.Open(name, intake.VoteColumns)
	if err != nil {
		return nil, err
	}
	defer file.Close() // it was only read
	ambiguous := make(queue.Ambiguous)
	for {
		row, err := file.Next()
		switch {
		case errors.Is(err, io.EOF):
			return items, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w; nothing was submitted", name, err)
		case len(items) == maxSubmittedRows:
			return nil, fmt.Errorf("%s: it has more than %d rows: split it so that all rows of a voter stay together in their order", name, maxSubmittedRows)
		}
		it := queue.Item{Channel: row.Get("channel"), Submission: queue.Submission{ID: row.Get("submission_id"), Voter: row.Get("voter"),
			Specialist: row.Get("specialist_id"), Action: domain.Action(row.Get("action")), CastAt: row.Get("at")}}
		if undated && !intake.MayStateTime(it.Channel) {
			it.CastAt = ""
		}
		if err := it.Check("any"); err != nil {
			if errors.Is(err, intake.ErrStatedTime) {
				err = fmt.Errorf("%w; --undated leaves it out", err)
			}
			return nil, fmt.Errorf("%s:%d: %w; nothing was submitted", name, row.Line, err)
		}
		if ambiguous.Add(it) {
			return nil, fmt.Errorf("%s:%d: this submission id of the channel belongs to another voter above: ids must be unique, or nobody can tell the outcomes apart; nothing was submitted", name, row.Line)
		}
		items = append(items, it)
	}
}

// leaveInQueue publishes submissions and, if asked, waits for their outcomes.
func (a *app) leaveInQueue(ctx context.Context, n *node.Node, o submitOptions, items []queue.Item) error {
	l, err := a.openLedger(ctx, n, o.campaign) // It must be a campaign.
	if err != nil {
		return err
	}
	if err := errors.Join(closeLedger(l), createQueue(ctx, n), queue.CreateOutcomes(ctx, n.Conn(), o.campaign, replicas(n))); err != nil {
		return err
	}
	var waiting *queue.Waiting
	distinct := 0
	if o.wait {
		if waiting, distinct, err = queue.Await(ctx, n.Conn(), o.campaign, items); err != nil {
			return err
		}
		defer waiting.Stop()
	}
	var done atomic.Int64
	stop := a.progress("submit", int64(len(items)), done.Load)
	err = queue.Submit(ctx, n.Conn(), o.campaign, items, func(n int) { done.Add(int64(n)) })
	stop()
	if err != nil {
		return a.unsureOf(o, items, fmt.Errorf("%d of %d submissions are in the queue: %w", done.Load(), len(items), err))
	}
	if waiting == nil {
		return a.printSubmitted(o, items)
	}
	return a.awaitOutcomes(ctx, o, waiting, len(items), distinct)
}

// unsureOf tells how a single submission is repeated whose id was made here.
func (a *app) unsureOf(o submitOptions, items []queue.Item, err error) error {
	if o.file == "" && o.item.ID == "" {
		return &unsureError{err, items[0].ID}
	}
	return err
}

// submittedReport is what `vote submit` prints as JSON.
type submittedReport struct {
	Campaign     string         `json:"campaign"`
	Submitted    int            `json:"submitted"`
	SubmissionID string         `json:"submission_id,omitempty"` // of a single one
	Outcome      *queue.Outcome `json:"outcome,omitempty"`       // of a single one
	Outcomes     map[string]int `json:"outcomes,omitempty"`      // by code
	Poisoned     int            `json:"poisoned,omitzero"`
	Repeated     int            `json:"repeated,omitzero"` // rows that repeat others
}

func (a *app) printSubmitted(o submitOptions, items []queue.Item) error {
	report := submittedReport{Campaign: o.campaign, Submitted: len(items)}
	if o.file == "" {
		report.SubmissionID = items[0].ID
	}
	if o.format == asJSON {
		return printJSON(a.out, report)
	}
	if o.file == "" {
		_, err := fmt.Fprintf(a.out, "in the queue: submission %s\n", plain(items[0].ID))
		return err
	}
	_, err := fmt.Fprintf(a.out, "in the queue: %d submissions\n", len(items))
	return err
}

// awaitOutcomes waits and counts. Refusals of a file's rows are outcomes and no
// errors; of a single submission the refusal is the answer.
func (a *app) awaitOutcomes(ctx context.Context, o submitOptions, waiting *queue.Waiting, rows, distinct int) error {
	report := submittedReport{Campaign: o.campaign, Submitted: rows, Repeated: rows - distinct, Outcomes: make(map[string]int)}
	var done atomic.Int64
	var single queue.Outcome
	var poison error
	stop := a.progress("outcomes", int64(distinct), done.Load)
	err := waiting.Each(ctx, func(outcome queue.Outcome, fate error) {
		done.Add(1)
		if fate != nil {
			report.Poisoned++
			poison = fate
			return
		}
		report.Outcomes[outcome.CountedAs()]++
		single = outcome
	})
	stop()
	if err != nil {
		return fmt.Errorf("all are in the queue, and %d of %d are decided: %w", done.Load(), distinct, err)
	}
	if o.file == "" {
		return a.printOutcome(o, report, single, poison)
	}
	if err := a.printOutcomes(o, report); err != nil || poison == nil {
		return err
	}
	return fmt.Errorf("%d submissions went to the poison, the last one because %w; `paldies queue poison list` shows them", report.Poisoned, poison)
}

func (a *app) printOutcomes(o submitOptions, r submittedReport) error {
	if o.format == asJSON {
		return printJSON(a.out, r)
	}
	lines := []string{fmt.Sprintf("%d submissions: %d accepted, %d refused, %d poisoned, %d repeated", r.Submitted,
		r.Outcomes[string(queue.Accepted)], r.Submitted-r.Repeated-r.Poisoned-r.Outcomes[string(queue.Accepted)], r.Poisoned, r.Repeated)}
	for _, code := range slices.Sorted(maps.Keys(r.Outcomes)) {
		if code != string(queue.Accepted) {
			lines = append(lines, fmt.Sprintf("  %s %d", code, r.Outcomes[code]))
		}
	}
	_, err := fmt.Fprintln(a.out, strings.Join(lines, "\n"))
	return err
}

func (a *app) printOutcome(o submitOptions, r submittedReport, outcome queue.Outcome, poison error) error {
	if poison != nil {
		return fmt.Errorf("it went to the poison: %w; `paldies queue poison list` shows it", poison)
	}
	if o.format == asJSON {
		r.Outcome, r.SubmissionID, r.Outcomes = &outcome, outcome.SubmissionID, nil
		if err := printJSON(a.out, r); err != nil {
			return err
		}
	}
	if outcome.Status == queue.Refused {
		return &domain.Refusal{Code: outcome.Code, Sequence: outcome.Sequence}
	}
	if o.format == asJSON {
		return nil
	}
	_, err := fmt.Fprintf(a.out, "accepted: receipt %d of campaign %s, %s\n", outcome.Sequence, o.campaign, outcome.RecordedAt)
	return err
}

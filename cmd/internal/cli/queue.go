package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
)

func (a *app) queueCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "Look at the queue of submissions, and at those that nobody can decide"}
	cmd.AddCommand(a.queueStatusCommand(), a.queuePoisonCommand())
	return cmd
}

// queueStatus is what `queue status` prints as JSON.
type queueStatus struct {
	Pending  uint64                    `json:"pending"`
	InFlight int                       `json:"in_flight"`
	Oldest   string                    `json:"oldest,omitempty"` // when it was published
	Age      string                    `json:"oldest_age,omitempty"`
	Poison   uint64                    `json:"poison"`
	Outcomes map[string]map[string]int `json:"outcomes"` // by campaign and code
}

func (a *app) queueStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what waits in the queue, and count the outcomes by code",
		Long: "Say what waits in the queue, and count the outcomes by code. Outcomes are kept for\n" +
			fmt.Sprintf("%d days; what is decided leaves the queue within seconds.", int(queue.OutcomesKept.Hours()/24)),
		Args: cobra.NoArgs,
	}
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
			status, err := a.readQueue(ctx, n)
			if err != nil {
				return err
			}
			return a.print(*format, status.listing())
		})
	}
	return cmd
}

func (a *app) readQueue(ctx context.Context, n *node.Node) (queueStatus, error) {
	b, err := queue.ReadBacklog(ctx, n.Conn())
	if err != nil {
		return queueStatus{}, err
	}
	s := queueStatus{Pending: b.Pending, InFlight: b.InFlight, Poison: b.Poison, Outcomes: make(map[string]map[string]int)}
	if !b.Oldest.IsZero() {
		s.Oldest, s.Age = domain.FormatTime(b.Oldest), b.Age(a.now()).Round(time.Second).String()
	}
	campaigns, err := queue.CampaignsWithOutcomes(ctx, n.Conn())
	if err != nil {
		return s, err
	}
	for _, id := range campaigns {
		if s.Outcomes[id], err = queue.CountOutcomes(ctx, n.Conn(), id); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s queueStatus) listing() listing {
	l := listing{columns: []string{"what", "campaign", "submissions"}, value: s, whole: true}
	add := func(what, campaign string, n uint64) {
		l.rows = append(l.rows, []string{what, campaign, strconv.FormatUint(n, 10)})
	}
	pending := "pending"
	if s.Age != "" {
		pending += ", the oldest for " + s.Age
	}
	add(pending, "", s.Pending)
	add("in flight", "", uint64(s.InFlight))
	add("poison", "", s.Poison)
	for _, campaign := range slices.Sorted(maps.Keys(s.Outcomes)) {
		for _, code := range slices.Sorted(maps.Keys(s.Outcomes[campaign])) {
			add(code, campaign, uint64(s.Outcomes[campaign][code]))
		}
	}
	return l
}

func (a *app) queuePoisonCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "poison",
		Short: "List, show, retry or drop submissions that nobody can decide",
		Long: "List, show, retry or drop submissions that nobody can decide as they are: no JSON,\n" +
			"another schema, an unknown campaign, too large. The rest never waits for them.\n" +
			fmt.Sprintf("They are kept for %d days.", int(queue.PoisonKept.Hours()/24)),
	}
	cmd.AddCommand(a.poisonListCommand(), a.poisonShowCommand(), a.poisonRetryCommand(), a.poisonDropCommand())
	return cmd
}

// poisonedView is a submission in the poison as it is listed: without its body,
// which may hold a voter's id.
type poisonedView struct {
	ID        uint64 `json:"id"`
	Subject   string `json:"subject"`
	Submitted string `json:"submitted_at,omitempty"`
	Since     string `json:"poisoned_at"`
	Bytes     int    `json:"bytes"`
	Reason    string `json:"reason"`
}

func viewPoisoned(q queue.Poisoned) poisonedView {
	v := poisonedView{ID: q.ID, Subject: q.Subject, Since: domain.FormatTime(q.Since), Bytes: len(q.Body), Reason: q.Reason}
	if !q.Submitted.IsZero() {
		v.Submitted = domain.FormatTime(q.Submitted)
	}
	return v
}

func (a *app) poisonListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List submissions in the poison, with the reasons", Args: cobra.NoArgs}
	format := formatFlag(cmd, asTable, asCSV, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
			all, err := queue.NewPoison(n.Conn()).List(ctx)
			if err != nil {
				return err
			}
			views := []poisonedView{}
			l := listing{columns: []string{"id", "subject", "poisoned_at", "bytes", "reason"}, whole: true}
			for _, q := range all {
				v := viewPoisoned(q)
				views = append(views, v)
				l.rows = append(l.rows, []string{strconv.FormatUint(v.ID, 10), plain(v.Subject), v.Since, strconv.Itoa(v.Bytes), plain(v.Reason)})
			}
			l.value = views
			return a.print(*format, l)
		})
	}
	return cmd
}

func (a *app) poisonShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Print the body of a submission in the poison, which may hold a voter's id",
		Long: "Print the body of a submission in the poison, which may hold a voter's id. On a\n" +
			"terminal what could move its cursor is written as \\x1b or alike; in a file or a pipe\n" +
			"the body is as its channel has published it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPoisoned(cmd, args, poisonFilter{}, func(_ context.Context, _ queue.Poison, list []queue.Poisoned) error {
				body := list[0].Body
				if isTerminal(a.out) {
					body = harmless(body)
				}
				_, err := a.out.Write(body)
				return err
			})
		},
	}
}

// poisonFilter says which submissions are meant, when no ids do.
type poisonFilter struct {
	all      bool
	campaign string
}

func (f *poisonFilter) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.all, "all", false, "all that are in the poison")
	cmd.Flags().StringVar(&f.campaign, "campaign", "", "all of a campaign")
	notFromEnvironment(cmd, "all", "campaign")
}

func (a *app) poisonRetryCommand() *cobra.Command {
	var filter poisonFilter
	var body string
	cmd := &cobra.Command{
		Use:   "retry ID… | --campaign ID | --all",
		Short: "Put submissions back into the queue, when what was wrong is mended",
		Long: "Put submissions back into the queue, when what was wrong is mended, in the order in\n" +
			"which they came. They come after what the same voters have submitted meanwhile.\n\n" +
			"With --body a single one gets another body: see `paldies queue poison show`.",
	}
	filter.flags(cmd)
	cmd.Flags().StringVar(&body, "body", "", "file with the mended body, or - for standard input")
	notFromEnvironment(cmd, "body")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if body != "" && (len(args) != 1 || filter != (poisonFilter{})) {
			return usagef("--body is for a single submission, named by its id")
		}
		return a.withPoisoned(cmd, args, filter, func(ctx context.Context, p queue.Poison, list []queue.Poisoned) (err error) {
			if body != "" {
				if list[0].Body, err = a.readBody(body); err != nil {
					return err
				}
			}
			n, err := p.Retry(ctx, list)
			if n > 0 || err == nil {
				_, printed := fmt.Fprintf(a.out, "%d submissions are in the queue again\n", n)
				err = errors.Join(err, printed)
			}
			return err
		})
	}
	return cmd
}

// readBody reads a mended body, which the queue will refuse if it is too large.
func (a *app) readBody(name string) ([]byte, error) {
	if name != "-" {
		return os.ReadFile(name)
	}
	return io.ReadAll(io.LimitReader(a.in, 1<<20))
}

func (a *app) poisonDropCommand() *cobra.Command {
	var filter poisonFilter
	cmd := &cobra.Command{
		Use:   "drop ID… | --campaign ID | --all",
		Short: "Remove submissions from the poison for good",
	}
	filter.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withPoisoned(cmd, args, filter, func(ctx context.Context, p queue.Poison, list []queue.Poisoned) error {
			if err := p.Drop(ctx, list); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.out, "%d submissions were dropped\n", len(list))
			return err
		})
	}
	return cmd
}

// withPoisoned runs fn with the submissions in the poison that are meant.
func (a *app) withPoisoned(cmd *cobra.Command, args []string, f poisonFilter, fn func(context.Context, queue.Poison, []queue.Poisoned) error) error {
	if named := len(args) > 0; named == (f != poisonFilter{}) || f.all && f.campaign != "" {
		return usagef("name submissions by their ids, or use --campaign or --all; see `%s --help`", cmd.CommandPath())
	}
	var ids []uint64
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || id == 0 {
			return usagef("%q is no id; `paldies queue poison list` shows those there are", arg)
		}
		ids = append(ids, id)
	}
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
		p := queue.NewPoison(n.Conn())
		list, err := f.choose(ctx, p, ids)
		if err != nil {
			return err
		}
		return fn(ctx, p, list)
	})
}

func (f poisonFilter) choose(ctx context.Context, p queue.Poison, ids []uint64) (list []queue.Poisoned, err error) {
	if f == (poisonFilter{}) {
		var errs []error
		for _, id := range ids {
			q, err := p.Get(ctx, id)
			list, errs = append(list, q), append(errs, err)
		}
		return list, errors.Join(errs...)
	}
	all, err := p.List(ctx)
	for _, q := range all {
		if f.all || strings.HasPrefix(q.Subject, queue.SubmissionsOf(f.campaign)) {
			list = append(list, q)
		}
	}
	return list, err
}

package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

// velocityOptions are the flags of `audit velocity`.
type velocityOptions struct {
	campaign string
	dir      string // of a log; empty for the ledger itself
	moment   audit.Moment
	rule     audit.BurstRule
	format   format
}

func (a *app) auditVelocityCommand() *cobra.Command {
	o := velocityOptions{moment: audit.RecordedAt, rule: audit.BurstRule{Hours: 1, Minimum: 20, Factor: 5, Top: 20}}
	cmd := &cobra.Command{
		Use:   "velocity --campaign ID | velocity --log DIR",
		Short: "Find bursts of votes for a specialist, for `vote list` and `vote annul`",
		Long: "Find hours in which more votes came in for a specialist by a channel than both\n" +
			"the specialist's own other hours (expected_own) and the votes for all others in\n" +
			"the same hours (expected_peers) let expect; so a rush of the whole campaign is no\n" +
			"burst. The least probable comes first; log10_p is the power of ten of its\n" +
			"probability, by exact tests that `go doc ./cmd/internal/audit Velocity.Bursts`\n" +
			"names. People come in bunches: it puts bursts into an order and proves nothing.\n\n" +
			"Votes count as they came in, whatever became of them. What was handed over late,\n" +
			"such as paper slips, was recorded in bursts: look at it by --time cast_at too.\n\n" +
			"With -o csv and json each row has the command that lists its votes:\n\n" +
			"  paldies audit velocity --campaign 2018\n" +
			"  paldies vote list --campaign 2018 --specialist anna-zvirbule --channel web \\\n" +
			"    --recorded-from 2018-05-04T03:00+03:00 --recorded-to 2018-05-04T04:00+03:00 > list.csv\n" +
			"  paldies vote annul --campaign 2018 --file list.csv --decision REF --reason TEXT",
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.campaign, "campaign", "", "id of the campaign")
	dir := logFlag(cmd, "a log's folder to read instead of the ledger; no server is needed")
	f.StringVar(&o.rule.Specialist, "specialist", "", "only bursts for this specialist")
	f.IntVar(&o.rule.Hours, "hours", o.rule.Hours, fmt.Sprintf("length of a window in hours, at most %d", audit.MaxBurstHours))
	f.IntVar(&o.rule.Top, "top", o.rule.Top, fmt.Sprintf("most bursts to show, at most %d", audit.MaxBursts))
	f.Float64Var(&o.rule.Factor, "factor", o.rule.Factor, "how many times as many votes as expected are a burst")
	f.Int64Var(&o.rule.Minimum, "minimum", o.rule.Minimum, "fewest votes that are a burst")
	by := f.String("time", string(o.moment), "count votes by when they were recorded_at or cast_at")
	notFromEnvironment(cmd, "specialist", "hours", "top", "factor", "minimum", "time")
	format := formatFlag(cmd, asTable, asCSV, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.dir, o.format = *dir, *format
		if err := o.rule.Validate(); err != nil {
			return usageError{err}
		}
		var err error
		if o.moment, err = audit.ParseMoment(*by); err != nil {
			return usagef("--time: %v", err)
		}
		return a.onEvents(cmd, o.campaign, o.dir, func(ctx context.Context, l audit.Ledger, last uint64) error {
			return a.velocity(ctx, l, last, o)
		})
	}
	return cmd
}

func (a *app) velocity(ctx context.Context, l audit.Ledger, last uint64, o velocityOptions) error {
	v := audit.NewVelocity(o.moment)
	var counted atomic.Int64
	stop := a.progress("count", int64(last), counted.Load)
	err := projections.Replay(ctx, l, a.codec, 1, last, func(sequence uint64, e domain.Event) error {
		counted.Store(int64(sequence))
		return v.Apply(sequence, e)
	})
	stop()
	if err != nil {
		return err
	}
	campaign := v.Register().Campaign()
	if campaign.ID == "" {
		return fmt.Errorf("%s: %w", cmp.Or(o.dir, "campaign "+o.campaign), audit.ErrNotOpened)
	}
	if _, ok := v.Register().Specialist(o.rule.Specialist); !ok && o.rule.Specialist != "" {
		return usagef("--specialist: %s is not registered in campaign %s", plain(o.rule.Specialist), campaign.ID)
	}
	zone, err := time.LoadLocation(campaign.Timezone)
	if err != nil {
		return fmt.Errorf("the campaign's time zone: %w", err)
	}
	found, err := v.Bursts(ctx, o.rule)
	if err != nil {
		return err
	}
	if found.Cut {
		fmt.Fprintf(a.err, "there may be more bursts for %s: the search ended after %d bursts for anybody; a greater --minimum or --factor leaves out the smaller ones\n",
			o.rule.Specialist, audit.MaxBursts)
	}
	if err := a.print(o.format, o.listing(v.Register(), found.Bursts, zone)); err != nil || o.format != asTable {
		return err
	}
	_, err = fmt.Fprintf(a.out, "\n%d bursts in %d windows of %d h by %s, as of event %d\n", len(found.Bursts), found.Windows, o.rule.Hours, o.moment, v.Register().Position())
	return err
}

// listing is bursts with their hours in the campaign's time zone, and for programs
// the command that lists a burst's votes: a table with it would be too wide.
func (o velocityOptions) listing(register *domain.Register, bursts []audit.Burst, zone *time.Location) listing {
	l := listing{columns: []string{"specialist_id", "name", "channel", "from", "to", "votes", "expected_own", "expected_peers", "log10_p"}}
	if o.format == asCSV {
		l.columns = append(l.columns, "vote_list")
	}
	since, until := "--recorded-from", "--recorded-to"
	if o.moment == audit.CastAt {
		since, until = "--from", "--to"
	}
	objects := make([]map[string]any, 0, len(bursts))
	for _, b := range bursts {
		name := ""
		if s, ok := register.Specialist(b.Specialist); ok {
			name = s.Name
		}
		from, to := b.From.In(zone).Format(domain.HourLayout), b.To.In(zone).Format(domain.HourLayout)
		selection := fmt.Sprintf("paldies vote list --campaign %s --specialist %s --channel %s %s %s %s %s", register.Campaign().ID, b.Specialist, b.Channel, since, from, until, to)
		row := []string{b.Specialist, name, b.Channel, from, to, strconv.FormatInt(b.Votes, 10),
			fmt.Sprintf("%.1f", b.Own), fmt.Sprintf("%.1f", b.Peers), strconv.Itoa(int(b.Log10P)), selection}
		l.rows = append(l.rows, row[:len(l.columns)])
		objects = append(objects, map[string]any{"specialist_id": b.Specialist, "name": name, "channel": b.Channel,
			"from": from, "to": to, "votes": b.Votes, "expected_own": math.Round(b.Own*10) / 10,
			"expected_peers": math.Round(b.Peers*10) / 10, "log10_p": int(b.Log10P), "vote_list": selection})
	}
	l.value = objects
	return l
}

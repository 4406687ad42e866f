package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/load"
	"sakipaldies.lv/ledger/domain"
)

// benchDuration is how long is measured when nothing says how much is sent.
const benchDuration = 30 * time.Second

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure how fast a running system is, and check that it keeps its word"}
	cmd.AddCommand(a.benchIntakeCommand())
	return cmd
}

func (a *app) benchIntakeCommand() *cobra.Command {
	var c load.Config
	cmd := &cobra.Command{
		Use:   "intake [--url URL --campaign ID]",
		Short: "Send made-up votes to the HTTP intake, and check that each is in the ledger once",
		Long: "Send votes of made-up voters (bench:…) to the HTTP intake, measure the answers, and\n" +
			"check at the end that every acknowledged vote is in the ledger exactly once. With\n" +
			"--url the votes stay in the ledger: use a campaign of their own. Without it the bench\n" +
			"runs an intake and its ledger itself, in a temporary folder (TMPDIR says on which\n" +
			"disk) that it removes at the end.\n\n" +
			"Without --rate each of --clients sends its next vote when it has its answer (closed\n" +
			"loop). With --rate requests are due at planned times, whatever the server does (open\n" +
			"loop); latency counts from the planned time, so that a server that stalls cannot hide\n" +
			"who had to wait. --clients are then the most requests that are out at once.\n\n" +
			"--repeats send an earlier vote with a new key, which must be refused as already_voted\n" +
			"with the sequence of that vote; --retries send an earlier request again, which must\n" +
			"get the same body. 429, 503 and broken connections are tried again with the same key.\n" +
			"All that the API promises otherwise is checked: exit code 3 says that something was\n" +
			"found, and it is listed.\n\n" +
			"The same --seed sends the same votes, of voters with new names. The token is better\n" +
			"given as PALDIES_TOKEN_FILE than as --token, which others see in the list of processes.\n" +
			"Memory: 40 bytes for each new vote.",
		Args: cobra.NoArgs,
	}
	loadFlags(cmd, &c)
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := benchTarget(cmd, &c); err != nil {
			return err
		}
		if c.Votes == 0 && !cmd.Flags().Changed("duration") {
			c.Duration = benchDuration
		}
		if err := c.Validate(); err != nil {
			return usagef("%v; see `%s --help`", err, cmd.CommandPath())
		}
		c.Progress = a.progress
		if !cmd.Flags().Changed("url") {
			return a.onBenchNode(cmd, func(ctx context.Context, url, token string) error {
				c.URL, c.Token = url, token
				return a.benchIntake(ctx, c, *format)
			})
		}
		return a.benchIntake(cmd.Context(), c, *format)
	}
	return cmd
}

func loadFlags(cmd *cobra.Command, c *load.Config) {
	f := cmd.Flags()
	f.StringVar(&c.URL, "url", "", "the intake's server, for example http://127.0.0.1:8080 (default: one of its own)")
	f.StringVar(&c.Campaign, "campaign", "", "id of the campaign (needed with --url)")
	f.StringVar(&c.Token, "token", "", "token of the channel (needed with --url)")
	f.IntVar(&c.Clients, "clients", load.DefaultClients, "requests that are out at once")
	f.IntVar(&c.Connections, "connections", 0, "connections that are kept, at most; 0: one a client")
	f.Float64Var(&c.Rate, "rate", 0, "open loop: requests per second; 0: closed loop")
	f.BoolVar(&c.Poisson, "poisson", false, "open loop: random arrivals (Poisson) instead of even ones")
	f.DurationVar(&c.WarmUp, "warm-up", 3*time.Second, "time before anything is measured")
	f.DurationVar(&c.Duration, "duration", 0, "time that is measured (30s unless --votes is given)")
	f.IntVar(&c.Votes, "votes", 0, "new votes that are measured; with --duration, what ends first")
	f.IntVar(&c.Voters, "voters", load.DefaultVoters, "different voters")
	f.Float64Var(&c.Repeats, "repeats", 0, "share of requests that repeat an earlier vote with a new key")
	f.Float64Var(&c.Retries, "retries", 0, "share of requests that are sent again with their own key")
	f.Uint64Var(&c.Seed, "seed", 0, "what is sent follows from it; 0: a new one, which is printed")
	f.IntVar(&c.Attempts, "attempts", load.DefaultAttempts, "how often one request is sent at most")
	f.DurationVar(&c.Timeout, "timeout", load.DefaultTimeout, "for one attempt")
	f.BoolVar(&c.SkipCheck, "skip-check", false, "do not compare the ledger with what was acknowledged")
	notFromEnvironment(cmd, "skip-check") // nobody leaves out the check without saying so
}

// benchTarget is the place that decides against what a run goes.
func benchTarget(cmd *cobra.Command, c *load.Config) error {
	switch {
	case c.URL == "" && (c.Campaign != "" || c.Token != ""):
		return usagef("--campaign and --token go with --url; see `%s --help`", cmd.CommandPath())
	case c.URL == "":
		c.URL, c.Campaign = "http://127.0.0.1", benchCampaign // until it is known where
		return nil
	case c.Campaign == "":
		return usagef("--campaign is needed with --url; see `%s --help`", cmd.CommandPath())
	case strings.TrimSpace(c.Token) == "":
		return usagef("a token is needed: PALDIES_TOKEN_FILE names a file with it, or use --token")
	}
	if err := domain.ValidateCampaignID(c.Campaign); err != nil {
		return usagef("%v", err)
	}
	return nil
}

// benchIntake prints what there is to print also when the check could not be
// finished.
func (a *app) benchIntake(ctx context.Context, c load.Config, f format) error {
	r, err := load.Run(ctx, c)
	if err != nil && r.Check == nil {
		return err
	}
	if err := errors.Join(err, a.printLoad(f, r)); err != nil {
		return err
	}
	if n := r.Discrepancies.Total; n > 0 {
		return fmt.Errorf("%w: %d of what the API promises", errMismatch, n)
	}
	return nil
}

func (a *app) printLoad(f format, r load.Report) error {
	if f == asJSON {
		return printJSON(a.out, r)
	}
	if err := a.printLines(loadLines(r)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	if err := a.print(asTable, latencyListing(r.Latency)); err != nil {
		return err
	}
	return a.printDiscrepancies(r.Discrepancies)
}

// loadLines are the figures of a run but the latencies.
func loadLines(r load.Report) [][2]string {
	p, c := r.Parameters, r.Counts
	loop := fmt.Sprintf("closed loop of %d clients", p.Clients)
	if p.Rate > 0 {
		arrivals := "even"
		if p.Poisson {
			arrivals = "random"
		}
		loop = fmt.Sprintf("open loop of %g requests/s, %s, at most %d at once", p.Rate, arrivals, p.Clients)
	}
	lines := [][2]string{
		{"target", fmt.Sprintf("%s, campaign %s", p.URL, p.Campaign)},
		{"load", fmt.Sprintf("%s on %d connections, %d voters, %d specialists", loop, p.Connections, p.Voters, p.Specialists)},
		{"seed", fmt.Sprintf("%d (voters bench:%s-…)", p.Seed, p.Run)},
		{"measured", fmt.Sprintf("%.1f s after %.1f s, ended by %s", r.Seconds, p.WarmUp, r.Ended)},
		{"requests", fmt.Sprintf("%.0f/s: %d votes, %d repeats, %d retries", r.RequestsPerSecond, c.Votes, c.Repeats, c.Retries)},
		{"accepted", fmt.Sprintf("%.0f/s: %d votes", r.AcceptedPerSecond, c.Accepted)},
		{"refused", countCodes(c.Refused)},
		{"unexpected", strconv.FormatInt(c.Unexpected, 10)},
		{"resent", fmt.Sprintf("%d too many, %d unavailable, %d without answer; %d given up", r.Resent.Throttled, r.Resent.Busy, r.Resent.NoAnswer, c.GivenUp)},
	}
	return append(lines, [2]string{"check", checkLine(r)})
}

// countCodes names refusals in an order that does not change.
func countCodes(codes map[string]int64) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		parts = append(parts, fmt.Sprintf("%d %s", codes[code], plain(code)))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func checkLine(r load.Report) string {
	c := r.Check
	switch {
	case c == nil:
		return "none was asked for"
	case !c.Complete:
		return fmt.Sprintf("NOT COMPLETE: %d voters read, %d acknowledged votes compared", c.Voters, c.Votes)
	}
	verdict := "each is in the ledger exactly once"
	if n := r.Discrepancies.Total; n > 0 {
		verdict = fmt.Sprintf("%d DISCREPANCIES", n)
	}
	line := fmt.Sprintf("%d acknowledged votes of %d voters: %s", c.Votes, c.Voters, verdict)
	if n := c.Resolved + c.Unknown; n > 0 {
		line += fmt.Sprintf("; %d of unknown outcome, of which %d are in it", n, c.Resolved)
	}
	return line
}

func latencyListing(l load.Latencies) listing {
	rows := listing{columns: []string{"latency (ms)", "requests", "p50", "p90", "p99", "p99.9", "max"}}
	ms := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
	add := func(name string, d load.Latency) {
		if d.Requests > 0 {
			rows.rows = append(rows.rows, []string{name, strconv.FormatInt(d.Requests, 10), ms(d.P50), ms(d.P90), ms(d.P99), ms(d.P999), ms(d.Max)})
		}
	}
	add("all", l.All)
	add("votes", l.Votes)
	add("repeats", l.Repeats)
	add("retries", l.Retries)
	add("(sent late)", l.SendDelay)
	return rows
}

// printDiscrepancies lists what was found, as far as it is listed.
func (a *app) printDiscrepancies(d load.Discrepancies) error {
	if d.Total == 0 {
		return nil
	}
	var text strings.Builder
	for _, found := range d.Listed {
		fmt.Fprintf(&text, "\n%s: voter %s, specialist %s", found.Kind, found.Voter, plain(found.Specialist))
		if found.Sequence != 0 {
			fmt.Fprintf(&text, ", sequence %d", found.Sequence)
		}
		if found.Key != "" {
			fmt.Fprintf(&text, ", key %s", found.Key)
		}
		fmt.Fprintf(&text, "\n  %s", plain(found.Detail))
	}
	if more := d.Total - int64(len(d.Listed)); more > 0 {
		fmt.Fprintf(&text, "\n… and %d more", more)
	}
	_, err := io.WriteString(a.out, text.String()+"\n")
	return err
}

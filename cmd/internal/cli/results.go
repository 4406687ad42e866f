package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
)

// bySpecialist is the key of results that have standings.
const bySpecialist = "specialist"

func (a *app) resultsCommand() *cobra.Command {
	var by string
	var asOf uint64
	cmd := &cobra.Command{
		Use:   "results --campaign ID",
		Short: "Count the votes, now or as of an earlier moment",
		Long: "Count the votes, now or as of an earlier moment.\n\n" +
			"Votes of all channels count; voters are those that a channel with an identity knows.\n" +
			"Institutions and branches have the votes for their specialists at the time of the vote.\n\n" +
			"With --database-url the read model in Postgres answers at once, as of the event up to\n" +
			"which it is built; the past is always counted from the ledger.",
		Args: cobra.NoArgs,
	}
	campaign := campaignFlag(cmd)
	cmd.Flags().StringVar(&by, "by", bySpecialist, "specialist, institution, branch, region, channel, day or hour")
	cmd.Flags().Uint64Var(&asOf, "as-of-sequence", 0, "count only the first N events")
	at := timeFlag(cmd, "as-of-time", "count only events before the first one recorded after this moment")
	url := databaseFlag(cmd, "read the read model in Postgres instead of counting the ledger")
	format := formatFlag(cmd, asTable, asJSON, asCSV)
	cmd.AddCommand(a.resultsAwardsCommand(), a.resultsDecideCommand(), a.resultsCertifyCommand(), a.resultsPublishCommand())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := new(domain.Tally).Groups(domain.GroupBy(by), time.UTC); by != bySpecialist && err != nil {
			return usagef("--by: %v", err)
		}
		if cmd.Flags().Changed("as-of-sequence") && !at.IsZero() {
			return usagef("--as-of-sequence and --as-of-time exclude each other")
		}
		if cmd.Flags().Changed("as-of-sequence") && asOf == 0 {
			return usagef("--as-of-sequence: the first event has number 1")
		}
		if *url != "" && (asOf != 0 || !at.IsZero()) {
			return usagef("the past is counted from the ledger: leave out --%s and PALDIES_DATABASE_URL, or --as-of-sequence and --as-of-time", databaseName)
		}
		if *url != "" {
			return a.resultsOfModel(cmd, *url, *campaign, *format, by)
		}
		return a.withLedger(cmd, *campaign, func(ctx context.Context, l *eventstore.Ledger) error {
			tally, err := a.tally(ctx, l, asOf, *at)
			if err != nil {
				return err
			}
			c, err := countedBy(tally, by)
			if err != nil {
				return err
			}
			return a.printResults(*format, c)
		})
	}
	return cmd
}

// errAsOf ends a replay at the asked moment.
var errAsOf = errors.New("the asked moment is reached")

// checkAsOf refuses a sequence that the ledger has not reached.
func checkAsOf(asOf uint64, info eventstore.Info) error {
	if asOf > info.Last {
		return usagef("--as-of-sequence %d: the ledger has %d events", asOf, info.Last)
	}
	return nil
}

// tally folds the ledger up to a sequence or a moment; zero is the end.
func (a *app) tally(ctx context.Context, l *eventstore.Ledger, asOf uint64, at time.Time) (*domain.Tally, error) {
	info, err := l.Info(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkAsOf(asOf, info); err != nil {
		return nil, err
	}
	tally := new(domain.Tally)
	var counted atomic.Int64
	stop := a.progress("count", int64(info.Last), counted.Load)
	defer stop()
	err = projections.Replay(ctx, l, a.codec, 1, asOf, func(sequence uint64, e domain.Event) error {
		counted.Store(int64(sequence))
		if !at.IsZero() && e.Time.After(at) {
			return errAsOf
		}
		_, err := tally.Apply(sequence, e)
		return err
	})
	if errors.Is(err, errAsOf) {
		err = nil
	}
	if err == nil && tally.Position() == 0 && at.IsZero() {
		campaign, _ := domain.CampaignOfStream(info.Stream)
		return nil, fmt.Errorf("campaign %s: %w", campaign, intake.ErrNotOpened)
	}
	if err == nil && tally.Position() == 0 {
		return nil, usagef("--as-of-time %s: the campaign was not open yet", domain.FormatTime(at))
	}
	return tally, err
}

// resultsView is results for programs.
type resultsView struct {
	Campaign     string           `json:"campaign"`
	Status       domain.Status    `json:"status"`
	AsOfSequence uint64           `json:"as_of_sequence"`
	AsOfTime     time.Time        `json:"as_of_time"`
	Votes        int64            `json:"votes"`
	Voters       int64            `json:"voters"`
	By           string           `json:"by"`
	Results      []map[string]any `json:"results"`
}

// counted is the results by one key, wherever they were counted.
type counted struct {
	campaign  *domain.Campaign
	sequence  uint64 // of the last event that counts
	asOf      time.Time
	votes     int64
	voters    int64
	by        string
	standings []domain.Standing // by specialist
	groups    []domain.Group    // by any other key
}

// countedBy is a tally by a key.
func countedBy(t *domain.Tally, by string) (counted, error) {
	c := counted{campaign: t.Register().Campaign(), sequence: t.Position(), asOf: t.AsOf(), votes: t.Votes(), voters: t.Voters(), by: by}
	if by == bySpecialist {
		c.standings = t.Standings()
		return c, nil
	}
	zone, err := time.LoadLocation(c.campaign.Timezone)
	if err != nil {
		return c, fmt.Errorf("the campaign's time zone: %w", err)
	}
	c.groups, err = t.Groups(domain.GroupBy(by), zone)
	return c, err
}

// resultsOfModel prints what the read model in Postgres says. No node is asked.
func (a *app) resultsOfModel(cmd *cobra.Command, url, campaign string, f format, by string) error {
	if err := domain.ValidateCampaignID(campaign); err != nil {
		return usagef("%v", err)
	}
	return withDatabase(cmd.Context(), url, func(ctx context.Context, db *postgres.DB) error {
		var c counted
		err := db.Read(ctx, campaign, func(r projections.Results) error {
			s, err := r.Summary(ctx)
			if err != nil {
				return err
			}
			c = counted{campaign: &s.Campaign, sequence: s.Position.Sequence, asOf: s.Position.RecordedAt, votes: s.Votes, voters: s.Voters, by: by}
			if by == bySpecialist {
				c.standings, err = r.Standings(ctx)
			} else {
				c.groups, err = r.Groups(ctx, domain.GroupBy(by))
			}
			return err
		})
		if err != nil {
			return explainModel(err)
		}
		return a.printResults(f, c)
	})
}

func (a *app) printResults(f format, c counted) error {
	l, objects := c.rows()
	l.value = resultsView{Campaign: c.campaign.ID, Status: c.campaign.Status, AsOfSequence: c.sequence, AsOfTime: c.asOf,
		Votes: c.votes, Voters: c.voters, By: c.by, Results: objects}
	if err := a.print(f, l); err != nil || f != asTable {
		return err
	}
	_, err := fmt.Fprintf(a.out, "\n%d votes of %d voters, as of event %d at %s\n", c.votes, c.voters, c.sequence, domain.FormatTime(c.asOf))
	return err
}

func (c counted) rows() (l listing, objects []map[string]any) {
	objects = []map[string]any{}
	if c.by == bySpecialist {
		l.columns = []string{"rank", "specialist_id", "name", "institution", "branch", "region", "votes", "voters"}
		for _, s := range c.standings {
			sp := s.Specialist
			l.rows = append(l.rows, []string{rank(s.Rank), sp.ID, sp.Name, sp.Institution, sp.Branch, sp.Region,
				strconv.FormatInt(s.Votes, 10), strconv.FormatInt(s.Voters, 10)})
			objects = append(objects, map[string]any{"rank": rankValue(s.Rank), "specialist_id": sp.ID, "name": sp.Name,
				"institution": sp.Institution, "branch": sp.Branch, "region": sp.Region, "votes": s.Votes, "voters": s.Voters})
		}
		return l, objects
	}
	keys := domain.GroupBy(c.by).Columns()
	l.columns = append(append([]string{"rank"}, keys...), "votes")
	for _, g := range c.groups {
		l.rows = append(l.rows, append(append([]string{rank(g.Rank)}, g.Keys...), strconv.FormatInt(g.Votes, 10)))
		object := map[string]any{"rank": rankValue(g.Rank), "votes": g.Votes}
		for i, key := range keys {
			object[key] = g.Keys[i]
		}
		objects = append(objects, object)
	}
	return l, objects
}

// rank is empty for who is unranked.
func rank(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// rankValue is null for who is unranked.
func rankValue(n int) any {
	if n == 0 {
		return nil
	}
	return n
}

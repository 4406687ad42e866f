package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

func (a *app) resultsAwardsCommand() *cobra.Command {
	var asOf uint64
	cmd := &cobra.Command{
		Use:   "awards --campaign ID [--rules FILE]",
		Short: "Say who is honoured by the award rule, and what decided each boundary",
		Long: "Say who gets awards and letters of gratitude, and what decided each boundary: by the\n" +
			"rule and for the results that were certified last, or with --rules by any rule for\n" +
			"what is counted now. All who tie at a boundary win, unless a recorded decision chose.\n\n" +
			"-o csv has a row for each winner (outcome: honoured) with what decided the boundary of\n" +
			"the award, a row without a winner for an award that nobody gets (nobody), and a row\n" +
			"for everybody who would have won but was withdrawn (passed_over).",
		Args: cobra.NoArgs,
	}
	campaign, rules := campaignFlag(cmd), rulesFlag(cmd)
	language := languageFlag(cmd, "of -o md, and of the boundaries in -o csv: ")
	cmd.Flags().Uint64Var(&asOf, "as-of-sequence", 0, "know only the first N events; 0 for all")
	notFromEnvironment(cmd, "as-of-sequence")
	format := formatFlag(cmd, asTable, asCSV, asJSON, asMarkdown)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := report.ParseLanguage(*language)
		if err != nil {
			return usagef("--lang: %v", err)
		}
		rule, err := readRule(*rules)
		if err != nil {
			return err
		}
		return a.withLedger(cmd, *campaign, func(ctx context.Context, ledger *eventstore.Ledger) error {
			s, err := a.source(ctx, ledger, asOf)
			if err != nil {
				return err
			}
			awards, err := a.awards(ctx, s, rule)
			switch {
			case err != nil:
				return err
			case *format == asMarkdown:
				return awards.Markdown(a.out, l)
			}
			return a.printAwards(*format, l, awards)
		})
	}
	return cmd
}

// languageFlag adds --lang.
func languageFlag(cmd *cobra.Command, what string) *string {
	return cmd.Flags().String("lang", string(report.Latvian), what+"lv or en")
}

// awards are by a rule, or by the certified one when it is nil.
func (a *app) awards(ctx context.Context, s report.Source, rule *domain.AwardRule) (*report.Awards, error) {
	stop := a.progress("count", 0, s.Read.Load) // certified results are counted again
	awards, err := report.MakeAwards(ctx, s, rule)
	stop()
	if errors.Is(err, report.ErrNoRule) {
		return nil, usagef("%v; name one with --rules", err)
	}
	return awards, err
}

func (a *app) printAwards(f format, language report.Language, awards *report.Awards) error {
	if f == asCSV {
		l, err := awardsListing(awards, language)
		if err != nil {
			return err
		}
		return a.print(f, l)
	}
	l := listing{columns: []string{"award", "rank", "specialist_id", "name", "institution", "branch", "region", "votes"}, value: awards}
	for _, p := range awards.Prizes {
		for _, w := range p.Winners {
			l.rows = append(l.rows, []string{string(w.Award), rank(w.Rank), w.Specialist, w.Name, w.Institution, w.Branch, w.Region, strconv.FormatInt(w.Votes, 10)})
		}
	}
	if err := a.print(f, l); err != nil || f != asTable {
		return err
	}
	fmt.Fprintln(a.out)
	for _, p := range awards.Prizes {
		boundary, err := p.Boundary(report.English)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s: %s\n", p.Award, plain(boundary))
	}
	for _, h := range awards.PassedOver {
		fmt.Fprintf(a.out, "%s: %s would have been honoured with %d votes, and was withdrawn\n", h.Award, h.Specialist, h.Votes)
	}
	by := "the rule of --rules"
	if awards.Event != 0 {
		by = fmt.Sprintf("the rule that event %d certifies", awards.Event)
	}
	_, err := fmt.Fprintf(a.out, "by %s, as of event %d\n", by, awards.Sequence)
	return err
}

// Outcomes are what awardsListing says of somebody.
const (
	outcomeHonoured   = "honoured"
	outcomeNobody     = "nobody"
	outcomePassedOver = "passed_over"
)

// awardsListing is everything about awards in one table.
func awardsListing(awards *report.Awards, language report.Language) (listing, error) {
	l := listing{columns: []string{"award", "outcome", "rank", "specialist_id", "name", "institution", "branch", "region", "votes", "boundary"}}
	row := func(outcome string, h report.Honoured, boundary string) {
		l.rows = append(l.rows, []string{string(h.Award), outcome, rank(h.Rank), h.Specialist, h.Name, h.Institution, h.Branch, h.Region,
			strconv.FormatInt(h.Votes, 10), boundary})
	}
	for _, p := range awards.Prizes {
		boundary, err := p.Boundary(language)
		if err != nil {
			return l, err
		}
		if len(p.Winners) == 0 {
			l.rows = append(l.rows, []string{string(p.Award), outcomeNobody, "", "", "", "", "", "", "", boundary})
		}
		for _, w := range p.Winners {
			row(outcomeHonoured, w, boundary)
		}
	}
	for _, h := range awards.PassedOver {
		row(outcomePassedOver, h, "")
	}
	return l, nil
}

package projectiontest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	_ "time/tzdata" // days are those in Riga, wherever the tests run

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
)

var groups = []domain.GroupBy{domain.ByInstitution, domain.ByBranch, domain.ByRegion, domain.ByChannel, domain.ByDay, domain.ByHour}

// Expect wants a read model to have exactly the results of a tally.
func Expect(t rapid.TB, reader projections.Reader, campaign string, tally *domain.Tally) {
	t.Helper()
	got, err := Describe(context.Background(), reader, campaign)
	check(t, err)
	if want := DescribeTally(t, tally); got != want {
		t.Fatalf("the results of %s differ from those of the fold (-), line by line:\n%s", campaign, difference(want, got))
	}
}

// Describe writes down everything that can be read of a campaign.
func Describe(ctx context.Context, reader projections.Reader, campaign string) (string, error) {
	var text strings.Builder
	err := reader.Read(ctx, campaign, func(r projections.Results) error {
		summary, err := r.Summary(ctx)
		if err != nil {
			return err
		}
		describeSummary(&text, summary)
		standings, err := r.Standings(ctx)
		if err != nil {
			return err
		}
		describeStandings(&text, standings)
		for _, by := range groups {
			list, err := r.Groups(ctx, by)
			if err != nil {
				return err
			}
			describeGroups(&text, by, list)
		}
		cells, err := r.Cells(ctx)
		describeCells(&text, cells)
		return err
	})
	return text.String(), err
}

// DescribeTally writes down the same of a tally.
func DescribeTally(t rapid.TB, tally *domain.Tally) string {
	t.Helper()
	var text strings.Builder
	summary := projections.Summary{Campaign: *tally.Register().Campaign(), Votes: tally.Votes(), Voters: tally.Voters(), Void: tally.Void()}
	summary.Position.Sequence, summary.Position.RecordedAt = tally.Position(), tally.AsOf()
	describeSummary(&text, summary)
	describeStandings(&text, tally.Standings())
	location, err := summary.Location()
	check(t, err)
	for _, by := range groups {
		list, err := tally.Groups(by, location)
		check(t, err)
		describeGroups(&text, by, list)
	}
	describeCells(&text, tally.Cells())
	return text.String()
}

func describeSummary(text *strings.Builder, s projections.Summary) {
	c := s.Campaign
	fmt.Fprintf(text, "%s as of event %d of %v\n", c.ID, s.Position.Sequence, s.Position.RecordedAt)
	fmt.Fprintf(text, "%q %v %v %s %v %d %s %d %+v\n", c.Title, c.OpensAt, c.ClosesAt, c.Timezone, c.Channels, c.VotesPerVoter, c.Status, c.ClosedAt, c.Public)
	fmt.Fprintf(text, "%d votes of %d voters, %d void\n", s.Votes, s.Voters, s.Void)
}

func describeStandings(text *strings.Builder, list []domain.Standing) {
	for _, st := range list {
		s := st.Specialist
		fmt.Fprintf(text, "%d. %s %q %d %d %v: %d of %d\n", st.Rank, s.ID, s.Profile, s.Registered, s.Last, s.Withdrawn, st.Votes, st.Voters)
	}
}

func describeGroups(text *strings.Builder, by domain.GroupBy, list []domain.Group) {
	for _, g := range list {
		fmt.Fprintf(text, "%s %d. %q: %d\n", by, g.Rank, g.Keys, g.Votes)
	}
}

func describeCells(text *strings.Builder, cells []domain.Cell) {
	for _, c := range cells {
		fmt.Fprintf(text, "cell %+v\n", c)
	}
}

// difference shows the lines that only one of two texts has.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var lines []string
	for _, line := range w {
		if !slices.Contains(g, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			lines = append(lines, "+ "+line)
		}
	}
	if lines == nil {
		return "only the order differs:\n" + want + "\n" + got
	}
	return strings.Join(lines, "\n")
}

package domain

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"
)

// Standing is one specialist's place. Those with equally many votes share a
// rank, and the next rank counts them all (1, 1, 3). Rank 0 means unranked: a
// specialist who was withdrawn.
type Standing struct {
	Rank       int
	Specialist *Specialist
	Votes      int64
	Voters     int64 // votes by channels that know who voted
}

// Standings are all specialists, those without votes too, the ranked ones
// first. Among equals the order is that of the Latvian alphabet, then of ids.
// Who was merged into another does not appear; the votes count there.
func (t *Tally) Standings() []Standing {
	place := make(map[string]int)
	var list []Standing
	for _, s := range t.register.order {
		if s.MergedInto == "" {
			place[s.ID] = len(list)
			list = append(list, Standing{Specialist: s})
		}
	}
	for _, s := range t.register.order {
		i := place[t.register.Canonical(s.ID)]
		list[i].Votes += t.totals[s.index].votes
		list[i].Voters += t.totals[s.index].voters
	}
	RankStandings(list)
	return list
}

// RankStandings puts standings into their order and sets the ranks.
func RankStandings(list []Standing) {
	names := sortKeys(list, func(s Standing) string { return s.Specialist.Name })
	slices.SortFunc(list, func(a, b Standing) int {
		return cmp.Or(
			compareBool(a.Specialist.Withdrawn, b.Specialist.Withdrawn),
			cmp.Compare(b.Votes, a.Votes),
			bytes.Compare(names[a.Specialist.Name], names[b.Specialist.Name]),
			cmp.Compare(a.Specialist.ID, b.Specialist.ID))
	})
	for i := range list {
		switch {
		case list[i].Specialist.Withdrawn:
		case i > 0 && list[i].Votes == list[i-1].Votes:
			list[i].Rank = list[i-1].Rank
		default:
			list[i].Rank = i + 1
		}
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// sortKeys are the keys of all texts in Latvian alphabetical order.
func sortKeys[T any](list []T, text func(T) string) map[string][]byte {
	latvian := collate.New(language.Latvian)
	keys := make(map[string][]byte, len(list))
	for _, item := range list {
		s := text(item)
		if _, ok := keys[s]; !ok {
			var buf collate.Buffer
			keys[s] = latvian.KeyFromString(&buf, s)
		}
	}
	return keys
}

// GroupBy is what votes can be summed by besides the specialist.
type GroupBy string

// The groups. A branch is an institution and a branch of it; days and hours
// are those in which votes were cast, in the campaign's time zone.
const (
	ByInstitution GroupBy = "institution"
	ByBranch      GroupBy = "branch"
	ByRegion      GroupBy = "region"
	ByChannel     GroupBy = "channel"
	ByDay         GroupBy = "day"
	ByHour        GroupBy = "hour"
)

// HourLayout writes an hour with its offset, which tells the two hours apart that
// have one name when the clocks are put back. --from and --to of commands read it.
const HourLayout = "2006-01-02T15:04Z07:00"

// Columns are the names of a group's keys.
func (g GroupBy) Columns() []string {
	if g == ByBranch {
		return []string{"institution", "branch"}
	}
	return []string{string(g)}
}

// Group is the votes of one group. Groups with equally many votes share a rank.
type Group struct {
	Rank  int
	Keys  []string // one for each of GroupBy.Columns
	Votes int64
}

// Groups sums the votes. Institutions, branches, regions and channels are
// there with zero votes too and come in the order of their rank; days and
// hours are those with votes and come in their own order. The location is that
// of the campaign's time zone.
func (t *Tally) Groups(by GroupBy, location *time.Location) ([]Group, error) {
	return GroupCells(by, location, func(yield func(Cell) bool) {
		for cell := range t.emptyGroups(by) {
			if !yield(cell) {
				return
			}
		}
		for key, n := range t.cells {
			if !yield(t.cell(key, n)) {
				return
			}
		}
	})
}

// GroupCells sums cells, in whatever order they come and however coarse they
// are, and ranks the groups like Groups. A cell without votes makes sure that
// its group is there.
func GroupCells(by GroupBy, location *time.Location, cells iter.Seq[Cell]) ([]Group, error) {
	keysOf, err := groupKeys(by, location)
	if err != nil {
		return nil, err
	}
	groups := make(map[string]*Group)
	hours := make(map[string]time.Time) // one hour of each group
	for c := range cells {
		keys := keysOf(c)
		id := strings.Join(keys, "\x00")
		g, ok := groups[id]
		if !ok {
			g = &Group{Keys: keys}
			groups[id], hours[id] = g, c.Hour
		}
		g.Votes += c.Votes
	}
	list := make([]Group, 0, len(groups))
	for _, g := range groups {
		list = append(list, *g)
	}
	rankGroups(list)
	if by == ByDay || by == ByHour {
		// Their texts are in another order when the clocks are put back.
		slices.SortFunc(list, func(a, b Group) int { return hours[a.Keys[0]].Compare(hours[b.Keys[0]]) })
	}
	return list, nil
}

// emptyGroups are cells without votes, one for every group that exists by
// registration.
func (t *Tally) emptyGroups(by GroupBy) iter.Seq[Cell] {
	return func(yield func(Cell) bool) {
		switch by {
		case ByDay, ByHour:
		case ByChannel:
			for _, ch := range t.register.campaign.Channels {
				if !yield(Cell{Channel: ch.Name}) {
					return
				}
			}
		default:
			for _, s := range t.register.order {
				if !s.Withdrawn && s.MergedInto == "" && !yield(Cell{Affiliation: s.Affiliation()}) {
					return
				}
			}
		}
	}
}

func groupKeys(by GroupBy, location *time.Location) (func(Cell) []string, error) {
	switch by {
	case ByInstitution:
		return func(c Cell) []string { return []string{c.Institution} }, nil
	case ByBranch:
		return func(c Cell) []string { return []string{c.Institution, c.Branch} }, nil
	case ByRegion:
		return func(c Cell) []string { return []string{c.Region} }, nil
	case ByChannel:
		return func(c Cell) []string { return []string{c.Channel} }, nil
	case ByDay:
		return func(c Cell) []string { return []string{c.Hour.In(location).Format(time.DateOnly)} }, nil
	case ByHour:
		return func(c Cell) []string { return []string{c.Hour.In(location).Format(HourLayout)} }, nil
	}
	return nil, fmt.Errorf("group %s: use specialist, %s, %s, %s, %s, %s or %s", quote(string(by)),
		ByInstitution, ByBranch, ByRegion, ByChannel, ByDay, ByHour)
}

// rankGroups sorts by votes, then alphabetically, and sets the ranks.
func rankGroups(list []Group) {
	text := func(g Group) string { return strings.Join(g.Keys, " ") }
	names := sortKeys(list, text)
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(
			cmp.Compare(b.Votes, a.Votes),
			bytes.Compare(names[text(a)], names[text(b)]),
			slices.Compare(a.Keys, b.Keys))
	})
	for i := range list {
		list[i].Rank = i + 1
		if i > 0 && list[i].Votes == list[i-1].Votes {
			list[i].Rank = list[i-1].Rank
		}
	}
}

package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// CheckReadModel is on the checklist when there is a read model to compare.
const CheckReadModel = "read_model"

// ReadModel is everything that a read model says of a campaign.
type ReadModel struct {
	projections.Summary
	Standings []domain.Standing
	Groups    map[domain.GroupBy][]domain.Group
	Cells     []domain.Cell
}

// groupings are all keys by which a read model sums votes.
var groupings = []domain.GroupBy{domain.ByInstitution, domain.ByBranch, domain.ByRegion, domain.ByChannel, domain.ByDay, domain.ByHour}

// LoadReadModel reads all of it as of one position. A recount takes long, and a
// read model should not be kept waiting for it.
func LoadReadModel(ctx context.Context, from projections.Reader, campaign string) (*ReadModel, error) {
	m := new(ReadModel)
	err := from.Read(ctx, campaign, func(r projections.Results) (err error) {
		if m.Summary, err = r.Summary(ctx); err != nil {
			return err
		}
		if m.Standings, err = r.Standings(ctx); err != nil {
			return err
		}
		m.Groups = make(map[domain.GroupBy][]domain.Group)
		for _, by := range groupings {
			if m.Groups[by], err = r.Groups(ctx, by); err != nil {
				return err
			}
		}
		m.Cells, err = r.Cells(ctx)
		return err
	})
	return m, err
}

// AddReadModel compares a read model at its own position with a count of the
// ledger up to there, and adds a check with every difference. The read model
// must have been loaded before the audit began.
func (r *Report) AddReadModel(ctx context.Context, l Ledger, codec *domain.Codec, m *ReadModel) error {
	at := m.Position
	c := &comparison{at: at.Sequence}
	check := Check{Name: CheckReadModel, Status: Passed,
		Title: fmt.Sprintf("The read model, which is at event %d, has the counts of the ledger up to there", at.Sequence)}
	if m.Fold != projections.FoldVersion {
		c.add("it cannot be compared: fold %d has counted it, and this paldies counts by fold %d: "+
			"build an older one anew with `paldies projection rebuild`, audit a newer one with the paldies that made it", m.Fold, projections.FoldVersion)
	} else if counted := r.tally.Position(); counted < at.Sequence {
		// What the audit found behind that event is on the list already. A
		// ledger that just ends there is shorter than it was.
		c.add("it cannot be compared: the ledger could be counted up to event %d only", counted)
	} else {
		tally, err := r.tallyAt(ctx, l, codec, at.Sequence)
		if err != nil {
			return err
		}
		if err := c.origin(ctx, l, at); err != nil {
			return err
		}
		if err := c.compare(m, tally); err != nil {
			return fmt.Errorf("campaign %s: %w", r.Campaign, err)
		}
	}
	if check.Mismatches = c.found; len(c.found) > 0 {
		check.Status = Failed
	}
	r.Checks = append(r.Checks, check)
	return nil
}

// tallyAt is the count as of an event that the audit has counted.
func (r *Report) tallyAt(ctx context.Context, l Ledger, codec *domain.Codec, sequence uint64) (*domain.Tally, error) {
	if r.tally.Position() == sequence {
		return r.tally, nil
	}
	tally := new(domain.Tally)
	err := projections.Replay(ctx, l, codec, 1, sequence, func(sequence uint64, e domain.Event) error {
		_, err := tally.Apply(sequence, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("campaign %s: recount up to event %d: %w", r.Campaign, sequence, err)
	}
	return tally, nil
}

// comparison collects the differences between a read model and a count.
type comparison struct {
	at    uint64 // the event as of which both are
	found []Mismatch
}

func (c *comparison) add(format string, args ...any) {
	c.found = append(c.found, Mismatch{Sequence: c.at, Text: fmt.Sprintf(format, args...)})
}

// same adds a difference unless two values are equal.
func same[T comparable](c *comparison, what string, model, ledger T) {
	if model != ledger {
		c.add("%s: the read model says %v, the ledger %v", what, model, ledger)
	}
}

// origin compares the events that the read model says it was built from.
func (c *comparison) origin(ctx context.Context, l Ledger, at projections.Position) error {
	for _, known := range []struct {
		sequence uint64
		hash     projections.Hash
	}{{1, at.Identity}, {at.Sequence, at.Hash}} {
		err := l.Replay(ctx, known.sequence, known.sequence, func(events []eventstore.Recorded) error {
			same(c, fmt.Sprintf("SHA-256 of event %d", known.sequence), known.hash, projections.HashOf(events[0].Data))
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading event %d: %w", known.sequence, err)
		}
	}
	return nil
}

func (c *comparison) compare(m *ReadModel, tally *domain.Tally) error {
	c.campaign(m.Campaign, *tally.Register().Campaign())
	same(c, "time of the event", domain.FormatTime(m.Position.RecordedAt), domain.FormatTime(tally.AsOf()))
	same(c, "votes in force", m.Votes, tally.Votes())
	same(c, "voters", m.Voters, tally.Voters())
	same(c, "events that count for nothing", m.Void, tally.Void())
	c.standings(m.Standings, tally.Standings())
	c.cells(m.Cells, tally.Cells())
	zone, err := time.LoadLocation(tally.Register().Campaign().Timezone)
	if err != nil {
		return fmt.Errorf("the campaign's time zone: %w", err)
	}
	for _, by := range groupings {
		counted, err := tally.Groups(by, zone)
		if err != nil {
			return err
		}
		c.groups(by, m.Groups[by], counted)
	}
	return nil
}

// groups compares sums, which a read model keeps besides what they are sums of.
// Days and hours without votes may be there or not.
func (c *comparison) groups(by domain.GroupBy, model, ledger []domain.Group) {
	votes := func(list []domain.Group) map[string]int64 {
		sums := make(map[string]int64, len(list))
		for _, g := range list {
			sums[strings.Join(g.Keys, ", ")] += g.Votes
		}
		return sums
	}
	said, counted := votes(model), votes(ledger)
	keys := make(map[string]bool, len(said))
	for key := range said {
		keys[key] = true
	}
	for key := range counted {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if said[key] != counted[key] {
			c.add("%s %s: the read model says %d votes, the ledger %d", by, key, said[key], counted[key])
		}
	}
}

func (c *comparison) campaign(model, ledger domain.Campaign) {
	same(c, "title", model.Title, ledger.Title)
	same(c, "start of voting", domain.FormatTime(model.OpensAt), domain.FormatTime(ledger.OpensAt))
	same(c, "end of voting", domain.FormatTime(model.ClosesAt), domain.FormatTime(ledger.ClosesAt))
	same(c, "time zone", model.Timezone, ledger.Timezone)
	same(c, "votes for each voter", model.VotesPerVoter, ledger.VotesPerVoter)
	same(c, "status", model.Status, ledger.Status)
	same(c, "event of the close", model.ClosedAt, ledger.ClosedAt)
	same(c, "public results", model.Public, ledger.Public)
	same(c, "channels", fmt.Sprint(model.Channels), fmt.Sprint(ledger.Channels))
}

func (c *comparison) standings(model, ledger []domain.Standing) {
	unseen := make(map[string]domain.Standing, len(model))
	for _, s := range model {
		unseen[s.Specialist.ID] = s
	}
	for _, s := range ledger {
		who := fmt.Sprintf("specialist %s (%s)", s.Specialist.ID, s.Specialist.Name)
		m, ok := unseen[s.Specialist.ID]
		if delete(unseen, s.Specialist.ID); !ok {
			c.add("%s: the read model lacks it, the ledger says %d votes", who, s.Votes)
			continue
		}
		if m.Votes != s.Votes {
			c.add("%s: the read model says %d votes, the ledger %d", who, m.Votes, s.Votes)
		}
		if m.Voters != s.Voters {
			c.add("%s: the read model says %d voters, the ledger %d", who, m.Voters, s.Voters)
		}
		c.specialist(who, m.Specialist, s.Specialist)
	}
	for _, s := range model { // in their order
		if _, ok := unseen[s.Specialist.ID]; ok {
			c.add("specialist %s (%s): the read model says %d votes, the ledger lacks it", s.Specialist.ID, s.Specialist.Name, s.Votes)
		}
	}
}

// specialist compares what is known besides the counts.
func (c *comparison) specialist(who string, model, ledger *domain.Specialist) {
	same(c, who+", name", model.Name, ledger.Name)
	same(c, who+", position", model.Position, ledger.Position)
	same(c, who+", institution", model.Institution, ledger.Institution)
	same(c, who+", branch", model.Branch, ledger.Branch)
	same(c, who+", region", model.Region, ledger.Region)
	same(c, who+", withdrawn", model.Withdrawn, ledger.Withdrawn)
}

func (c *comparison) cells(model, ledger []domain.Cell) {
	unseen := make(map[domain.Cell]int64, len(model))
	for _, cell := range model {
		unseen[keyOf(cell)] += cell.Votes
	}
	for _, cell := range ledger {
		c.cell(cell, unseen[keyOf(cell)], cell.Votes)
		delete(unseen, keyOf(cell))
	}
	for _, cell := range model { // in their order
		if votes, ok := unseen[keyOf(cell)]; ok {
			c.cell(cell, votes, 0)
			delete(unseen, keyOf(cell))
		}
	}
}

// keyOf is a cell without its votes.
func keyOf(cell domain.Cell) domain.Cell {
	cell.Votes, cell.Hour = 0, cell.Hour.UTC()
	return cell
}

func (c *comparison) cell(cell domain.Cell, model, ledger int64) {
	if model != ledger {
		c.add("specialist %s, %s, in the hour from %s: the read model says %d votes, the ledger %d",
			cell.Specialist, place(cell), domain.FormatTime(cell.Hour), model, ledger)
	}
}

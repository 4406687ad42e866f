package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
)

// What can be said of a read model from outside. The projector's own words are
// in its log and at its /readyz.
const (
	modelMissing = "missing" // nothing was projected yet
	modelCurrent = "current"
	modelLagging = "lagging"
	modelHalted  = "halted" // a person has to mend something, or to build it anew
)

func (a *app) projectStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status --database-url URL",
		Short: "Say how far the read model of each campaign is",
		Long: "Say how far the read model of each campaign is: missing, current, lagging, or\n" +
			"halted, which means that it does not fit the ledger and that nobody can go on\n" +
			"until that is mended. Positions are sequences of events; under rebuild is that of a\n" +
			"read model that is built anew and not switched to yet.",
		Args: cobra.NoArgs,
	}
	url := databaseFlag(cmd, "the database (needed)")
	required(cmd, databaseName)
	format := formatFlag(cmd, asTable, asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd.Context(), *url, func(_ context.Context, db *postgres.DB) error {
			return a.withNode(cmd, func(ctx context.Context, n *node.Node) error {
				rebuilds, err := db.RebuildState(ctx)
				if err != nil {
					return err
				}
				models, err := modelStatuses(ctx, db, nodeCampaigns{a, n}, rebuilds)
				if err != nil {
					return err
				}
				if rebuilds.Retired > 0 {
					fmt.Fprintf(a.err, "Rows of %d read models are left that nobody reads: `paldies projection rebuild` deletes them.\n", rebuilds.Retired)
				}
				return a.printModels(*format, models)
			})
		})
	}
	return cmd
}

// modelStatus is how far a read model is.
type modelStatus struct {
	Campaign string    `json:"campaign"`
	Position uint64    `json:"position"`
	Last     uint64    `json:"last"` // of the ledger
	Lag      uint64    `json:"lag"`  // in events
	State    string    `json:"state"`
	AsOf     time.Time `json:"as_of,omitzero"`   // when the event at Position was recorded
	Rebuild  uint64    `json:"rebuild,omitzero"` // last event of a read model that is built anew and not switched to
	Error    string    `json:"error,omitempty"`
}

// modelStatuses are those of all campaigns with a ledger or a read model.
func modelStatuses(ctx context.Context, db *postgres.DB, campaigns nodeCampaigns, rebuilds postgres.RebuildState) ([]modelStatus, error) {
	models, err := readModels(ctx, db)
	if err != nil {
		return nil, err
	}
	names, err := campaigns.List(ctx)
	if err != nil {
		return nil, err
	}
	list := []modelStatus{}
	for _, name := range names {
		s, err := campaigns.modelStatus(ctx, name, models[name].Position)
		if err != nil {
			return nil, fmt.Errorf("campaign %s: %w", name, err)
		}
		s.Rebuild = rebuilds.Begun[name]
		switch {
		case s.Error != "":
		case slices.Contains(rebuilds.Outdated, name):
			s.State, s.Error = modelHalted, "an older version of paldies has counted it: build it anew with `paldies projection rebuild`"
		case slices.Contains(rebuilds.Newer, name):
			s.State, s.Error = modelHalted, "a newer version of paldies has counted it: run that"
		}
		list = append(list, s)
		delete(models, name)
	}
	for name := range maps.Keys(models) {
		at := models[name].Position
		list = append(list, modelStatus{Campaign: name, Position: at.Sequence, AsOf: at.RecordedAt, State: modelHalted,
			Error: "there is no ledger of this campaign: connect to the server that has it"})
	}
	slices.SortFunc(list, func(s, t modelStatus) int { return cmp.Compare(s.Campaign, t.Campaign) })
	return list, nil
}

// modelStatus compares a read model's position with the ledger.
func (c nodeCampaigns) modelStatus(ctx context.Context, campaign string, at projections.Position) (modelStatus, error) {
	s := modelStatus{Campaign: campaign, Position: at.Sequence, AsOf: at.RecordedAt}
	err := withCampaign(ctx, c, campaign, func(l projections.Ledger) error {
		info, err := l.Info(ctx)
		if err != nil {
			return err
		}
		s.Last, s.Lag = info.Last, info.Last-min(info.Last, at.Sequence)
		switch {
		case at.Sequence == 0 && info.Last > 0:
			s.State = modelMissing
		case s.Lag > 0:
			s.State = modelLagging
		default:
			s.State = modelCurrent
		}
		misfit, err := c.misfit(ctx, l, at, info.Last)
		if misfit != "" {
			s.State, s.Error = modelHalted, misfit
		}
		return err
	})
	return s, err
}

// misfit says why a projector cannot go on from a position, or nothing.
func (c nodeCampaigns) misfit(ctx context.Context, l projections.Ledger, at projections.Position, last uint64) (string, error) {
	if last < at.Sequence {
		return fmt.Sprintf("the ledger ends at event %d, the read model is at event %d: restore the stream from a copy", last, at.Sequence), nil
	}
	var first, here, next eventstore.Recorded
	for _, want := range []struct {
		sequence uint64
		event    *eventstore.Recorded
	}{{1, &first}, {at.Sequence, &here}, {at.Sequence + 1, &next}} {
		if want.sequence == 0 || want.sequence > last {
			continue
		}
		var err error
		if *want.event, err = eventAt(ctx, l, want.sequence); err != nil {
			return "", err
		}
	}
	if at.Sequence > 0 && projections.HashOf(first.Data) != at.Identity {
		return "the read model was built from another stream of this name: connect to the right server", nil
	}
	if at.Sequence > 0 && projections.HashOf(here.Data) != at.Hash {
		return fmt.Sprintf("event %d is another one than the read model was built from: restore the stream from a copy", at.Sequence), nil
	}
	if next.Sequence > 0 {
		if _, err := c.app.codec.Decode(next.Data); err != nil {
			return fmt.Sprintf("event %d cannot be read: %v: run a newer paldies", next.Sequence, err), nil
		}
	}
	return "", nil
}

// eventAt is an event that is there.
func eventAt(ctx context.Context, l projections.Ledger, sequence uint64) (event eventstore.Recorded, err error) {
	errFound := errors.New("found")
	err = l.Follow(ctx, sequence, func(events []eventstore.Recorded) error {
		event = events[0]
		return errFound
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return event, err
}

// moment is empty for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return domain.FormatTime(t)
}

// rebuildAt is empty for none.
func rebuildAt(event uint64) string {
	if event == 0 {
		return ""
	}
	return strconv.FormatUint(event, 10)
}

func (a *app) printModels(f format, models []modelStatus) error {
	l := listing{columns: []string{"campaign", "position", "last", "lag", "state", "as_of", "rebuild"}, value: models}
	for _, s := range models {
		l.rows = append(l.rows, []string{s.Campaign, strconv.FormatUint(s.Position, 10), strconv.FormatUint(s.Last, 10),
			strconv.FormatUint(s.Lag, 10), s.State, moment(s.AsOf), rebuildAt(s.Rebuild)})
	}
	if err := a.print(f, l); err != nil || f == asJSON {
		return err
	}
	for _, s := range models {
		if s.Error != "" {
			if _, err := fmt.Fprintf(a.out, "campaign %s: %s\n", s.Campaign, s.Error); err != nil {
				return err
			}
		}
	}
	return nil
}

package projections_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// foldFrom adds the events of a history above a sequence and takes the batch.
func foldFrom(t *testing.T, f *projections.Fold, h *projectiontest.History, after uint64) *projections.Batch {
	t.Helper()
	codec := projectiontest.Codec(t)
	for _, rec := range h.Events()[after:] {
		e, err := codec.Decode(rec.Data)
		check(t, err)
		check(t, f.Add(projections.Event{Sequence: rec.Sequence, Event: e}, rec.Data))
	}
	return f.Take()
}

// TestBatch looks at what batches hold, key by key.
func TestBatch(t *testing.T) {
	h := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018")
	f := projections.NewFold(h.Campaign)
	first := foldFrom(t, f, h, 0)
	if first.From.Sequence != 0 || first.To.Sequence != 4 || first.Campaign == nil || len(first.Specialists) != 3 || len(first.Placements) != 3 ||
		len(first.Totals)+len(first.Cells) != 0 || len(slices.Collect(first.Events)) != 4 || first.Changed != 4 || first.Timezone != "" {
		t.Errorf("the first batch is %+v", first)
	}

	// s0 moves, moves back, and gets two votes at each place; one is withdrawn.
	at, away := first.Specialists[0].Profile, domain.Profile{Name: "Zane Ģēģere", Institution: "Ūdensrožu reģistrs"}
	voter := byte(0)
	vote := func() {
		voter++
		h.Record(domain.VoteCast{Voter: domain.Pseudonym{0: voter}, Specialist: "s0", Channel: "web", Active: 1})
	}
	vote()                                                              // 5
	h.Record(domain.SpecialistUpdated{Specialist: "s0", Profile: away}) // 6
	vote()                                                              // 7
	h.Record(domain.SpecialistUpdated{Specialist: "s0", Profile: at})   // 8
	vote()                                                              // 9
	h.Record(domain.VoteRetracted{Voter: domain.Pseudonym{0: 2}, Specialist: "s0", Channel: "web",
		Vote: domain.VoteRef{Sequence: 7, Channel: "web", CastAt: h.Tally.AsOf()}})
	second := foldFrom(t, f, h, first.To.Sequence)
	place := domain.Affiliation{Institution: "Ūdensrožu reģistrs"}
	if want := []projections.Placement{{Sequence: 6, Specialist: 2, Affiliation: place}}; !slices.Equal(second.Placements, want) {
		t.Errorf("new placements are %+v, want %+v", second.Placements, want)
	}
	key := projections.CellKey{Hour: h.Tally.AsOf().Unix() / 3600, Placement: 2, Channel: 0}
	if want := []projections.Cell{{CellKey: key, Votes: 2}}; !slices.Equal(second.Cells, want) || !key.Begin().Equal(h.Tally.AsOf()) {
		t.Errorf("cells are %+v, want %+v", second.Cells, want)
	}
	if want := []projections.Total{{Placement: 2, Specialist: 2, Votes: 2, Voters: 2}}; !slices.Equal(second.Totals, want) {
		t.Errorf("totals are %+v, want %+v", second.Totals, want)
	}
	if !second.From.Same(first.To) || second.Campaign != nil || len(second.Specialists) != 1 || second.Votes != 2 || second.Voters != 2 || second.Void != 0 ||
		second.Changed != 10 || second.Timezone != "Europe/Riga" {
		t.Errorf("the second batch is %+v", second)
	}

	// What counts for nothing changes no results, and neither does the close.
	h.Record(domain.CampaignClosed{Reason: "Kampaņa noslēgusies."})
	vote()
	if third := foldFrom(t, f, h, second.To.Sequence); third.Changed != 0 || third.Void != 1 {
		t.Errorf("the third batch is %+v", third)
	}
}

// TestFoldRefuses what does not come next, and stays as it was.
func TestFoldRefuses(t *testing.T) {
	h := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018")
	f := projections.NewFold(h.Campaign)
	foldFrom(t, f, h, 0)
	events := h.Events()
	e, err := projectiontest.Codec(t).Decode(events[1].Data)
	check(t, err)
	stranger := e
	stranger.Campaign = "cita"
	for says, e := range map[string]projections.Event{
		"event 2 comes after event 4":    {Sequence: 2, Event: e},
		"event 6 comes after event 4":    {Sequence: 6, Event: e},
		"it belongs to campaign cita":    {Sequence: 5, Event: stranger},
		"s0 is registered a second time": {Sequence: 5, Event: e},
	} {
		if err := f.Add(e, events[1].Data); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, want one that says %q", err, says)
		}
	}
	if b := f.Take(); b.To.Sequence != 4 || !b.From.Same(b.To) {
		t.Errorf("after the refusals the batch is %+v", b)
	}
	h.Record(domain.SpecialistWithdrawn{Specialist: "s0"})
	if b := foldFrom(t, f, h, 4); b.To.Sequence != 5 {
		t.Errorf("it goes on with %+v", b)
	}
}

// foldOf holds what FoldVersion makes of a history: hashes of its events and of its
// batches. Whoever changes what is folded raises FoldVersion, and notes the new
// hashes here.
var foldOf = struct {
	version         int
	events, batches string
}{1, "afdab3710b29780503fca8d6033b78ae684dc39abc132d55b6305c8ca99831e2", "4351210b8da0e3478c871c88bc9925bbc09a9327bbfa1dcba8e7fc0428ef6672"}

// TestFoldVersion: a fold that makes other rows of the same events has another
// version, by which read models that it cannot go on with are known.
func TestFoldVersion(t *testing.T) {
	h, random := projectiontest.NewHistory(t, "laba-servisa-kustiba-2018"), rand.New(rand.NewPCG(31, 2))
	for h.Last() < 500 {
		h.Act(random.IntN)
	}
	codec, fold := projectiontest.Codec(t), projections.NewFold(h.Campaign)
	events, batches := sha256.New(), sha256.New()
	for i, rec := range h.Events() {
		events.Write(rec.Data)
		e, err := codec.Decode(rec.Data)
		check(t, err)
		check(t, fold.Add(projections.Event{Sequence: rec.Sequence, Event: e}, rec.Data))
		if i%7 == 0 {
			write(batches, fold.Take())
		}
	}
	if h.Tally.Votes() < 50 || h.Tally.Void() < 10 {
		t.Fatalf("the history has only %d votes and %d void events", h.Tally.Votes(), h.Tally.Void())
	}
	if got := hex.EncodeToString(events.Sum(nil)); got != foldOf.events {
		t.Fatalf("the history is another one, of hash %s: note it, and the batches' hash of a fold that has not changed", got)
	}
	if got := hex.EncodeToString(batches.Sum(nil)); got != foldOf.batches || projections.FoldVersion != foldOf.version {
		t.Errorf("fold %d of hash %s was %d of hash %s: if it makes other rows, raise FoldVersion and note the hash; if not, mend it",
			projections.FoldVersion, got, foldOf.version, foldOf.batches)
	}
}

// write writes down what a batch changes.
func write(w io.Writer, b *projections.Batch) {
	fmt.Fprintln(w, b.From, b.To, b.Votes, b.Voters, b.Void, b.Changed, b.Timezone, b.Placements, b.Totals, b.Cells)
	if c := b.Campaign; c != nil {
		fmt.Fprintln(w, c.Title, c.OpensAt, c.ClosesAt, c.Timezone, c.Channels, c.VotesPerVoter, c.Status, c.ClosedAt, c.Public)
	}
	for _, s := range b.Specialists {
		fmt.Fprintln(w, s.Registered, s.ID, s.Profile, s.Withdrawn, s.MergedInto, s.Last)
	}
}

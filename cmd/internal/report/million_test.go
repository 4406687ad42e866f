package report_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/report"
	"sakipaldies.lv/ledger/domain"
)

// growthMax is by how much the live heap may grow while a million votes are
// exported, in bytes: 8.4 MiB for what ended votes, and the tally's cells, of
// which the ledger has 76,000.
const growthMax = 16 << 20

const (
	manySpecialists = 100
	everyEnded      = 10 // so many votes, then the end of one
)

// many is a ledger of a number of votes of as many voters.
func many(votes uint64) *made {
	const head = 1 + manySpecialists
	start := at("2019-03-01T00:00:00+02:00")
	var ids [manySpecialists]string
	for i := range ids {
		ids[i] = fmt.Sprintf("specialiste-%d", i)
	}
	cast := func(sequence uint64) domain.VoteCast {
		n := sequence - head - 1
		n -= n / (everyEnded + 1) // those that are no votes
		return domain.VoteCast{Voter: domain.Pseudonym(eventID(n + 1)), Specialist: ids[n%manySpecialists], Channel: "web", Active: 1}
	}
	recordedAt := func(sequence uint64) time.Time { return start.Add(time.Duration(sequence) * 2500 * time.Millisecond) }
	payload := func(sequence uint64) domain.Payload {
		switch {
		case sequence == 1:
			return domain.CampaignOpened{Title: "Kustība", OpensAt: start, ClosesAt: start.AddDate(2, 0, 0), Timezone: "Europe/Riga",
				KeyID: "0123456789abcdef", Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}}}
		case sequence <= head:
			return domain.SpecialistRegistered{Specialist: ids[sequence-2], Profile: domain.Profile{Name: letters, Institution: "Ziedoņu klientu centrs", Branch: "Cēsis", Region: "Vidzeme"}}
		case (sequence-head)%(everyEnded+1) != 0:
			return cast(sequence)
		}
		vote := cast(sequence - 3)
		ref := domain.VoteRef{Sequence: sequence - 3, Channel: "web", CastAt: recordedAt(sequence - 3)}
		if sequence%2 == 0 {
			return domain.VoteRetracted{Voter: vote.Voter, Specialist: vote.Specialist, Channel: "web", Vote: ref}
		}
		return domain.VoteAnnulled{Voter: vote.Voter, Specialist: vote.Specialist, Vote: ref, Decision: "SIF-2019/7", Reason: "Balsis vāktas negodīgi."}
	}
	return &made{events: head + votes + votes/everyEnded, event: func(sequence uint64) domain.Event {
		return domain.Event{ID: eventID(sequence), Campaign: "kustiba", Time: recordedAt(sequence), Data: payload(sequence)}
	}}
}

// watched passes rows on and looks at the live heap from time to time.
type watched struct {
	report.Sheet
	rows, every  int
	before, most uint64
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (w *watched) Row(values []any) error {
	if w.rows++; w.rows%w.every == 0 {
		w.most = max(w.most, liveHeap())
	}
	return w.Sheet.Row(values)
}

func (w *watched) End(s report.Summary) error {
	w.most = max(w.most, liveHeap())
	return w.Sheet.End(s)
}

func (w *watched) growth() int64 { return int64(w.most) - int64(w.before) }

// TestMillionVotes: the memory does not follow the number of votes, and another
// reader counts what the totals say.
func TestMillionVotes(t *testing.T) {
	const votes = 1_000_000
	source := many(votes).source(t)
	reader, writer := io.Pipe()
	counted := make(chan map[string]int64)
	go func() { counted <- countByStatus(reader) }()
	sheet, err := report.NewCSV(writer, ',', false)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{Sheet: sheet, every: votes / 4, before: liveHeap()}
	start := time.Now()
	summary, err := report.Votes(t.Context(), source, w, false, now)
	_ = writer.CloseWithError(err) // it always succeeds
	got := <-counted
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows in %v, the heap grew by %d KiB", summary.Totals.Rows, time.Since(start).Round(time.Millisecond), w.growth()>>10)
	if w.growth() > growthMax {
		t.Errorf("the heap grew by %d bytes, at most %d are allowed", w.growth(), growthMax)
	}
	want := report.Totals{Rows: votes, Cast: votes, Active: votes * 9 / 10, Retracted: votes / 20, Annulled: votes / 20, Voters: votes * 9 / 10}
	if summary.Totals != want {
		t.Errorf("the totals are %+v, want %+v", summary.Totals, want)
	}
	if got["active"] != want.Active || got["retracted"] != want.Retracted || got["annulled"] != want.Annulled {
		t.Errorf("a reader counts %v", got)
	}
}

func countByStatus(r io.Reader) map[string]int64 {
	counts := make(map[string]int64)
	c := csv.NewReader(r)
	c.ReuseRecord = true
	for {
		row, err := c.Read()
		if err != nil {
			return counts
		}
		counts[row[10]]++
	}
}

// TestManyVotesInWorkbook: nor does the memory of a workbook, which takes its
// time, follow their number.
func TestManyVotesInWorkbook(t *testing.T) {
	const votes = 50_000
	x, err := report.NewXLSX(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{Sheet: x, every: votes / 4, before: liveHeap()}
	// What is not yet in the temporary file, at most 16 MiB in a buffer that
	// grows by doubling.
	const buffers = 48 << 20
	if _, err := report.Votes(t.Context(), many(votes).source(t), w, false, now); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the heap grew by %d KiB", w.growth()>>10)
	if w.growth() > growthMax+buffers {
		t.Errorf("the heap grew by %d bytes, at most %d are allowed", w.growth(), growthMax+buffers)
	}
}

package intake_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/cmd/internal/csvfile"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// row is one line of a file of submissions.
type row struct{ submission, voter, specialist, channel, action, at string }

func (r row) fields() []string {
	return []string{r.submission, r.voter, r.specialist, r.channel, r.action, r.at}
}

// load reads rows as an import on an intake.
func (w *world) load(in *intake.Intake, rows []row) *intake.Import {
	w.t.Helper()
	var text bytes.Buffer
	file := csv.NewWriter(&text)
	must(w.t, file.Write(intake.VoteColumns.Required))
	for _, r := range rows {
		must(w.t, file.Write(r.fields()))
	}
	file.Flush()
	reader, err := csvfile.NewReader("balsis.csv", &text, intake.VoteColumns)
	must(w.t, err)
	im, err := intake.ReadImport(w.t.Context(), in, reader)
	must(w.t, err)
	return im
}

func (w *world) run(in *intake.Intake, rows []row) intake.Result {
	w.t.Helper()
	result, err := w.load(in, rows).Run(w.t.Context())
	must(w.t, err)
	return result
}

// dumb decides rows one after the other in the plainest way: what an import
// must give, however often and however many at a time it runs.
type dumb struct {
	limit    int
	inForce  map[[2]string]bool // voter, specialist
	taken    map[[2]string]bool // a vote was retracted
	accepted map[row]string     // submission, voter, channel, action → specialist and time
	outcomes []string           // of each row
}

func decideAll(rows []row, limit int) *dumb {
	d := &dumb{limit: limit, inForce: make(map[[2]string]bool), taken: make(map[[2]string]bool), accepted: make(map[row]string)}
	for _, r := range rows {
		d.outcomes = append(d.outcomes, d.decide(r))
	}
	return d
}

func (d *dumb) decide(r row) string {
	id := row{submission: r.submission, voter: r.voter, channel: r.channel, action: r.action}
	content := r.specialist + " " + r.at
	if earlier, ok := d.accepted[id]; ok {
		if earlier != content {
			return string(domain.IdempotencyMismatch)
		}
		return "known"
	}
	about := [2]string{r.voter, r.specialist}
	votes := 0
	for other, in := range d.inForce {
		if in && other[0] == r.voter {
			votes++
		}
	}
	switch {
	case r.action == "vote" && d.inForce[about]:
		return string(domain.AlreadyVoted)
	case r.action == "vote" && d.limit != 0 && votes >= d.limit:
		return string(domain.VoteLimitReached)
	case r.action == "retract" && !d.inForce[about] && d.taken[about]:
		return string(domain.AlreadyRetracted)
	case r.action == "retract" && !d.inForce[about]:
		return string(domain.UnknownVote)
	}
	d.inForce[about] = r.action == "vote"
	d.taken[about] = d.taken[about] || r.action == "retract"
	d.accepted[id] = content
	return "recorded"
}

// result is what an import says of rows that nobody has imported before.
func (d *dumb) result() (recorded, known int, refused map[domain.Code]int) {
	refused = make(map[domain.Code]int)
	for _, outcome := range d.outcomes {
		switch outcome {
		case "recorded":
			recorded++
		case "known":
			known++
		default:
			refused[domain.Code(outcome)]++
		}
	}
	return recorded, known, refused
}

// program draws rows of a few voters who change their minds. Ids of submissions
// are repeated, with the same content or another one, if asked for.
func program(t *rapid.T, repeats bool) []row {
	one := rapid.Custom(func(t *rapid.T) row {
		return row{
			submission: fmt.Sprint("s", rapid.IntRange(0, 30).Draw(t, "submission")),
			voter:      rapid.SampledFrom([]string{"Anna", "Līga", "Žanis"}).Draw(t, "voter"),
			specialist: rapid.SampledFrom([]string{"ilze", "zanete", "janis"}).Draw(t, "specialist"),
			channel:    "web",
			action:     rapid.SampledFrom([]string{"vote", "vote", "retract"}).Draw(t, "action"),
			at:         rapid.SampledFrom([]string{"2018-02-20T10:00:00+02:00", "2018-02-20T10:00:00.001+02:00", ""}).Draw(t, "at"),
		}
	})
	rows := rapid.SliceOfN(one, 1, 30).Draw(t, "rows")
	for i := range rows {
		if !repeats {
			rows[i].submission = fmt.Sprint("s", i)
		}
	}
	return rows
}

// same fails unless an import says what the dumb one does, where some of the
// rows may have been recorded before.
func same(t *rapid.T, what string, got intake.Result, want *dumb, fresh bool) {
	t.Helper()
	recorded, known, refused := want.result()
	if got.Recorded+got.Known != recorded+known || !maps.Equal(got.Refused, refused) || got.Unreadable != 0 {
		t.Fatalf("%s: %d recorded, %d known, refused %v; expected %d, %d, %v", what, got.Recorded, got.Known, got.Refused, recorded, known, refused)
	}
	if fresh && got.Recorded != recorded {
		t.Fatalf("%s: %d are recorded instead of %d", what, got.Recorded, recorded)
	}
}

// standsAs fails unless the ledger holds the votes that the dumb import has.
func (w *world) standsAs(t *rapid.T, want *dumb) {
	t.Helper()
	votes := make(map[string]int64)
	for about, in := range want.inForce {
		if in {
			votes[about[1]]++
		}
	}
	tally := w.count()
	for _, s := range tally.Register().Specialists() {
		if n, _ := tally.Total(s.ID); n != votes[s.ID] {
			t.Fatalf("%s has %d votes instead of %d", s.ID, n, votes[s.ID])
		}
	}
	w.audited()
}

// TestImportOrder: importing a file is the same as importing it twice, as
// importing its beginning and then the whole, as two imports at the same time,
// and as what a dry run says.
func TestImportOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows := program(rt, rapid.Bool().Draw(rt, "repeats"))
		limit := rapid.IntRange(0, 2).Draw(rt, "limit")
		want := decideAll(rows, limit)

		w := newWorld(t, limit)
		dry, err := w.load(w.dry(), rows).Run(t.Context())
		must(t, err)
		same(rt, "dry run", dry, want, true)
		if n := len(w.events()); n != 4 {
			rt.Fatalf("a dry run leaves %d events", n)
		}
		same(rt, "once", w.run(w.intake(w.ledger), rows), want, true)
		w.standsAs(rt, want)
		events := len(w.events())
		same(rt, "twice", w.run(w.intake(w.ledger), rows), want, false)
		same(rt, "dry run of what is there", w.run(w.dry(), rows), want, false)
		if n := len(w.events()); n != events {
			rt.Fatalf("importing again adds %d events", n-events)
		}

		w = newWorld(t, limit)
		prefix := rapid.IntRange(0, len(rows)).Draw(rt, "prefix")
		w.run(w.intake(w.ledger), rows[:prefix])
		same(rt, "the whole behind its beginning", w.run(w.intake(w.ledger), rows), want, false)
		w.standsAs(rt, want)

		w = newWorld(t, limit)
		w.sideBySide(rt, rows, want)
		w.standsAs(rt, want)
	})
}

// TestRepeatsInAFile: a channel has written its own retries into the file, so
// that it does not follow from an event alone which of its rows was recorded.
func TestRepeatsInAFile(t *testing.T) {
	cast := func(id string) row { return row{id, "Anna", "ilze", "web", "vote", ""} }
	takeBack := func(id string) row { return row{id, "Anna", "ilze", "web", "retract", ""} }
	for name, rows := range map[string][]row{
		"refused first, accepted later": {cast("s1"), cast("s2"), takeBack("s3"), takeBack("s4"), cast("s2")},
		"accepted first, known later":   {cast("s1"), cast("s2"), cast("s1"), takeBack("s3")},
		"accepted under other content":  {cast("s1"), cast("s2"), {"s2", "Anna", "janis", "web", "vote", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			first := w.run(w.intake(w.ledger), rows)
			events := len(w.events())
			again := w.run(w.intake(w.ledger), rows)
			if again.Recorded != 0 || again.Known != first.Recorded+first.Known || !maps.Equal(again.Refused, first.Refused) {
				t.Errorf("at first %+v, then %+v", first, again)
			}
			if n := len(w.events()); n != events {
				t.Errorf("importing again adds %d events", n-events)
			}
			w.audited()
		})
	}
}

// TestTakenBackByAnotherFile: files of several days. A repeat that was refused is
// refused again although another file has taken the vote back since, and a row
// that comes in late is decided as of the moment at which its voter acted.
func TestTakenBackByAnotherFile(t *testing.T) {
	w := newWorld(t, 0)
	monday := []row{
		{"s1", "Anna", "ilze", "web", "vote", "2018-02-26T10:00:00Z"},
		{"s2", "Anna", "ilze", "web", "vote", "2018-02-26T11:00:00Z"},
	}
	tuesday := []row{{"s3", "Anna", "ilze", "web", "retract", "2018-02-27T10:00:00Z"}}
	late := []row{
		{"s4", "Anna", "ilze", "web", "vote", "2018-02-26T12:00:00Z"},    // a repeat then
		{"s5", "Anna", "ilze", "web", "retract", "2018-02-26T09:00:00Z"}, // nothing to take back then
		{"s6", "Anna", "ilze", "web", "vote", "2018-02-28T10:00:00Z"},
	}
	if r := w.run(w.intake(w.ledger), monday); r.Recorded != 1 || r.Refused[domain.AlreadyVoted] != 1 {
		t.Fatalf("Monday: %+v", r)
	}
	if r := w.run(w.intake(w.ledger), tuesday); r.Recorded != 1 {
		t.Fatalf("Tuesday: %+v", r)
	}
	if r := w.run(w.intake(w.ledger), monday); r.Recorded != 0 || r.Known != 1 || r.Refused[domain.AlreadyVoted] != 1 {
		t.Errorf("Monday again: %+v", r)
	}
	for range 2 {
		r := w.run(w.intake(w.ledger), late)
		if r.Recorded+r.Known != 1 || r.Refused[domain.AlreadyVoted] != 1 || r.Refused[domain.UnknownVote] != 1 {
			t.Errorf("late rows: %+v", r)
		}
	}
	if votes, _ := w.count().Total("ilze"); votes != 1 {
		t.Errorf("ilze has %d votes", votes)
	}
	w.audited()
}

// dry is an intake that records nothing and forgets nothing.
func (w *world) dry() *intake.Intake {
	w.t.Helper()
	in, err := intake.New(w.t.Context(), intake.Config{Campaign: campaign, Ledger: intake.DryRun(w.ledger), Codec: w.codec, Key: &w.key, Now: w.clock, Ballots: 1 << 20})
	must(w.t, err)
	return in
}

// sideBySide imports the same rows twice at the same time.
func (w *world) sideBySide(t *rapid.T, rows []row, want *dumb) {
	var all sync.WaitGroup
	results, errs := make([]intake.Result, 2), make([]error, 2)
	for i := range results {
		im := w.load(w.intake(w.ledger), rows)
		all.Go(func() { results[i], errs[i] = im.Run(w.t.Context()) })
	}
	all.Wait()
	for i := range results {
		must(w.t, errs[i])
		same(t, fmt.Sprint("side by side, ", i), results[i], want, false)
	}
}

// replays is a ledger that counts how often it is read from its beginning, and
// lets something happen after each time.
type replays struct {
	*histories
	count int
	after func()
	fails error // what each time ends with
}

func (r *replays) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	r.count++
	err := r.Ledger.Replay(ctx, from, to, fn)
	if r.after != nil {
		r.after()
	}
	return errors.Join(err, r.fails)
}

// asked is how many voters' histories were read.
func (r *replays) asked() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for subject := range r.subjects {
		if strings.Contains(subject, ".voter.") {
			n++
		}
	}
	return n
}

// reads is a world's ledger that counts what an import reads.
func (w *world) reads() *replays {
	return &replays{histories: &histories{Ledger: w.ledger, subjects: make(map[string]int)}}
}

// TestImportReadsTheLedgerOnce: an import that is run again reads the ledger from
// its beginning and asks for no voter's history; one of few rows asks, rather than
// read a ledger of many events.
func TestImportReadsTheLedgerOnce(t *testing.T) {
	w := newWorld(t, 0)
	var rows []row
	for i := range 60 {
		rows = append(rows, row{fmt.Sprint(i), fmt.Sprintf("Eva %d", i%20), []string{"ilze", "zanete", "janis"}[i/20], "web", "vote", ""})
	}
	if first := w.run(w.intake(w.ledger), rows); first.Recorded != len(rows) {
		t.Fatalf("%+v", first)
	}
	whole, few := w.reads(), w.reads()
	if again := w.run(w.intake(whole), rows); again.Known != len(rows) {
		t.Errorf("again: %+v", again)
	}
	if asked := whole.asked(); asked != 0 || whole.count != 1 {
		t.Errorf("the file was imported again with %d questions and %d replays", asked, whole.count)
	}
	if again := w.run(w.intake(few), rows[:2]); again.Known != 2 {
		t.Errorf("two rows again: %+v", again)
	}
	if asked := few.asked(); asked != 2 || few.count != 0 {
		t.Errorf("two rows were imported again with %d questions and %d replays", asked, few.count)
	}
}

// TestImportReadsSoFarAhead: what would take too much memory is asked for, as is
// what a passing fault has kept from being read.
func TestImportReadsSoFarAhead(t *testing.T) {
	w := newWorld(t, 0)
	var rows []row
	for i := range 60 {
		rows = append(rows, row{fmt.Sprint(i), fmt.Sprintf("Eva %d", i), "ilze", "web", "vote", ""})
	}
	w.run(w.intake(w.ledger), rows)
	const bytes = 20 << 10 // of about half of the events
	ledger := w.reads()
	im := w.load(w.intake(ledger), rows)
	im.ReadAhead(bytes)
	again, err := im.Run(t.Context())
	if err != nil || again.Known != len(rows) {
		t.Errorf("again: %+v, %v", again, err)
	}
	if asked := ledger.asked(); asked == 0 || asked >= len(rows) {
		t.Errorf("%d of %d voters' histories were asked for", asked, len(rows))
	}
	ledger = w.reads()
	ledger.fails = eventstore.ErrUnavailable
	if again := w.run(w.intake(ledger), rows); again.Known != len(rows) || ledger.count != 1 {
		t.Errorf("over a fault that passes: %+v, %d replays", again, ledger.count)
	}
	ledger.fails = eventstore.ErrCorrupt
	if again, err := w.load(w.intake(ledger), rows).Run(t.Context()); !errors.Is(err, eventstore.ErrCorrupt) || again.Unanswered != len(rows) {
		t.Errorf("over one that does not: %+v, %v", again, err)
	}
}

// TestVoteBehindAnImport: what a voter does after the ledger was read counts, and
// an import that does not know of it yet finds out.
func TestVoteBehindAnImport(t *testing.T) {
	w := newWorld(t, 1)
	other := w.intake(w.ledger)
	_, err := other.Submit(t.Context(), vote("Anna", "ilze", "s1"))
	must(t, err)
	ledger := w.reads()
	ledger.after = func() {
		_, err := other.Submit(t.Context(), vote("Eva", "zanete", "s2"))
		must(t, err)
		_, err = other.Submit(t.Context(), retraction("Anna", "ilze", "s3"))
		must(t, err)
	}
	got := w.run(w.intake(ledger), []row{
		{"1", "Eva", "ilze", "web", "vote", ""},
		{"2", "Anna", "janis", "web", "vote", ""},
		{"s1", "Anna", "ilze", "web", "vote", ""},
	})
	if ledger.count != 1 {
		t.Fatalf("the ledger was read %d times", ledger.count)
	}
	want := map[domain.Code]int{domain.VoteLimitReached: 1}
	if got.Recorded != 1 || got.Known != 1 || !maps.Equal(got.Refused, want) {
		t.Errorf("%+v", got)
	}
	w.audited()
}

// TestImportOverFaults: an import gets over faults that pass, and counts what
// it would without them.
func TestImportOverFaults(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kinds := []storetest.Fault{storetest.None, storetest.None, storetest.Unavailable, storetest.Busy, storetest.LostUnknown, storetest.StoredUnknown}
	faults := make([]storetest.Fault, 40)
	for i := range faults {
		faults[i] = kinds[random.IntN(len(kinds))]
	}
	w := newWorld(t, 2)
	var rows []row
	for i := range 100 {
		voter := fmt.Sprint("balsotājs ", i%40)
		rows = append(rows, row{fmt.Sprint("s", i), voter, []string{"ilze", "zanete", "janis"}[i%3], "web", "vote", ""})
	}
	want := decideAll(rows, 2)
	recorded, _, refused := want.result()
	result := w.run(w.intake(w.failing(faults...)), rows)
	if result.Recorded+result.Known != recorded || !maps.Equal(result.Refused, refused) {
		t.Errorf("result %+v, expected %d and %v", result, recorded, refused)
	}
	if n := w.count().Votes(); n != int64(recorded) {
		t.Errorf("%d votes are counted instead of %d", n, recorded)
	}
	w.audited()
}

// TestHopelessFault: a fault that does not pass ends the import at once, and
// the import goes on afterwards.
func TestHopelessFault(t *testing.T) {
	w := newWorld(t, 0)
	l := w.ledger.Reopen()
	l.SetFaults(storetest.Faults{Append: func(eventstore.Message, uint64) storetest.Fault { return storetest.LostUnknown }})
	rows := []row{{"s1", "Anna", "ilze", "web", "vote", ""}, {"s2", "Līga", "ilze", "web", "vote", ""}}
	im := w.load(w.intake(l), rows)
	im.Hopeless = func(err error) bool { return errors.Is(err, eventstore.ErrOutcomeUnknown) }
	began := time.Now()
	_, err := im.Run(t.Context())
	if !errors.Is(err, eventstore.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "line ") {
		t.Errorf("the import says %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if result := w.run(w.intake(w.ledger), rows); result.Recorded != 2 {
		t.Errorf("afterwards: %+v", result)
	}
}

// TestImportOfManyKinds: good rows are recorded, bad ones are reported in the
// order of the file, slips are voters of their own.
func TestImportOfManyKinds(t *testing.T) {
	w := newWorld(t, 1)
	at := "2018-02-20T10:00+02:00"
	rows := []row{
		{"s1", "Anna", "ilze", "web", "vote", at},
		{"", "Anna", "ilze", "web", "vote", at},
		{"s3", "Anna", "ilze", "web", "praise", at},
		{"s4", "Anna", "ilze", "web", "vote", "2018-02-20 10:00:00"},
		{"s5", "Anna", "il.ze", "web", "vote", at},
		{"s6", "Līga", "neviens", "web", "vote", at},
		{"s7", "Līga", "ilze", "telegramma", "vote", at},
		{"l1", "", "ilze", "slip", "vote", at},
		{"l2", "", "ilze", "slip", "vote", at},
		{"l2", "", "ilze", "slip", "vote", at},
		{"l3", "Anna", "ilze", "slip", "vote", at},
		{"s12", "Līga", "ilze", "web", "vote", "2018-01-31T23:59+02:00"},
		{"s13", "Līga", "ilze", "web", "vote", "2018-04-30T10:00+03:00"},
		{"s14", "", "ilze", "web", "vote", at},
	}
	for round := range 2 {
		result := w.run(w.intake(w.ledger), rows)
		if result.Rows != len(rows) || result.Recorded+result.Known != 4 || result.Unreadable != 6 {
			t.Errorf("round %d: %+v", round, result)
		}
		var told []string
		for _, r := range result.Rejects {
			told = append(told, fmt.Sprint(r.Line, " ", r.Code))
		}
		want := []string{"3 unreadable", "4 unreadable", "5 unreadable", "6 unreadable", "7 unknown_specialist", "8 channel_not_accepted",
			"12 unreadable", "13 too_early", "14 cast_in_future", "15 unreadable"}
		if !slices.Equal(told, want) {
			t.Errorf("round %d: rejects %q", round, told)
		}
	}
	if votes, voters := w.count().Total("ilze"); votes != 3 || voters != 1 {
		t.Errorf("%d votes of %d voters", votes, voters)
	}
	w.audited()
}

// TestSpecialistImportsSideBySide: an upsert by several at the same time
// registers everybody once.
func TestSpecialistImportsSideBySide(t *testing.T) {
	w := newWorld(t, 0)
	var rows []intake.SpecialistRow
	for i := range 300 {
		rows = append(rows, intake.SpecialistRow{Line: i + 2, ID: fmt.Sprint("spec-", i), Profile: domain.Profile{Name: fmt.Sprint("Speciāliste ", i)}})
	}
	before := len(w.events())
	var all sync.WaitGroup
	for range 3 {
		in := w.intake(w.ledger)
		all.Go(func() {
			if err := in.ImportSpecialists(t.Context(), rows); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.events()) - before; n != len(rows) {
		t.Errorf("%d events for %d specialists", n, len(rows))
	}
	plan, err := intake.PlanSpecialists(w.intake(w.ledger).Register(), rows)
	must(t, err)
	if len(plan[intake.RowSame]) != len(rows) {
		t.Errorf("afterwards %d are new and %d changed", len(plan[intake.RowNew]), len(plan[intake.RowChanged]))
	}
	w.audited()
}

func TestSuspectedDuplicates(t *testing.T) {
	w := newWorld(t, 0)
	named := func(id, name, institution string) intake.SpecialistRow {
		return intake.SpecialistRow{ID: id, Profile: domain.Profile{Name: name, Institution: institution}}
	}
	rows := []intake.SpecialistRow{
		named("ilze2", "ILZE  BERZINA", ""), // registered without an institution
		named("ilze3", "Ilze Bērziņa", "Nodarbinātības aģentūra"),
		named("ilze4", "Ilze Berziņa", "Nodarbinatibas Aģentūra"),
		named("ilze", "Ilze Bērziņa", ""),
		named("x1", "", "Nodarbinātības aģentūra"),
		named("x2", "", "Nodarbinātības aģentūra"),
	}
	var got []string
	for _, d := range intake.SuspectDuplicates(w.intake(w.ledger).Register(), rows) {
		got = append(got, d.Row.ID+" "+d.OtherID)
	}
	if want := []string{"ilze2 ilze", "ilze4 ilze3"}; !slices.Equal(got, want) {
		t.Errorf("suspected: %q", got)
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2018-11-11T23:59:59+02:00":     time.Date(2018, 11, 11, 21, 59, 59, 0, time.UTC),
		"2018-11-11T23:59+02:00":        time.Date(2018, 11, 11, 21, 59, 0, 0, time.UTC),
		"2018-11-11T23:59:59.123456Z":   time.Date(2018, 11, 11, 23, 59, 59, 123456000, time.UTC),
		"2018-11-11T00:00:00.000+00:00": time.Date(2018, 11, 11, 0, 0, 0, 0, time.UTC),
	} {
		got, err := intake.ParseTime(text)
		must(t, err)
		if !got.Equal(want) {
			t.Errorf("%s is taken for %v", text, got)
		}
	}
	for text, hint := range map[string]string{
		"2018-11-11T23:59:59": "has no offset", "2018-11-11": "has no offset", "2018-11-11 23:59:59": "has no offset", "2018-11-11T23:59": "has no offset",
		"": "write for example", "vakar": "write for example", "11.11.2018": "write for example", "2018-11-31T00:00:00Z": "write for example",
		"1541980799": "write for example", strings.Repeat("9", 1000): "write for example",
	} {
		_, err := intake.ParseTime(text)
		if err == nil || !strings.Contains(err.Error(), hint) || len(err.Error()) > 200 {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

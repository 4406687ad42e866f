package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// tape is a ledger that plays what it was given, and then fails.
type tape struct {
	events []eventstore.Recorded
	err    error
}

func (t tape) Replay(_ context.Context, _, _ uint64, fn func([]eventstore.Recorded) error) error {
	if len(t.events) > 0 {
		if err := fn(t.events); err != nil {
			return err
		}
	}
	return t.err
}

// recorded is a world's ledger as a tape.
func (w *world) recorded() (t tape) {
	w.t.Helper()
	err := w.ledger.Replay(context.Background(), 1, 0, func(batch []eventstore.Recorded) error {
		t.events = append(t.events, batch...)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// wantMismatches wants exactly these, each as "check: event: text".
func wantMismatches(t *testing.T, r *audit.Report, want ...string) {
	t.Helper()
	if got := mismatches(r); !slices.Equal(got, want) {
		t.Errorf("the audit finds\n     %q\nwant %q", got, want)
	}
}

// status is what came of a check.
func status(t *testing.T, r *audit.Report, name string) audit.Status {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c.Status
		}
	}
	t.Fatalf("there is no check %s", name)
	return ""
}

func TestACampaignThatWasNotOpened(t *testing.T) {
	_, err := audit.Verify(t.Context(), campaign, tape{}, nil, audit.Options{})
	if !errors.Is(err, audit.ErrNotOpened) || !strings.Contains(err.Error(), campaign) {
		t.Errorf("the error is %v", err)
	}
}

// TestTheLedgerFails: a fault of the service says nothing about the events.
func TestTheLedgerFails(t *testing.T) {
	for _, events := range []bool{false, true} {
		w := newWorld(t, t)
		failing := tape{err: eventstore.ErrUnavailable}
		if events {
			failing.events = w.recorded().events
		}
		if _, err := audit.Verify(t.Context(), campaign, failing, w.codec, audit.Options{}); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestEventsAreMissing: a ledger that notices it itself ends the audit; one
// that does not is found out.
func TestEventsAreMissing(t *testing.T) {
	w := newWorld(t, t)
	w.cast(w.stranger(), w.specialist())
	w.specialist()
	played := w.recorded()

	t.Run("and the ledger says so", func(t *testing.T) {
		corrupt := tape{played.events[:2], fmt.Errorf("%w: sequence 3 is missing", eventstore.ErrCorrupt)}
		r, err := audit.Verify(t.Context(), campaign, corrupt, w.codec, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantMismatches(t, r, "order: event 3: the ledger is damaged: sequence 3 is missing")
		if s := status(t, r, audit.CheckOnce); s != audit.NotChecked {
			t.Errorf("what was not looked at to the end is %s", s)
		}
	})
	t.Run("and the ledger is silent", func(t *testing.T) {
		silent := tape{events: slices.Delete(slices.Clone(played.events), 2, 3)}
		r, err := audit.Verify(t.Context(), campaign, silent, w.codec, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantMismatches(t, r, "order: event 4: it follows event 2")
	})
}

// TestWhatWasNotChecked must not look as if it were in order.
func TestWhatWasNotChecked(t *testing.T) {
	w := newWorld(t, t)
	if s := status(t, w.verify(), audit.CheckStream); s != audit.NotChecked {
		t.Errorf("the stream, which nobody asked about, is %s", s)
	}
	v, s := w.stranger(), w.specialist()
	w.cast(v, s)
	w.recordOn(domain.ControlSubject(campaign), []byte("nav notikums"))
	w.admin(domain.VoteCast{Voter: v, Specialist: s, Channel: "web", Active: 2}) // behind it, so that nobody sees it
	r := w.verify()
	r.AddStream(nil)
	if r.OK() {
		t.Error("the audit is content")
	}
	for _, c := range r.Checks {
		want := audit.NotChecked
		switch c.Name {
		case audit.CheckEvents:
			want = audit.Failed
		case audit.CheckStream: // has nothing to do with the events
			want = audit.Passed
		}
		if c.Status != want {
			t.Errorf("%s is %s, want %s", c.Name, c.Status, want)
		}
	}
	r = w.verify()
	r.AddStream([]eventstore.Deviation{{Field: "max_msgs", Want: "-1", Have: "2"}})
	if s := status(t, r, audit.CheckStream); s != audit.Failed {
		t.Errorf("a changed stream is %s", s)
	}
}

// TestRaces: what was under way when something ended is listed, though the
// clock of its intake is fast.
func TestRaces(t *testing.T) {
	fast := func(w *world, d domain.Payload, by time.Duration) uint64 {
		e := w.event(d)
		e.Time = e.Time.Add(by)
		return w.record(e)
	}
	const skew = domain.MaxClockSkew + 30*time.Second // and the time of an append
	w := newWorld(t, t)
	withdrawn, from, into := w.specialist(), w.specialist(), w.specialist()
	person := w.stranger()
	w.cast(person, from)
	w.admin(domain.SpecialistWithdrawn{Specialist: withdrawn})
	w.admin(domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK-7"})
	fast(w, domain.VoteCast{Voter: w.stranger(), Specialist: withdrawn, Channel: "web", Active: 1}, skew)
	fast(w, domain.VoteCast{Voter: person, Specialist: into, Channel: "web", Active: 2}, skew)
	other := w.stranger()
	w.cast(other, into)
	fast(w, domain.VoteCast{Voter: other, Specialist: from, Channel: "web", Active: 2}, 0)
	for _, second := range []uint64{9, 11} {
		w.annul(second) // as the merge does
	}
	w.admin(domain.CampaignClosed{})
	fast(w, domain.VoteCast{Voter: w.stranger(), Specialist: into, Channel: "web", Active: 1}, skew)

	r := w.verify()
	wantMismatches(t, r)
	lists := fmt.Sprintf("%v %v", r.Void, r.Raced)
	want := "[event 15: it was under way when the campaign was closed] " +
		"[event 8: it was under way when zanete-kirsone-2 (Žanete Ķirsone) was withdrawn (event 6) " +
		"event 9: it was under way when zanete-kirsone-3 and zanete-kirsone-4 were merged (event 7) " +
		"event 11: it was under way when zanete-kirsone-3 (Žanete Ķirsone) was merged into zanete-kirsone-4 (event 7)]"
	if lists != want {
		t.Errorf("listed are\n     %s\nwant %s", lists, want)
	}
}

// TestMergedTwice: until a merge is finished, voters count twice for who was
// registered twice, and the audit says so.
func TestMergedTwice(t *testing.T) {
	w := newWorld(t, t)
	from, into, other := w.specialist(), w.specialist(), w.specialist()
	person, once := w.stranger(), w.stranger()
	w.cast(person, from)
	w.cast(person, other)
	second := w.cast(person, into)
	w.cast(once, from)
	w.cast(w.stranger(), into)
	w.retract(once, from)
	w.cast(once, into)
	wantMismatches(t, w.verify())
	w.admin(domain.SpecialistMerged{Specialist: from, Into: into, Decision: "VK-7"})
	wantMismatches(t, w.verify(), "merged: one voter's events 5 and 7 both count for zanete-kirsone-3, as zanete-kirsone-2 and as zanete-kirsone-3; "+
		"`paldies specialist merge` annuls one of them when it is run again")
	closed := w.admin(domain.CampaignClosed{})
	certified := w.admin(domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed)})
	w.annul(second)
	// What is certified counts the voter twice for ever, and that is not honest.
	wantMismatches(t, w.verify(), fmt.Sprintf("certified: event %d: the results as of event %d count 1 votes beside another one of their voter for a specialist who was registered twice, the first is event 7", certified, closed))
}

// TestRacesWithTheArchiving: an annulment that was under way is void, and so is
// what was to happen to specialists.
func TestRacesWithTheArchiving(t *testing.T) {
	w := newWorld(t, t)
	vote := w.cast(w.stranger(), w.specialist())
	w.archive()
	e, d := w.annulmentOf(vote)
	d.AfterClose = true
	e.Data = d
	w.record(e)
	id := w.log[1].Data.(domain.SpecialistRegistered).Specialist
	other := w.specialist()
	w.admin(domain.SpecialistUpdated{Specialist: id, Profile: domain.Profile{Name: "Žanete Ķirsone-Ozola"}})
	w.admin(domain.SpecialistMerged{Specialist: id, Into: other, Decision: "VK-7"})
	w.admin(domain.SpecialistMerged{Specialist: other, Into: id, Decision: "VK-7"})
	w.admin(domain.SpecialistWithdrawn{Specialist: other})
	r := w.verify()
	wantMismatches(t, r)
	if len(r.Void) != len(w.log)-7 || r.Votes != 1 {
		t.Errorf("listed is %v, and %d votes are in force", r.Void, r.Votes)
	}
	for i, v := range r.Void {
		if want := fmt.Sprintf("event %d: it was under way when the campaign was archived", i+8); v.String() != want {
			t.Errorf("listed is %q, want %q", v, want)
		}
	}
}

// TestForgeriesAreAnnulled: the remedy is no second mismatch, nor is what the
// voter does after it.
func TestForgeriesAreAnnulled(t *testing.T) {
	w := newWorld(t, t)
	s, victim, stranger := w.specialist(), w.stranger(), w.stranger()
	w.cast(victim, s)
	nobody := w.admin(domain.VoteCast{Voter: stranger, Specialist: "neviens", Channel: "web", Active: 1})
	nowhere := w.admin(domain.VoteCast{Voter: stranger, Specialist: s, Channel: "telegramma", Active: 2})
	second := w.admin(domain.VoteCast{Voter: victim, Specialist: s, Channel: "mobile", Active: 2})
	w.cast(victim, w.specialist())
	for _, forged := range []uint64{nobody, nowhere, second} {
		w.annul(forged)
	}
	w.retract(victim, s)
	wantMismatches(t, w.verify(),
		"specialists: event 4: specialist neviens is not registered",
		"channels: event 5: channel telegramma is not one of the campaign's",
		"once: event 6: a second vote for zanete-kirsone-2 (Žanete Ķirsone); the first is event 3")
}

// TestRecount: a count that believes a forged event is wrong, and the recount
// says where.
func TestRecount(t *testing.T) {
	found := func(t *testing.T, w *world) (texts []string) {
		for _, c := range w.verify().Checks {
			for _, m := range c.Mismatches {
				if c.Name == audit.CheckRecount {
					texts = append(texts, m.String())
				}
			}
		}
		return texts
	}
	const cell = "specialist zanete-kirsone-2, Nodarbinātības aģentūra, Gulbene, channel "
	t.Run("the hour", func(t *testing.T) {
		w := newWorld(t, t)
		w.forgeRetraction(func(d *domain.VoteRetracted) { d.Vote.CastAt = d.Vote.CastAt.Add(-time.Hour) })
		if got, want := found(t, w), []string{
			cell + "web, in the hour from 2018-05-04T08:00:00.000Z: the results say -1 votes, the ballots 0",
			cell + "web, in the hour from 2018-05-04T09:00:00.000Z: the results say 1 votes, the ballots 0",
		}; !slices.Equal(got, want) {
			t.Errorf("found is %q\nwant %q", got, want)
		}
	})
	t.Run("the voters of a specialist", func(t *testing.T) {
		w := newWorld(t, t)
		w.forgeRetraction(func(d *domain.VoteRetracted) { d.Vote.Channel = "in_person" })
		if got, want := found(t, w), []string{
			"the results say 1 voters, the ballots 0",
			"specialist zanete-kirsone-2 (Žanete Ķirsone): the results say 0 votes and 1 voters, the ballots 0 and 0",
			cell + "in_person, in the hour from 2018-05-04T09:00:00.000Z: the results say -1 votes, the ballots 0",
			cell + "web, in the hour from 2018-05-04T09:00:00.000Z: the results say 1 votes, the ballots 0",
		}; !slices.Equal(got, want) {
			t.Errorf("found is %q\nwant %q", got, want)
		}
	})
	t.Run("the specialist", func(t *testing.T) {
		w := newWorld(t, t)
		first, second := w.specialist(), w.specialist()
		vote := w.cast(w.stranger(), first)
		w.cast(w.stranger(), second)
		e, d := w.annulmentOf(vote)
		d.Specialist = second // takes what somebody else has
		e.Data = d
		w.record(e)
		if got, want := found(t, w), []string{
			"specialist zanete-kirsone-2 (Žanete Ķirsone): the results say 1 votes and 1 voters, the ballots 0 and 0",
			"specialist zanete-kirsone-3 (Žanete Ķirsone): the results say 0 votes and 0 voters, the ballots 1 and 1",
			cell + "web, in the hour from 2018-05-04T09:00:00.000Z: the results say 1 votes, the ballots 0",
			strings.Replace(cell, "-2", "-3", 1) + "web, in the hour from 2018-05-04T09:00:00.000Z: the results say 0 votes, the ballots 1",
		}; !slices.Equal(got, want) {
			t.Errorf("found is %q\nwant %q", got, want)
		}
	})
	t.Run("a person on a slip", func(t *testing.T) {
		w := newWorld(t, t)
		v := w.stranger()
		w.admin(domain.VoteCast{Voter: v, Specialist: w.specialist(), Channel: "in_person", Active: 1})
		w.cast(v, w.specialist())
		if got, want := found(t, w), []string{"the results say 0 voters, the ballots 1"}; !slices.Equal(got, want) {
			t.Errorf("found is %q\nwant %q", got, want)
		}
	})
}

// TestVotesStayWhereTheyWereCast: the recount knows where a specialist was.
func TestVotesStayWhereTheyWereCast(t *testing.T) {
	w := newWorld(t, t)
	s := w.specialist()
	w.cast(w.stranger(), s)
	w.admin(domain.SpecialistUpdated{Specialist: s, Profile: domain.Profile{Name: "Žanete Ķirsone", Institution: "Valsts ieņēmumu dienests"}})
	w.cast(w.stranger(), s)
	w.clock = w.clock.Add(3 * time.Hour)
	w.cast(w.stranger(), s)
	r := w.verify()
	wantMismatches(t, r)
	if n := len(r.Tally().Cells()); n != 3 {
		t.Errorf("the votes are in %d cells, want 3", n)
	}
}

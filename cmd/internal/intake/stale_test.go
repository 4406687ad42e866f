package intake_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// deposed reads as from a leader that was deposed without knowing it: what was
// recorded above a sequence it does not know. Appends are not its affair.
type deposed struct {
	intake.Ledger
	upTo atomic.Uint64 // 0: it knows everything
}

func (d *deposed) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	events, err := d.Ledger.History(ctx, subject, after, read)
	for i := range events {
		if n := d.upTo.Load(); n > 0 && events[i].Sequence > n {
			return events[:i], err
		}
	}
	return events, err
}

func (d *deposed) Last(ctx context.Context, subject string, read eventstore.Read) (eventstore.Recorded, bool, error) {
	events, err := d.History(ctx, subject, 0, read)
	if len(events) == 0 {
		return eventstore.Recorded{}, false, err
	}
	return events[len(events)-1], true, err
}

// TestVoteBesideADeposedLeader: who reads from it does not know of the close,
// and must not acknowledge a vote above it.
func TestVoteBesideADeposedLeader(t *testing.T) {
	w := newWorld(t, 0)
	ledger := &deposed{Ledger: w.ledger}
	in := w.intake(ledger)
	ledger.upTo.Store(uint64(len(w.events())))
	closed, err := w.intake(w.ledger).Close(t.Context(), "")
	must(t, err)

	receipt, err := in.Submit(t.Context(), vote("Eva", "ilze", "s1"))
	if !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("above the close at %d: receipt %+v, error %v", closed.Sequence, receipt, err)
	}
	ledger.upTo.Store(0)
	_, err = in.Submit(t.Context(), vote("Eva", "ilze", "s1"))
	refusedWith(t, err, domain.ClosedCampaign)
}

// TestRegisterReadOutOfOrder: a leader answers about specialists, a deposed one
// about the campaign. What the second lacked is found later, below what is
// folded already.
func TestRegisterReadOutOfOrder(t *testing.T) {
	w := newWorld(t, 0)
	ledger := &lagging{Ledger: w.ledger, subject: domain.ControlSubject(campaign)}
	other := w.intake(w.ledger)
	_, err := other.Amend(t.Context(), domain.CampaignAmended{AddChannels: []domain.Channel{{Name: "mobile", Identity: domain.Verified}}})
	must(t, err)
	ledger.hides.Store(true)
	_, err = other.SetSpecialist(t.Context(), "uldis", domain.Profile{Name: "Uldis Šķēle"})
	must(t, err)
	in := w.intake(ledger)
	if _, known := in.Register().Specialist("uldis"); !known {
		t.Fatal("the specialist was not read")
	}
	ledger.hides.Store(false)
	_, err = in.Submit(t.Context(), intake.Command{Action: domain.Vote, Voter: "Eva", Specialist: "uldis", Channel: "mobile", SubmissionID: "s1"})
	must(t, err)
}

// lagging lacks the newest event of one subject.
type lagging struct {
	intake.Ledger
	subject string
	hides   atomic.Bool
}

func (l *lagging) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	events, err := l.Ledger.History(ctx, subject, after, read)
	if l.hides.Load() && subject == l.subject && len(events) > 0 {
		events = events[:len(events)-1]
	}
	return events, err
}

// TestAnnulmentOfAVoteTakenBackElsewhere: after the close an annulment expects
// nothing of the voter's own subject, so that a cached ballot must not be
// believed.
func TestAnnulmentOfAVoteTakenBackElsewhere(t *testing.T) {
	w := newWorld(t, 0)
	a, b := w.intake(w.ledger), w.intake(w.ledger)
	receipt, err := a.Submit(t.Context(), vote("Eva", "ilze", "s1"))
	must(t, err)
	_, err = b.Submit(t.Context(), retraction("Eva", "ilze", "s2"))
	must(t, err)
	_, err = b.Close(t.Context(), "")
	must(t, err)
	w.ticks.Add(time.Minute.Milliseconds()) // a hears of the close
	_, err = a.Annul(t.Context(), w.annulment("Eva", receipt.Sequence))
	refusedWith(t, err, domain.AlreadyRetracted)
	if votes, _ := w.count().Total("ilze"); votes != 0 {
		t.Errorf("ilze has %d votes", votes)
	}
	w.audited()
}

// TestChannelAddedElsewhere: how a channel knows its voters must be known before
// the pseudonym is made.
func TestChannelAddedElsewhere(t *testing.T) {
	w := newWorld(t, 0)
	a, b := w.intake(w.ledger), w.intake(w.ledger)
	_, err := b.Amend(t.Context(), domain.CampaignAmended{AddChannels: []domain.Channel{{Name: "desk", Identity: domain.NoIdentity}}})
	must(t, err)
	slip := intake.Command{Action: domain.Vote, Specialist: "ilze", Channel: "desk", SubmissionID: "veidlapa 1"}
	_, err = a.Submit(t.Context(), slip)
	must(t, err)
	slip.Voter, slip.SubmissionID = "Eva", "veidlapa 2"
	if _, err = a.Submit(t.Context(), slip); err == nil {
		t.Error("a slip without identity was accepted with a voter")
	}
	_, err = a.Submit(t.Context(), intake.Command{Action: domain.Vote, Specialist: "ilze", Channel: "fakss", SubmissionID: "1"})
	refusedWith(t, err, domain.ChannelNotAccepted)
	if n := w.count().Votes(); n != 1 {
		t.Errorf("%d votes are counted", n)
	}
}

// stuck answers no read of the leader until its context ends.
type stuck struct {
	intake.Ledger
	down    atomic.Bool
	fails   atomic.Bool // at once
	waiting chan struct{}
}

func (s *stuck) Last(ctx context.Context, subject string, read eventstore.Read) (eventstore.Recorded, bool, error) {
	switch {
	case s.fails.Load():
		return eventstore.Recorded{}, false, eventstore.ErrUnavailable
	case !s.down.Load():
		return s.Ledger.Last(ctx, subject, read)
	}
	s.waiting <- struct{}{}
	<-ctx.Done()
	return eventstore.Recorded{}, false, ctx.Err()
}

// TestDeadlineBehindASlowRefresh: who waits for another's refresh waits no
// longer than the own deadline.
func TestDeadlineBehindASlowRefresh(t *testing.T) {
	w := newWorld(t, 0)
	ledger := &stuck{Ledger: w.ledger, waiting: make(chan struct{}, 10)}
	in := w.intake(ledger)
	ledger.down.Store(true)
	w.ticks.Add(time.Minute.Milliseconds())
	slow, giveUp := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := in.Submit(slow, vote("Eva", "ilze", "s1")); err == nil {
			t.Error("a vote was accepted without a register")
		}
	})
	<-ledger.waiting
	hurried, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := in.Submit(hurried, vote("Anna", "ilze", "s2")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind a slow refresh: %v", err)
	}
	giveUp()
	first.Wait()
}

// TestRegisterIsRenewedInTime: before the register is too old somebody reads it
// anew, and nobody else waits for that.
func TestRegisterIsRenewedInTime(t *testing.T) {
	w := newWorld(t, 0)
	ledger := &stuck{Ledger: w.ledger, waiting: make(chan struct{}, 10)}
	in := w.intake(ledger)
	ledger.down.Store(true)
	w.ticks.Add(900) // ms of the second that it may be old
	slow, giveUp := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() { _, _ = in.Submit(slow, vote("Eva", "ilze", "s1")) })
	<-ledger.waiting
	_, err := in.Submit(t.Context(), vote("Anna", "ilze", "s2"))
	must(t, err)
	giveUp()
	first.Wait()
	if n := len(ledger.waiting); n != 0 {
		t.Errorf("%d others read the register too", n)
	}
	// What cannot be read anew yet is still good.
	ledger.fails.Store(true)
	_, err = in.Submit(t.Context(), vote("Ilze", "ilze", "s3"))
	must(t, err)
}

// histories notes of what the history is read.
type histories struct {
	intake.Ledger
	mu       sync.Mutex
	subjects map[string]int
}

func (h *histories) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subjects[subject]++
	return h.Ledger.History(ctx, subject, after, read)
}

// TestNoNewsOfSpecialists: who hears nothing new about them does not look for
// it among all the votes that came since, and what is new is heard of.
func TestNoNewsOfSpecialists(t *testing.T) {
	w := newWorld(t, 0)
	ledger := &histories{Ledger: w.ledger, subjects: make(map[string]int)}
	in := w.intake(ledger)
	clear(ledger.subjects)
	for i := range 10 {
		w.ticks.Add(time.Minute.Milliseconds())
		_, err := in.Submit(t.Context(), vote(fmt.Sprint("voter ", i), "ilze", "s1"))
		must(t, err)
	}
	if n := ledger.subjects[domain.ControlSubject(campaign)]; n != 10 {
		t.Errorf("the campaign was looked at %d times in 10 minutes", n)
	}
	if n := ledger.subjects[domain.SpecialistSubjects(campaign)]; n != 0 {
		t.Errorf("news of the specialists was looked for %d times, and there was none", n)
	}
	other := w.intake(w.ledger)
	_, err := other.SetSpecialist(t.Context(), "uldis", domain.Profile{Name: "Uldis Šķēle"})
	must(t, err)
	_, err = other.SetSpecialist(t.Context(), "ilze", domain.Profile{Name: "Ilze Bērziņa-Ozola"})
	must(t, err)
	w.ticks.Add(time.Minute.Milliseconds())
	_, err = in.Submit(t.Context(), vote("Eva", "uldis", "s2"))
	must(t, err)
	if s, _ := in.Register().Specialist("ilze"); s.Name != "Ilze Bērziņa-Ozola" {
		t.Errorf("the intake knows ilze as %q", s.Name)
	}
}

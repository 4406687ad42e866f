package intake_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(nodeFolder); folder != "" {
		serveNode(folder)
		return
	}
	goleak.VerifyTestMain(m, storetest.Leftovers()...)
}

const campaign = "laba-servisa-kustiba-2018"

// start is when the clock of a world begins.
var start = time.Date(2018, 3, 1, 8, 0, 0, 0, time.UTC)

// world is an open campaign with three specialists on a ledger in memory.
type world struct {
	t      testing.TB
	ledger *storetest.Memory // without faults
	codec  *domain.Codec
	key    domain.PseudonymKey
	ticks  atomic.Int64
}

// newWorld opens a campaign in which a voter has a number of votes, 0 for any.
func newWorld(t testing.TB, votesPerVoter int) *world {
	t.Helper()
	codec, err := domain.NewCodec()
	must(t, err)
	w := &world{t: t, ledger: storetest.NewMemory(t, domain.ControlSubject(campaign)), codec: codec, key: domain.PseudonymKey{'a', 't', 's'}}
	_, err = intake.OpenCampaign(t.Context(), w.ledger, campaign, domain.CampaignOpened{
		OpensAt: start.AddDate(0, -1, 0), ClosesAt: start.AddDate(0, 1, 0), Timezone: "Europe/Riga",
		VotesPerVoter: votesPerVoter, KeyID: w.key.ID(),
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "slip", Identity: domain.NoIdentity}},
	}, start)
	must(t, err)
	in := w.intake(w.ledger)
	for id, name := range map[string]string{"ilze": "Ilze Bērziņa", "zanete": "Žanete Ķirsone", "janis": "Jānis Ķēniņš"} {
		_, err := in.SetSpecialist(t.Context(), id, domain.Profile{Name: name})
		must(t, err)
	}
	return w
}

// clock goes on by a millisecond whenever it is looked at, so that no two
// events are the same by accident, and so slowly that an intake hears of
// nothing by itself while a test runs: what it must know it must ask for.
func (w *world) clock() time.Time {
	return start.Add(time.Duration(w.ticks.Add(1)) * time.Millisecond)
}

// intake is one of any number of intakes side by side.
func (w *world) intake(l intake.Ledger) *intake.Intake {
	w.t.Helper()
	in, err := intake.New(w.t.Context(), intake.Config{Campaign: campaign, Ledger: l, Codec: w.codec, Key: &w.key, Now: w.clock})
	must(w.t, err)
	return in
}

// event is an event of a ledger.
type event struct {
	sequence uint64
	domain.Event
}

func (w *world) events() (events []event) {
	w.t.Helper()
	must(w.t, w.ledger.Replay(context.Background(), 1, 0, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			e, err := w.codec.Decode(rec.Data)
			if err != nil {
				return err
			}
			events = append(events, event{rec.Sequence, e})
		}
		return nil
	}))
	return events
}

// count folds the ledger.
func (w *world) count() *domain.Tally {
	w.t.Helper()
	tally := new(domain.Tally)
	for _, e := range w.events() {
		_, err := tally.Apply(e.sequence, e.Event)
		must(w.t, err)
	}
	return tally
}

// audited fails the test unless the ledger passes an audit.
func (w *world) audited() *audit.Report {
	w.t.Helper()
	report, err := audit.Verify(context.Background(), campaign, w.ledger, w.codec, audit.Options{})
	must(w.t, err)
	for _, c := range report.Checks {
		for _, m := range c.Mismatches {
			w.t.Errorf("audit: %s: %s", c.Title, m)
		}
	}
	return report
}

// vote is a command on the web.
func vote(voter, specialist, submission string) intake.Command {
	return intake.Command{Action: domain.Vote, Voter: voter, Specialist: specialist, Channel: "web", SubmissionID: submission}
}

func retraction(voter, specialist, submission string) intake.Command {
	c := vote(voter, specialist, submission)
	c.Action = domain.Retract
	return c
}

// refusedWith fails the test unless an error is this refusal.
func refusedWith(t testing.TB, err error, code domain.Code) {
	t.Helper()
	var refusal *domain.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Fatalf("the answer is %v instead of %s", err, code)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, storetest.Leftovers()...) }

const campaign = "laba-servisa-kustiba-2018"

// closeTimeout is how long a ledger may take to close.
const closeTimeout = 30 * time.Second

// world is a nats-server with an open campaign and any number of workers.
type world struct {
	t      testing.TB
	server *storetest.Server
	nc     *nats.Conn

	connect []nats.Option
	codec   *domain.Codec
	key     domain.PseudonymKey

	mu      sync.Mutex
	missing []string // campaigns whose keys are not here; guarded by mu
}

// newWorld opens a campaign in which everybody may vote now, with the queue.
func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, func(*server.Options) {})
}

// newWorldOn is a world on a server with other options, to which one connects with
// options too.
func newWorldOn(t testing.TB, change func(*server.Options), connect ...nats.Option) *world {
	t.Helper()
	codec, err := domain.NewCodec()
	check(t, err)
	w := &world{t: t, server: storetest.NewServer(t, change), connect: connect, codec: codec, key: domain.PseudonymKey{'a', 't', 's'}}
	w.nc = w.server.Connect(t, connect...)
	check(t, queue.CreateStreams(t.Context(), w.nc, 1))
	w.open(campaign)
	return w
}

func ledgerConfig(campaign string) eventstore.Config {
	return eventstore.Config{Stream: domain.StreamName(campaign), Subjects: domain.StreamSubjects(campaign),
		Control: domain.ControlSubject(campaign), Replicas: 1}
}

// open opens a campaign with three specialists.
func (w *world) open(campaign string) {
	w.t.Helper()
	check(w.t, eventstore.Create(w.t.Context(), w.nc, ledgerConfig(campaign)))
	check(w.t, queue.CreateOutcomes(w.t.Context(), w.nc, campaign, 1))
	if w.connect == nil { // it is the server's own account
		w.server.StageInMemory(w.t, domain.StreamName(campaign))
		w.server.StageInMemory(w.t, queue.OutcomesStream(campaign))
	}
	l := w.ledger(w.nc, campaign)
	_, err := intake.OpenCampaign(w.t.Context(), l, campaign, domain.CampaignOpened{Title: "Laba servisa kustība",
		OpensAt: domain.Timestamp(time.Now().AddDate(0, -1, 0)), ClosesAt: domain.Timestamp(time.Now().AddDate(0, 1, 0)), Timezone: "Europe/Riga", KeyID: w.key.ID(),
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "mobile", Identity: domain.Verified},
			{Name: "in_person", Identity: domain.Declared}, {Name: "slip", Identity: domain.NoIdentity}}}, time.Now())
	check(w.t, err)
	in := w.intake(l, campaign)
	for _, id := range []string{"ilze-berzina", "zanete-kirsone", "zane-cirule"} {
		_, err := in.SetSpecialist(w.t.Context(), id, domain.Profile{Name: id})
		check(w.t, err)
	}
}

// ledger opens the ledger of a campaign until the test ends.
func (w *world) ledger(nc *nats.Conn, campaign string) *eventstore.Ledger {
	w.t.Helper()
	l, err := eventstore.Open(w.t.Context(), nc, ledgerConfig(campaign))
	check(w.t, err)
	w.t.Cleanup(func() { check(w.t, closeLedger(l)) })
	return l
}

func closeLedger(l *eventstore.Ledger) error {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	return l.Close(ctx)
}

func (w *world) intake(l intake.Ledger, campaign string) *intake.Intake {
	w.t.Helper()
	in, err := intake.New(w.t.Context(), intake.Config{Campaign: campaign, Ledger: l, Codec: w.codec, Key: &w.key})
	check(w.t, err)
	return in
}

// opener opens the campaigns of a world over a connection.
type opener struct {
	world *world
	nc    *nats.Conn
}

func (o opener) List(context.Context) ([]string, error) { return nil, nil }

func (o opener) Open(ctx context.Context, campaign string) (*intake.Intake, func() error, error) {
	l, err := eventstore.Open(ctx, o.nc, ledgerConfig(campaign))
	if err != nil {
		return nil, nil, err
	}
	c := intake.Config{Campaign: campaign, Ledger: l, Codec: o.world.codec}
	if o.world.keyIsMissing(campaign) {
		return nil, nil, errors.Join(intake.WithoutKey(ctx, c, errors.New("there is no such file")), closeLedger(l))
	}
	c.Key = &o.world.key
	in, err := intake.New(ctx, c)
	if err != nil {
		return nil, nil, errors.Join(err, closeLedger(l))
	}
	return in, func() error { return closeLedger(l) }, nil
}

func (w *world) keyIsMissing(campaign string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.missing, campaign)
}

// worker is a worker that runs.
type worker struct {
	*queue.Worker
	world     *world
	nc        *nats.Conn
	campaigns *intake.Campaigns
	stop      context.CancelFunc
	ended     chan error
	once      sync.Once
}

// start starts a worker over a connection of its own. It ends with the test at
// the latest.
func (w *world) start(change ...func(*queue.Config)) *worker {
	w.t.Helper()
	nc := w.server.Connect(w.t, w.connect...)
	r := &worker{world: w, nc: nc, campaigns: intake.NewCampaigns(opener{w, nc}), ended: make(chan error, 1)}
	c := queue.Config{Conn: nc, Replicas: 1, Campaigns: r.campaigns, Metrics: queue.NewMetrics(), Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&c)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.Worker = queue.NewWorker(c)
	go func() { r.ended <- r.Run(ctx) }()
	w.t.Cleanup(r.end)
	return r
}

// end asks the worker to stop and waits for it.
func (r *worker) end() {
	r.once.Do(func() {
		r.stop()
		if err := <-r.ended; err != nil {
			r.world.t.Errorf("the worker has ended: %v", err)
		}
		check(r.world.t, r.campaigns.Close())
	})
}

// crash ends the worker as a kill does: its connection is lost with whatever it
// has in hand, and it comes to no end with anything.
func (r *worker) crash() {
	r.once.Do(func() {
		r.nc.Close()
		r.stop()
		<-r.ended // with whatever was under way
		_ = r.campaigns.Close()
	})
}

// vote is a submission of a voter on the web.
func vote(voter, specialist, id string) queue.Item {
	return queue.Item{Channel: "web", Submission: queue.Submission{ID: id, Voter: voter, Specialist: specialist, Action: domain.Vote}}
}

func retraction(voter, specialist, id string) queue.Item {
	it := vote(voter, specialist, id)
	it.Action = domain.Retract
	return it
}

// submit publishes submissions.
func (w *world) submit(items ...queue.Item) {
	w.t.Helper()
	check(w.t, queue.Submit(w.t.Context(), w.nc, campaign, items, func(int) {}))
}

// decided submits, waits for the outcomes, and returns them by submission id and
// action; of what went to the poison the reason.
func (w *world) decided(items ...queue.Item) (outcomes map[string]queue.Outcome, poison map[string]string) {
	w.t.Helper()
	waiting, _, err := queue.Await(w.t.Context(), w.nc, campaign, items)
	check(w.t, err)
	w.submit(items...)
	outcomes, poison = make(map[string]queue.Outcome), make(map[string]string)
	check(w.t, waiting.Each(w.t.Context(), func(o queue.Outcome, fate error) {
		id := fmt.Sprintf("%s %s", o.Action, o.SubmissionID)
		if fate != nil {
			poison[id] = fate.Error()
			return
		}
		outcomes[id] = o
	}))
	return outcomes, poison
}

// publish publishes bytes as a program that knows nothing of this package does.
func (w *world) publish(subject, body string) {
	w.t.Helper()
	_, err := w.nc.Request(subject, []byte(body), closeTimeout)
	check(w.t, err)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

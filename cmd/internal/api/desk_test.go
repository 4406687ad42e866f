package api_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// desk is a worker on a ledger in memory: for what a real server does not do
// when a test wants it.
type desk struct {
	*worker
	ledger *storetest.Memory
	passes passes                      // whose tokens are good, by token
	models projections.MemoryModels    // as of the last project
	counts *dashboard.Counts           // over models and ledger
	past   func(context.Context) error // what opening the ledger for counting waits for or says; nil: nothing
	intake *intake.Intake
	clock  atomic.Pointer[time.Time] // nil: it is now
	get    func() error              // what opening the campaign says; nil: nothing
	list   func() error              // the same of the list of campaigns
}

// newDesk opens a campaign in which everybody may vote now.
func newDesk(t testing.TB, change ...func(*domain.CampaignOpened)) *desk {
	t.Helper()
	codec, err := domain.NewCodec()
	check(t, err)
	d := &desk{ledger: storetest.NewMemory(t, domain.ControlSubject(campaign))}
	w := &world{t: t, codec: codec, key: domain.PseudonymKey{'a', 't', 's'}, now: d.now, tokens: make(map[string]string)}
	opened := domain.CampaignOpened{Title: "Laba servisa kustība", OpensAt: domain.Timestamp(d.now().AddDate(0, -1, 0)),
		ClosesAt: domain.Timestamp(d.now().AddDate(0, 1, 0)), Timezone: "Europe/Riga", KeyID: w.key.ID(),
		Channels: []domain.Channel{{Name: "web", Identity: domain.Verified}, {Name: "in_person", Identity: domain.Declared}, {Name: "slip", Identity: domain.NoIdentity}}}
	for _, f := range change {
		f(&opened)
	}
	_, err = intake.OpenCampaign(t.Context(), d.ledger, campaign, opened, d.now())
	check(t, err)
	d.intake = w.intake(d.ledger)
	for id, name := range map[string]string{"ilze-berzina": "Ilze Bērziņa", "zanete-kirsone": "Žanete Ķirsone", "zane-cirule": "Zane Cīrule"} {
		_, err := d.intake.SetSpecialist(t.Context(), id, domain.Profile{Name: name})
		check(t, err)
	}
	known := make(passes)
	d.passes = known
	for _, channel := range []string{"web", "in_person", "slip", "pasts"} {
		w.tokens[channel] = "pass-" + channel
		known["pass-"+channel] = &credential.Credential{ID: channel, Role: domain.RoleChannel, Channel: channel}
	}
	w.tokens["2019"] = "pass-2019"
	for _, role := range readers {
		w.tokens[string(role)] = "pass-" + string(role)
		known["pass-"+string(role)] = &credential.Credential{ID: string(role), Role: role, Institution: "Nodarbinātības valsts aģentūra"}
	}
	for name, c := range map[string]credential.Credential{"revoked": {Revoked: d.now()}, "expired": {Expires: d.now()}, "elsewhere": {Campaign: "2019"}} {
		c.ID, c.Role = name, domain.RoleChancellery
		w.tokens[name], known["pass-"+name] = "pass-"+name, &c
	}
	d.counts = dashboard.NewCounts(&d.models, deskLedgers{d}, codec)
	t.Cleanup(d.counts.Close)
	known["pass-2019"] = &credential.Credential{ID: "2019", Role: domain.RoleChannel, Channel: "web", Campaign: "2019"}
	d.worker = &worker{world: w, logged: new(safeBuffer), metrics: api.NewMetrics(func() int { return 0 })}
	d.api, err = api.NewServer(api.Intake|api.Reading, slog.New(slog.NewJSONHandler(d.logged, &slog.HandlerOptions{Level: slog.LevelDebug})), d.metrics)
	check(t, err)
	d.api.Use(d.backend(known))
	d.Server = httptest.NewServer(d.api)
	t.Cleanup(d.Close)
	return d
}

// forget keeps a long run from keeping all that was logged.
func (b *safeBuffer) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

func (d *desk) backend(known passes) *api.Backend {
	return &api.Backend{Credentials: known, Campaigns: deskCampaigns{d}, Counts: d.counts}
}

func (d *desk) now() time.Time {
	if at := d.clock.Load(); at != nil {
		return *at
	}
	return time.Now()
}

// at sets the clock.
func (d *desk) at(when time.Time) { d.clock.Store(&when) }

// later makes everything that is known of the campaign too old to go by.
func (d *desk) later() { d.at(d.now().Add(time.Minute)) }

// failing lets every append, or every read, end with a fault.
func (d *desk) failing(appends, reads storetest.Fault) {
	d.ledger.SetFaults(storetest.Faults{
		Append: func(eventstore.Message, uint64) storetest.Fault { return appends },
		Read:   func(string, eventstore.Read) storetest.Fault { return reads },
	})
}

// votes are all that voters did.
func (d *desk) votes() []eventstore.Recorded {
	d.world.t.Helper()
	events, err := d.ledger.Reopen().History(d.world.t.Context(), votersSubject, 0, eventstore.Leader)
	check(d.world.t, err)
	return events
}

// readers are the roles that read.
var readers = []domain.Role{domain.RoleAuditor, domain.RoleChancellery, domain.RoleInstitution}

// project brings the read model to where the ledger ends.
func (d *desk) project() {
	d.world.t.Helper()
	var campaigns projectiontest.Campaigns
	campaigns.Add(campaign, d.ledger.Reopen())
	check(d.world.t, projectiontest.Runner(d.world.t, &campaigns, &d.models).RunToEnd(d.world.t.Context()))
}

// deskLedgers are the ledger of a desk for who counts.
type deskLedgers struct{ desk *desk }

func (l deskLedgers) OpenLedger(ctx context.Context, id string) (dashboard.Ledger, error) {
	if l.desk.past != nil {
		if err := l.desk.past(ctx); err != nil {
			return nil, err
		}
	}
	return l.desk.ledger.Reopen(), nil
}

// deskCampaigns are the one campaign of a desk.
type deskCampaigns struct{ desk *desk }

func (c deskCampaigns) List(context.Context) ([]string, error) {
	if c.desk.list != nil {
		return nil, c.desk.list()
	}
	return []string{campaign}, nil
}

func (c deskCampaigns) Get(_ context.Context, id string) (*intake.Intake, error) {
	if id != campaign {
		return nil, eventstore.ErrNotFound
	}
	if c.desk.get != nil {
		return nil, c.desk.get()
	}
	return c.desk.intake, nil
}

// passes are credentials that a test makes up.
type passes map[string]*credential.Credential

func (p passes) Check(token string) (*credential.Credential, error) {
	c, ok := p[token]
	switch {
	case token == "":
		return nil, credential.ErrMissing
	case !ok:
		return nil, credential.ErrUnknown
	case !c.Revoked.IsZero():
		return c, credential.ErrRevoked
	case !c.Expires.IsZero():
		return c, credential.ErrExpired
	}
	return c, nil
}

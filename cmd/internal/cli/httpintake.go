package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// httpIntake takes votes over HTTP, and from the queue if it is to, for the
// campaigns of one node at a time. It has a server as long as it lives, and goes
// on with the next node.
type httpIntake struct {
	app     *app
	server  *api.Server
	metrics *api.Metrics
	queue   *queueIntake      // nil: nothing is taken from the queue
	counts  *dashboard.Counts // nil: none are told
	keys    string            // folder of the pseudonym keys; empty: the data directory's
	logs    string            // folder of the campaigns' logs; empty: the data directory's

	mu      sync.Mutex
	serving *servedNode // guarded by mu; nil while there is no node
}

// servedNode is what votes are taken for.
type servedNode struct {
	nodeCampaigns
	book      *credential.Book
	campaigns *intake.Campaigns

	mu      sync.Mutex
	ledgers []*eventstore.Ledger // opened; guarded by mu

	// finish is how long a ledger may take to record what it accepted. It is
	// set before the ledgers are closed.
	finish time.Duration
}

func (a *app) newHTTPIntake(parts api.Part, keys, logs string) (*httpIntake, error) {
	h := &httpIntake{app: a, keys: keys, logs: logs}
	h.metrics = api.NewMetrics(h.pending)
	var err error
	h.server, err = api.NewServer(parts, a.logger(), h.metrics)
	return h, err
}

// run takes votes for a node's campaigns until the context ends. Then the
// server answers that the ledger cannot be reached; whoever wants requests under
// way to be answered lets them end first. The node may be closed when it has
// returned.
//
// When the node is gone, appends under way are cut off: this connection will
// never bring their outcome, and their clients wait for an answer, and then for
// the next node.
func (h *httpIntake) run(ctx context.Context, n nodeCampaigns) (err error) {
	book, err := credential.NewBook(n.node.Conn(), h.app.logger())
	if err != nil {
		return err
	}
	s := &servedNode{nodeCampaigns: n, book: book, finish: closeTimeout}
	s.campaigns = intake.NewCampaigns(intakeOpener{h, s})
	h.use(s)
	defer func() {
		h.use(nil)
		if errors.Is(context.Cause(ctx), errNodeGone) {
			s.finish = 0
		}
		err = errors.Join(err, s.campaigns.Close())
	}()
	known := func() error {
		if err := book.Run(ctx); ctx.Err() == nil {
			return err
		}
		return nil // it was asked to end
	}
	if h.queue == nil {
		return known()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return together(stop, known, func() error { return h.queue.run(ctx, n.node, s.campaigns) })
}

func (h *httpIntake) use(s *servedNode) {
	h.mu.Lock()
	h.serving = s
	h.mu.Unlock()
	if s == nil {
		h.server.Use(nil)
		return
	}
	h.server.Use(&api.Backend{Credentials: s.book, Campaigns: s.campaigns, Prover: prover{h}, Counts: h.counts})
}

// served is the node that votes are taken for, or nil.
func (h *httpIntake) served() *servedNode {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.serving
}

// Check implements api.Credentials, whichever node there is.
func (h *httpIntake) Check(token string) (*credential.Credential, error) {
	s := h.served()
	if s == nil {
		return nil, credential.ErrNotReady
	}
	return s.book.Check(token)
}

// pending is how many events wait to be committed.
func (h *httpIntake) pending() (events int) {
	s := h.served()
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.ledgers {
		events += l.Pending()
	}
	return events
}

// intakeOpener opens the campaigns of a node.
type intakeOpener struct {
	intake *httpIntake
	served *servedNode
}

// List implements intake.Opener.
func (o intakeOpener) List(ctx context.Context) ([]string, error) { return o.served.List(ctx) }

// Open implements intake.Opener.
func (o intakeOpener) Open(ctx context.Context, campaign string) (_ *intake.Intake, closing func() error, err error) {
	a, n := o.intake.app, o.served.node
	if err := domain.ValidateCampaignID(campaign); err != nil {
		return nil, nil, &intake.InvalidError{Err: err}
	}
	config := ledgerConfig(n, campaign)
	config.Observer = o.intake.metrics
	l, err := n.OpenLedger(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeLedger(l))
		}
	}()
	c := intake.Config{Campaign: campaign, Ledger: l, Codec: a.codec, Now: a.now}
	key, err := keyring.Load(o.intake.keyPath(campaign))
	if err != nil {
		return nil, nil, intake.WithoutKey(ctx, c, err)
	}
	c.Key = &key
	in, err := intake.New(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	o.served.mu.Lock()
	defer o.served.mu.Unlock()
	o.served.ledgers = append(o.served.ledgers, l)
	return in, func() error { return closeLedgerWithin(o.served.finish, l) }, nil
}

func (h *httpIntake) keyPath(campaign string) string {
	if h.keys == "" {
		return keyring.Path(h.app.dataDir, campaign)
	}
	return filepath.Join(h.keys, filepath.Base(keyring.Path("", campaign)))
}

// prover reads proofs from the folders of the signed logs.
type prover struct{ intake *httpIntake }

// Prove implements api.Prover. A log that is not here, or with which something
// is wrong, costs the receipt its proof and nothing else.
func (p prover) Prove(_ context.Context, campaign string, sequence uint64) ([]byte, error) {
	dir := ""
	if p.intake.logs != "" {
		dir = filepath.Join(p.intake.logs, campaign)
	}
	f, err := p.intake.app.logFolder(dir, campaign)
	if err != nil {
		return nil, err
	}
	keys, err := f.Keys()
	if err == nil {
		var r *transparency.Receipt
		if r, err = f.Receipt(keys, sequence); err == nil {
			return r.Marshal(), nil
		}
	}
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, transparency.ErrNotSealed) {
		p.intake.app.logger().Error("a receipt has no proof", "campaign", campaign, "sequence", sequence, "error", err)
	}
	return nil, nil
}

// addIntake adds what taking votes depends on.
func (s *readiness) addIntake(ctx context.Context, h *httpIntake) {
	served := h.served()
	if served == nil {
		s.add("ledger", errNodeGone, "")
		return
	}
	s.add("credentials", served.book.Ready(), "")
	ids, err := served.List(ctx)
	s.add("ledger", err, "")
	for _, id := range ids {
		in, err := served.campaigns.Get(ctx, id)
		if err == nil {
			_, err = in.Recent(ctx)
		}
		if errors.Is(err, eventstore.ErrUnavailable) {
			s.add("campaign "+id, err, "")
			continue
		}
		s.addCampaign(id, err)
	}
}

// addCampaign adds a campaign with which something may be wrong here, such as
// its key. It is no reason to take the other campaigns' worker away.
func (s *readiness) addCampaign(id string, err error) {
	d := dependencyState{Name: "campaign " + id, Ready: err == nil}
	if err != nil {
		d.Detail = "no votes are taken for it here: " + err.Error()
	}
	s.Dependencies = append(s.Dependencies, d)
}

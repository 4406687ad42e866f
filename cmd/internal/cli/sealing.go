package cli

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// sealRetry is the pause before a log that could not be sealed is tried again,
// in time. Each try reads the whole ledger.
const sealRetry = 30 * time.Second

// sealings seal the logs of all campaigns of a node, those too that are opened
// later. One that has halted hinders no other.
type sealings struct {
	app *app
	// auditorToken opens the bundles to who sends it; empty to nobody.
	auditorToken string
	// credentials open them to auditors, too; nil where none are known.
	credentials api.Credentials
	wanted      bool          // otherwise the logs are only served
	interval    time.Duration // between two checkpoints; 0 for the default

	mu     sync.Mutex
	states map[string]logState // by campaign; guarded by mu
}

// logState is how far a campaign's log is.
type logState struct {
	Campaign string `json:"campaign"`
	Events   uint64 `json:"events"` // sealed
	Root     string `json:"root,omitempty"`
	Error    string `json:"error,omitempty"` // why nothing is sealed at the moment
}

func newSealings(a *app, auditorToken string, wanted bool) *sealings {
	return &sealings{app: a, auditorToken: auditorToken, wanted: wanted, states: make(map[string]logState)}
}

// list returns the states by campaign.
func (s *sealings) list() []logState {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []logState{}
	for _, campaign := range slices.Sorted(maps.Keys(s.states)) {
		list = append(list, s.states[campaign])
	}
	return list
}

// report notes what came of a checkpoint.
func (s *sealings) report(campaign string, c transparency.Checkpoint, err error) {
	s.app.logSealing(campaign, c, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.states[campaign]
	if err != nil {
		state.Error = err.Error()
	} else {
		state.Events, state.Root, state.Error = c.Size, c.Root.String(), ""
	}
	s.states[campaign] = state
}

// begin notes a campaign, and says whether it is new.
func (s *sealings) begin(campaign string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.states[campaign]; known {
		return false
	}
	s.states[campaign] = logState{Campaign: campaign}
	return true
}

// follow seals the logs of one node after another: it is a nodeWork.
func (s *sealings) follow(ctx context.Context, n nodeCampaigns) error {
	created, err := watchStreams(n.node.Conn())
	if err != nil {
		return err
	}
	s.mu.Lock()
	clear(s.states) // the node before has ended, and what was begun on it
	s.mu.Unlock()
	return s.run(ctx, n.node, created)
}

// run seals until the context ends, and waits for all that it has begun. After
// a receipt from created there may be new campaigns.
func (s *sealings) run(ctx context.Context, n *node.Node, created <-chan struct{}) error {
	var sealing sync.WaitGroup
	defer sealing.Wait()
	for {
		campaigns, err := nodeCampaigns{s.app, n}.List(ctx)
		if err != nil && ctx.Err() == nil {
			s.app.logger().Warn("the campaigns cannot be listed, so that new ones are not sealed", "error", err)
		}
		for _, campaign := range campaigns {
			if s.begin(campaign) {
				sealing.Go(func() { s.keep(ctx, n, campaign) })
			}
		}
		select {
		case <-created:
		case <-time.After(sealRetry): // what was announced while the connection was lost
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keep seals one campaign, and tries again after what may pass. After anything
// else nothing is sealed until somebody has looked and the node is started again.
func (s *sealings) keep(ctx context.Context, n *node.Node, campaign string) {
	for {
		err := s.seal(ctx, n, campaign)
		if ctx.Err() != nil {
			return
		}
		s.app.logger().Error("the log is not sealed any more", "campaign", campaign, "error", err)
		s.report(campaign, transparency.Checkpoint{}, err)
		if transparency.Halts(err) {
			return
		}
		timer := time.NewTimer(sealRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (s *sealings) seal(ctx context.Context, n *node.Node, campaign string) (err error) {
	l, err := s.app.openLedger(ctx, n, campaign)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	if err := s.app.warnOfDeviations(ctx, l, campaign); err != nil {
		return err
	}
	sealer, release, err := s.app.sealer(ctx, n, l, sealOptions{campaign: campaign, interval: s.interval},
		func(c transparency.Checkpoint, err error) { s.report(campaign, c, err) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	return sealer.Run(ctx)
}

// serve serves the logs below /log/CAMPAIGN/.
func (s *sealings) serve(w http.ResponseWriter, r *http.Request) {
	campaign := r.PathValue("campaign")
	if domain.ValidateCampaignID(campaign) != nil {
		http.NotFound(w, r)
		return
	}
	f, err := s.app.logFolder("", campaign)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	http.StripPrefix("/log/"+campaign, transparency.Handler(f, func(r *http.Request) bool { return s.auditor(r, campaign) })).ServeHTTP(w, r)
}

// auditor says whether a request has the auditors' token, or a credential that
// makes an auditor of this campaign. The comparison takes as long for a wrong one.
func (s *sealings) auditor(r *http.Request, campaign string) bool {
	token, err := api.Bearer(r.Header)
	if err != nil {
		return false
	}
	sent, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.auditorToken))
	if s.auditorToken != "" && subtle.ConstantTimeCompare(sent[:], want[:]) == 1 {
		return true
	}
	if s.credentials == nil {
		return false
	}
	c, err := s.credentials.Check(token)
	return err == nil && c.Role == domain.RoleAuditor && c.Covers(campaign)
}

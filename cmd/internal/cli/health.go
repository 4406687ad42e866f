package cli

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/projections"
)

const (
	// readyTimeout is how long the dependencies may take to answer.
	readyTimeout = 3 * time.Second
	// maxReadyChecks is how many /readyz are answered at a time, for each asks
	// every ledger.
	maxReadyChecks = 2
)

// health answers whether this process lives and whether it is ready. What is
// nil is not part of it.
type health struct {
	node      *node.Node            // the node in this process
	follower  *projections.Follower // read models in memory
	projector *projector            // read models in Postgres
	logs      *sealings             // Merkle logs
	intake    *httpIntake           // votes over HTTP
	reading   *httpReading          // counts over HTTP, without votes
	checks    chan struct{}         // holds a place for every check under way
}

func newHealth(n *node.Node, f *projections.Follower, p *projector) *health {
	return &health{node: n, follower: f, projector: p, checks: make(chan struct{}, maxReadyChecks)}
}

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", h.livez)
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", h.metrics())
	if h.logs != nil {
		mux.HandleFunc("/log/{campaign}/{path...}", h.logs.serve)
	}
	switch {
	case h.intake != nil:
		return apiFirst(h.intake.server, mux)
	case h.reading != nil:
		return apiFirst(h.reading.server, mux)
	}
	return mux
}

// apiFirst lets the API answer for all that begins like its addresses. The
// mux would send on what is not written plainly, and answer with a page.
func apiFirst(server *api.Server, mux *http.ServeMux) http.Handler {
	for _, path := range api.Paths {
		mux.Handle(path, server)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			server.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// livez says that the process answers; it asks nothing of anybody, so that a
// supervisor does not restart a node whose disk is full.
func (h *health) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // Who asked has gone; there is nobody to tell.
}

// readiness is the body of /readyz.
type readiness struct {
	Ready        bool              `json:"ready"`
	Dependencies []dependencyState `json:"dependencies"`
	Campaigns    []campaignState   `json:"campaigns"`           // in memory
	Projector    *projectorState   `json:"projector,omitempty"` // in Postgres
	Logs         []logState        `json:"logs,omitempty"`      // a log that is not sealed hinders no vote
}

type dependencyState struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
}

// campaignState is a read model; positions are sequences of events.
type campaignState struct {
	Campaign string             `json:"campaign"`
	Ready    bool               `json:"ready"`
	Status   projections.Status `json:"status"`
	Position uint64             `json:"position"`
	Last     uint64             `json:"last"`
	Lag      uint64             `json:"lag"` // in events
	Error    string             `json:"error,omitempty"`
}

// campaignStates are the states of a runner's campaigns, and whether all of
// them are ready.
func campaignStates(states []projections.State) (list []campaignState, ready bool) {
	list, ready = []campaignState{}, true
	for _, state := range states {
		c := campaignState{Campaign: state.Campaign, Ready: state.Ready, Status: state.Status,
			Position: state.Position, Last: state.Last, Lag: state.Lag()}
		if state.Err != nil {
			c.Error = state.Err.Error()
		}
		ready = ready && c.Ready
		list = append(list, c)
	}
	return list, ready
}

func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), readyTimeout)
	defer stop()
	var state readiness
	select {
	case h.checks <- struct{}{}:
		state = h.check(ctx)
		<-h.checks
	case <-ctx.Done():
		state.add("readyz", errors.New("too many ask at once: ask less often"), "")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !state.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = printJSON(w, state) // Who asked has gone; there is nobody to tell.
}

func (s *readiness) add(name string, err error, detail string) {
	d := dependencyState{Name: name, Ready: err == nil, Detail: detail}
	if err != nil {
		d.Detail, s.Ready = err.Error(), false
	}
	s.Dependencies = append(s.Dependencies, d)
}

// check asks everything that this process depends on.
func (h *health) check(ctx context.Context) readiness {
	s := readiness{Ready: true, Campaigns: []campaignState{}}
	if h.node != nil {
		s.addNode(ctx, h.node)
	}
	if h.intake != nil {
		s.addIntake(ctx, h.intake)
		if h.intake.queue != nil {
			s.addQueue(ctx, h.intake.queue)
		}
	}
	if h.reading != nil {
		s.addReading(ctx, h.reading)
	}
	if h.follower != nil {
		states, err := h.follower.States(ctx)
		s.add("campaigns", err, "")
		var ready bool
		s.Campaigns, ready = campaignStates(states)
		s.Ready = s.Ready && ready
	}
	if h.logs != nil {
		s.Logs = h.logs.list()
	}
	if h.projector != nil {
		state := h.projector.state(ctx)
		s.Projector, s.Ready = &state, s.Ready && state.Ready
	}
	return s
}

func (s *readiness) addNode(ctx context.Context, n *node.Node) {
	findings, err := n.Durability(ctx)
	if err != nil {
		s.add("server", err, "")
	}
	for _, f := range findings {
		// Other findings are advice; with them votes can be taken as before.
		switch f.Name {
		case "server":
			if f.Status == node.Warning {
				err = errors.New(f.Detail + " " + f.Remedy)
			}
			s.add(f.Name, err, f.Detail)
		case "disk":
			s.add(f.Name, nil, f.Detail)
		}
	}
}

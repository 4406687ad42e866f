// Package api is the HTTP interface: what the web site, the app and the desk for
// paper slips call to hand in votes, and what dashboards call to read counts.
//
//	request ─ credential ─ fair use ─ role ─ bounds ─ decode ─▶ intake.Submit ─▶ 201, or a problem with a stable code
//	                                                        └─▶ dashboard.Counts ─▶ 200, 304, or a problem
//
// A server keeps nothing but caches; any number of them run side by side. It
// speaks plain HTTP: TLS ends at the proxy in front of it.
//
// # Decisions
//
// OpenAPI is made by huma from the types that the handlers use, but the
// requests do not pass through it. Its errors repeat what was sent, and so
// voters' ids; they answer 500 to a body that breaks off; they are made by a
// function that is global; and a body of 8192 bytes is one too long. The part
// that is left, reading a handful of headers and one small JSON object
// strictly, is shorter than the settings that would mend this.
//
// The voter of a request that has no body is in the header Paldies-Voter. In an
// address it would be kept in the logs of every proxy.
//
// Who may see counts is decided in dashboard.Counts alone. Here nothing is known
// of a count before it has been asked: its answer is the first thing that a
// conditional request, a HEAD or a page depends on.
//
// A retry with the same Idempotency-Key gets the same answer byte for byte, 201
// included, so that nobody needs to know whether the first answer was lost.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// Limits of a request. Those of its head, of the connections and of the time in
// which a request must arrive are the HTTP server's.
const (
	// maxBodyBytes is the largest body, in bytes. The largest vote has a voter of
	// 256 bytes, each of them written as six.
	maxBodyBytes = 8 << 10
	// maxInFlight is how many requests that have arrived are worked on at a time;
	// who comes beyond that is answered at once with `busy`. What the ledger holds
	// of them is bounded there.
	maxInFlight = 4096
	// WorkTimeout is how long a request is worked on, in time, once its body is
	// there. Electing a leader may take longer: then the outcome is unknown, and
	// the client asks again.
	WorkTimeout = 8 * time.Second
	// pageDefault and pageMax are how many items a page has.
	pageDefault = 100
	pageMax     = 1000
	// maxSearchChars is the longest text that is searched for, in characters.
	maxSearchChars = 200
)

// prefix begins every address of the interface.
const prefix = "/api/v1/"

// Credentials tell who calls; *credential.Book is one. Check is called for each
// request by many goroutines, and answers from memory.
type Credentials interface {
	Check(token string) (*credential.Credential, error)
}

// Campaigns is where the campaigns are; *intake.Campaigns is one. Both methods
// may be called at any time, by many goroutines.
type Campaigns interface {
	List(ctx context.Context) ([]string, error)
	// Get is the intake of a campaign: intake.ErrNoKey when its key is not
	// here, eventstore.ErrNotFound when there is no such campaign.
	Get(ctx context.Context, campaign string) (*intake.Intake, error)
}

// Prover makes proofs of events that are in a signed log.
type Prover interface {
	// Prove is a C2SP tlog-proof, or nil when the event is not in a log here yet.
	Prove(ctx context.Context, campaign string, sequence uint64) ([]byte, error)
}

// Backend is what a server works on. It may be replaced by another one, when
// the node behind it has been started anew.
type Backend struct {
	Credentials Credentials
	Campaigns   Campaigns         // for Intake
	Prover      Prover            // for Intake; nil: receipts have no proofs
	Counts      *dashboard.Counts // for Reading
}

// Part is a part of the interface, for processes that serve one only. Parts are
// added up.
type Part int

const (
	Intake  Part = 1 << iota // votes, and what they can be cast for
	Reading                  // counts
)

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	backend  atomic.Pointer[Backend]
	parts    Part
	log      *slog.Logger
	metrics  *Metrics
	mux      *http.ServeMux
	inFlight chan struct{} // holds a place for every request under way
	search   searches
}

// NewServer is a server of some parts that answers `unavailable` until it is given a backend.
// Every request is logged at level info: method, route, campaign, credential,
// status, code and duration; never an address, a header or a body.
func NewServer(parts Part, log *slog.Logger, m *Metrics) (*Server, error) {
	s := &Server{parts: parts, log: log, metrics: m, mux: http.NewServeMux(), inFlight: make(chan struct{}, maxInFlight)}
	for _, o := range s.operations() {
		s.mux.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, &o) })
	}
	s.mux.HandleFunc("/", s.unknown)
	if err := s.describe(); err != nil {
		return nil, err
	}
	return s, nil
}

// Use replaces the backend; nil takes it away.
func (s *Server) Use(b *Backend) { s.backend.Store(b) }

// Paths are what a Server answers for, as patterns of http.ServeMux.
var Paths = []string{"/api/", "/openapi.json", "/docs"}

// ServeHTTP implements http.Handler for Paths.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 {
		// It may have had a Content-Length too, which net/http drops, and whoever
		// sent it on may have gone by that. The connection must end then (RFC 9112,
		// 6.1), or the rest would be read as another caller's request.
		w.Header().Set("Connection", "close")
	}
	if !plain(r) {
		s.unknown(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// plain says whether an address is written as addresses here are. Others are
// none: http.ServeMux would answer them in words of its own, or send a vote on
// to another address.
func plain(r *http.Request) bool {
	p := r.URL.EscapedPath()
	return path.IsAbs(p) && path.Clean(p) == p
}

// operation is one thing that can be asked for.
type operation struct {
	id     string
	method string
	path   string // of http.ServeMux and of OpenAPI, which write it alike
	part   Part
	roles  []domain.Role // who may ask for it; nil: anybody, without a credential too
	body   bool          // it has one
	query  bool          // it has parameters in a query, which answer looks at
	answer func(*call) (reply, error)
	// describe writes it down in OpenAPI.
	describe func(huma.API, operation)
}

// reply is an answer that is not a problem.
type reply struct {
	status   int
	location string // of what was made
	version  string // of what was read; such an answer may be kept, and asked for conditionally
	body     any    // nil: there is none
}

// call is one request on its way.
type call struct {
	*http.Request
	operation  *operation
	backend    *Backend
	credential *credential.Credential // nil: nobody's
	campaign   string                 // empty when the address names none
	body       []byte
}

// serve answers one request and accounts for it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, o *operation) {
	begun := time.Now()
	c := &call{Request: r, operation: o}
	answer := s.answer(w, c)
	answer.write(w, r)
	if answer.status >= http.StatusInternalServerError && errors.Is(r.Context().Err(), context.Canceled) {
		// Who has hung up is the reason, and nothing is wrong here.
		answer.code, answer.cause = clientGone, nil
	}
	s.account(c, answer, time.Since(begun))
}

// answer is what is to be answered, whatever happens.
func (s *Server) answer(w http.ResponseWriter, c *call) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a request ended in a panic", "operation", c.operation.id, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			a = problemOf(c, errInternal)
		}
	}()
	if err := s.admit(c); err != nil {
		return problemOf(c, err)
	}
	if !c.operation.query && c.URL.RawQuery != "" {
		return problemOf(c, &malformedError{"this address takes no query; a voter's id must never be in an address"})
	}
	if c.operation.body {
		if err := c.readBody(w); err != nil {
			return problemOf(c, err)
		}
	}
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		return problemOf(c, errBusy)
	}
	ctx, stop := context.WithTimeout(c.Context(), WorkTimeout)
	defer stop()
	c.Request = c.WithContext(ctx)
	re, err := c.operation.answer(c)
	if err != nil {
		return problemOf(c, err)
	}
	return answerOf(re)
}

// admit tells who calls, and whether they may.
func (s *Server) admit(c *call) error {
	if c.backend = s.backend.Load(); c.backend == nil {
		return eventstore.ErrUnavailable
	}
	if err := c.identify(); err != nil {
		return err
	}
	c.campaign = c.PathValue("campaign")
	switch {
	case c.campaign == "":
		return nil
	case domain.ValidateCampaignID(c.campaign) != nil:
		c.campaign = "" // it is anything, and stays out of the log
		return eventstore.ErrNotFound
	case c.credential != nil && !c.credential.Covers(c.campaign):
		return errOtherCampaign
	}
	return nil
}

// identify tells who calls. Who may do without a credential and sends one all
// the same must have a good one.
func (c *call) identify() error {
	roles := c.operation.roles
	token, err := Bearer(c.Header)
	if errors.Is(err, credential.ErrMissing) && roles == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if c.credential, err = c.backend.Credentials.Check(token); err != nil {
		return err
	}
	if ok, after := c.credential.Allow(); !ok {
		return &tooManyError{after}
	}
	if roles != nil && !slices.Contains(roles, c.credential.Role) {
		return errOtherRole
	}
	return nil
}

// role is that of who calls; the public has none.
func (c *call) role() domain.Role {
	if c.credential == nil {
		return ""
	}
	return c.credential.Role
}

// intake is the intake of the campaign that the address names.
func (c *call) intake() (*intake.Intake, error) {
	return c.backend.Campaigns.Get(c.Context(), c.campaign)
}

// account counts and logs an answer.
func (s *Server) account(c *call, a answer, took time.Duration) {
	s.metrics.answered(c.operation.id, a, took)
	if !s.log.Enabled(context.Background(), a.level()) {
		return
	}
	attrs := []slog.Attr{slog.String("operation", c.operation.id), slog.Int("status", a.status), slog.Duration("took", took)}
	if a.code != "" {
		attrs = append(attrs, slog.String("code", string(a.code)))
	}
	if c.campaign != "" {
		attrs = append(attrs, slog.String("campaign", c.campaign))
	}
	if c.credential != nil {
		attrs = append(attrs, slog.String("credential", c.credential.ID), slog.String("role", string(c.credential.Role)))
		if c.credential.Channel != "" {
			attrs = append(attrs, slog.String("channel", c.credential.Channel))
		}
	}
	if a.cause != nil {
		attrs = append(attrs, slog.String("error", unnamed(a.cause.Error())))
	}
	s.log.LogAttrs(context.Background(), a.level(), "request", attrs...)
}

// pseudonyms are in the subjects that errors of the ledger name.
var pseudonyms = regexp.MustCompile(`[0-9a-f]{32}`)

// unnamed is a text for the log without the voters that it names.
func unnamed(text string) string { return pseudonyms.ReplaceAllString(text, "(voter)") }

// unknown answers for addresses that are none, and for methods that an address
// does not have.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	allowed := s.allowed(r)
	o := &operation{id: "unknown", answer: func(*call) (reply, error) { return reply{}, errNotFound }}
	c := &call{Request: r, operation: o}
	a := problemOf(c, errNotFound)
	if len(allowed) > 0 {
		a = problemOf(c, errMethod)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
	}
	a.write(w, r)
	s.account(c, a, 0)
}

// allowed are the methods that an address has.
func (s *Server) allowed(r *http.Request) (methods []string) {
	if !plain(r) {
		return nil
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := s.mux.Handler(&other); pattern != "/" {
			methods = append(methods, method)
		}
	}
	return methods
}

// Errors that only a request can have.
var (
	errInternal      = errors.New("internal error")
	errBusy          = errors.New("too many requests are worked on")
	errNotFound      = errors.New("no such address")
	errMethod        = errors.New("the address does not have this method")
	errOtherCampaign = errors.New("the credential is another campaign's")
	errOtherRole     = errors.New("the credential's role may not do this")
	errNotJSON       = errors.New("not application/json")
	errEncoded       = errors.New("the body is compressed")
	errBodyTooLarge  = errors.New("the body is too large")
	errBodyTimeout   = errors.New("the body takes too long")
)

// malformedError says what is wrong with a request, in words that repeat
// nothing of it.
type malformedError struct{ detail string }

func (e *malformedError) Error() string { return e.detail }

// tooManyError says when the credential may be used again.
type tooManyError struct{ after time.Duration }

func (e *tooManyError) Error() string { return "too many requests with this credential" }

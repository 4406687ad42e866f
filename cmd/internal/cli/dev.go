package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

const (
	// defaultHTTP is on the loopback interface: what it serves is for this
	// machine unless somebody asks for more.
	defaultHTTP = "127.0.0.1:8080"
	// streamCreated is where the server tells of new streams
	// (server.JSAdvisoryStreamCreatedPre of nats-server).
	streamCreated = "$JS.EVENT.ADVISORY.STREAM.CREATED.*"
	// maxNamedCampaigns is how many campaigns dev names when it starts.
	maxNamedCampaigns = 8
)

// errHTTPAddress says that nothing can be served at --http.
var errHTTPAddress = errors.New("the HTTP address cannot be used")

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	var database devDatabase
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a node on the data directory until it is stopped",
		Long: "Run a node on the data directory until it is stopped: an embedded NATS server on\n" +
			"the loopback interface, a read model of every campaign in memory, the signed Merkle\n" +
			"log of every campaign, the taking of votes from the queue, and over HTTP the taking of\n" +
			"votes and the reading of counts (/docs describes both), /livez, /readyz, /metrics and\n" +
			"/log/ID/. Other commands on the same data directory use it by themselves.\n\n" +
			"With --database-url or --database local it keeps the read model in Postgres up to\n" +
			"date too, tables included.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := database.validate(); err != nil {
				return err
			}
			err := a.dev(cmd, o, &database)
			if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				err = nil // Being asked to stop, even while it starts, is its normal end.
			}
			return err
		},
	}
	cmd.Flags().StringVar(&o.address, "http", defaultHTTP, "address for HTTP; port 0 takes a free one")
	cmd.Flags().BoolVar(&o.seal, "seal", true, "seal the logs; with --seal=false `paldies seal` can do it")
	cmd.Flags().StringVar(&o.auditorToken, "auditor-token", "", "who sends it as a bearer token gets the events of /log/ID/, as whoever has a credential of the role auditor does (better by PALDIES_AUDITOR_TOKEN_FILE)")
	database.flags(cmd)
	return cmd
}

// devOptions are the flags of dev, those about the database apart.
type devOptions struct {
	address      string // for HTTP
	seal         bool
	auditorToken string
}

// dev runs everything in one process and ends when it is asked to stop, or by
// the failure of a part.
func (a *app) dev(cmd *cobra.Command, o devOptions, database *devDatabase) (err error) {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	if a.natsURL != "" {
		return usagef("dev is a node of its own and uses no other NATS server: leave out --nats-url and PALDIES_NATS_URL")
	}
	listener, err := listenHTTP(ctx, o.address)
	if err != nil {
		return err
	}
	defer listener.Close() // The HTTP server has closed it, unless it never ran.
	log, c := a.logger(), a.node
	c.DataDir, c.Command, c.Logger = a.dataDir, cmd.CommandPath(), log
	c.Serve, c.HTTP = true, listener.Addr().String()
	n, err := node.Open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if database.wanted() {
		defer func() { err = errors.Join(err, database.close()) }()
		if err := database.open(ctx, n.DataDir(), log); err != nil {
			return err
		}
	}
	if err := a.makeDevTokens(ctx, n); err != nil {
		return n.Explain(err)
	}
	if err := a.printBanner(ctx, n, o, database, listener.Addr().String()); err != nil {
		return n.Explain(err)
	}
	return a.runNode(ctx, stop, n, newSealings(a, o.auditorToken, o.seal), database, listener)
}

// runNode runs the parts of a node until the context ends or one of them fails.
func (a *app) runNode(ctx context.Context, stop func(), n *node.Node, logs *sealings, database *devDatabase, listener net.Listener) error {
	created, err := watchStreams(n.Conn())
	if err != nil {
		return err
	}
	toSeal, err := watchStreams(n.Conn())
	if err != nil {
		return err
	}
	log, campaigns := a.logger(), nodeCampaigns{a, n}
	follower := projections.NewFollower(campaigns, a.codec, log)
	parts := []func() error{
		func() error { return follower.Run(ctx, created) },
	}
	if logs.wanted {
		parts = append(parts, func() error { return logs.run(ctx, n, toSeal) })
	}
	var p *projector
	if database.wanted() {
		p = a.newProjector(database.db, databaseAddress(database.url))
		parts = append(parts, func() error { return p.run(ctx, campaigns) })
	}
	if database.server != nil {
		parts = append(parts, func() error { return database.keep(ctx) })
	}
	h := newHealth(n, follower, p)
	h.logs = logs
	if h.intake, err = a.newHTTPIntake(api.Intake|api.Reading, "", ""); err != nil {
		return err
	}
	h.intake.counts = dashboard.NewCounts(follower, campaigns, a.codec)
	defer h.intake.counts.Close()
	logs.credentials = h.intake
	h.intake.queue = a.newQueueIntake(defaultTakeover)
	parts = append(parts, func() error {
		return a.outlive(ctx,
			func(ctx context.Context) error { return serveHTTP(ctx, listener, h.handler(), log) },
			func(ctx context.Context) error { return h.intake.run(ctx, campaigns) })
	})
	return together(stop, parts...)
}

// listenHTTP binds the address before anything else is started, so that a
// wrong one costs nothing.
func listenHTTP(ctx context.Context, address string) (net.Listener, error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return nil, usagef("--http %q: write HOST:PORT, for example %s, or 127.0.0.1:0 for a free port", address, defaultHTTP)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: another program listens on %s: stop it, or choose another address, for example --http 127.0.0.1:0 for a free port", errHTTPAddress, address)
	case err != nil:
		return nil, fmt.Errorf("%w: %w: choose another one, for example --http 127.0.0.1:0 for a free port", errHTTPAddress, err)
	}
	return listener, nil
}

// watchStreams returns a channel from which can be received after streams were
// created. The subscription ends with the connection.
func watchStreams(nc *nats.Conn) (<-chan struct{}, error) {
	created := make(chan struct{}, 1) // one look finds all that are new
	_, err := nc.Subscribe(streamCreated, func(*nats.Msg) {
		select {
		case created <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listening for new campaigns: %w", err)
	}
	return created, nil
}

// nodeCampaigns are the campaigns of a node. It is the node that opens their
// ledgers, so that it stages their batches in memory.
type nodeCampaigns struct {
	app  *app
	node *node.Node
}

func (c nodeCampaigns) List(ctx context.Context) ([]string, error) {
	streams, err := eventstore.List(ctx, c.node.Conn(), domain.StreamPrefix)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, stream := range streams {
		if id, ok := domain.CampaignOfStream(stream); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (c nodeCampaigns) Open(ctx context.Context, campaign string) (projections.Ledger, error) {
	l, err := c.app.openLedger(ctx, c.node, campaign)
	if err != nil {
		return nil, err // not a nil *eventstore.Ledger in an interface
	}
	return l, nil
}

// OpenLedger implements dashboard.Ledgers.
func (c nodeCampaigns) OpenLedger(ctx context.Context, campaign string) (dashboard.Ledger, error) {
	l, err := c.app.openLedger(ctx, c.node, campaign)
	if err != nil {
		return nil, err // as above
	}
	return l, nil
}

// printBanner says what is served, one line each.
func (a *app) printBanner(ctx context.Context, n *node.Node, o devOptions, database *devDatabase, http string) error {
	ids, err := nodeCampaigns{a, n}.List(ctx)
	if err != nil {
		return err
	}
	findings, err := n.Durability(ctx)
	if err != nil {
		return err
	}
	lines := [][2]string{
		{"data", n.DataDir()},
		{"nats", fmt.Sprintf("%s (embedded nats-server %s, for this user's commands)", n.URL(), n.Conn().ConnectedServerVersion())},
		{"http", fmt.Sprintf("http://%s/livez, /readyz, /metrics, /log/ID/checkpoint, /docs and /api/v1/", http)},
		devTokensLine(n.DataDir()),
		queueLine,
		{"campaigns", nameCampaigns(ids)},
	}
	if o.seal {
		lines = append(lines, [2]string{"logs", filepath.Join(n.DataDir(), "log") + ", signed about once a second"})
	}
	if database.wanted() {
		lines = append(lines, [2]string{"postgres", database.describe()})
	}
	for _, f := range findings {
		switch {
		case f.Status == node.Warning:
			lines = append(lines, [2]string{"warning", f.Detail + " " + f.Remedy})
		case f.Name == "sync" && f.Status == node.OK:
			lines = append(lines, [2]string{"durability", "every vote is fsynced before it is acknowledged"})
		}
	}
	lines = append(lines, [2]string{"stop", fmt.Sprintf("Ctrl-C, or kill %d; what was acknowledged is on the disk", os.Getpid())})
	return a.printLines(lines)
}

// printLines prints a word and a text for each line.
func (a *app) printLines(lines [][2]string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintf(a.out, "%-11s %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}

func nameCampaigns(ids []string) string {
	if len(ids) == 0 {
		return "none yet; `paldies campaign open` in another terminal makes one"
	}
	named := strings.Join(ids[:min(len(ids), maxNamedCampaigns)], ", ")
	if more := len(ids) - maxNamedCampaigns; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d: %s", len(ids), named)
}

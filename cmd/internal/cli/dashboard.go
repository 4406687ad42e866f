package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/projections/postgres"
)

func (a *app) dashboardCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "dashboard --database-url URL",
		Short: "Tell counts over HTTP until it is stopped",
		Long: "Tell counts over HTTP until it is stopped: results and timelines of all campaigns in\n" +
			"the read model in Postgres, which it only reads. Until results are published they are\n" +
			"for credentials of the role chancellery (`paldies credential add`); then those that\n" +
			"were certified are for anybody. The interface is described at /docs and, for programs,\n" +
			"at /openapi.json. It speaks plain HTTP: put a proxy with TLS in front, and let it pass\n" +
			"nothing but /api/.\n\n" +
			"Credentials, and results as of an earlier event, come from a node or NATS servers; what\n" +
			"is known of credentials stays in force while servers that were named are away. Any\n" +
			"number of processes may run side by side.",
		Args: cobra.NoArgs,
	}
	url := databaseFlag(cmd, "the database (needed)")
	required(cmd, databaseName)
	cmd.Flags().StringVar(&address, "http", defaultHTTP, "address for HTTP; port 0 takes a free one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("log-level") {
			a.logLevel = slog.LevelInfo // what it does is told by its log
		}
		return withDatabase(cmd.Context(), *url, func(_ context.Context, db *postgres.DB) error {
			return a.dashboard(cmd, db, databaseAddress(*url), address)
		})
	}
	return cmd
}

// httpReading tells counts over HTTP, with the credentials and ledgers of one
// node at a time.
type httpReading struct {
	app     *app
	db      *postgres.DB
	server  *api.Server
	metrics *api.Metrics
	book    atomic.Pointer[credential.Book] // nil while there is no node
}

// dashboard tells counts until it is asked to stop.
func (a *app) dashboard(cmd *cobra.Command, db *postgres.DB, where, address string) error {
	h := &httpReading{app: a, db: db, metrics: api.NewMetrics(nil)}
	var err error
	if h.server, err = api.NewServer(api.Reading, a.logger(), h.metrics); err != nil {
		return err
	}
	listener, err := listenHTTP(cmd.Context(), address)
	if err != nil {
		return err
	}
	defer listener.Close() // The HTTP server has closed it, unless it never ran.
	n, err := a.joinNode(cmd.Context(), cmd)
	switch {
	case cmd.Context().Err() != nil && err != nil:
		return nil // Being asked to stop, even while it starts, is its normal end.
	case err != nil:
		return err
	}
	if err := a.printLines([][2]string{
		{"ledger", n.URL()},
		{"postgres", where},
		{"http", fmt.Sprintf("http://%s/livez, /readyz, /metrics, /docs and /api/v1/", listener.Addr())},
		{"stop", fmt.Sprintf("Ctrl-C, or kill %d", os.Getpid())},
	}); err != nil {
		return errors.Join(err, n.Close())
	}
	health := newHealth(nil, nil, nil)
	health.reading = h
	return a.outlive(cmd.Context(),
		func(ctx context.Context) error { return serveHTTP(ctx, listener, health.handler(), a.logger()) },
		func(ctx context.Context) error { return a.followNodes(ctx, cmd, h.run, n) })
}

// run tells counts to whoever a node knows until the context ends. The node may
// be closed when it has returned.
func (h *httpReading) run(ctx context.Context, n nodeCampaigns) error {
	book, err := credential.NewBook(n.node.Conn(), h.app.logger())
	if err != nil {
		return err
	}
	counts := dashboard.NewCounts(h.db, n, h.app.codec)
	defer counts.Close()
	h.book.Store(book)
	h.server.Use(&api.Backend{Credentials: book, Counts: counts})
	defer func() {
		h.server.Use(nil)
		h.book.Store(nil)
	}()
	if err := book.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil // it was asked to end
}

// addReading adds what telling counts depends on.
func (s *readiness) addReading(ctx context.Context, h *httpReading) {
	if book := h.book.Load(); book != nil {
		s.add("credentials", book.Ready(), "")
	} else {
		s.add("credentials", errNodeGone, "")
	}
	_, err := h.db.Campaigns(ctx)
	s.add("read model", err, "")
}

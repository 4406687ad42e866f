package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/postgres"
)

const (
	// rejoinInterval is the pause between two looks for a node that has gone.
	rejoinInterval = 250 * time.Millisecond
)

// errNodeGone says that the node on the data directory has ended.
var errNodeGone = errors.New("the node has ended or does not answer")

func (a *app) projectCommand() *cobra.Command {
	var once bool
	var address string
	cmd := &cobra.Command{
		Use:     "project --database-url URL",
		Aliases: []string{"projection"},
		Short:   "Keep the read model in Postgres up to date, or bring it up to date once",
		Long: "Keep the read model in Postgres up to date with all campaigns, those too that are\n" +
			"opened later, until it is stopped; or, with --once, bring it to where the ledgers\n" +
			"end and stop.\n\n" +
			"Any number of processes may run: one works, the others wait to take over. Tables\n" +
			"are made by `paldies migrate`. A campaign whose ledger does not fit its read model\n" +
			"halts with a sentence that says why, hinders no other, and goes on when that is\n" +
			"mended.",
		Args: cobra.NoArgs,
	}
	url := databaseFlag(cmd, "the database (needed)")
	required(cmd, databaseName)
	cmd.Flags().BoolVar(&once, "once", false, "stop where the ledgers end")
	cmd.Flags().StringVar(&address, "http", "", "serve /livez, /readyz and /metrics at HOST:PORT; port 0 takes a free one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if once && address != "" {
			return usagef("--once and --http exclude each other")
		}
		if !cmd.Flags().Changed("log-level") {
			a.logLevel = slog.LevelInfo // what it does is told by its log
		}
		return withDatabase(cmd.Context(), *url, func(_ context.Context, db *postgres.DB) error {
			if once {
				return a.projectOnce(cmd, db, databaseAddress(*url))
			}
			err := a.project(cmd, db, databaseAddress(*url), address)
			if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				err = nil // Being asked to stop, even while it starts, is its normal end.
			}
			return err
		})
	}
	cmd.AddCommand(a.projectStatusCommand(), a.projectRebuildCommand(), a.projectDiffCommand(), a.projectSwitchCommand(), a.projectDiscardCommand())
	return cmd
}

// projector keeps the read models in Postgres up to date, in turn with those
// of other processes. It has one node at a time, and goes on with the next
// one.
type projector struct {
	runner *projections.Runner
	leader *postgres.Leader
	where  string // the database, for people
	node   atomic.Pointer[nodeCampaigns]
}

func (a *app) newProjector(db *postgres.DB, where string) *projector {
	log := a.logger()
	p := &projector{leader: db.NewLeader(log), where: where}
	p.runner = projections.NewRunner(projections.Config{Campaigns: p, Models: db, Codec: a.codec, Log: log})
	return p
}

// List implements projections.Campaigns.
func (p *projector) List(ctx context.Context) ([]string, error) {
	n := p.node.Load()
	if n == nil {
		return nil, errNodeGone
	}
	return n.List(ctx)
}

// Open implements projections.Campaigns.
func (p *projector) Open(ctx context.Context, campaign string) (projections.Ledger, error) {
	n := p.node.Load()
	if n == nil {
		return nil, errNodeGone
	}
	return n.Open(ctx, campaign)
}

// use takes a node, and returns what gives it back.
func (p *projector) use(n nodeCampaigns) (giveBack func()) {
	p.node.Store(&n)
	return func() { p.node.Store(nil) }
}

// run works on a node's campaigns whenever it is this process's turn, until
// the context ends. The node may be closed when it has returned.
func (p *projector) run(ctx context.Context, n nodeCampaigns) error {
	created, err := watchStreams(n.node.Conn())
	if err != nil {
		return err
	}
	defer p.use(n)()
	return p.leader.Run(ctx, func(ctx context.Context) error { return p.runner.Run(ctx, created) })
}

// project follows until it is asked to stop, or by the failure of a part.
func (a *app) project(cmd *cobra.Command, db *postgres.DB, where, address string) error {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	p := a.newProjector(db, where)
	var listener net.Listener
	if address != "" {
		var err error
		if listener, err = listenHTTP(ctx, address); err != nil {
			return err
		}
		defer listener.Close() // The HTTP server has closed it, unless it never ran.
	}
	n, err := a.joinNode(ctx, cmd)
	if err != nil {
		return err
	}
	if err := a.printProjector(n, where, listener); err != nil {
		return errors.Join(err, n.Close())
	}
	parts := []func() error{func() error { return a.followNodes(ctx, cmd, p.run, n) }}
	if listener != nil {
		parts = append(parts, func() error { return serveHTTP(ctx, listener, newHealth(nil, nil, p).handler(), a.logger()) })
	}
	return together(stop, parts...)
}

// together runs parts at the same time, stops them all when the first one
// ends, and waits for them.
func together(stop func(), parts ...func() error) error {
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part() }()
	}
	var errs []error
	for range parts {
		errs = append(errs, <-ended)
		stop()
	}
	return errors.Join(errs...)
}

// printProjector says what is done, one line each.
func (a *app) printProjector(n *node.Node, where string, listener net.Listener) error {
	lines := [][2]string{{"ledger", n.URL()}, {"postgres", where}}
	if listener != nil {
		lines = append(lines, [2]string{"http", fmt.Sprintf("http://%s/livez, /readyz and /metrics", listener.Addr())})
	}
	return a.printLines(append(lines, [2]string{"stop", fmt.Sprintf("Ctrl-C, or kill %d; it goes on where it was", os.Getpid())}))
}

// joinNode finds a node or servers that others use too: who only follows would
// have nothing to do on a data directory of its own.
func (a *app) joinNode(ctx context.Context, cmd *cobra.Command) (*node.Node, error) {
	c := a.node
	c.DataDir, c.NATSURL, c.NATSCA, c.Command, c.Logger, c.Join = a.dataDir, a.natsURL, a.natsCA, cmd.CommandPath(), a.logger(), true
	if err := c.Validate(); err != nil {
		return nil, usageError{err}
	}
	return node.Open(ctx, c)
}

// followNodes works on a node, and when that has ended on the next one that
// runs on the data directory, which has another address. It closes them.
func (a *app) followNodes(ctx context.Context, cmd *cobra.Command, work nodeWork, n *node.Node) error {
	for {
		err := errors.Join(a.followNode(ctx, work, n), n.Close())
		if ctx.Err() != nil || !errors.Is(err, errNodeGone) {
			return err
		}
		a.logger().Warn("the node has ended; this process waits for the next one", "node", n.URL())
		if n, err = a.rejoinNode(ctx, cmd); ctx.Err() != nil {
			return nil // it was asked to end while there was none
		} else if err != nil {
			return err
		}
		a.logger().Info("there is a node again", "node", n.URL())
	}
}

// nodeWork is done on a node until its context ends.
type nodeWork func(ctx context.Context, n nodeCampaigns) error

// followNode works until the context ends or the node is gone. Servers that
// were named come back at their address, and the connection with them.
func (a *app) followNode(ctx context.Context, work nodeWork, n *node.Node) error {
	ctx, leave := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer leave(nil)
	if a.natsURL == "" {
		watcher.Go(func() { watchNode(ctx, n.Conn(), leave) })
	}
	err := work(ctx, nodeCampaigns{a, n})
	if cause := context.Cause(ctx); errors.Is(cause, errNodeGone) {
		return cause // Whatever else failed then has failed for that reason.
	}
	return err
}

// watchNode says when the connection is lost, and returns then or with ctx.
func watchNode(ctx context.Context, nc *nats.Conn, leave context.CancelCauseFunc) {
	lost := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(lost)
	if !nc.IsConnected() {
		leave(errNodeGone)
		return
	}
	select {
	case <-lost:
		leave(errNodeGone)
	case <-ctx.Done():
	}
}

// rejoinNode waits for a node until the context ends.
func (a *app) rejoinNode(ctx context.Context, cmd *cobra.Command) (*node.Node, error) {
	for {
		n, err := a.joinNode(ctx, cmd)
		if err == nil {
			return n, nil
		}
		select {
		case <-time.After(rejoinInterval/2 + rand.N(rejoinInterval)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

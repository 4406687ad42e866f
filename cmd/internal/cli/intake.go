package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/node"
)

func (a *app) intakeCommand() *cobra.Command {
	var o intakeRole
	cmd := &cobra.Command{
		Use:   "intake",
		Short: "Take votes over HTTP, and from the queue, until it is stopped",
		Long: "Take votes over HTTP until it is stopped, for all campaigns of a node or of NATS\n" +
			"servers, those too that are opened later. With --queue also from the queue, where\n" +
			"channels leave submissions that need no answer at once (`paldies vote submit`).\n\n" +
			"Any number of processes may run side by side. None of them keeps anything, and any\n" +
			"of them may die at any moment: what was answered is in the ledger. Channels need a\n" +
			"credential (`paldies credential add`). The interface is described at /docs and, for\n" +
			"programs, at /openapi.json. It speaks plain HTTP: put a proxy with TLS in front,\n" +
			"and let it pass nothing but /api/.\n\n" +
			"Asked to stop, it answers what it has accepted and lets the ledger record it: up to\n" +
			"20 and 15 seconds when the servers do not answer, else a moment. Give it 40 before\n" +
			"it is killed.\n\n" +
			"Of those with --queue one works on the queue, so that each voter's submissions stay\n" +
			"in order, and the others stand by.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&o.address, "http", defaultHTTP, "address for HTTP; port 0 takes a free one")
	cmd.Flags().StringVar(&o.keys, "keys", "", "folder of the pseudonym keys, ID.key (default: keys in the data directory)")
	cmd.Flags().StringVar(&o.logs, "logs", "", "folder of the campaigns' signed logs, for the proofs of receipts (default: log in the data directory)")
	cmd.Flags().BoolVar(&o.queue, "queue", false, "take votes from the queue, too")
	cmd.Flags().DurationVar(&o.takeover, "queue-takeover", defaultTakeover, "after what silence of the worker at the queue another one takes over")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("log-level") {
			a.logLevel = slog.LevelInfo // what it does is told by its log
		}
		return a.intake(cmd, o)
	}
	return cmd
}

// intakeRole are the flags of intake.
type intakeRole struct {
	address string // for HTTP
	keys    string
	logs    string
	queue   bool
	// takeover is after what silence of the active worker another one is active.
	takeover time.Duration
}

// Bounds of --queue-takeover. Below the shortest, a busy machine would be taken for
// a dead one.
const (
	defaultTakeover  = 10 * time.Second
	shortestTakeover = time.Second
	longestTakeover  = 10 * time.Minute
)

// intake takes votes until it is asked to stop, then lets requests under way
// end, lets the ledgers record what they accepted, and closes everything.
func (a *app) intake(cmd *cobra.Command, o intakeRole) error {
	h, err := a.newHTTPIntake(api.Intake, o.keys, o.logs)
	if err != nil {
		return err
	}
	lines := [][2]string{}
	if o.queue {
		if o.takeover < shortestTakeover || o.takeover > longestTakeover {
			return usagef("--queue-takeover %v: use %v to %v", o.takeover, shortestTakeover, longestTakeover)
		}
		h.queue = a.newQueueIntake(o.takeover)
		lines = append(lines, queueLine)
	}
	listener, err := listenHTTP(cmd.Context(), o.address)
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
	a.warnOfDurability(cmd.Context(), n)
	if err := a.printLines(slices.Concat([][2]string{
		{"ledger", n.URL()},
		{"http", fmt.Sprintf("http://%s/livez, /readyz, /metrics, /docs and /api/v1/", listener.Addr())},
	}, lines, [][2]string{
		{"stop", fmt.Sprintf("Ctrl-C, or kill %d; what was answered is in the ledger", os.Getpid())},
	})); err != nil {
		return errors.Join(err, n.Close())
	}
	health := newHealth(nil, nil, nil)
	health.intake = h
	return a.outlive(cmd.Context(),
		func(ctx context.Context) error { return serveHTTP(ctx, listener, health.handler(), a.logger()) },
		func(ctx context.Context) error { return a.followNodes(ctx, cmd, h.run, n) })
}

// outlive runs serve, and backs it by what must not end before it has: the
// context of back ends when serve has returned.
func (a *app) outlive(ctx context.Context, serve, back func(context.Context) error) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	backing, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- back(backing)
	}()
	err := serve(serving)
	release()
	return errors.Join(err, <-ended)
}

// warnOfDurability says what is wrong with how the servers keep events: the
// answers to voters promise more than an operator may have set up.
func (a *app) warnOfDurability(ctx context.Context, n *node.Node) {
	findings, err := n.Durability(ctx)
	if err != nil {
		a.logger().Warn("it cannot be seen how the servers keep events", "error", err)
	}
	for _, f := range findings {
		if f.Status == node.Warning {
			a.logger().Warn(f.Detail, "remedy", f.Remedy)
		}
	}
}

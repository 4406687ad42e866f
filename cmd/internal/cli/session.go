package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// closeTimeout bounds how long a ledger may take to record what it accepted.
const closeTimeout = 15 * time.Second

// withNode runs fn with the node that the flags name. A data directory must be
// there: only the opening of a campaign makes one.
func (a *app) withNode(cmd *cobra.Command, fn func(context.Context, *node.Node) error) error {
	c := a.node
	c.MustExist = true
	return a.onNode(cmd, c, fn)
}

func (a *app) onNode(cmd *cobra.Command, c node.Config, fn func(context.Context, *node.Node) error) (err error) {
	c.DataDir, c.NATSURL, c.NATSCA, c.Command, c.Logger = a.dataDir, a.natsURL, a.natsCA, cmd.CommandPath(), a.logger()
	if err := c.Validate(); err != nil {
		return usageError{err}
	}
	n, err := node.Open(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	return n.Explain(fn(cmd.Context(), n))
}

// replicas follow the server: three in a cluster, one on a node of its own.
func replicas(n *node.Node) int {
	if n.Conn().ConnectedClusterName() != "" {
		return 3
	}
	return 1
}

// ledgerConfig is the ledger of a campaign.
func ledgerConfig(n *node.Node, campaign string) eventstore.Config {
	return eventstore.Config{
		Stream:   domain.StreamName(campaign),
		Subjects: domain.StreamSubjects(campaign),
		Control:  domain.ControlSubject(campaign),
		Replicas: replicas(n),
	}
}

// openLedger opens the ledger of a campaign; the caller closes it.
func (a *app) openLedger(ctx context.Context, n *node.Node, campaign string) (*eventstore.Ledger, error) {
	if err := domain.ValidateCampaignID(campaign); err != nil {
		return nil, usagef("%v", err)
	}
	l, err := n.OpenLedger(ctx, ledgerConfig(n, campaign))
	if errors.Is(err, eventstore.ErrNotFound) {
		where := n.DataDir()
		if a.natsURL != "" {
			where = n.URL()
		}
		return nil, &noCampaignError{campaign, where, err}
	}
	return l, err
}

// noCampaignError says that a ledger is missing in the words of who asked for
// a campaign.
type noCampaignError struct {
	campaign string
	where    string // data directory or servers
	err      error
}

func (e *noCampaignError) Error() string {
	return fmt.Sprintf("there is no campaign %s in %s; `paldies campaign list` shows those there are", e.campaign, e.where)
}

func (e *noCampaignError) Unwrap() error { return e.err }

// closeLedger lets a ledger finish even when the command was interrupted.
func closeLedger(l *eventstore.Ledger) error { return closeLedgerWithin(closeTimeout, l) }

func closeLedgerWithin(finish time.Duration, l *eventstore.Ledger) error {
	ctx, stop := context.WithTimeout(context.Background(), finish)
	defer stop()
	return l.Close(ctx)
}

// withLedger runs fn with the ledger of a campaign.
func (a *app) withLedger(cmd *cobra.Command, campaign string, fn func(context.Context, *eventstore.Ledger) error) error {
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) (err error) {
		l, err := a.openLedger(ctx, n, campaign)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeLedger(l)) }()
		return fn(ctx, l)
	})
}

// intakeOptions say what a command needs of an intake.
type intakeOptions struct {
	campaign string
	key      bool   // it deals with voters
	keyFile  string // instead of the data directory's
	dryRun   bool
}

// withIntake runs fn with an intake for a campaign.
func (a *app) withIntake(cmd *cobra.Command, o intakeOptions, fn func(context.Context, *intake.Intake) error) error {
	return a.withLedger(cmd, o.campaign, func(ctx context.Context, l *eventstore.Ledger) error {
		cfg := intake.Config{Campaign: o.campaign, Ledger: eventstore.WithSubjects{Ledger: l}, Codec: a.codec, Now: a.now}
		if o.dryRun {
			cfg.Ledger, cfg.Ballots = intake.DryRun(cfg.Ledger), maxDryRunBallots
		}
		if o.key {
			key, err := a.loadKey(o)
			if err != nil {
				return err
			}
			cfg.Key = &key
		}
		in, err := intake.New(ctx, cfg)
		if err != nil {
			return err
		}
		return fn(ctx, in)
	})
}

// maxDryRunBallots keeps every ballot of a dry run.
const maxDryRunBallots = 1 << 30

func (a *app) loadKey(o intakeOptions) (domain.PseudonymKey, error) {
	path := o.keyFile
	if path == "" {
		path = keyring.Path(a.dataDir, o.campaign)
	}
	return keyring.Load(path)
}

// openCampaign is a campaign with all that the end of its life takes.
type openCampaign struct {
	id     string
	node   *node.Node
	ledger *eventstore.Ledger
	intake *intake.Intake
	log    sealOptions // where its log is, if it is not in the data directory
}

// notArchived refuses what would otherwise be refused after long work.
func (c openCampaign) notArchived() error {
	if at := c.intake.Register().Campaign().ArchivedAt; at != 0 {
		return &domain.Refusal{Code: domain.ClosedCampaign, Sequence: at}
	}
	return nil
}

func (a *app) withCampaign(cmd *cobra.Command, campaign string, fn func(context.Context, openCampaign) error) error {
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) (err error) {
		l, err := a.openLedger(ctx, n, campaign)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeLedger(l)) }()
		in, err := intake.New(ctx, intake.Config{Campaign: campaign, Ledger: l, Codec: a.codec, Now: a.now})
		if err != nil {
			return err
		}
		return fn(ctx, openCampaign{id: campaign, node: n, ledger: l, intake: in})
	})
}

// campaignFlag adds --campaign.
func campaignFlag(cmd *cobra.Command) *string {
	id := cmd.Flags().String("campaign", "", "id of the campaign (needed)")
	required(cmd, "campaign")
	return id
}

// required marks flags that have no default and may not be blank. They may come
// from the environment, which cobra's own mark does not see.
func required(cmd *cobra.Command, names ...string) {
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for _, name := range names {
			if f := cmd.Flags().Lookup(name); !f.Changed || strings.TrimSpace(f.Value.String()) == "" {
				return usagef("--%s is needed; see `%s --help`", name, cmd.CommandPath())
			}
		}
		if before != nil {
			return before(cmd, args)
		}
		return nil
	}
}

// timeValue is a flag with a moment: RFC 3339, the offset is needed.
type timeValue struct{ t *time.Time }

func timeFlag(cmd *cobra.Command, name, usage string) *time.Time {
	t := new(time.Time)
	cmd.Flags().Var(timeValue{t}, name, usage+" (for example 2018-11-11T23:59:59+02:00)")
	return t
}

func (v timeValue) String() string {
	if v.t.IsZero() {
		return ""
	}
	return domain.FormatTime(*v.t)
}

func (v timeValue) Type() string { return "time" }

func (v timeValue) Set(s string) error {
	t, err := intake.ParseTime(s)
	if err != nil {
		return err
	}
	*v.t = domain.Timestamp(t)
	return nil
}

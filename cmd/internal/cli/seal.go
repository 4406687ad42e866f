package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// sealOptions are what the sealing of a campaign needs.
type sealOptions struct {
	campaign string
	dir      string // of the log; empty for the data directory's
	keyFile  string // of the signing key; empty for the data directory's
	interval time.Duration
}

// flags adds those that say which log it is and who signs it.
func (o *sealOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.campaign, "campaign", "", "id of the campaign (needed)")
	required(cmd, "campaign")
	o.logFlags(cmd)
}

// logFlags adds those that say where the log is and its key.
func (o *sealOptions) logFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "log", "", "folder of the log (default: log/ID in the data directory)")
	notFromEnvironment(cmd, "log")
	cmd.Flags().StringVar(&o.keyFile, "signing-key-file", "", "the signing key (default: keys/ID.signer in the data directory)")
}

func (a *app) sealCommand() *cobra.Command {
	var o sealOptions
	var once bool
	cmd := &cobra.Command{
		Use:   "seal [--campaign ID]",
		Short: "Write the Merkle log of a campaign, or of all, and sign its checkpoints",
		Long: "Write a campaign's Merkle log and sign its checkpoints, about one a second while\n" +
			"votes come in, until it is stopped; or, with --once, one of what is there now.\n\n" +
			"Without --campaign it seals all campaigns of a node or of NATS servers, those too that\n" +
			"are opened later, with logs and keys in the data directory; one that halts hinders no\n" +
			"other. With --http it then serves the logs at /log/ID/, the events themselves only to\n" +
			"who sends the auditors' token, and /livez, /readyz and /metrics.\n\n" +
			"The folder is laid out as C2SP tlog-tiles demands, so that programs we did not write\n" +
			"can check it. The signing key is made on first use; the verifier key is in DIR/vkey.\n" +
			"Publish it where the folder's operator cannot change it.\n\n" +
			"One process at a time may seal a campaign. It halts rather than sign what\n" +
			"contradicts what was signed before. `paldies dev` seals by itself.",
		Args: cobra.NoArgs,
	}
	var address, auditorToken string
	cmd.Flags().StringVar(&o.campaign, "campaign", "", "id of the campaign (default: all)")
	o.logFlags(cmd)
	cmd.Flags().StringVar(&address, "http", "", "serve the logs of all campaigns at HOST:PORT; port 0 takes a free one")
	cmd.Flags().StringVar(&auditorToken, "auditor-token", "", "who sends it as a bearer token gets the events of /log/ID/ (better by PALDIES_AUDITOR_TOKEN_FILE)")
	cmd.Flags().DurationVar(&o.interval, "interval", time.Second, "time between two checkpoints")
	cmd.Flags().BoolVar(&once, "once", false, "sign one checkpoint of what is there now, and stop")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.interval < 10*time.Millisecond || o.interval > time.Hour {
			return usagef("--interval %v: use 10ms to 1h", o.interval)
		}
		switch one := o.campaign != ""; {
		case one && address != "":
			return usagef("--http is for all campaigns: leave out --campaign")
		case !one && (once || o.dir != "" || o.keyFile != ""):
			return usagef("--once, --log and --signing-key-file are for one campaign: name it with --campaign")
		}
		if !once && !cmd.Flags().Changed("log-level") {
			a.logLevel = slog.LevelInfo // what it does is told by its log
		}
		var err error
		if o.campaign == "" {
			err = a.sealAll(cmd, address, auditorToken, o.interval)
		} else {
			err = a.seal(cmd, o, once)
		}
		if !once && cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // Being asked to stop is its normal end.
		}
		return err
	}
	cmd.AddCommand(a.sealKeygenCommand())
	return cmd
}

func (a *app) seal(cmd *cobra.Command, o sealOptions, once bool) error {
	return a.withNode(cmd, func(ctx context.Context, n *node.Node) (err error) {
		l, err := a.openLedger(ctx, n, o.campaign)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeLedger(l)) }()
		if err := a.warnOfDeviations(ctx, l, o.campaign); err != nil {
			return err
		}
		s, release, err := a.sealer(ctx, n, l, o, func(c transparency.Checkpoint, err error) { a.logSealing(o.campaign, c, err) })
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		if !once {
			return s.Run(ctx)
		}
		c, err := s.RunToEnd(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "sealed %d events of campaign %s, root %v\n", c.Size, o.campaign, c.Root)
		return err
	})
}

// sealAll seals all campaigns until it is asked to stop, or by the failure of a
// part.
func (a *app) sealAll(cmd *cobra.Command, address, auditorToken string, interval time.Duration) error {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	logs := newSealings(a, auditorToken, true)
	logs.interval = interval
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
	lines := [][2]string{{"ledger", n.URL()}, {"logs", filepath.Join(a.dataDir, "log")}}
	if listener != nil {
		lines = append(lines, [2]string{"http", fmt.Sprintf("http://%s/log/, /livez, /readyz and /metrics", listener.Addr())})
	}
	if err := a.printLines(append(lines, [2]string{"stop", fmt.Sprintf("Ctrl-C, or kill %d; it goes on where it was", os.Getpid())})); err != nil {
		return errors.Join(err, n.Close())
	}
	parts := []func() error{func() error { return a.followNodes(ctx, cmd, logs.follow, n) }}
	if listener != nil {
		health := newHealth(nil, nil, nil)
		health.logs = logs
		parts = append(parts, func() error { return serveHTTP(ctx, listener, health.handler(), a.logger()) })
	}
	return together(stop, parts...)
}

// warnOfDeviations says what is wrong with the stream: a log is no help against
// events that are dropped before they are sealed.
func (a *app) warnOfDeviations(ctx context.Context, l *eventstore.Ledger, campaign string) error {
	archived, err := a.archived(ctx, l, campaign)
	if err != nil {
		return err
	}
	deviations, unsealed, err := a.checkStream(ctx, l, campaign, archived)
	if unsealed {
		a.warnUnsealed(campaign)
	}
	for _, d := range deviations {
		a.logger().Error("the stream is not set up to keep every event", "campaign", campaign, "deviation", d.String())
	}
	return err
}

func (a *app) logSealing(campaign string, c transparency.Checkpoint, err error) {
	log := a.logger().With("campaign", campaign)
	if err != nil {
		log.Warn("nothing can be sealed here at the moment", "error", err)
		return
	}
	log.Debug("sealed", "events", c.Size, "root", c.Root)
}

// sealer makes what seals a campaign. The folder is this process's until
// release.
func (a *app) sealer(ctx context.Context, n *node.Node, l *eventstore.Ledger, o sealOptions, report func(transparency.Checkpoint, error)) (s *transparency.Sealer, release func() error, err error) {
	f, err := a.logFolder(o.dir, o.campaign)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := node.LockFolder(f.Dir())
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unlock())
		}
	}()
	signing, keys, made, err := a.signingKey(a.signingPath(o), f, o.campaign)
	if err != nil {
		return nil, nil, err
	}
	if made {
		fmt.Fprintf(a.err, "made the key that signs the log of campaign %s: %s\n  keep it secret and back it up; others verify with %s/%s, which should be published elsewhere too\n",
			o.campaign, a.signingPath(o), f.Dir(), transparency.KeysPath)
	}
	signer, err := transparency.ParseSigner(signing)
	if err != nil {
		return nil, nil, err
	}
	fence, err := transparency.NewBucketFence(ctx, n.Conn(), domain.StreamName(o.campaign), ledgerConfig(n, o.campaign).Replicas)
	if err != nil {
		return nil, nil, err
	}
	s, err = transparency.NewSealer(transparency.Config{Ledger: l, Folder: f, Fence: fence, Signer: signer, Keys: keys,
		Interval: o.interval, Report: report})
	if errors.Is(err, transparency.ErrKey) {
		err = fmt.Errorf("%w; if the log is to get another key, run `paldies seal keygen --campaign %s`", err, o.campaign)
	}
	return s, unlock, err
}

func (a *app) signingPath(o sealOptions) string {
	if o.keyFile != "" {
		return o.keyFile
	}
	return keyring.SigningPath(a.dataDir, o.campaign)
}

func (a *app) sealKeygenCommand() *cobra.Command {
	var o sealOptions
	cmd := &cobra.Command{
		Use:   "keygen --campaign ID",
		Short: "Make another key that signs a campaign's log from now on",
		Long: "Make another key that signs a campaign's log from now on, and add its verifier key\n" +
			"to DIR/vkey. Checkpoints of the former key stay valid: who verifies needs both\n" +
			"verifier keys, so publish the new one before the next vote. Stop the process that\n" +
			"seals the campaign first, and start it again afterwards.",
		Args: cobra.NoArgs,
	}
	o.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		f, err := a.logFolder(o.dir, o.campaign)
		if err != nil {
			return err
		}
		release, err := node.LockFolder(f.Dir())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		signing, err := a.nextSigningKey(o, f)
		if err != nil {
			return err
		}
		verifier, err := transparency.VerifierKey(signing)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "the key that signs from now on is in %s: keep it secret and back it up; this is its verifier key:\n", a.signingPath(o))
		_, err = fmt.Fprintf(a.out, "%s\n", verifier)
		return err
	}
	return cmd
}

// nextSigningKey makes a key, or finishes what a crash has interrupted: a key
// that is there, but whose verifier key is not in the folder yet.
func (a *app) nextSigningKey(o sealOptions, f *transparency.Folder) (string, error) {
	signing, err := keyring.LoadSigning(a.signingPath(o))
	if errors.Is(err, keyring.ErrMissingSigning) {
		signing, err = firstSigningKey(a.signingPath(o), o.campaign)
	}
	if err != nil {
		return "", err
	}
	verifier, err := transparency.VerifierKey(signing)
	if err != nil {
		return "", err
	}
	known, err := f.HasKey(verifier)
	switch {
	case err != nil:
		return "", err
	case !known:
		return signing, f.AddKey(verifier)
	}
	return a.replaceSigningKey(a.signingPath(o), f, o.campaign)
}

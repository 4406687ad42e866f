package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/keyring"
	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

const (
	// benchCampaign and benchSpecialists are what a bench without --url votes
	// for.
	benchCampaign    = "bench"
	benchSpecialists = 100
	// benchReadyMax is how long its intake may take to be ready, in time.
	benchReadyMax = 10 * time.Second
)

// onBenchNode runs fn beside intake over HTTP on a node of its own, in a
// temporary folder that is removed at the end, with an open campaign.
func (a *app) onBenchNode(cmd *cobra.Command, fn func(ctx context.Context, url, token string) error) (err error) {
	dir, err := os.MkdirTemp("", "paldies-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	own := *a
	own.dataDir, own.natsURL = dir, ""
	return own.onNode(cmd, own.node, func(ctx context.Context, n *node.Node) error {
		token, err := own.prepareBench(ctx, n)
		if err != nil {
			return err
		}
		return own.serveBench(ctx, n, func(ctx context.Context, url string) error { return fn(ctx, url, token) })
	})
}

// prepareBench opens the campaign and makes a credential.
func (a *app) prepareBench(ctx context.Context, n *node.Node) (token string, err error) {
	now := domain.Timestamp(a.now())
	if _, err := a.newCampaign(ctx, n, benchCampaign, keyring.Path(a.dataDir, benchCampaign), domain.CampaignOpened{
		OpensAt: now.Add(-time.Hour), ClosesAt: now.AddDate(1, 0, 0), Timezone: "Europe/Riga",
		Channels: []domain.Channel{{Name: devChannels[0], Identity: domain.Verified}}}); err != nil {
		return "", err
	}
	l, err := a.openLedger(ctx, n, benchCampaign)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, closeLedger(l)) }()
	in, err := intake.New(ctx, intake.Config{Campaign: benchCampaign, Ledger: l, Codec: a.codec, Now: a.now})
	if err != nil {
		return "", err
	}
	var rows []intake.SpecialistRow
	for i := range benchSpecialists {
		rows = append(rows, intake.SpecialistRow{ID: fmt.Sprintf("specialist-%d", i+1), Profile: domain.Profile{Name: fmt.Sprintf("Paraugs %d", i+1)}})
	}
	if err := in.ImportSpecialists(ctx, rows); err != nil {
		return "", err
	}
	store, err := a.credentials(n)
	if err != nil {
		return "", err
	}
	token, _, err = store.Add(ctx, credential.Credential{Role: domain.RoleChannel, Channel: devChannels[0], Note: "made by paldies bench"})
	return token, err
}

// serveBench serves intake on a free port for as long as fn runs.
func (a *app) serveBench(ctx context.Context, n *node.Node, fn func(ctx context.Context, url string) error) error {
	h, err := a.newHTTPIntake(api.Intake, "", "")
	if err != nil {
		return err
	}
	listener, err := listenHTTP(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close() // The HTTP server has closed it, unless it never ran.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- a.outlive(ctx,
			func(ctx context.Context) error { return serveHTTP(ctx, listener, h.server, a.logger()) },
			func(ctx context.Context) error { return h.run(ctx, nodeCampaigns{a, n}) })
	}()
	err = h.awaitReady(ctx)
	if err == nil {
		err = fn(ctx, "http://"+listener.Addr().String())
	}
	stop()
	return errors.Join(err, <-ended)
}

// awaitReady waits until requests are answered.
func (h *httpIntake) awaitReady(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, benchReadyMax)
	defer stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		if s := h.served(); s != nil && s.book.Ready() == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("the intake does not get ready: %w", ctx.Err())
		}
	}
}

package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

// TestSealedMeanwhile: a stream that was sealed after the campaign was read is
// asked about again. One that was sealed without the archiving deviates, and one
// that is not sealed after it is to be finished.
func TestSealedMeanwhile(t *testing.T) {
	data := t.TempDir()
	for _, id := range []string{"arhiveta", "atverta"} {
		code, _, said := runHere(t, node.Config{}, "campaign", "open", id, "--data", data, "--opens", "2017-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00")
		wants(t, code, exitOK, said)
	}
	for _, args := range [][]string{{"campaign", "close", "arhiveta"}, {"results", "certify", "--campaign", "arhiveta"}, {"results", "publish", "--campaign", "arhiveta"}} {
		code, _, said := runHere(t, node.Config{}, append(args, "--data", data)...)
		wants(t, code, exitOK, said)
	}
	n, err := node.Open(t.Context(), node.Config{DataDir: data})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	codec, err := domain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	a := &app{codec: codec, now: time.Now, dataDir: data}
	for _, c := range []struct {
		campaign       string
		archives       bool
		before         string // the deviating fields, as somebody sees them who read the campaign before it was archived
		unsealed, seal bool
	}{
		{campaign: "arhiveta", archives: true, unsealed: true},
		{campaign: "arhiveta", seal: true},
		{campaign: "atverta", seal: true, before: "sealed"},
	} {
		check := func(ctx context.Context) (err error) {
			l, err := a.openLedger(ctx, n, c.campaign)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeLedger(l)) }()
			if c.archives {
				f, err := readAsForger(ctx, l, codec, c.campaign)
				if err != nil {
					return err
				}
				if err := f.write(ctx, l, "half-archive", forgery{data: domain.CampaignArchived{}}); err != nil {
					return err
				}
			}
			if c.seal {
				if err := l.Seal(ctx); err != nil {
					return err
				}
			}
			for archived, want := range map[bool]string{false: c.before, true: ""} {
				deviations, unsealed, err := a.checkStream(ctx, l, c.campaign, archived)
				if err != nil {
					return err
				}
				fields := ""
				for _, d := range deviations {
					fields += d.Field
				}
				if fields != want || unsealed != (archived && c.unsealed) {
					t.Errorf("%+v, read as archived %v: %q deviates, to be finished %v", c, archived, fields, unsealed)
				}
			}
			return nil
		}
		if err := check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

package cli

import (
	"context"
	"errors"
	"testing"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

// TestAwaitHead: it looks until the log covers the event, and no longer than the
// caller waits.
func TestAwaitHead(t *testing.T) {
	looks := uint64(0)
	grows := func() (transparency.Signed, error) {
		looks++
		return transparency.Signed{Size: looks}, nil
	}
	a, c := &app{}, openCampaign{id: "c"}
	if head, err := a.awaitHead(t.Context(), c, 3, grows); err != nil || head.Size != 3 || looks != 3 {
		t.Errorf("after %d looks: %+v, %v", looks, head, err)
	}
	gone := errors.New("the folder is gone")
	if _, err := a.awaitHead(t.Context(), c, 3, func() (transparency.Signed, error) { return transparency.Signed{}, gone }); !errors.Is(err, gone) {
		t.Errorf("a look that fails: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := a.awaitHead(ctx, c, 3, func() (transparency.Signed, error) { return transparency.Signed{}, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that does not wait: %v", err)
	}
}

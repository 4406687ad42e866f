package cli

import (
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
)

func TestClockFinding(t *testing.T) {
	newest := time.Date(2018, 11, 11, 22, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now    time.Time
		status node.Status
	}{
		{newest.Add(time.Hour), node.OK},
		{newest.Add(-domain.MaxClockSkew), node.OK},
		{newest.Add(-domain.MaxClockSkew - time.Millisecond), node.Warning},
	} {
		f := clockFinding(c.now, newest)
		if f.Status != c.status || (f.Remedy != "") != (c.status == node.Warning) {
			t.Errorf("at %v: %+v", c.now, f)
		}
	}
}

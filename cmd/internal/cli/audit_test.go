package cli_test

import (
	"path/filepath"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// TestAuditOfAnUnopenedCampaign: an opening that was interrupted has left a
// ledger without events. That is no mismatch.
func TestAuditOfAnUnopenedCampaign(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	n, err := node.Open(t.Context(), node.Config{DataDir: data, Command: "test"})
	check(t, err)
	check(t, eventstore.Create(t.Context(), n.Conn(), eventstore.Config{Stream: domain.StreamName("tuksa"),
		Subjects: domain.StreamSubjects("tuksa"), Control: domain.ControlSubject("tuksa"), Replicas: 1}))
	check(t, n.Close())
	a := paldies(t, "--data", data, "audit", "verify", "--campaign", "tuksa")
	if a.code != 1 || a.out != "" {
		t.Errorf("exit code %d and %q", a.code, a.out)
	}
	mentions(t, a.err, "campaign tuksa: it was not opened", "paldies campaign open")
}

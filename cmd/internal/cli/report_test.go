package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// interrupting is a ledger at whose last reading somebody presses Ctrl-C.
type interrupting struct {
	*eventstore.Ledger
	readings  int // until then
	interrupt context.CancelFunc
}

func (i *interrupting) Replay(ctx context.Context, from, to uint64, fn func([]eventstore.Recorded) error) error {
	i.readings--
	return i.Ledger.Replay(ctx, from, to, func(batch []eventstore.Recorded) error {
		if i.readings == 0 {
			i.interrupt()
		}
		return fn(batch)
	})
}

// An export that is interrupted while rows are written leaves no file, whatever
// it would have been.
func TestExportInterrupted(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	for _, args := range [][]string{
		{"campaign", "open", "c", "--opens", "2017-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00"},
		{"specialist", "import", "--campaign", "c", writeTemp(t, "specialist_id,name\nilze,Ilze Bērziņa\n")},
		{"vote", "cast", "--campaign", "c", "--voter", "demo:anna", "--specialist", "ilze", "--channel", "web"},
	} {
		code, _, said := runHere(t, node.Config{}, append(args, "--data", data)...)
		wants(t, code, exitOK, said)
	}
	codec, err := domain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	a := &app{out: io.Discard, err: io.Discard, now: time.Now, codec: codec}
	n, err := node.Open(t.Context(), node.Config{DataDir: data})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	l, err := a.openLedger(t.Context(), n, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer closeLedger(l)
	for _, f := range []format{asCSV, asJSON, asXLSX} {
		ctx, interrupt := context.WithCancel(t.Context())
		s, err := a.source(ctx, l, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.Ledger = &interrupting{Ledger: l, readings: 2, interrupt: interrupt}
		dir := t.TempDir()
		o := exportOptions{what: exportVotes, format: f, file: filepath.Join(dir, "balsis"), totals: filepath.Join(dir, "kopsumma"), separator: ","}
		if err := a.export(ctx, s, o); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "balsis was not written") {
			t.Errorf("%s: %v", f, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: %v is left, %v", f, left, err)
		}
	}
}

// writeTemp makes a file with a text.
func writeTemp(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fails.csv")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

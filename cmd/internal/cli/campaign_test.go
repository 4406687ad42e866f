package cli_test

import (
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// TestOpeningOnAForeignStream: a stream that is there before the campaign is
// taken over only if it is what an interrupted opening leaves.
func TestOpeningOnAForeignStream(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	n, err := node.Open(t.Context(), node.Config{DataDir: data, Command: "test"})
	check(t, err)
	js, err := jetstream.New(n.Conn())
	check(t, err)
	for _, id := range []string{"laba", "ierobezota", "aizsakta"} {
		check(t, n.CreateLedger(t.Context(), eventstore.Config{Stream: domain.StreamName(id),
			Subjects: domain.StreamSubjects(id), Control: domain.ControlSubject(id), Replicas: 1}))
	}
	change(t, js, "ierobezota", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1_000_000 })
	_, err = js.Publish(t.Context(), domain.SpecialistSubject("aizsakta", "ilze"), []byte("{}"))
	check(t, err)
	check(t, n.Close())

	open := func(id string) answer {
		return paldies(t, "--data", data, "campaign", "open", id, "--opens", "2018-01-01T00:00+02:00", "--closes", "2118-01-01T00:00+02:00")
	}
	for id, words := range map[string][]string{
		"ierobezota": {"stream LEDGER_ierobezota exists and is not a new ledger's: ", "max_msgs"},
		"aizsakta":   {"stream LEDGER_aizsakta exists and is not a new ledger's: it has had 1 messages"},
	} {
		a := open(id)
		if a.code != 1 {
			t.Errorf("%s: exit code %d", id, a.code)
		}
		mentions(t, a.err, words...)
	}
	a := open("laba")
	mentions(t, a.out, "campaign laba opened (event 1)")
	mentions(t, a.err, "Back it up now")
	a = open("laba")
	mentions(t, a.out, "campaign laba was opened before (event 1)")
	mentions(t, a.err, "Back it up now")
}

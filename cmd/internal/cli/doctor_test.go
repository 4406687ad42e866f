package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/node"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// finding is one line of doctor.
type finding struct{ Status, What, Detail, Remedy string }

// diagnose runs doctor. Its exit code must follow from what it says.
func diagnose(t *testing.T, args ...string) map[string]finding {
	t.Helper()
	a := paldies(t, append(args, "doctor", "-o", "json")...)
	var d struct {
		OK       bool
		Findings []finding
	}
	if err := json.Unmarshal([]byte(a.out), &d); err != nil {
		t.Fatalf("%v in %s\n%s", err, a.out, a.err)
	}
	findings := make(map[string]finding)
	warnings := 0
	for _, f := range d.Findings {
		findings[f.What] = f
		if f.Status == "warning" {
			warnings++
		}
		if (f.Status == "warning") != (f.Remedy != "") && f.Status != "unknown" {
			t.Errorf("%s: status %s, remedy %q", f.What, f.Status, f.Remedy)
		}
	}
	if d.OK != (warnings == 0) || (a.code == 0) != d.OK || (a.code != 0 && a.code != 1) {
		t.Errorf("%d warnings, ok: %v, exit code %d", warnings, d.OK, a.code)
	}
	return findings
}

// expect compares a finding with a status and with words of its text.
func expect(t *testing.T, findings map[string]finding, what, status string, words ...string) {
	t.Helper()
	f, ok := findings[what]
	if !ok || f.Status != status {
		t.Errorf("%s: %+v, and not %s", what, f, status)
	}
	mentions(t, f.Detail+" "+f.Remedy, words...)
}

func TestDoctorHealthy(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	openCampaign(t, data, "labais")
	text := succeed(t, "--data", data, "doctor")
	mentions(t, text, "ok       sync", "ok       disk", "ok       versions", "go1.", "nats-server 2.",
		"ok       labais stream", "ok       labais events", "Events: 3", "ok       labais key", "ok       clock")
	startDev(t, data)
	expect(t, diagnose(t, "--data", data), "sync", "ok", "process")
}

func TestDoctorKeys(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	for _, id := range []string{"atverta", "pazudusi", "sveša", "slegta", "bojata"} {
		openCampaign(t, data, strings.ReplaceAll(id, "š", "s"))
	}
	key := func(id string) string { return filepath.Join(data, "keys", id+".key") }
	other, err := os.ReadFile(key("pazudusi"))
	check(t, err)
	check(t, os.Remove(key("pazudusi")))
	check(t, os.WriteFile(key("svesa"), other, 0o600))
	check(t, os.WriteFile(key("bojata"), []byte("nav atslēga\n"), 0o600))
	check(t, os.Chmod(key("atverta"), 0o644))
	succeed(t, "--data", data, "campaign", "close", "slegta")
	check(t, os.Remove(key("slegta")))

	findings := diagnose(t, "--data", data)
	expect(t, findings, "atverta key", "warning", "can be read by others", "chmod 600")
	expect(t, findings, "pazudusi key", "warning", "is not there", "backup", "nobody can vote, everybody can count")
	expect(t, findings, "svesa key", "warning", "another campaign's", "backup")
	expect(t, findings, "bojata key", "warning", "hexadecimal digits", "backup")
	expect(t, findings, "slegta key", "ok", "closed")
	table := paldies(t, "--data", data, "doctor")
	mentions(t, table.out, "\n                          Restore the campaign's own key")
	mentions(t, table.err, "something must be mended: 4 of ")
}

func TestDoctorStreams(t *testing.T) {
	data := filepath.Join(t.TempDir(), "dati")
	openCampaign(t, data, "mainita")
	openCampaign(t, data, "nelasama")
	startDev(t, data)
	joined, err := node.Open(t.Context(), node.Config{DataDir: data, Command: "test"})
	check(t, err)
	defer joined.Close() // nothing is under way
	js, err := jetstream.New(joined.Conn())
	check(t, err)
	change(t, js, "mainita", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1_000_000 })
	change(t, js, "nelasama", func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	check(t, eventstore.Create(t.Context(), joined.Conn(), eventstore.Config{Stream: domain.StreamName("tuksa"),
		Subjects: domain.StreamSubjects("tuksa"), Control: domain.ControlSubject("tuksa"), Replicas: 1}))

	findings := diagnose(t, "--data", data)
	expect(t, findings, "mainita stream", "warning", "max_msgs", "recording stops", "nats stream edit LEDGER_mainita", "audit verify --campaign mainita")
	expect(t, findings, "mainita key", "ok")
	expect(t, findings, "nelasama stream", "warning", "does not allow direct reads")
	expect(t, findings, "tuksa rules", "warning", "interrupted", "paldies campaign open tuksa")
}

// change changes a stream behind the ledger's back.
func change(t *testing.T, js jetstream.JetStream, campaign string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	stream, err := js.Stream(t.Context(), domain.StreamName(campaign))
	check(t, err)
	c := stream.CachedInfo().Config
	change(&c)
	_, err = js.UpdateStream(t.Context(), c)
	check(t, err)
}

// TestDoctorElsewhere asks a server that tells nothing about itself. What
// cannot be seen is unknown.
func TestDoctorElsewhere(t *testing.T) {
	server := storetest.NewServer(t)
	data := filepath.Join(t.TempDir(), "dati")
	openCampaign(t, data, "vieta") // a campaign of the directory, which is not looked at
	key := filepath.Join(t.TempDir(), "atslēga")
	succeed(t, "--data", data, "--nats-url", server.URL(), "campaign", "open", "attala",
		"--opens", "2018-01-01T00:00+02:00", "--closes", "2118-01-01T00:00+02:00", "--key-file", key)
	findings := diagnose(t, "--data", data, "--nats-url", server.URL())
	expect(t, findings, "sync", "unknown", "cannot be seen from here")
	expect(t, findings, "cluster", "warning", "only copy")
	expect(t, findings, "attala stream", "ok")
	expect(t, findings, "attala key", "unknown", "cannot be seen from here")
	if _, ok := findings["vieta stream"]; ok {
		t.Error("it has looked at the data directory's own ledgers")
	}
}

// TestDoctorServerDown has one sentence and no findings.
func TestDoctorServerDown(t *testing.T) {
	a := paldies(t, "--nats-url", "nats://127.0.0.1:1", "doctor")
	if a.code != 4 || a.out != "" || strings.Count(a.err, "\n") != 1 {
		t.Errorf("code %d, says %q and %q", a.code, a.out, a.err)
	}
}

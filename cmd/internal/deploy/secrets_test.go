package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/deploy"
)

// TestSecretsMadeAnew: Postgres and Grafana take their password when they begin,
// and keep it; all other secrets are new.
func TestSecretsMadeAnew(t *testing.T) {
	c := deploy.Config{Dir: t.TempDir(), Hosts: []string{"nats-1"}, Now: time.Now()}
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(c.Dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := deploy.MakeSecrets(c); err != nil {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for _, name := range []string{"postgres/password", "grafana/password", "projector/database-url"} {
		kept[name] = read(name)
	}
	intake := read("intake/nats-url")
	if err := deploy.MakeSecrets(c); !errors.Is(err, deploy.ErrComplete) {
		t.Errorf("made over what is there: %v", err)
	}
	if err := os.Remove(filepath.Join(c.Dir, "authority", "ca.key")); err != nil {
		t.Fatal(err)
	}
	if err := deploy.MakeSecrets(c); err != nil {
		t.Fatal(err)
	}
	for name, was := range kept {
		if read(name) != was {
			t.Errorf("%s is another one", name)
		}
	}
	if read("intake/nats-url") == intake {
		t.Error("the intake has the same password")
	}
}

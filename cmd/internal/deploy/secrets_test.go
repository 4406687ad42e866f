package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/deploy"
)

// TestSecretsMadeAnew: Postgres and Grafana take their administrator's password when
// they begin, and keep it; all other secrets are new.
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
	for _, name := range []string{"postgres/password", "grafana/password", "logins/database-url"} {
		kept[name] = read(name)
	}
	others := []string{"intake/nats-url", "projector/database-url", "logins/projector", "grafana/reporting-password"}
	for _, name := range others {
		kept[name] = read(name)
	}
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
		if same := read(name) == was; same == slices.Contains(others, name) {
			t.Errorf("%s is the same: %t", name, same)
		}
	}
	if err := os.RemoveAll(filepath.Join(c.Dir, "logins")); err != nil {
		t.Fatal(err)
	}
	if err := deploy.MakeSecrets(c); !errors.Is(err, deploy.ErrOlder) {
		t.Errorf("those of an older version: %v", err)
	}
}

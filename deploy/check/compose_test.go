package check_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "../../docker-compose.yml"

// load is what `docker compose --profile '*' config` does.
func load(ctx context.Context, file string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(ctx)
}

func loaded(t *testing.T) *types.Project {
	t.Helper()
	project, err := load(t.Context(), composeFile)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestCompose loads docker-compose.yml and holds what comes of it against the
// tables of each service.
func TestCompose(t *testing.T) {
	project := loaded(t)
	if len(project.Services) < 18 {
		t.Errorf("only %d services are loaded", len(project.Services))
	}
	if err := rules(project, secretsOf(t, project)); err != nil {
		t.Error(err)
	}
}

// secretsOf is what the job makes of which all others wait for the secrets.
func secretsOf(t *testing.T, project *types.Project) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-C", "../..", "run", "./cmd/paldies"}
	for _, arg := range project.Services["secrets"].Command {
		args = append(args, strings.ReplaceAll(arg, "/secrets", dir))
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return dir
}

// spoilt are changes of the file that must be seen, by the loader or by a rule, and
// a part of what is said about each.
var spoilt = map[string]struct{ old, new, says string }{
	"a key that Compose does not know":   {"    restart: unless-stopped\n", "    restarts: unless-stopped\n", "services.postgres.restarts"},
	"a volume that is not declared":      {"  grafana:\n\x00", "", "undefined volume grafana"},
	"a service that is not there":        {"logins: { condition", "login: { condition", `undefined service "login"`},
	"a duration":                         {"interval: 5s", "interval: soon", "invalid duration"},
	"a condition":                        {"service_completed_successfully", "service_completed", "depends_on"},
	"a circle":                           {"  secrets:\n    <<: *job\n", "  secrets:\n    <<: *job\n    depends_on: [ logins ]\n", "cycle"},
	"an image that moves":                {"postgres:15.14-bookworm", "postgres:latest", `"postgres:latest" is not pinned`},
	"a port for everybody":               {"127.0.0.1:9090:9090", "9090:9090", `port 9090 of "" is published`},
	"a port that nobody meant":           {"127.0.0.1:9090:9090", "127.0.0.1:9091:9090", "port 9091"},
	"an image that can be written":       {"  read_only: true\n", "  read_only: false\n", "can write to its image"},
	"a capability that is kept":          {"  cap_drop: [ ALL ]\n", "  cap_drop: [ CHOWN ]\n", "keeps capabilities"},
	"root":                               {`user: "65532:0"`, `user: "0:0"`, "runs as 0:0"},
	"a user that cannot read secrets":    {`user: "65532:0"`, `user: "1000:0"`, "runs as 1000:0"},
	"secrets of all":                     {", volume: { subpath: grafana }", "", "secrets:/run/paldies:ro, and is to mount"},
	"secrets of another":                 {"subpath: projector", "subpath: migrate", "mounts secrets/migrate"},
	"secrets that nobody makes":          {"subpath: auditor", "subpath: auditors", "secrets/auditors:"},
	"secrets that can be written":        {"target: /run/paldies, read_only: true, volume: { subpath: grafana }", "target: /run/paldies, volume: { subpath: grafana }", "secrets/grafana:/run/paldies, and is to mount"},
	"signing keys for intake":            {"      - keys:/data/keys:ro\n", "      - signing-keys:/data/keys\n", "mounts logs:/data/log:ro secrets/intake:/run/paldies:ro signing-keys:/data/keys"},
	"keys that intake can write":         {"      - keys:/data/keys:ro\n", "      - keys:/data/keys\n", "mounts keys:/data/keys logs"},
	"intake without keys":                {"      - keys:/data/keys:ro\n", "", "mounts logs"},
	"the data of Postgres for Grafana":   {"      - grafana:/var/lib/grafana\n", "      - grafana:/var/lib/grafana\n      - postgres:/pg\n", "postgres:/pg"},
	"the data of Postgres elsewhere":     {"postgres:/var/lib/postgresql/data", "postgres:/var/lib/postgresql", "mounts postgres:/var/lib/postgresql sec"},
	"a folder of the machine":            {"      - grafana:/var/lib/grafana\n", "      - grafana:/var/lib/grafana\n      - /etc:/host:ro\n", "it mounts /etc"},
	"a file that can be written":         {"./deploy/prometheus:/etc/prometheus:ro", "./deploy/prometheus:/etc/prometheus", "read-only false"},
	"a file that is not there":           {"./deploy/prometheus:", "./deploy/prometheuss:", "no such file"},
	"a password in the environment":      {"GF_SECURITY_ADMIN_PASSWORD__FILE: /run/paldies/password", "GF_SECURITY_ADMIN_PASSWORD: admin", "its environment is GF_ANALYTICS"},
	"a role's password":                  {"PALDIES_NATS_URL_FILE: /run/paldies/nats-url", "PALDIES_NATS_URL: nats://a:b@nats-1", "PALDIES_NATS_URL is no file"},
	"Postgres without passwords":         {"      POSTGRES_DB: paldies\n", "      POSTGRES_DB: paldies\n      POSTGRES_HOST_AUTH_METHOD: trust\n", "its environment is POSTGRES_DB=paldies POSTGRES_HOST_AUTH_METHOD=trust"},
	"Grafana without passwords":          {"    environment:\n      GF_", "    environment:\n      GF_AUTH_ANONYMOUS_ENABLED: \"true\"\n      GF_", "GF_AUTH_ANONYMOUS_ENABLED=true"},
	"a wait for what never ends":         {"postgres: { condition: service_healthy }", "postgres: { condition: service_completed_successfully }", "it waits for postgres until service_completed_successfully"},
	"a wait for what nobody looks at":    {"logins: { condition: service_completed_successfully }", "logins: { condition: service_healthy }", "it waits for logins until service_healthy"},
	"tables before logins":               {"    depends_on:\n      logins: { condition: service_completed_successfully }\n", "", "it waits for nothing, and is to wait for logins"},
	"a projector before tables":          {"      migrate: { condition: service_completed_successfully }\n", "", "and is to wait for migrate until"},
	"a wait that may be left out":        {"logins: { condition: service_completed_successfully }", "logins: { condition: service_completed_successfully, required: false }", "is to wait for logins"},
	"a server that only fills its files": {`"-h", "127.0.0.1", `, "", "it is looked at by CMD pg_isready -U"},
	"a database nobody looks at":         {`test: [ "CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "paldies" ]`, `test: [ "NONE" ]`, "it is looked at by nothing"},
	"a server nobody looks at":           {"    healthcheck:\n      test: [ \"CMD\", \"wget\", \"-q\", \"-O\", \"/dev/null\", \"http://127.0.0.1:9090/-/healthy\" ]\n", "", "it is looked at by nothing"},
	"a role nobody looks at":             {"    command: [ \"seal\",", "    healthcheck: { disable: true }\n    command: [ \"seal\",", "it serves, and nobody looks at it"},
	"a job that is asked for its health": {"healthcheck: { disable: true }", "healthcheck: {}", "it serves nothing, and is looked at"},
	"all rights":                         {grafanaUser, grafanaUser + "    privileged: true\n", "it says privileged"},
	"rights that can grow":               {`security_opt: [ "no-new-privileges:true" ]`, `security_opt: [ "no-new-privileges:false" ]`, "it may get more rights"},
	"system calls without a filter":      {`security_opt: [ "no-new-privileges:true" ]`, `security_opt: [ "no-new-privileges:true", "seccomp:unconfined" ]`, "it may get more rights"},
	"a volume that is another folder":    {"  grafana:\n\x00", "  grafana: { driver_opts: { type: none, o: bind, device: /etc } }\n", "volume grafana is somewhere else"},
	"the machine's memory":               {grafanaUser, grafanaUser + "    devices: [ /dev/mem ]\n", "it says devices"},
	"the machine's messages":             {grafanaUser, grafanaUser + "    ipc: host\n", "it says ipc"},
	"the machine's processes":            {grafanaUser, grafanaUser + "    pid: host\n", "it says pid"},
	"the machine's network":              {grafanaUser, grafanaUser + "    network_mode: host\n", "it says network_mode"},
	"the machine's users":                {grafanaUser, grafanaUser + "    userns_mode: host\n", "it says userns_mode"},
	"two signers":                        {"    command: [ \"seal\",", "    scale: 2\n    command: [ \"seal\",", "it says scale"},
	"two signers of a deployment":        {"    command: [ \"seal\",", "    deploy: { replicas: 2 }\n    command: [ \"seal\",", "it says deploy"},
}

// grafanaUser is a place in the file for what a service says besides.
const grafanaUser = "    user: \"65532:0\" # who can read its secrets\n"

// TestSpoiltCompose: what is wrong is seen, and for what it is.
func TestSpoiltCompose(t *testing.T) {
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	secrets := secretsOf(t, loaded(t))
	for what, change := range spoilt {
		// The end of the file is a place, too.
		other := strings.TrimSuffix(strings.Replace(string(text)+"\x00", change.old, change.new, 1), "\x00")
		if other == string(text) {
			t.Errorf("%s: there is no %q", what, change.old)
		}
		if err := seen(t, other, secrets); err == nil {
			t.Errorf("%s is not seen", what)
		} else if !strings.Contains(err.Error(), change.says) {
			t.Errorf("%s is seen for another reason: %v", what, err)
		}
	}
	if err := seen(t, string(text), secrets); err != nil {
		t.Errorf("as it is: %v", err)
	}
}

// seen is what is wrong with a text in the place of docker-compose.yml.
func seen(t *testing.T, text, secrets string) error {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "docker-compose.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	project, err := load(t.Context(), file)
	if err != nil {
		return err
	}
	return rules(project, secrets)
}

package check_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// ours is the image of the repository's Dockerfile.
const ours = "paldies"

// asRoot are the images that begin as root, and why.
var asRoot = map[string]string{
	"nats":     "its volume belongs to root",
	"postgres": "it gives its volume to its own user, and goes on as that",
}

// published are the ports that others on the machine can reach, and no others can.
var published = map[string]string{
	"intake": "8080-8089", "signer": "8091", "dashboard": "8092-8099", "prometheus": "9090", "grafana": "3000",
}

// TestCompose loads docker-compose.yml and holds what comes of it against rules
// for each service.
func TestCompose(t *testing.T) {
	project := loaded(t)
	if len(project.Services) < 18 {
		t.Errorf("only %d services are loaded", len(project.Services))
	}
	secrets := secretsOf(t, project)
	for name, s := range project.Services {
		if err := rules(project, s, secrets); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rules reports the first thing that is wrong with a service.
func rules(project *types.Project, s types.ServiceConfig, secrets string) error {
	image, version, _ := strings.Cut(s.Image, ":")
	switch {
	case s.Image != ours && !regexp.MustCompile(`^v?[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z]+)?$`).MatchString(version):
		return fmt.Errorf("the image %q is not pinned", s.Image)
	case s.Privileged || len(s.CapAdd) > 0 || s.NetworkMode != "" || s.Pid != "" || !slices.Contains(s.SecurityOpt, "no-new-privileges:true"):
		return fmt.Errorf("it has more rights than it needs")
	case s.User == "root" || strings.HasPrefix(s.User, "0"):
		return fmt.Errorf("it runs as %s", s.User)
	case s.Image == ours && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"})):
		return fmt.Errorf("it can write to its image, or keeps capabilities")
	case s.Image != ours && s.HealthCheck == nil:
		return fmt.Errorf("nobody sees whether it is well")
	case s.User == "" && s.Image != ours && asRoot[image] == "" && image != "prom/prometheus": // whose image has a user
		return fmt.Errorf("the image %s may run as root", image)
	}
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" || p.Published != published[s.Name] {
			return fmt.Errorf("port %s of %q is published", p.Published, p.HostIP)
		}
	}
	for other, d := range s.DependsOn {
		if err := waitsFor(project.Services[other], d.Condition); err != nil {
			return fmt.Errorf("it waits for %s: %w", other, err)
		}
	}
	return mounts(s, secrets)
}

// waitsFor wants what somebody waits for to come about.
func waitsFor(other types.ServiceConfig, condition string) error {
	checked := other.HealthCheck != nil && !other.HealthCheck.Disable
	stays := other.Restart == types.RestartPolicyAlways || other.Restart == types.RestartPolicyUnlessStopped
	switch {
	case condition == types.ServiceConditionHealthy && !checked:
		return fmt.Errorf("nobody sees whether it is well")
	case condition == types.ServiceConditionCompletedSuccessfully && stays:
		return fmt.Errorf("it never ends")
	case condition == types.ServiceConditionStarted:
		return fmt.Errorf("to have started says nothing")
	}
	return nil
}

// mounts wants files of the repository to be there and read-only, and a service to
// see its own secrets and no others.
func mounts(s types.ServiceConfig, secrets string) error {
	for _, m := range s.Volumes {
		if m.Type == types.VolumeTypeBind {
			if _, err := os.Stat(m.Source); err != nil || !m.ReadOnly {
				return fmt.Errorf("it mounts %s, read-only %t: %w", m.Source, m.ReadOnly, err)
			}
		}
		if m.Source != "secrets" || s.Name == "secrets" {
			continue
		}
		if !m.ReadOnly || m.Volume == nil || m.Volume.Subpath == "" {
			return fmt.Errorf("it sees all secrets, or can write them")
		}
		if _, err := os.Stat(filepath.Join(secrets, m.Volume.Subpath)); err != nil {
			return fmt.Errorf("its secrets are not made: %w", err)
		}
		if owner := m.Volume.Subpath; owner != s.Name && (s.Name != "streams" || owner != "admin") { // who works as admin
			return fmt.Errorf("it sees the secrets of %s", owner)
		}
	}
	for variable, value := range s.Environment {
		if secret := regexp.MustCompile(`PASSWORD|TOKEN|DATABASE_URL|NATS_URL`); secret.MatchString(variable) && value != nil && !strings.HasPrefix(*value, "/run/paldies/") {
			return fmt.Errorf("%s is no file", variable)
		}
	}
	return nil
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

// spoilt are changes of the file that must be seen, by the loader or by a rule.
var spoilt = map[string][2]string{
	"a key that Compose does not know":       {"    restart: unless-stopped\n", "    restarts: unless-stopped\n"},
	"a volume that is not declared":          {"  grafana:\n\x00", ""},
	"a service that is not there":            {"logins: { condition", "login: { condition"},
	"a duration":                             {"interval: 5s", "interval: soon"},
	"a condition":                            {"service_completed_successfully", "service_completed"},
	"a circle":                               {"  secrets:\n    <<: *job\n", "  secrets:\n    <<: *job\n    depends_on: [ logins ]\n"},
	"an image that moves":                    {"postgres:15.14-bookworm", "postgres:latest"},
	"a port for everybody":                   {"127.0.0.1:9090:9090", "9090:9090"},
	"a port that nobody meant":               {"127.0.0.1:9090:9090", "127.0.0.1:9091:9090"},
	"an image that can be written":           {"  read_only: true\n", "  read_only: false\n"},
	"another user":                           {`user: "65532:0"`, `user: "0:0"`},
	"secrets of all":                         {", volume: { subpath: grafana }", ""},
	"secrets of another":                     {"subpath: projector", "subpath: migrate"},
	"secrets that nobody makes":              {"subpath: auditor", "subpath: auditors"},
	"a password in the environment":          {"GF_SECURITY_ADMIN_PASSWORD__FILE: /run/paldies/password", "GF_SECURITY_ADMIN_PASSWORD: admin"},
	"a file that is not there":               {"./deploy/prometheus:", "./deploy/prometheuss:"},
	"a wait for what never ends":             {"postgres: { condition: service_healthy }", "postgres: { condition: service_completed_successfully }"},
	"a wait for what nobody looks at":        {"logins: { condition: service_completed_successfully }", "logins: { condition: service_healthy }"},
	"more rights":                            {`security_opt: [ "no-new-privileges:true" ]`, "privileged: true"},
	"a server of which nobody knows a thing": {"    healthcheck:\n      test: [ \"CMD\", \"wget\", \"-q\", \"-O\", \"/dev/null\", \"http://127.0.0.1:9090/-/healthy\" ]\n", ""},
}

// TestSpoiltCompose: what is wrong is seen.
func TestSpoiltCompose(t *testing.T) {
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	secrets := secretsOf(t, loaded(t))
	for what, change := range spoilt {
		// The end of the file is a place, too.
		other := strings.TrimSuffix(strings.Replace(string(text)+"\x00", change[0], change[1], 1), "\x00")
		if other == string(text) {
			t.Errorf("%s: there is no %q", what, change[0])
		}
		if err := seen(t, other, secrets); err == nil {
			t.Errorf("%s is not seen", what)
		} else {
			t.Logf("%s: %v", what, err)
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
	for _, s := range project.Services {
		if err := rules(project, s, secrets); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

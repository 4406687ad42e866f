package check_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// What a service may say is in tables, and everything else is refused: whoever adds
// something to docker-compose.yml says here that it is meant.

// ours is the image of the repository's Dockerfile.
const ours = "paldies"

// keys are what services say at all.
var keys = strings.Fields(`build cap_drop command depends_on environment healthcheck image networks ports profiles
	read_only restart security_opt stop_grace_period user volumes working_dir`)

// own are the images that run as a user of their own or, where they begin as root,
// why they do.
var own = map[string]string{
	"prom/prometheus": "it runs as nobody",
	"nats":            "its volume belongs to root",
	"postgres":        "it gives its volume to its own user, and goes on as that",
}

// users are those who run as somebody else than their image says. Files of the
// secrets can be read by 65532 only, and by root.
var users = map[string]string{"grafana": "65532:0"}

// published are the ports that others on the machine can reach, and no others can.
var published = map[string]string{
	"intake": "8080-8089", "signer": "8091", "dashboard": "8092-8099", "prometheus": "9090", "grafana": "3000",
}

// mounted are the volumes besides the secrets, who mounts them, and where.
var mounted = map[string]map[string]string{
	"keys":         {"intake": "/data/keys:ro", "admin": "/data/keys"},
	"signing-keys": {"signer": "/data/keys"},
	"logs":         {"signer": "/data/log", "intake": "/data/log:ro", "auditor": "/data/log:ro", "restorer": "/data/log:ro"},
	"nats-1":       {"nats-1": "/data"},
	"nats-2":       {"nats-2": "/data"},
	"nats-3":       {"nats-3": "/data"},
	"postgres":     {"postgres": "/var/lib/postgresql/data"},
	"prometheus":   {"prometheus": "/prometheus"},
	"grafana":      {"grafana": "/var/lib/grafana"},
}

const (
	healthy = types.ServiceConditionHealthy
	ended   = types.ServiceConditionCompletedSuccessfully
)

// waits are for what services wait, and until when.
var waits = map[string]map[string]string{
	"nats-1":    {"secrets": ended},
	"nats-2":    {"secrets": ended},
	"nats-3":    {"secrets": ended},
	"postgres":  {"secrets": ended},
	"logins":    {"postgres": healthy},
	"migrate":   {"logins": ended},
	"streams":   {"nats-1": healthy, "nats-2": healthy, "nats-3": healthy},
	"intake":    {"streams": ended},
	"signer":    {"streams": ended},
	"projector": {"streams": ended, "migrate": ended},
	"dashboard": {"streams": ended, "migrate": ended},
	"grafana":   {"secrets": ended},
}

// looked are the commands that see whether somebody else's program is well.
var looked = map[string]string{
	"nats":            "CMD wget -q -O /dev/null http://127.0.0.1:8222/healthz?js-server-only=true",
	"postgres":        "CMD pg_isready -h 127.0.0.1 -U postgres -d paldies", // over TCP, see there
	"prom/prometheus": "CMD wget -q -O /dev/null http://127.0.0.1:9090/-/healthy",
	"grafana/grafana": "CMD wget -q -O /dev/null http://127.0.0.1:3000/api/health",
}

// environments are those of other people's programs, for which a variable can be
// anything: also that nobody needs a password.
var environments = map[string]string{
	"nats-1":   "SERVER_NAME=nats-1",
	"nats-2":   "SERVER_NAME=nats-2",
	"nats-3":   "SERVER_NAME=nats-3",
	"postgres": "POSTGRES_DB=paldies POSTGRES_PASSWORD_FILE=/run/paldies/password",
	"grafana": "GF_ANALYTICS_CHECK_FOR_UPDATES=false GF_ANALYTICS_REPORTING_ENABLED=false " +
		"GF_SECURITY_ADMIN_PASSWORD__FILE=/run/paldies/password",
}

// rules reports the first thing that is wrong with a project.
func rules(project *types.Project, secrets string) error {
	for name, v := range project.Volumes {
		if v.External || v.Driver != "" || len(v.DriverOpts) > 0 {
			return fmt.Errorf("volume %s is somewhere else", name)
		}
	}
	for _, s := range project.Services {
		for _, rule := range []func(types.ServiceConfig) error{
			said, rights, ports, dependencies, health, environment,
			func(s types.ServiceConfig) error { return files(s, filepath.Join(project.WorkingDir, "deploy")) },
			func(s types.ServiceConfig) error { return volumes(s, secrets) },
		} {
			if err := rule(s); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
		}
	}
	return nil
}

// said wants a service to say what services say, and nothing else.
func said(s types.ServiceConfig) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] != nil && !slices.Contains(keys, key) {
			return fmt.Errorf("it says %s, which no service needs", key)
		}
	}
	return nil
}

func rights(s types.ServiceConfig) error {
	image, version, _ := strings.Cut(s.Image, ":")
	switch {
	case s.Image != ours && !regexp.MustCompile(`^v?[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z]+)?$`).MatchString(version):
		return fmt.Errorf("the image %q is not pinned", s.Image)
	case !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}):
		return fmt.Errorf("it may get more rights: %v", s.SecurityOpt)
	case s.Image == ours && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"})):
		return fmt.Errorf("it can write to its image, or keeps capabilities")
	case s.User != users[s.Name]:
		return fmt.Errorf("it runs as %s", s.User)
	case s.User == "" && s.Image != ours && own[image] == "":
		return fmt.Errorf("the image %s may run as root", image)
	}
	return nil
}

func ports(s types.ServiceConfig) error {
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" || p.Published != published[s.Name] {
			return fmt.Errorf("port %s of %q is published", p.Published, p.HostIP)
		}
	}
	return nil
}

func dependencies(s types.ServiceConfig) error {
	var have, want []string
	for other, d := range s.DependsOn {
		wait := other + " until " + d.Condition
		if !d.Required {
			wait += " if it is there"
		}
		have = append(have, wait)
	}
	for other, condition := range waits[s.Name] {
		want = append(want, other+" until "+condition)
	}
	return same("it waits for %s, and is to wait for %s", have, want)
}

// health wants everybody to be looked at who serves, by a command of the image where
// that is ours, and nobody who does not.
func health(s types.ServiceConfig) error {
	var test []string
	if h := s.HealthCheck; h != nil && !h.Disable && !slices.Equal(h.Test, []string{"NONE"}) {
		test = h.Test
	}
	image, _, _ := strings.Cut(s.Image, ":")
	switch serves := slices.Contains(s.Command, "--http"); {
	case s.Image != ours:
		return same("it is looked at by %s, and is to be by %s", []string{strings.Join(test, " ")}, []string{looked[image]})
	case serves && s.HealthCheck != nil:
		return fmt.Errorf("it serves, and nobody looks at it as the image says")
	case !serves && (s.HealthCheck == nil || !s.HealthCheck.Disable):
		return fmt.Errorf("it serves nothing, and is looked at")
	}
	return nil
}

// environment wants that of our programs to name files.
func environment(s types.ServiceConfig) error {
	var have []string
	for variable, value := range s.Environment {
		if s.Image == ours && (value == nil || !strings.HasPrefix(*value, "/run/paldies/")) {
			return fmt.Errorf("%s is no file", variable)
		}
		if value != nil {
			variable += "=" + *value
		}
		have = append(have, variable)
	}
	if s.Image == ours {
		return nil
	}
	return same("its environment is %s, and is to be %s", have, strings.Fields(environments[s.Name]))
}

// files wants what is mounted of the machine to be in the repository's folder deploy,
// and to be read-only.
func files(s types.ServiceConfig, dir string) error {
	for _, m := range s.Volumes {
		if m.Type == types.VolumeTypeVolume {
			continue
		}
		if m.Type != types.VolumeTypeBind || !strings.HasPrefix(m.Source, dir+"/") {
			return fmt.Errorf("it mounts %s", m.Source)
		}
		if _, err := os.Stat(m.Source); err != nil || !m.ReadOnly {
			return fmt.Errorf("it mounts %s, read-only %t: %w", m.Source, m.ReadOnly, err)
		}
	}
	return nil
}

// volumes wants a service to mount its own volumes, and of the secrets its own folder.
func volumes(s types.ServiceConfig, secrets string) error {
	var have, want []string
	for _, m := range s.Volumes {
		if m.Type != types.VolumeTypeVolume {
			continue
		}
		mount := m.Source + ":" + m.Target
		if m.Volume != nil && m.Volume.Subpath != "" {
			mount = m.Source + "/" + m.Volume.Subpath + ":" + m.Target
		}
		if m.ReadOnly {
			mount += ":ro"
		}
		have = append(have, mount)
	}
	for volume, by := range mounted {
		if at := by[s.Name]; at != "" {
			want = append(want, volume+":"+at)
		}
	}
	switch folder := s.Name; {
	case s.Name == "secrets":
		want = append(want, "secrets:/secrets")
	case s.Name == "prometheus": // which has none
	case strings.HasPrefix(s.Name, "nats-"):
		want = append(want, "secrets/"+folder+":/etc/paldies/secrets:ro")
	default:
		if s.Name == "streams" {
			folder = "admin" // as whom it works
		}
		want = append(want, "secrets/"+folder+":/run/paldies:ro")
		if _, err := os.Stat(filepath.Join(secrets, folder)); err != nil {
			return fmt.Errorf("its secrets are not made: %w", err)
		}
	}
	return same("it mounts %s, and is to mount %s", have, want)
}

// same compares what there is with what there is to be, in any order.
func same(format string, have, want []string) error {
	text := func(list []string) string {
		slices.Sort(list)
		if joined := strings.Join(list, " "); joined != "" {
			return joined
		}
		return "nothing"
	}
	if h, w := text(have), text(want); h != w {
		return fmt.Errorf(format, h, w)
	}
	return nil
}

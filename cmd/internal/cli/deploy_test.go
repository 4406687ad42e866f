package cli

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/deploy"
	"sakipaldies.lv/ledger/cmd/internal/queue"
)

// repository is the root of the repository.
const repository = "../../.."

// composeFile is what these tests read of docker-compose.yml.
type composeFile struct {
	Services map[string]composeService
}

type composeService struct {
	Image       string
	Command     []string
	Environment map[string]string
	Volumes     []composeMount
	Profiles    []string
}

// composeMount is a mount in its short or its long form.
type composeMount struct{ Source, Target, Subpath string }

func (m *composeMount) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		m.Source, m.Target, _ = strings.Cut(n.Value, ":")
		return nil
	}
	var long struct {
		Source, Target string
		Volume         struct{ Subpath string }
	}
	err := n.Decode(&long)
	m.Source, m.Target, m.Subpath = long.Source, long.Target, long.Volume.Subpath
	return err
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// secretsFolder is what the first job makes for the hosts of docker-compose.yml.
func secretsFolder(t *testing.T, c composeFile) string {
	t.Helper()
	command := c.Services["secrets"].Command
	i := slices.Index(command, "--host")
	if i < 0 {
		t.Fatalf("the job of the secrets is %v", command)
	}
	dir := t.TempDir()
	if err := deploy.MakeSecrets(deploy.Config{Dir: dir, Hosts: strings.Split(command[i+1], ","), Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCompose holds docker-compose.yml against what it names of ours: commands and
// flags, and secrets that the first job makes. The file itself is checked by the
// module deploy/check.
func TestCompose(t *testing.T) {
	var c composeFile
	readYAML(t, "docker-compose.yml", &c)
	secrets, roles := secretsFolder(t, c), 0
	for name, s := range c.Services {
		checkSecretFiles(t, name, s, secrets)
		if s.Image == "paldies" {
			roles++
			checkCommand(t, name, s)
		}
	}
	if roles < 12 {
		t.Errorf("only %d services run paldies", roles)
	}
}

// checkSecretFiles wants every file that the environment names to be mounted.
func checkSecretFiles(t *testing.T, service string, s composeService, secrets string) {
	t.Helper()
	for variable, value := range s.Environment {
		if !strings.HasPrefix(value, "/run/") {
			continue
		}
		i := slices.IndexFunc(s.Volumes, func(m composeMount) bool { return m.Source == "secrets" && strings.HasPrefix(value, m.Target+"/") })
		if i < 0 {
			t.Errorf("%s: %s names %s, which is not mounted", service, variable, value)
			continue
		}
		if _, err := os.Stat(filepath.Join(secrets, s.Volumes[i].Subpath, strings.TrimPrefix(value, s.Volumes[i].Target))); err != nil {
			t.Errorf("%s: %s: %v", service, variable, err)
		}
	}
}

// checkCommand wants the command, its flags and those of the environment to exist.
func checkCommand(t *testing.T, service string, s composeService) {
	t.Helper()
	a := &app{in: strings.NewReader(""), out: new(bytes.Buffer), err: new(bytes.Buffer), now: time.Now}
	cmd, rest, err := a.root().Find(s.Command)
	if err != nil || cmd.RunE == nil || cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		t.Errorf("%s: there is no command %v: %v", service, s.Command, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%s: %v: %v", service, s.Command, err)
		return
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("%s: %v: %v", service, s.Command, err)
	}
	for variable := range s.Environment {
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(variable, envPrefix), "_FILE"), "_", "-"))
		// A tool has what other commands of its role take.
		if cmd.Flag(flag) == nil && len(s.Profiles) == 0 {
			t.Errorf("%s: %s is no flag of %s", service, variable, cmd.CommandPath())
		}
	}
	if serves := cmd.Flags().Lookup("http"); serves != nil && !strings.HasSuffix(serves.Value.String(), ":8080") {
		t.Errorf("%s serves at %s; the image is asked for its health at port 8080", service, serves.Value)
	}
}

// TestDockerfile wants the health check to be a command, and no root.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^HEALTHCHECK .*CMD (\[.*\])$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("the image has no health check")
	}
	var command []string
	if err := json.Unmarshal(found[1], &command); err != nil {
		t.Fatal(err)
	}
	checkCommand(t, "HEALTHCHECK", composeService{Command: command[1:]})
	if !regexp.MustCompile(`(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`).Match(text) {
		t.Error("the image runs as root")
	}
}

// metricNames are all that the roles can tell.
func metricNames() map[string]bool {
	names := make(map[string]bool)
	for _, c := range []prometheus.Collector{modelCollector{&health{}}, queueCollector{}, queue.NewMetrics(), api.NewMetrics(func() int { return 0 })} {
		described := make(chan *prometheus.Desc)
		go func() {
			defer close(described)
			c.Describe(described)
		}()
		for d := range described {
			names[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
		}
	}
	return names
}

// checkExpression wants each of our metrics in an expression of Prometheus to exist.
func checkExpression(t *testing.T, where, expression string, names map[string]bool) (known int) {
	t.Helper()
	for _, name := range regexp.MustCompile(`\bpaldies_[a-z_]+`).FindAllString(expression, -1) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if !names[name] && !names[base] {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		known++
	}
	if strings.Count(expression, "(") != strings.Count(expression, ")") || strings.Count(expression, "{") != strings.Count(expression, "}") {
		t.Errorf("%s: %s", where, expression)
	}
	return known
}

// dashboardFile is what these tests read of a dashboard of Grafana.
type dashboardFile struct {
	UID, Title string
	Templating struct {
		List []struct {
			Name       string
			Datasource dashboardSource
		}
	}
	Panels []struct {
		Title, Type string
		Datasource  dashboardSource
		Targets     []struct {
			Expr, RawSQL string
			Datasource   dashboardSource
		}
	}
}

type dashboardSource struct{ Type, UID string }

// dataSource is what these tests read of a data source of Grafana.
type dataSource struct {
	Name, UID, Type, URL, User string
	SecureJSONData             map[string]string         `yaml:"secureJsonData"`
	JSONData                   struct{ Database string } `yaml:"jsonData"`
}

func readDataSources(t *testing.T) map[string]dataSource {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, "deploy/grafana/provisioning/datasources/*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no data sources: %v", err)
	}
	sources := make(map[string]dataSource)
	for _, file := range files {
		var f struct{ Datasources []dataSource }
		readYAML(t, strings.TrimPrefix(file, repository), &f)
		for _, s := range f.Datasources {
			sources[s.UID] = s
		}
	}
	return sources
}

// TestDashboards wants dashboards to show what there is. Their SQL is tried by
// package postgres.
func TestDashboards(t *testing.T) {
	names, sources := metricNames(), readDataSources(t)
	files, err := filepath.Glob(filepath.Join(repository, "deploy/grafana/dashboards/*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("there are %d dashboards: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboardFile
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID+".json" != filepath.Base(file) || d.Title == "" || len(d.Panels) == 0 {
			t.Errorf("%s is the dashboard %q", file, d.UID)
		}
		there := func(where string, s dashboardSource) {
			if sources[s.UID].Type != s.Type || s.Type == "" {
				t.Errorf("%s, %s: there is no data source %+v", d.UID, where, s)
			}
		}
		for _, v := range d.Templating.List {
			there("$"+v.Name, v.Datasource)
		}
		for _, p := range d.Panels {
			if p.Type == "row" {
				continue
			}
			there(p.Title, p.Datasource)
			if len(p.Targets) == 0 {
				t.Errorf("%s, %s: nothing is asked for", d.UID, p.Title)
			}
			for _, target := range p.Targets {
				if target.Datasource != p.Datasource || (target.Expr == "") != (p.Datasource.UID != "prometheus") || (target.Expr == "") == (target.RawSQL == "") {
					t.Errorf("%s, %s: %+v is asked for", d.UID, p.Title, target)
				}
				checkExpression(t, d.UID+", "+p.Title, target.Expr, names)
			}
		}
	}
}

// TestDataSources wants Grafana to log in where and as whom it can, and nowhere
// else: whoever may look at it can ask its data sources for anything.
func TestDataSources(t *testing.T) {
	var c composeFile
	readYAML(t, "docker-compose.yml", &c)
	secrets, asked := secretsFolder(t, c), 0
	for _, s := range readDataSources(t) {
		host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
		if _, there := c.Services[host]; !there || port == "" {
			t.Errorf("%s is at %s, where no service is", s.Name, s.URL)
		}
		if s.Type == "prometheus" {
			continue
		}
		asked++
		password := s.SecureJSONData["password"]
		checkSecretFiles(t, "grafana", composeService{Volumes: c.Services["grafana"].Volumes,
			Environment: map[string]string{s.Name: strings.TrimSuffix(strings.TrimPrefix(password, "$__file{"), "}")}}, secrets)
		if s.User != "reporting_ro" || s.JSONData.Database != c.Services[host].Environment["POSTGRES_DB"] || !strings.HasPrefix(password, "$__file{/run/") {
			t.Errorf("%s logs in as %s to %s with %s", s.Name, s.User, s.JSONData.Database, password)
		}
	}
	if asked != 1 {
		t.Errorf("there are %d data sources of SQL", asked)
	}
}

// TestPrometheus wants the configuration to scrape services that there are, and
// alerts to speak of metrics that there are and of sections of the runbook.
func TestPrometheus(t *testing.T) {
	var c composeFile
	readYAML(t, "docker-compose.yml", &c)
	var config struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName string `yaml:"job_name"`
			DNS     []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "deploy/prometheus/prometheus.yml", &config)
	var scraped []string
	for _, job := range config.ScrapeConfigs {
		for _, dns := range job.DNS {
			scraped = append(scraped, dns.Names...)
		}
	}
	for name, s := range c.Services {
		serves := slices.Contains(s.Command, "--http")
		if serves != slices.Contains(scraped, name) {
			t.Errorf("%s serves metrics: %t, and is scraped: %t", name, serves, !serves)
		}
	}
	runbook, err := os.ReadFile(filepath.Join(repository, "docs/runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	names, known := metricNames(), 0
	for _, file := range config.RuleFiles {
		var rules struct {
			Groups []struct {
				Rules []struct {
					Alert, Expr string
					Annotations map[string]string
				}
			}
		}
		readYAML(t, filepath.Join("deploy/prometheus", file), &rules)
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				known += checkExpression(t, r.Alert, r.Expr, names)
				if section := "<a id=\"" + r.Annotations["runbook"] + "\"></a>"; !bytes.Contains(runbook, []byte(section)) {
					t.Errorf("%s: the runbook has no %s", r.Alert, section)
				}
			}
		}
	}
	if known < 7 {
		t.Errorf("the alerts speak of %d metrics", known)
	}
}

// TestRunbook wants every command of the runbook to exist.
func TestRunbook(t *testing.T) {
	text, err := fs.ReadFile(os.DirFS(repository), "docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var c composeFile
	readYAML(t, "docker-compose.yml", &c)
	found := regexp.MustCompile(`(?m)^(?:\$ )?docker compose run --rm (?:-[^ ]+ [^ ]+ )*([a-z]+) ([^#\n]+)$`).FindAllStringSubmatch(string(text), -1)
	if len(found) < 8 {
		t.Fatalf("only %d commands are found", len(found))
	}
	for _, f := range found {
		s, there := c.Services[f[1]]
		if !there || s.Image != "paldies" {
			t.Errorf("%s: there is no such service", f[0])
			continue
		}
		a := &app{in: strings.NewReader(""), out: new(bytes.Buffer), err: new(bytes.Buffer), now: time.Now}
		cmd, rest, err := a.root().Find(strings.Fields(regexp.MustCompile(`"[^"]*"|'[^']*'`).ReplaceAllString(f[2], "x")))
		if err != nil || !cmd.Runnable() || cmd.HasSubCommands() && !slices.Contains([]string{"seal", "project", "results"}, cmd.Name()) {
			t.Errorf("%s: there is no such command: %v", f[0], err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", f[0], err)
		}
	}
}

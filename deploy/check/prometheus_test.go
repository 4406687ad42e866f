package check_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/dns"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// config is as much of Prometheus' configuration as is used. Anything else is an
// error.
type config struct {
	Global struct {
		ScrapeInterval     model.Duration `yaml:"scrape_interval"`
		EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	}
	RuleFiles []string `yaml:"rule_files"`
	Alerting  struct { // which the runbook asks for
		Alertmanagers []struct {
			Scheme        string
			PathPrefix    string               `yaml:"path_prefix"`
			StaticConfigs []*targetgroup.Group `yaml:"static_configs"`
			DNS           []dns.SDConfig       `yaml:"dns_sd_configs"`
		}
	}
	ScrapeConfigs []struct {
		JobName        string            `yaml:"job_name"`
		DNS            []dns.SDConfig    `yaml:"dns_sd_configs"`
		RelabelConfigs []*relabel.Config `yaml:"relabel_configs"`
	} `yaml:"scrape_configs"`
}

func parse(text []byte) (c config, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	err = decoder.Decode(&c)
	for _, s := range c.ScrapeConfigs {
		for _, r := range s.RelabelConfigs {
			if err == nil {
				err = r.Validate(model.UTF8Validation)
			}
		}
	}
	return c, err
}

func parseRules(text []byte) (*rulefmt.RuleGroups, []error) {
	return rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../prometheus", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPrometheus(t *testing.T) {
	c, err := parse(read(t, "prometheus.yml"))
	if err != nil || len(c.ScrapeConfigs) == 0 || len(c.RuleFiles) == 0 {
		t.Fatalf("%+v: %v", c, err)
	}
	alerts := 0
	for _, file := range c.RuleFiles {
		groups, errs := parseRules(read(t, file))
		if len(errs) > 0 {
			t.Fatalf("%s: %v", file, errs)
		}
		for _, g := range groups.Groups {
			alerts += len(g.Rules)
		}
	}
	if alerts < 10 {
		t.Errorf("only %d alerts are read", alerts)
	}
}

// TestAlerting: whoever does as the runbook says names an Alertmanager, and is not
// refused here.
func TestAlerting(t *testing.T) {
	named := func(targets string) error {
		_, err := parse(append(read(t, "prometheus.yml"), "\nalerting:\n  alertmanagers:\n    - static_configs: [ { "+targets+" } ]\n"...))
		return err
	}
	if err := named("targets: [ alerts.example.lv:9093 ]"); err != nil {
		t.Errorf("an Alertmanager is refused: %v", err)
	}
	if err := named("target: alerts.example.lv:9093"); err == nil {
		t.Error("a misspelt Alertmanager is not seen")
	}
}

// TestSpoiltPrometheus: what is wrong is seen.
func TestSpoiltPrometheus(t *testing.T) {
	spoil := func(name, old, new string, wrong func([]byte) bool) {
		t.Helper()
		text := read(t, name)
		other := bytes.Replace(text, []byte(old), []byte(new), 1)
		if bytes.Equal(text, other) || !wrong(other) || wrong(text) {
			t.Errorf("%s with %q for %q is not seen", name, new, old)
		}
	}
	configured := func(text []byte) bool { _, err := parse(text); return err != nil }
	ruled := func(text []byte) bool { _, errs := parseRules(text); return len(errs) > 0 }
	spoil("prometheus.yml", "scrape_interval: 5s", "scrape_interval: soon", configured)
	spoil("prometheus.yml", "scrape_interval", "scrape_intervall", configured)
	spoil("prometheus.yml", "type: A", "type: AA", configured)
	spoil("prometheus.yml", "target_label: role", `target_label: ""`, configured)
	spoil("alerts.yml", "for: 1m", "for: soon", ruled)
	spoil("alerts.yml", "expr: ", "expr: ) ", ruled)
	spoil("alerts.yml", "annotations:", "annotation:", ruled)
	spoil("alerts.yml", "$labels.campaign", "$label.campaign", ruled)
	spoil("alerts.yml", "rate(", "rates(", ruled)
}

// TestVersion: the parsers are those of the Prometheus that is run, whose 3.16.0 is
// v0.316.0 among Go's modules.
func TestVersion(t *testing.T) {
	var minor, patch int
	image := loaded(t).Services["prometheus"].Image
	if _, err := fmt.Sscanf(image, "prom/prometheus:v3.%d.%d", &minor, &patch); err != nil {
		t.Fatalf("%s: %v", image, err)
	}
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("github.com/prometheus/prometheus v0.3%02d.%d\n", minor, patch); !strings.Contains(string(text), want) {
		t.Errorf("%s is run, and go.mod has no %s", image, want)
	}
}

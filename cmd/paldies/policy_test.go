package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "sakipaldies.lv/ledger/"

// imports says what of ours a package may import, by its longest matching
// prefix. The core must not know the shells, and the auditor must not trust
// them: a bug in intake must not hide in the audit too.
var imports = map[string][]string{
	"domain":                           {},
	"eventstore":                       {},
	"eventstore/":                      {"eventstore"},
	"eventstore/transparency":          {"eventstore", "eventstore/bucket"},
	"eventstore/transparency/sealtest": {"eventstore", "eventstore/transparency"},
	"projections":                      {"domain", "eventstore"},
	"projections/projectiontest":       {"domain", "eventstore", "eventstore/storetest", "projections"},
	"projections/postgres":             {"domain", "projections"},
	"projections/postgres/pgserver":    {},
	"projections/postgres/pgtest":      {"projections/postgres/pgserver"},
	"cmd/internal/audit":               {"domain", "eventstore", "eventstore/transparency", "projections"},
	"cmd/internal/credential":          {"domain", "eventstore", "eventstore/bucket"},
	"cmd/internal/report":              {"domain", "projections"},
	"cmd/internal/schema":              {}, // the schemas are written, not made from ours
	"cmd/internal/intake":              {"domain", "eventstore", "cmd/internal/csvfile"},
	"cmd/internal/load":                {}, // it knows the API by its contract, like any client
	"cmd/internal/node":                {"eventstore"},
	"cmd/paldies":                      {"cmd/internal/cli"},
	"cmd/internal/":                    {"domain", "eventstore", "eventstore/pubsub", "eventstore/transparency", "projections", "projections/postgres", "projections/postgres/pgserver", "cmd/internal/"},
}

// pureDomain is all that the domain may import from elsewhere.
var pureDomain = []string{"github.com/google/uuid", "golang.org/x/text/", "github.com/go-json-experiment/json"}

// impure are packages of the standard library with clocks, randomness or I/O.
var impure = []string{"context", "os", "io", "net", "math/rand", "crypto/rand", "log", "sync"}

// topLevel is all that the repository's root may hold besides dot files.
var topLevel = []string{"cmd", "domain", "eventstore", "projections", "docs", "deploy", "go.mod", "go.sum",
	"docker-compose.yml", "README.md", "Makefile", "Dockerfile", "CHANGELOG.md", "LICENSE"}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestImportPolicy(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "../../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		rule, ok := ruleOf(name)
		if !ok {
			t.Errorf("%s: the policy has no rule for this package", name)
		}
		for _, imported := range p.Imports {
			if ours, is := strings.CutPrefix(imported, module); is {
				if !slices.ContainsFunc(rule, func(r string) bool { return within(ours, r) }) {
					t.Errorf("%s imports %s", name, ours)
				}
			} else if name == "domain" {
				checkPure(t, imported)
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d packages found", seen)
	}
}

// ruleOf is the rule with the longest name that fits.
func ruleOf(name string) (rule []string, ok bool) {
	longest := -1
	for prefix, r := range imports {
		if within(name, prefix) && len(prefix) > longest {
			rule, ok, longest = r, true, len(prefix)
		}
	}
	return rule, ok
}

// within compares whole packages, or a folder when the rule ends with a slash.
func within(name, rule string) bool {
	return name == rule || strings.HasSuffix(rule, "/") && strings.HasPrefix(name, rule)
}

func checkPure(t *testing.T, imported string) {
	t.Helper()
	if slices.Contains(impure, imported) {
		t.Errorf("domain imports %s", imported)
	}
	fits := func(allowed string) bool { return strings.HasPrefix(imported, allowed) }
	if strings.Contains(strings.Split(imported, "/")[0], ".") && !slices.ContainsFunc(pureDomain, fits) {
		t.Errorf("domain imports %s", imported)
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) && !ignored(name) {
			t.Errorf("unexpected top-level entry %s", name)
		}
	}
}

// ignored says whether git ignores an entry.
func ignored(name string) bool {
	return exec.Command("git", "-C", "../..", "check-ignore", "-q", name).Run() == nil
}

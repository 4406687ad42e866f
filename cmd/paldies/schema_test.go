package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/schema/schematest"
)

// TestEventsFitTheirSchemas holds every event of a real ledger against the schema
// of its type: a whole campaign, with retractions, an amendment, a withdrawal,
// annulments and the close.
func TestEventsFitTheirSchemas(t *testing.T) {
	t.Parallel()
	data, campaign, set := t.TempDir(), "shemas", generateBallots(t)[1]
	set.name = campaign
	set.open(t, data)
	paldies(t, data, set.importArgs()...)
	first := strings.Split(strings.Split(paldies(t, data, "specialist", "list", "--campaign", campaign, "-o", "csv"), "\n")[1], ",")[0]
	paldies(t, data, "campaign", "amend", campaign, "--title", "Paldies!", "--reason", "nosaukums")
	paldies(t, data, "specialist", "withdraw", "--campaign", campaign, first, "--reason", "aizgāja")
	second := strings.Split(strings.Split(paldies(t, data, "specialist", "list", "--campaign", campaign, "-o", "csv"), "\n")[2], ",")[0]
	list := filepath.Join(t.TempDir(), "saraksts.csv")
	check(t, os.WriteFile(list, []byte(paldies(t, data, "vote", "list", "--campaign", campaign, "--specialist", second)), 0o600))
	paldies(t, data, "vote", "annul", "--campaign", campaign, "--file", list, "--decision", "SIF-2018/7", "--reason", "negodīga vākšana")
	paldies(t, data, "campaign", "close", campaign, "--reason", "beigas")
	schemas := make(map[string]schematest.Schema)
	lines := bufio.NewScanner(strings.NewReader(paldies(t, data, "audit", "replay", "--campaign", campaign, "-o", "json")))
	for lines.Scan() {
		var e struct{ Event json.RawMessage }
		var kind struct{ Type string }
		check(t, json.Unmarshal(lines.Bytes(), &e))
		check(t, json.Unmarshal(e.Event, &kind))
		name := strings.TrimPrefix(kind.Type, "lv.sakipaldies.")
		s, known := schemas[name]
		if !known {
			s = schematest.Read(t, name)
			schemas[name] = s
		}
		if err := s.Check(e.Event); err != nil {
			t.Fatalf("%s: %v", e.Event, err)
		}
	}
	if len(schemas) != 8 {
		t.Errorf("%d types of events were there: %v", len(schemas), schemas)
	}
}

package cli

import (
	"strings"
	"testing"
)

func TestTableCutsLongTexts(t *testing.T) {
	long := strings.Repeat("Garvārdiņš-", 20)
	l := listing{columns: []string{"specialist_id", "name", "votes"}, rows: [][]string{{strings.Repeat("i", 64), long, "17"}}}
	for _, c := range []struct {
		format format
		whole  bool
		cut    bool
	}{{asTable, false, true}, {asTable, true, false}, {asCSV, false, false}} {
		var out strings.Builder
		l.whole = c.whole
		if err := (&app{out: &out}).print(c.format, l); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if strings.Contains(text, long) == c.cut || strings.Contains(text, "…") != c.cut {
			t.Errorf("%s, whole: %v: %s", c.format, c.whole, text)
		}
		if !strings.Contains(text, strings.Repeat("i", 64)) || !strings.Contains(text, "17") {
			t.Errorf("%s has lost an id or a number: %s", c.format, text)
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(line)); c.cut && n > 64+maxCellWidth+16 {
				t.Errorf("a line is %d wide: %s", n, line)
			}
		}
	}
}

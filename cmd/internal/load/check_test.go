package load

import (
	"reflect"
	"testing"

	"github.com/google/uuid"
)

// TestCompare has the cases in which outcomes are unknown or refused; the lying
// servers have the others.
func TestCompare(t *testing.T) {
	known := expectation{entry{state: acknowledged, sequence: 5, eventID: uuid.UUID{5}}, "ilze"}
	unsure := expectation{entry{state: unknown}, "anna"}
	no := expectation{entry{state: refused}, "zane"}
	ilze := recorded{5, uuid.UUID{5}, "ilze", active}
	anna := recorded{6, uuid.UUID{6}, "anna", active}
	again := recorded{7, uuid.UUID{7}, "anna", active}
	zane := recorded{8, uuid.UUID{8}, "zane", active}
	for name, c := range map[string]struct {
		expected          []expectation
		list              []recorded
		resolved, unknown int64
		kinds             []DiscrepancyKind
	}{
		"as it should be":          {[]expectation{known, unsure, no}, []recorded{ilze}, 0, 1, nil},
		"unknown and recorded":     {[]expectation{unsure, known}, []recorded{ilze, anna}, 1, 0, nil},
		"unknown, recorded twice":  {[]expectation{unsure}, []recorded{anna, again}, 1, 0, []DiscrepancyKind{Doubled}},
		"refused and recorded":     {[]expectation{no}, []recorded{zane}, 0, 0, []DiscrepancyKind{Surplus}},
		"nobody asked for it":      {nil, []recorded{zane}, 0, 0, []DiscrepancyKind{Surplus}},
		"one lost, another gained": {[]expectation{known}, []recorded{zane}, 0, 0, []DiscrepancyKind{Missing, Surplus}},
		"another event of its own": {[]expectation{known}, []recorded{{9, uuid.UUID{9}, "ilze", active}}, 0, 0, []DiscrepancyKind{Altered}},
		"two that were exchanged": {
			[]expectation{known, {entry{state: acknowledged, sequence: 6, eventID: uuid.UUID{6}}, "anna"}},
			[]recorded{{5, uuid.UUID{5}, "anna", active}, {6, uuid.UUID{6}, "ilze", active}}, 0, 0, []DiscrepancyKind{Altered, Altered},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := compare(c.expected, c.list)
			var kinds []DiscrepancyKind
			for _, d := range got.discrepancies {
				kinds = append(kinds, d.Kind)
			}
			if !reflect.DeepEqual(kinds, c.kinds) || got.resolved != c.resolved || got.unknown != c.unknown {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestRetryAfter reads both forms of the header, and bounds them.
func TestRetryAfter(t *testing.T) {
	for s, want := range map[string]string{
		"": "0s", "1": "1s", "86400": "30s", "-1": "0s", "drīz": "0s",
		"Thu, 01 Jan 1970 00:00:00 GMT": "0s", "Fri, 31 Dec 9999 23:59:59 GMT": "30s",
	} {
		if got := parseRetryAfter(s).String(); got != want {
			t.Errorf("%q: %s instead of %s", s, got, want)
		}
	}
	for attempt := range 100 {
		if p := pause(attempt, 0); p <= 0 || p > maxPause {
			t.Errorf("attempt %d: %s", attempt, p)
		}
		if p := pause(attempt, maxRetryAfter); p < maxRetryAfter || p > maxRetryAfter*3/2 {
			t.Errorf("attempt %d: %s", attempt, p)
		}
	}
}

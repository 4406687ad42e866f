package cli

import "testing"

// What somebody has published cannot move the cursor of a terminal.
func TestHarmless(t *testing.T) {
	for body, want := range map[string]string{
		"{\"voter\": \"Pēteris Kļava\"}\n\t\u00a0�": "{\"voter\": \"Pēteris Kļava\"}\n\t\u00a0�",
		"\x1b]0;a\a\r\x7f":   `\x1b]0;a\a\r\x7f`,
		"a\xffb\u009b\u202e": `a\xffb\u009b\u202e`,
		"":                   "",
	} {
		if got := string(harmless([]byte(body))); got != want {
			t.Errorf("%q is written as %q, not %q", body, got, want)
		}
	}
}

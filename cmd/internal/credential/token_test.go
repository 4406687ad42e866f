package credential

import (
	"strings"
	"testing"
)

// TestTokenIsStable: tokens that were given out must be understood for ever.
func TestTokenIsStable(t *testing.T) {
	token := "paldies_9bq1ytaygr_6vjarrfqkn1mctndcvpnzdcx160a0hfk79thkffkc1e03hvkn7xg"
	id, secret, ok := parseToken(token)
	if !ok || id != "9bq1ytaygr" || hashOf(secret) != "8877513de76afed35d9aeab8fbf518391bb53b7acd61e1c9d2b2fd3c96d5464f" {
		t.Errorf("%v: %s, hash %s", ok, id, hashOf(secret))
	}
}

func FuzzParseToken(f *testing.F) {
	good := formatToken(newID(), newSecret())
	for _, seed := range []string{"", "paldies_", good, good + "0", good[1:], strings.ToUpper(good), strings.Replace(good, "_", "-", 2),
		strings.Repeat("_", TokenChars), strings.Repeat("ā", TokenChars/2), good[:TokenChars-2] + "ā", good[:TokenChars-1] + "\x00", "Bearer " + good} {
		f.Add(seed)
	}
	book, tokens := fullBook(f)
	f.Add(tokens[0])
	f.Fuzz(func(t *testing.T, token string) {
		id, secret, ok := parseToken(token)
		if ok != scanner.MatchString(token) {
			t.Errorf("%q: parsed %v, promised to scanners %v", token, ok, !ok)
		}
		if ok && formatToken(id, secret) != token {
			t.Errorf("%q is another token than %q", formatToken(id, secret), token)
		}
		if c, err := book.Check(token); err == nil && c == nil || c != nil && (*book.known.Load())[c.ID] == nil {
			t.Errorf("%q: %+v, %v", token, c, err)
		}
	})
}

package domain_test

import (
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"sakipaldies.lv/ledger/domain"
)

func TestNormaliseVoterID(t *testing.T) {
	limit := strings.Repeat("ž", domain.MaxVoterIDBytes/2)
	for _, c := range []struct{ name, id, want string }{
		{"as it is", "epasts:žanete@piemērs.lv", "epasts:žanete@piemērs.lv"},
		{"trimmed", " \t Ņikita Šķēle\r\n", "Ņikita Šķēle"},
		{"composed", norm.NFD.String("Ģirts Āboliņš"), "Ģirts Āboliņš"},
		{"Kelvin sign in a scheme", "lv-p\u212a:010190-12345", "lv-pk:01019012345"},
		{"hyphen", "lv-pk:010190-12345", "lv-pk:01019012345"},
		{"no hyphen", "lv-pk:01019012345", "lv-pk:01019012345"},
		{"new kind of code", "lv-pk:320000-00001", "lv-pk:32000000001"},
		{"scheme in upper case, spaces", " LV-PK: 010190-12345 ", "lv-pk:01019012345"},
		{"a code without a scheme is any id", "010190-12345", "010190-12345"},
		{"at the limit", limit, limit},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := domain.NormaliseVoterID(c.id)
			if err != nil || got != c.want {
				t.Errorf("%q becomes %q, %v, want %q", c.id, got, err, c.want)
			}
		})
	}
}

func TestNormaliseVoterIDRefuses(t *testing.T) {
	for name, id := range map[string]string{
		"empty":                      "",
		"space only":                 " \t\u00a0\u2003",
		"too long":                   strings.Repeat("ž", domain.MaxVoterIDBytes/2) + "z",
		"too long after composition": strings.Repeat("\u0958", domain.MaxVoterIDBytes/3), // grows from 3 to 6 bytes
		"100 kB":                     strings.Repeat("ē", 50_000),
		"line break inside":          "Žanete\nŪdre",
		"NUL":                        "Žanete\x00Ūdre",
		"zero-width space":           "Žanete\u200bŪdre",
		"zero-width joiner":          "Žanete\u200d",
		"byte order mark":            "\ufeffŽanete",
		"soft hyphen":                "Žane\u00adte",
		"right-to-left override":     "\u202eŽanete",
		"not UTF-8":                  "\x8eanete", // Windows-1257 would have Ž at 0xDE
		"code too short":             "lv-pk:010190-1234",
		"code too long":              "lv-pk:010190-123456",
		"code with letters":          "lv-pk:010190-1234x",
		"hyphen elsewhere":           "lv-pk:01019-012345",
		"two hyphens":                "lv-pk:010190--2345",
		"another kind of hyphen":     "lv-pk:010190\u201012345",
		"full-width digits":          "lv-pk:０１０１９０12345",
		"empty code":                 "lv-pk:",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := domain.NormaliseVoterID(id)
			if err == nil {
				t.Fatalf("%.80q becomes %.80q", id, got)
			}
			if _, err := testKey().Voter(id); err == nil {
				t.Errorf("%.80q gets a pseudonym", id)
			}
			// Who reads the message must not learn who the voter is.
			if strings.Contains(err.Error(), "10190") || strings.Contains(err.Error(), "anete") || len(err.Error()) > 200 {
				t.Errorf("the message gives the id away: %v", err)
			}
		})
	}
}

// TestPseudonymVectors lets another implementation come to the same
// pseudonyms. The key is the bytes 0 to 31.
func TestPseudonymVectors(t *testing.T) {
	key := testKey()
	if got, want := key.ID(), "5a7ed644453561eb"; got != want {
		t.Errorf("key id is %s, want %s", got, want)
	}
	for _, c := range []struct{ id, want string }{
		{"lv-pk:010190-12345", "7f5c3795c65ad3c7b00cc829e5b3ae15"},
		{"epasts:žanete@piemērs.lv", "4c30e946b38d7bfc4570f42e4d5e4414"},
	} {
		if got, err := key.Voter(c.id); err != nil || got.String() != c.want {
			t.Errorf("pseudonym of %s is %s, %v, want %s", c.id, got, err, c.want)
		}
	}
	const slip = "7e7f7afe81874d830ce2ee4f381116a1"
	if got, err := key.Slip("in_person", "Gulbene-0001"); err != nil || got.String() != slip {
		t.Errorf("pseudonym of a slip is %s, %v, want %s", got, err, slip)
	}
}

func TestPseudonyms(t *testing.T) {
	key, other := testKey(), testKey()
	other[31]++
	same := func(a, b string) {
		t.Helper()
		if voter(a) != voter(b) {
			t.Errorf("%q and %q are two voters", a, b)
		}
	}
	same("lv-pk:010190-12345", " lv-pk:01019012345")
	same(norm.NFC.String("Ģirts Āboliņš"), norm.NFD.String("Ģirts Āboliņš"))
	if voter("lv-pk:010190-12345") == voter("01019012345") {
		t.Error("the scheme does not keep kinds of ids apart")
	}
	if key.ID() == other.ID() {
		t.Error("two keys have one id")
	}
	elsewhere, err := other.Voter("lv-pk:010190-12345")
	if err != nil || elsewhere == voter("lv-pk:010190-12345") {
		t.Errorf("two campaigns' pseudonyms can be linked: %s, %v", elsewhere, err)
	}
}

func TestSlips(t *testing.T) {
	key := testKey()
	slip := func(channel, id string) domain.Pseudonym {
		t.Helper()
		p, err := key.Slip(channel, id)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	all := map[domain.Pseudonym]string{voter("Gulbene-1"): "the person", voter("in_person Gulbene-1"): "another person"}
	for _, s := range [][2]string{{"in_person", "Gulbene-1"}, {"in_person", "Gulbene-2"}, {"kiosks", "Gulbene-1"}, {"in_personG", "ulbene-1"}} {
		p := slip(s[0], s[1])
		if other, ok := all[p]; ok {
			t.Errorf("slip %q and %s are one voter", s, other)
		}
		all[p] = s[0] + " " + s[1]
	}
	if again := slip("in_person", "Gulbene-1"); all[again] != "in_person Gulbene-1" {
		t.Error("a slip that is sent again is another voter")
	}
	if _, err := key.Slip("in_person", ""); err == nil {
		t.Error("a slip without an id gets a pseudonym")
	}
}

package domain_test

import (
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

func TestIDs(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	kinds := []struct {
		name     string
		validate func(string) error
		good     []string
		bad      []string
	}{
		{"campaign", domain.ValidateCampaignID,
			[]string{"laba-servisa-kustiba-2018", "2018", "a", "a_b", long(domain.MaxCampaignIDBytes)},
			[]string{"Laba-Servisa", "-2018", "_2018", long(domain.MaxCampaignIDBytes + 1)}},
		{"specialist", domain.ValidateSpecialistID,
			[]string{"anna-berzina", "c53", "A_1", "0190b6c2-7f3a-7cc1-9f0e-2a3b4c5d6e7f", long(domain.MaxSpecialistIDBytes)},
			[]string{"-anna", "_anna", long(domain.MaxSpecialistIDBytes + 1)}},
		{"channel", domain.ValidateChannelName,
			[]string{"web", "in_person", "kiosks2", long(domain.MaxChannelBytes)},
			[]string{"Web", "2web", "_web", "in-person", "web\n", long(domain.MaxChannelBytes + 1)}},
	}
	// What would change the meaning of a subject or a stream's name, or could
	// be mistaken for something else, is refused everywhere.
	never := []string{"", " ", "anna bērziņa", "anna-bērziņa", "šķēle", "a.b", "a b", "a*", "*", "a>", ">", "a/b", "a\\b",
		"a\tb", "a\nb", "a\x00b", "a\x7f", "a\u200b", "a\u0301", "а" /* Cyrillic */, "\xff", long(100_000)}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, id := range k.good {
				if err := k.validate(id); err != nil {
					t.Errorf("%q: %v", id, err)
				}
			}
			for _, id := range append(k.bad, never...) {
				err := k.validate(id)
				if err == nil {
					t.Errorf("%.80q is accepted", id)
				} else if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\n\t\x7f") {
					t.Errorf("the message about %.80q floods or garbles a terminal: %.500q", id, err)
				}
			}
		})
	}
}

func TestSubmissionID(t *testing.T) {
	for _, id := range []string{"1", "Pieteikums Nr. 7 (Gulbene)", "žurnāls/2018/ķ", "a.b*>", strings.Repeat("ā", domain.MaxSubmissionIDBytes/2)} {
		if err := domain.ValidateSubmissionID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", "a\x00b", "a\nb", "a\u200bb", "a\u00adb", "\ufeffa", "\xc4", strings.Repeat("ā", domain.MaxSubmissionIDBytes/2) + "a"} {
		if err := domain.ValidateSubmissionID(id); err == nil {
			t.Errorf("%q is accepted", id)
		}
	}
}

func TestParse(t *testing.T) {
	for _, s := range []string{"vote", "retract"} {
		if a, err := domain.ParseAction(s); err != nil || string(a) != s {
			t.Errorf("action %q: %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"verified", "declared", "none"} {
		if i, err := domain.ParseIdentity(s); err != nil || string(i) != s {
			t.Errorf("identity %q: %v, %v", s, i, err)
		}
	}
	for _, s := range []string{"", "Vote", "VOTE", "balso", "vote ", "None", "nē"} {
		if _, err := domain.ParseAction(s); err == nil {
			t.Errorf("action %q is accepted", s)
		}
		if _, err := domain.ParseIdentity(s); err == nil {
			t.Errorf("identity %q is accepted", s)
		}
	}
}

// TestDerivedIDs holds test vectors: another implementation must come to the
// same ids, and this one to the same for ever.
func TestDerivedIDs(t *testing.T) {
	anna := voter("lv-pk:010190-12345")
	vote := domain.SubmissionEventID(campaignID, "web", anna, "pieteikums-1", domain.Vote)
	if got, want := vote.String(), "389c6646-c1ee-5edb-9250-14291a32764a"; got != want {
		t.Errorf("event id of a submission is %s, want %s", got, want)
	}
	if got, want := domain.AnnulmentEventID(campaignID, 7).String(), "af2a2111-86bf-5390-902a-5562ec270247"; got != want {
		t.Errorf("event id of an annulment is %s, want %s", got, want)
	}
	others := map[string]string{
		"campaign":   domain.SubmissionEventID("cita-kampana", "web", anna, "pieteikums-1", domain.Vote).String(),
		"channel":    domain.SubmissionEventID(campaignID, "mobile", anna, "pieteikums-1", domain.Vote).String(),
		"voter":      domain.SubmissionEventID(campaignID, "web", voter("lv-pk:010190-12346"), "pieteikums-1", domain.Vote).String(),
		"submission": domain.SubmissionEventID(campaignID, "web", anna, "pieteikums-2", domain.Vote).String(),
		"action":     domain.SubmissionEventID(campaignID, "web", anna, "pieteikums-1", domain.Retract).String(),
	}
	for what, id := range others {
		if id == vote.String() {
			t.Errorf("another %s has the same event id", what)
		}
	}
}

func TestDigest(t *testing.T) {
	text := func(specialist string, stated time.Time) string {
		b, err := domain.SubmissionDigest(specialist, stated).MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got, want := text(berzina, noon), "8b4de9593c42069a"; got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
	if got, want := text(berzina, time.Time{}), "d8633b3cd05cdd18"; got != want {
		t.Errorf("digest without a time is %s, want %s", got, want)
	}
	seen := make(map[string]string)
	for what, d := range map[string]string{
		"at noon": text(berzina, noon), "a millisecond later": text(berzina, noon.Add(time.Millisecond)),
		"without a time": text(berzina, time.Time{}), "another specialist": text(cirule, noon),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", what, other)
		}
		seen[d] = what
	}
}

func TestHexIsStrict(t *testing.T) {
	var d domain.Digest
	var p domain.Pseudonym
	if err := d.UnmarshalText([]byte("0123456789abcdef")); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "ā123456789abcde"} {
		if d.UnmarshalText([]byte(s)) == nil {
			t.Errorf("digest %q is accepted", s)
		}
		if p.UnmarshalText([]byte(s+s)) == nil && s != "" {
			t.Errorf("pseudonym %q is accepted", s+s)
		}
	}
}

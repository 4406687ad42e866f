package domain_test

import (
	"testing"

	"golang.org/x/text/unicode/norm"

	"sakipaldies.lv/ledger/domain"
)

func TestFoldName(t *testing.T) {
	for name, want := range map[string]string{
		"Zane Cīrule":                   "zane cirule",
		"  ZANE\u00a0 cīrule\t":         "zane cirule",
		norm.NFD.String("Ņikita Šķēle"): "nikita skele",
		"ĀČĒĢĪĶĻŅŠŪŽ āčēģīķļņšūž":       "acegiklnsuz acegiklnsuz",
		"Bērziņa-Kļaviņa":               "berzina-klavina",
		"":                              "",
	} {
		if got := domain.FoldName(name); got != want {
			t.Errorf("%q is folded to %q, want %q", name, got, want)
		}
	}
}

func TestAffiliation(t *testing.T) {
	want := domain.Affiliation{Institution: "Nodarbinātības valsts aģentūra", Branch: "Gulbenes klientu apkalpošanas centrs", Region: "Vidzeme"}
	if got := inGulbene.Affiliation(); got != want {
		t.Errorf("affiliation is %+v, want %+v", got, want)
	}
}

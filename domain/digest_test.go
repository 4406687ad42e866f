package domain_test

import (
	"strings"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

// TestTallyDigest is the test vector of the canonical encoding: whoever counts
// with another program must come to the same bytes.
func TestTallyDigest(t *testing.T) {
	s := newStory(t)
	s.vote("Ilze", berzina)
	s.vote("Ilze", cirule)
	s.vote("Jānis", berzina)
	s.retract("Ilze", cirule)
	const want = `paldies-tally-v1
campaign→laba-servisa-kustiba-2018
sequence→9
votes→2
voters→2
specialist→anna-berzina→anna-berzina→0→2→2
specialist→nikita-skele→nikita-skele→0→0→0
specialist→zane-cirule→zane-cirule→0→0→0
specialist→zanete-udre→zanete-udre→0→0→0
cell→anna-berzina→Nodarbinātības valsts aģentūra→Gulbenes klientu apkalpošanas centrs→Vidzeme→web→423729→2
`
	if got := string(s.tally.Canonical()); got != strings.ReplaceAll(want, "→", "\t") {
		t.Errorf("the canonical tally is\n%s", strings.ReplaceAll(got, "\t", "→"))
	}
	const digest = "sha256:5b44a3a0a475f1403527ce3585c6a78c34f197c6b5edf3d7256f48765121fa39"
	if got := s.tally.Digest(); got != digest {
		t.Errorf("its digest is %s, want %s", got, digest)
	}
	s.vote("Ilze", cirule)
	if s.tally.Digest() == digest {
		t.Error("another vote does not change the digest")
	}
	if new(domain.Tally).Digest() == digest {
		t.Error("an empty tally has the same digest")
	}
}

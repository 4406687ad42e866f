package cli

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// TestCertifiedHead: a tree head is only certified together with the events that
// were counted if it is theirs.
func TestCertifiedHead(t *testing.T) {
	s := newStory(t, t.TempDir())
	defer s.end()
	s.say(1, `Campaign 2018 "Laba servisa kustība" opens 2017-11-13 and closes 2018-11-11 (Europe/Riga). One voter has any number of votes.`)
	s.say(2, "Ilze Bērziņa works at Nodarbinātības aģentūra, Gulbene.")
	var tree transparency.Tree
	s.check(s.ledger.Replay(s.ctx, 1, 0, func(batch []eventstore.Recorded) error {
		for _, rec := range batch {
			tree.Append(tlog.RecordHash(rec.Data))
		}
		return nil
	}))
	campaign := openCampaign{id: "2018", ledger: s.ledger}
	for what, c := range map[string]struct {
		head transparency.Signed
		want error
	}{
		"of the events":    {transparency.Signed{Size: 2, Root: tree.Root()}, nil},
		"of other events":  {transparency.Signed{Size: 2, Root: tlog.RecordHash([]byte("citi"))}, transparency.ErrFork},
		"of more of them":  {transparency.Signed{Size: 3, Root: tree.Root()}, transparency.ErrShorter},
		"of fewer of them": {transparency.Signed{Size: 1, Root: tree.Root()}, transparency.ErrFork},
	} {
		if err := compareHead(s.ctx, campaign, c.head); !errors.Is(err, c.want) {
			t.Errorf("a head %s: %v, want %v", what, err, c.want)
		}
	}
}

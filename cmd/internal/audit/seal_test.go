package audit_test

import (
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"sakipaldies.lv/ledger/cmd/internal/audit"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

// head is the tree head of a tape.
func (t tape) head(size int) transparency.Head {
	var tree transparency.Tree
	for _, e := range t.events[:size] {
		tree.Append(tlog.RecordHash(e.Data))
	}
	return transparency.Head{Size: uint64(size), Root: tree.Root(), From: "a checkpoint"}
}

// TestSignedHeads: what was signed must follow from the events, wherever the
// events end and whatever they hold.
func TestSignedHeads(t *testing.T) {
	w := newWorld(t, t)
	for range 300 { // more than a bundle
		w.cast(w.stranger(), w.specialist())
	}
	played := w.recorded()
	verify := func(l tape, heads ...transparency.Head) *audit.Report {
		t.Helper()
		r, err := audit.Verify(t.Context(), campaign, l, w.codec, audit.Options{Seal: &audit.Seal{Heads: heads}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var heads []transparency.Head
	for _, size := range []int{0, 1, 255, 256, 257, 512, len(played.events)} {
		heads = append(heads, played.head(size))
	}
	wantMismatches(t, verify(played, heads...))

	changed := tape{events: append(played.events[:0:0], played.events...)}
	changed.events[300].Data = []byte(strings.Replace(string(changed.events[300].Data), "Ķirsone", "Kirsone", 1))
	if string(changed.events[300].Data) == string(played.events[300].Data) {
		changed.events[300].Data = append([]byte(" "), changed.events[300].Data...)
	}
	for _, l := range []tape{changed, {events: played.events[:len(played.events)-1]}} {
		if s := status(t, verify(l, heads...), audit.CheckSigned); s != audit.Failed {
			t.Errorf("a changed or shorter ledger: the check is %s", s)
		}
		if s := status(t, verify(l, heads[:4]...), audit.CheckSigned); s != audit.Passed {
			t.Errorf("what was signed before: the check is %s", s)
		}
	}
	unreadable := tape{events: append(played.events[:0:0], played.events...)}
	unreadable.events[1].Data = []byte("{")
	r := verify(unreadable, heads...)
	if status(t, r, audit.CheckSigned) != audit.Failed || status(t, r, audit.CheckEvents) != audit.Failed {
		t.Error("an event that cannot be read hides what was signed")
	}
}

func TestCertifiedResults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*domain.ResultsCertified)
		text   string
	}{
		"honest":          {func(*domain.ResultsCertified) {}, ""},
		"other results":   {func(d *domain.ResultsCertified) { d.TallyDigest = "sha256:00" }, "event 5: the results as of event 4 have the digest"},
		"another log":     {func(d *domain.ResultsCertified) { d.LogRoot = tlog.Hash{1}.String() }, "event 5, which certifies results: the first 4 entries have the root"},
		"a size alone":    {func(d *domain.ResultsCertified) { d.LogRoot = "" }, `event 5: log_root "" is no hash`},
		"a root alone":    {func(d *domain.ResultsCertified) { d.LogSize = 0 }, "event 5: log_size is 0: a tree that holds"},
		"too small a log": {func(d *domain.ResultsCertified) { d.LogSize = 1 }, "event 5: log_size is 1: a tree that holds"},
		"no hash at all":  {func(d *domain.ResultsCertified) { d.LogRoot = "sakne" }, `event 5: log_root "sakne" is no hash`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t)
			w.cast(w.stranger(), w.specialist())
			closed := w.admin(domain.CampaignClosed{})
			d := domain.ResultsCertified{Sequence: closed, TallyDigest: w.digest(closed), LogSize: closed, LogRoot: w.recorded().head(int(closed)).Root.String()}
			c.change(&d)
			w.admin(d)
			found := strings.Join(mismatches(w.verify()), "; ")
			if !strings.Contains(found, c.text) || (found == "") != (c.text == "") {
				t.Errorf("the audit finds %q, want %q", found, c.text)
			}
		})
	}
}

package api_test

import (
	"fmt"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// TestTaking: a vote is taken back by its number and its voter, once, over any
// channel.
func TestTaking(t *testing.T) {
	w := newWorld(t)
	k, other := w.worker(), w.worker()
	r := k.ask(vote("lv-pk:010180-12345", "ilze-berzina", "k1")).receipt(t)
	refused(t, other.ask(taking(int(r.Sequence)).of(peter)), domain.UnknownVote)
	refused(t, other.ask(taking(int(r.Sequence)+1000)), domain.UnknownVote)
	encoded := taking(int(r.Sequence)).by("mobile").of("lv-pk%3a01018012345").with("Idempotency-Key", "k9")
	taken := other.ask(encoded)
	receipt := taken.receipt(t)
	same(t, taken, k.ask(encoded))
	if p := refused(t, k.ask(taking(int(r.Sequence))), domain.AlreadyRetracted); p.Sequence != receipt.Sequence {
		t.Errorf("the retraction is event %d, and event %d is named", receipt.Sequence, p.Sequence)
	}
	refused(t, k.ask(taking(int(receipt.Sequence))), domain.UnknownVote)
	second := k.ask(vote(anna, "ilze-berzina", "k2")).receipt(t)
	refused(t, k.ask(taking(int(r.Sequence))), domain.AlreadyRetracted)
	refused(t, k.ask(taking(int(second.Sequence)).by("mobile").with("Idempotency-Key", "k9")), domain.IdempotencyMismatch)
}

// TestReceipts: a voter sees what became of every vote, and nobody else's.
func TestReceipts(t *testing.T) {
	d := newDesk(t)
	cast(d)
	d.ask(vote(anna, "zane-cirule", "k2")).receipt(t)
	d.ask(castAt(d.now().AddDate(0, 0, -2)).by("in_person")).problem(t) // Anna has voted for Ilze
	d.ask(vote(peter, "ilze-berzina", "k3")).receipt(t)
	taken := d.ask(taking(firstVote)).receipt(t)
	voter, err := d.world.key.Voter(anna)
	check(t, err)
	_, err = d.intake.Annul(t.Context(), domain.Annulment{Voter: voter, Vote: firstVote + 1, Decision: "2018/7", Reason: "negodīgi vākts"})
	check(t, err)
	for _, c := range []struct {
		sequence, ended uint64
		action, status  string
	}{{firstVote, taken.Sequence, "vote", "retracted"}, {firstVote + 1, taken.Sequence + 1, "vote", "annulled"}, {taken.Sequence, 0, "retract", ""}} {
		r := d.ask(request{path: fmt.Sprintf("votes/%d", c.sequence)}.of(anna))
		var v api.ProvenVote
		read(t, r, &v)
		if v.Sequence != c.sequence || v.Action != c.action || v.Status != c.status || v.EndedBy != c.ended || v.Proof != "" {
			t.Errorf("event %d: %s", c.sequence, r.body)
		}
	}
	annulment := fmt.Sprintf("votes/%d", taken.Sequence+1)
	refused(t, d.ask(request{path: annulment}.of(anna)), domain.UnknownVote)
	refused(t, d.ask(vote(anna, "zane-cirule", "k7")), domain.AlreadyVoted) // an annulled vote keeps its place
}

// TestList: the pages together are all of the voter's votes, each once.
func TestList(t *testing.T) {
	d := newDesk(t)
	const rounds = 5
	for i := range rounds {
		for _, s := range []string{"ilze-berzina", "zane-cirule", "zanete-kirsone"} {
			r := d.ask(vote(anna, s, fmt.Sprintf("%s-%d", s, i))).receipt(t)
			if i < rounds-1 {
				d.ask(taking(int(r.Sequence))).receipt(t)
			}
		}
	}
	d.ask(vote(peter, "ilze-berzina", "k1")).receipt(t)
	for _, size := range []int{1, 2, 5, 14, 15, 16, 1000} {
		var all []api.VoteState
		for after := ""; ; {
			r := d.ask(request{path: fmt.Sprintf("votes?limit=%d&after=%s", size, after)}.of(anna))
			var page api.VoteList
			read(t, r, &page)
			all = append(all, page.Votes...)
			if len(page.Votes) > size || len(page.Votes) == 0 {
				t.Fatalf("a page of %d for limit %d", len(page.Votes), size)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if len(all) != 3*rounds {
			t.Errorf("limit %d: %d votes", size, len(all))
		}
		for i, v := range all {
			if active := i >= 3*(rounds-1); active != (v.Status == "active") || i > 0 && v.Sequence <= all[i-1].Sequence {
				t.Errorf("limit %d: vote %d is %+v", size, i, v)
			}
		}
	}
	var none api.VoteList
	read(t, d.ask(request{path: "votes"}.of("sms:nav")), &none)
	read(t, d.ask(request{path: "votes?after=9223372036854775807"}.of(anna)), &none)
	if none.Votes == nil || len(none.Votes) != 0 || none.Next != "" {
		t.Errorf("somebody without votes has %+v", none)
	}
}

// TestStatedTime: only the desk for slips states when a vote was cast.
func TestStatedTime(t *testing.T) {
	d := newDesk(t)
	at := d.now().AddDate(0, 0, -3)
	r := d.ask(castAt(at).by("in_person"))
	if got, want := r.receipt(t).CastAt, domain.FormatTime(at.UTC().Truncate(1e9)); got != want {
		t.Errorf("cast_at is %s, wanted %s", got, want)
	}
	var v api.ProvenVote
	read(t, d.ask(request{path: r.header.Get("Location"), channel: "in_person"}.of(anna)), &v)
	if v.CastAt != r.receipt(t).CastAt {
		t.Errorf("the receipt says %q later", v.CastAt)
	}
	refused(t, d.ask(castAt(at)), api.CastAtNotAccepted)
	slipAt := slip("ilze-berzina", "l1")
	slipAt.body = `{"specialist_id":"ilze-berzina","cast_at":"2018-03-01T09:30:00Z"}`
	refused(t, d.ask(slipAt), api.CastAtNotAccepted)
	for _, text := range []string{"2018-03-01T09:30:00", "2018-03-01", "vakar", "1519896600", "2018-13-01T00:00:00Z", "\x00"} {
		q := request{path: "votes", channel: "in_person", body: fmt.Sprintf(`{"voter":%q,"specialist_id":"ilze-berzina","cast_at":%q}`, anna, text)}
		refused(t, d.ask(q), api.Malformed)
	}
	refused(t, d.ask(castAt(d.now().AddDate(-1, 0, 0)).by("in_person")), domain.TooEarly)
}

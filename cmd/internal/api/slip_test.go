package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// slip is the vote of a slip without a name.
func slip(specialist, id string) request {
	q := request{path: "votes", body: fmt.Sprintf(`{"specialist_id":%q}`, specialist), channel: "slip"}
	if id == "" {
		return q
	}
	return q.with("Idempotency-Key", id)
}

// TestSlips: on a channel without identity every slip is a voter of its own,
// known by its id and nothing else.
func TestSlips(t *testing.T) {
	w := newWorld(t)
	k, other := w.worker(), w.worker()
	for _, id := range []string{"lapa-17", "lapa 18 / ā", "100%25"} {
		cast := k.ask(slip("ilze-berzina", id))
		r := cast.receipt(t)
		same(t, cast, other.ask(slip("ilze-berzina", id)))
		refused(t, k.ask(slip("zane-cirule", id)), domain.IdempotencyMismatch)
		header := url.PathEscape(id)
		mine := request{path: fmt.Sprintf("votes/%d", r.Sequence), channel: "slip"}.of(header)
		if got := other.ask(mine); got.status != http.StatusOK {
			t.Errorf("the slip's receipt: %d %s", got.status, got.body)
		}
		refused(t, k.ask(mine.of("lapa-99")), domain.UnknownVote)
		if id == "lapa-17" { // what is not encoded stands for itself
			mine = mine.of(id)
		}
		mine.method = http.MethodDelete
		refused(t, k.ask(mine.with("Idempotency-Key", "lapa-99")), api.Malformed)
		taken := k.ask(mine)
		if got := taken.receipt(t); got.Vote != r.Sequence || got.Channel != "slip" {
			t.Errorf("the receipt is %+v", got)
		}
		same(t, taken, other.ask(mine.with("Idempotency-Key", `"`+id+`"`)))
	}
	refused(t, k.ask(slip("ilze-berzina", "")), api.Malformed)
	named := vote(anna, "ilze-berzina", "lapa-20").by("slip")
	refused(t, k.ask(named), api.Malformed)
}

package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/domain"
)

// private are what no line of a log may have. The texts are such as do not come
// in by chance.
type private struct {
	voters, keys, searched []string
}

var confidential = private{
	voters:   []string{"lv-pk:311299-98765", "e-pasts:Ilgvars.Šķēle@example.lv", "sms:+37120000017"},
	keys:     []string{"atslēga-7f3a", "lapiņa-88-c1"},
	searched: []string{"Meklētais", "nav-tada-speciāliste"},
}

// forms are all texts by which a secret could be known.
func (w *world) forms(t testing.TB, p private) (forms []string) {
	for _, voter := range p.voters {
		pseudonym, err := w.key.Voter(voter)
		check(t, err)
		forms = append(forms, voter, url.PathEscape(voter), url.QueryEscape(voter), pseudonym.String(), voter[strings.Index(voter, ":")+1:],
			strings.ReplaceAll(voter, "-9", "9"))
	}
	for _, key := range p.keys {
		slip, err := w.key.Slip("slip", key)
		check(t, err)
		forms = append(forms, key, url.PathEscape(key), slip.String())
	}
	for _, text := range p.searched {
		forms = append(forms, text, url.QueryEscape(text), strings.ToLower(text))
	}
	for _, token := range w.tokens {
		forms = append(forms, token)
		if len(token) == credential.TokenChars {
			forms = append(forms, token[len(token)-20:]) // a part of the secret
		}
	}
	return forms
}

// silent fails the test when a line of a log holds one of the texts, or is not
// a line of JSON.
func silent(t testing.TB, logged string, forms []string) {
	t.Helper()
	if logged == "" {
		t.Error("nothing was logged")
	}
	for line := range strings.Lines(logged) {
		var attrs map[string]any
		if err := json.Unmarshal([]byte(line), &attrs); err != nil {
			t.Errorf("%q is not JSON", line)
		}
		for _, text := range forms {
			quoted, err := json.Marshal(text)
			check(t, err)
			if strings.Contains(line, text) || strings.Contains(line, strings.Trim(string(quoted), `"`)) {
				t.Errorf("%q is in the log: %s", text, line)
			}
		}
	}
}

// confide asks for everything with confidential texts in all places.
func (k *worker) confide() (asked int) {
	var all []request
	for _, voter := range confidential.voters {
		encoded := url.PathEscape(voter)
		for _, key := range confidential.keys {
			all = append(all, vote(voter, "ilze-berzina", key), vote(voter, "zane-cirule", key), vote(voter, "ilze-berzina", ""),
				vote(voter, confidential.searched[0], key), slip("ilze-berzina", key), vote(voter, "ilze-berzina", key).by("slip"),
				taking(5).of(encoded).with("Idempotency-Key", key), request{path: "votes/5"}.of(encoded), request{path: "votes"}.of(encoded),
				request{path: "votes?limit=1&after=5"}.of(encoded), request{path: "votes", channel: "slip"}.of(url.PathEscape(key)),
				vote(voter, "ilze-berzina", key).by("pasts"), vote(voter, "ilze-berzina", key).with("Content-Type", key),
				request{path: "votes/" + url.PathEscape(key)}.of(encoded), request{path: "votes?" + url.QueryEscape(voter)}.of(encoded),
				vote(voter, "ilze-berzina", key).with("Authorization", "Bearer "+k.world.tokens["web"]+"0"),
				request{path: "/api/v1/campaigns/" + encoded}, request{path: "/api/v1/" + encoded}, request{path: "/" + encoded, method: http.MethodPut})
		}
		for _, body := range []string{`{"voter":"` + voter, `{"voter":"` + voter + `","specialist_id":1}`, `{"voter":"` + voter + `","voter":"` + voter + `"}`,
			`{"` + voter + `":1}`, voter, `{"voter":"` + voter + `\u0000"}`, strings.Repeat(voter, 1000)} {
			all = append(all, request{path: "votes", body: body})
		}
	}
	for _, text := range confidential.searched {
		all = append(all, request{path: "specialists?q=" + url.QueryEscape(text)}, request{path: "specialists?after=" + url.QueryEscape(text)},
			request{path: "specialists?" + url.QueryEscape(text) + "=1"})
	}
	var waiting sync.WaitGroup
	for _, q := range all {
		waiting.Go(func() { _, _ = k.try(q) }) // what comes of it is in the log
	}
	waiting.Wait()
	return len(all)
}

// TestLogs: nothing of a voter, a key, a credential or a search comes into any
// line, whatever happens: refusals, conflicts, strange requests, a ledger that
// is away.
func TestLogs(t *testing.T) {
	t.Parallel() // it mostly waits for a ledger that is away
	w := newWorld(t)
	workers := [2]*worker{w.worker(), w.worker()}
	w.tokens["revoked"] = w.token(credential.Credential{Role: domain.RoleChannel, Channel: "web", Rate: 1, Burst: 1})
	everywhere := func() {
		var both sync.WaitGroup
		for _, k := range workers {
			both.Go(func() { k.confide() })
		}
		both.Wait()
	}
	everywhere()
	w.server.Stop()
	everywhere()
	w.server.Start(t)
	everywhere()
	for _, k := range workers {
		silent(t, k.logged.String(), w.forms(t, confidential))
	}
	for _, code := range []string{"unavailable", "already_voted", "malformed", "unauthorized"} {
		if logged := workers[0].logged.String() + workers[1].logged.String(); !strings.Contains(logged, `"code":"`+code+`"`) {
			t.Errorf("nothing was answered with %s, so that this proves little", code)
		}
	}
}

// TestLogsOfFaults: the same for errors that name what they are about.
func TestLogsOfFaults(t *testing.T) {
	d := newDesk(t)
	addr := d.front(t)
	pseudonym, err := d.world.key.Voter(confidential.voters[0])
	check(t, err)
	for _, fault := range []func() error{
		func() error { return fmt.Errorf("subject ledger.x.voter.%v: kaut kas", pseudonym) },
		func() error { panic(fmt.Sprintf("ledger.x.voter.%v", pseudonym)) },
	} {
		d.get, d.list = fault, fault
		asked := d.confide()
		if n := strings.Count(d.logged.String(), `"msg":"request"`); n < asked {
			t.Errorf("%d requests, and %d lines", asked, n)
		}
	}
	d.get, d.list = nil, nil
	for _, s := range d.shapes() {
		method, _, _ := strings.Cut(s.bytes, " ")
		converse(t, dial(t, addr), strings.ReplaceAll(s.bytes, "X: y", "Paldies-Voter: "+confidential.voters[0]), method)
	}
	silent(t, d.logged.String(), d.world.forms(t, confidential))
	if logged := d.logged.String(); !strings.Contains(logged, `"code":"`+string(api.Internal)+`"`) || !strings.Contains(logged, "voter.(voter)") {
		t.Error("no fault was logged that names a voter")
	}
}

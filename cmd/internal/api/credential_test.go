package api_test

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// TestCredentials: only a whole token that is in force lets a request in. That
// secrets are compared in constant time is seen in credential.Book.Check, which
// leaves it to crypto/subtle.
func TestCredentials(t *testing.T) {
	w := newWorld(t)
	k := w.worker()
	token, other := w.tokens["web"], w.tokens["mobile"]
	id, secret := token[:19], token[19:]
	for name, header := range map[string]string{
		"empty":                "",
		"no scheme":            token,
		"another scheme":       "Basic " + token,
		"no token":             "Bearer",
		"empty token":          "Bearer ",
		"two spaces":           "Bearer  " + token,
		"a tab":                "Bearer\t" + token,
		"two tokens":           "Bearer " + token + " " + other,
		"two, with a comma":    "Bearer " + token + "," + other,
		"quoted":               `Bearer "` + token + `"`,
		"upper case":           "Bearer " + strings.ToUpper(token),
		"without its prefix":   "Bearer " + strings.TrimPrefix(token, "paldies_"),
		"a character less":     "Bearer " + token[:len(token)-1],
		"a character more":     "Bearer " + token + "0",
		"another secret":       "Bearer " + id + other[19:],
		"another id":           "Bearer " + other[:19] + secret,
		"unknown id":           "Bearer paldies_0000000000" + secret,
		"a million bytes less": "Bearer " + strings.Repeat("x", 10<<10),
		"not UTF-8":            "Bearer \xff\xfe",
	} {
		q := vote(anna, "ilze-berzina", "k1").with("Authorization", header)
		refused(t, k.ask(q), api.Unauthorized)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	refused(t, k.ask(vote(anna, "ilze-berzina", "k1").by("-")), api.Unauthorized)
	k.ask(vote(anna, "ilze-berzina", "k1").with("Authorization", "bEARER "+token)).receipt(t)
	if text := k.logged.String(); strings.Contains(text, secret) || strings.Contains(text, other[19:]) {
		t.Error("a secret was logged")
	}
}

// TestRevocation: a revocation, and a new credential, take effect on a worker
// that runs.
func TestRevocation(t *testing.T) {
	w := newWorld(t)
	k := w.worker()
	token, c, err := w.store.Add(t.Context(), credential.Credential{Role: domain.RoleChannel, Channel: "web"})
	check(t, err)
	w.tokens["new"] = token
	ask := func() int { return k.ask(request{path: "/api/v1/campaigns", channel: "new"}).status }
	storetest.Eventually(t, "the new credential is known", func() bool { return ask() == 200 })
	_, _, err = w.store.Revoke(t.Context(), c.ID)
	check(t, err)
	storetest.Eventually(t, "the credential is revoked", func() bool { return ask() == 401 })
	k.ask(vote(anna, "ilze-berzina", "k1")).receipt(t)
	if text := k.logged.String(); !strings.Contains(text, `"credential":"`+c.ID+`"`) {
		t.Error("the log does not say who came with a revoked credential")
	}
}

// TestRateLimit: who asks more than the credential allows is told when to come
// back, and others are not held up.
func TestRateLimit(t *testing.T) {
	w := newWorld(t)
	w.tokens["slow"] = w.token(credential.Credential{Role: domain.RoleChannel, Channel: "web", Rate: 0.01, Burst: 2})
	w.tokens["quick"] = w.token(credential.Credential{Role: domain.RoleChannel, Channel: "web", Rate: 1e6, Burst: 1})
	k := w.worker()
	for range 2 {
		k.ask(vote(anna, "ilze-berzina", "k1").by("slow")).receipt(t)
	}
	r := k.ask(vote(anna, "ilze-berzina", "k1").by("slow").with("Accept-Language", "lv"))
	if p := refused(t, r, api.TooManyRequests); p.Title != api.Kinds()[api.TooManyRequests].Latvian {
		t.Errorf("the title is %q", p.Title)
	}
	after, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil || time.Duration(after)*time.Second > 100*time.Second || after < 50 {
		t.Errorf("Retry-After is %q at a request in 100 seconds", r.header.Get("Retry-After"))
	}
	all := maps.Clone(everyOperation)
	maps.Copy(all, everyReading)
	for id, q := range all {
		refused(t, k.ask(q.by("slow")), api.TooManyRequests)
		if t.Failed() {
			t.Fatal(id)
		}
	}
	k.ask(vote(peter, "ilze-berzina", "k1").by("quick")).receipt(t)
	k.ask(vote(peter, "zane-cirule", "k2")).receipt(t)
}

// TestBoundCredential: a credential of one campaign is good for no other, and
// sees no other.
func TestBoundCredential(t *testing.T) {
	w := newWorld(t)
	const bound = "bound"
	w.tokens[bound] = w.token(credential.Credential{Role: domain.RoleChannel, Channel: "web", Campaign: campaign})
	k := w.worker()
	k.ask(vote(anna, "ilze-berzina", "k1").by(bound)).receipt(t)
	var list api.CampaignList
	read(t, k.ask(request{path: "/api/v1/campaigns", channel: bound}), &list)
	if len(list.Campaigns) != 1 {
		t.Errorf("it sees %+v", list)
	}
	elsewhere := request{path: "/api/v1/campaigns/2019/votes", channel: bound, body: vote(anna, "ilze-berzina", "").body}
	refused(t, k.ask(elsewhere), api.CampaignNotAllowed)
	refused(t, k.ask(elsewhere.by("web")), api.UnknownCampaign)
	refused(t, k.ask(vote(anna, "zane-cirule", "k1").by("pasts")), domain.ChannelNotAccepted)
}

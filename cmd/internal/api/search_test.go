package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// read reads the body of a good answer.
func read(t testing.TB, r response, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), into); err != nil || r.status != http.StatusOK {
		t.Fatalf("status %d with %q: %v", r.status, r.body, err)
	}
}

// inOrder are names as a Latvian sorts them: after each letter comes the same
// one with its mark.
var inOrder = []string{"Anna", "Āris", "Cālis", "Čaksts", "Elza", "Ēriks", "Gatis", "Ģirts", "Ilze", "Īrisa", "Kārlis", "Ķencis",
	"Laima", "Ļubova", "Nora", "Ņina", "Sandra", "Šarlote", "Uldis", "Ūsiņš", "Zane", "Žubīte"}

// withNames is a desk whose specialists have these names and no others beside
// those of every desk.
func withNames(t *testing.T, names []string) *desk {
	t.Helper()
	d := newDesk(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(names)) {
		_, err := d.intake.SetSpecialist(t.Context(), fmt.Sprintf("s%d", i), domain.Profile{Name: names[i], Institution: "Ķekavas novads"})
		check(t, err)
	}
	d.later()
	return d
}

func (d *desk) found(t *testing.T, query string) (names []string) {
	t.Helper()
	var list api.SpecialistList
	read(t, d.ask(request{path: "specialists?" + query}), &list)
	for _, s := range list.Specialists {
		names = append(names, s.Name)
	}
	return names
}

// TestLatvianOrder: names come in the order of the Latvian alphabet.
func TestLatvianOrder(t *testing.T) {
	d := withNames(t, inOrder)
	if got := d.found(t, "q="+url.QueryEscape("ķekavas")); !slices.Equal(got, inOrder) {
		t.Errorf("the order is %v", got)
	}
}

// TestSearchFolds: every letter is found with and without its mark, in any
// case, composed or not.
func TestSearchFolds(t *testing.T) {
	d := withNames(t, inOrder)
	for _, pair := range []string{"āa", "čc", "ēe", "ģg", "īi", "ķk", "ļl", "ņn", "šs", "ūu", "žz"} {
		letters := []rune(pair)
		name := inOrder[slices.IndexFunc(inOrder, func(n string) bool { return strings.HasPrefix(strings.ToLower(n), string(letters[0])) })]
		for _, q := range []string{name, strings.ToUpper(name), strings.ToLower(name), domain.FoldName(name)} {
			if got := d.found(t, "q="+url.QueryEscape(q)); !slices.Equal(got, []string{name}) {
				t.Errorf("%q finds %v", q, got)
			}
		}
	}
	for q, want := range map[string]string{"cirule": "Zane Cīrule", "CĪRULE": "Zane Cīrule", "ci\u0304rule": "Zane Cīrule",
		"rule  za": "Zane Cīrule", "zane-cir": "Zane Cīrule", "kirs": "Žanete Ķirsone", "ZIN": "Ilze Bērziņa"} {
		if got := d.found(t, "q="+url.QueryEscape(q)); !slices.Equal(got, []string{want}) {
			t.Errorf("%q finds %v", q, got)
		}
	}
	if got := d.found(t, "q=cirule+kirsone"); len(got) != 0 {
		t.Errorf("words of two people find %v", got)
	}
	if got := d.found(t, "q=%ff%fe"); len(got) != 0 {
		t.Errorf("what is not UTF-8 finds %v", got)
	}
}

// TestSearchPages: the pages of any size together are the whole list, also
// when specialists are added in between.
func TestSearchPages(t *testing.T) {
	d := withNames(t, inOrder)
	for size := 1; size <= len(inOrder)+1; size++ {
		var all []string
		for after := ""; ; {
			var page api.SpecialistList
			read(t, d.ask(request{path: fmt.Sprintf("specialists?q=kekavas&limit=%d&after=%s", size, after)}), &page)
			for _, s := range page.Specialists {
				all = append(all, s.Name)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if !slices.Equal(all, inOrder) {
			t.Errorf("limit %d: %v", size, all)
		}
	}
	for _, query := range []string{"after=nav-tada", "limit=0", "limit=1001", "limit=-1", "limit=1e2", "limit=ā", "q=a&q=b", "nav=1", "limit=1&limit=1",
		"q=" + strings.Repeat("x", 201), "q=%zz", "q=a;b", "%00=1"} {
		refused(t, d.ask(request{path: "specialists?" + query}), api.Malformed)
	}
	for _, query := range []string{"", "q=", "limit=", "after=", "q=%00", "q=" + strings.Repeat("x", 200), "q=%CC%84"} {
		d.found(t, query)
	}
}

// TestFreshList: a worker that has nothing to do notices all the same that a
// campaign was closed and that a specialist has gone.
func TestFreshList(t *testing.T) {
	d := newDesk(t)
	other := d.world.intake(d.ledger.Reopen())
	_, err := other.WithdrawSpecialist(t.Context(), "zane-cirule", "aizgājusi")
	check(t, err)
	_, err = other.Close(t.Context(), "")
	check(t, err)
	d.at(time.Now().Add(time.Minute))
	var list api.CampaignList
	read(t, d.ask(request{path: "/api/v1/campaigns"}), &list)
	if len(list.Campaigns) != 1 || list.Campaigns[0].Status != "closed" {
		t.Errorf("the list is %+v", list)
	}
	var found api.SpecialistList
	read(t, d.ask(request{path: "specialists?q=cirule"}), &found)
	if len(found.Specialists) != 1 || !found.Specialists[0].Withdrawn {
		t.Errorf("found was %+v", found)
	}
}

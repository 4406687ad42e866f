package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"

	"sakipaldies.lv/ledger/domain"
)

// Campaign is a campaign and its rules.
type Campaign struct {
	ID            string    `json:"id" example:"2018"`
	Title         string    `json:"title" example:"Laba servisa kustība"`
	Status        string    `json:"status" doc:"open, closed, certified, published or archived."`
	OpensAt       string    `json:"opens_at" format:"date-time" doc:"The first moment at which a vote can be cast, in UTC."`
	ClosesAt      string    `json:"closes_at" format:"date-time" doc:"The first moment that is too late, in UTC."`
	Timezone      string    `json:"timezone" doc:"In which days and hours are counted." example:"Europe/Riga"`
	VotesPerVoter int       `json:"votes_per_voter" doc:"How many active votes a voter may have; 0 for any number."`
	Channels      []Channel `json:"channels" nullable:"false" doc:"By which votes may come."`
}

// Channel is a way by which votes come.
type Channel struct {
	Name     string `json:"name" example:"web"`
	Identity string `json:"identity" enum:"verified,declared,none" doc:"How the channel knows its voters."`
}

// CampaignList are the campaigns that are there.
type CampaignList struct {
	Campaigns []Campaign `json:"campaigns" nullable:"false"`
}

// Specialist is who can be praised.
type Specialist struct {
	ID          string `json:"id" example:"anna-zvirbule"`
	Name        string `json:"name" example:"Anna Zvirbule"`
	Position    string `json:"position,omitempty"`
	Institution string `json:"institution,omitempty"`
	Branch      string `json:"branch,omitempty"`
	Region      string `json:"region,omitempty"`
	Withdrawn   bool   `json:"withdrawn,omitzero" doc:"No votes are taken for this specialist any more."`
}

// SpecialistList is a page of specialists.
type SpecialistList struct {
	Specialists []Specialist `json:"specialists" nullable:"false" doc:"In the order of their names."`
	Next        string       `json:"next,omitempty" doc:"The value of after for the next page; absent on the last one."`
}

func listCampaigns(c *call) (reply, error) {
	ids, err := c.backend.Campaigns.List(c.Context())
	if err != nil {
		return reply{}, err
	}
	list := CampaignList{Campaigns: []Campaign{}}
	for _, id := range ids {
		if !c.credential.Covers(id) {
			continue
		}
		r, err := c.register(id)
		switch code := codeOf(err); {
		case err == nil:
			list.Campaigns = append(list.Campaigns, describeCampaign(r.Campaign()))
		case code == Unavailable:
			return reply{}, err
		} // else something is wrong with that one, which hides no other
	}
	return reply{status: http.StatusOK, body: list}, nil
}

// register is a campaign as it is now: a worker without votes would not notice
// otherwise that it was closed.
func (c *call) register(id string) (*domain.Register, error) {
	in, err := c.backend.Campaigns.Get(c.Context(), id)
	if err != nil {
		return nil, err
	}
	return in.Recent(c.Context())
}

func getCampaign(c *call) (reply, error) {
	r, err := c.register(c.campaign)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: describeCampaign(r.Campaign())}, nil
}

func describeCampaign(c *domain.Campaign) Campaign {
	described := Campaign{ID: c.ID, Title: c.Title, Status: string(c.Status), OpensAt: domain.FormatTime(c.OpensAt),
		ClosesAt: domain.FormatTime(c.ClosesAt), Timezone: c.Timezone, VotesPerVoter: c.VotesPerVoter, Channels: []Channel{}}
	for _, ch := range c.Channels {
		described.Channels = append(described.Channels, Channel{Name: ch.Name, Identity: string(ch.Identity)})
	}
	return described
}

// listSpecialists finds specialists whose names, places or ids hold every word
// that is searched for; diacritics and case do not matter.
func (s *searches) listSpecialists(c *call) (reply, error) {
	q, err := c.query("q", "limit", "after")
	if err != nil {
		return reply{}, err
	}
	n, err := limit(q["limit"])
	if err != nil {
		return reply{}, err
	}
	if utf8.RuneCountInString(q["q"]) > maxSearchChars {
		return reply{}, &malformedError{"q is too long"}
	}
	r, err := c.register(c.campaign)
	if err != nil {
		return reply{}, err
	}
	found, next, ok := s.of(r).page(strings.Fields(domain.FoldName(q["q"])), q["after"], n)
	if !ok {
		return reply{}, &malformedError{"after is not the next of another page"}
	}
	return reply{status: http.StatusOK, body: SpecialistList{Specialists: found, Next: next}}, nil
}

// searches keep what is searched, one list a campaign, until its specialists
// change.
type searches struct {
	mu    sync.Mutex
	lists map[string]*searchList // by campaign; guarded by mu
}

// searchList are the specialists of a register, in order of their names.
type searchList struct {
	register *domain.Register // which never changes
	entries  []searchEntry
}

type searchEntry struct {
	Specialist
	folded string // everything that is searched
}

// of is the list of a register. A register is replaced when anything in it
// changes, so that the pointer says whether a list still holds.
func (s *searches) of(r *domain.Register) *searchList {
	id := r.Campaign().ID
	s.mu.Lock()
	list := s.lists[id]
	s.mu.Unlock()
	if list != nil && list.register == r {
		return list
	}
	list = newSearchList(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lists == nil {
		s.lists = make(map[string]*searchList)
	}
	s.lists[id] = list
	return list
}

func newSearchList(r *domain.Register) *searchList {
	list := &searchList{register: r}
	for _, s := range r.Specialists() {
		list.entries = append(list.entries, searchEntry{
			Specialist: Specialist{ID: s.ID, Name: s.Name, Position: s.Position, Institution: s.Institution, Branch: s.Branch,
				Region: s.Region, Withdrawn: s.Withdrawn || s.MergedInto != ""},
			folded: domain.FoldName(strings.Join([]string{s.Name, s.Position, s.Institution, s.Branch, s.Region, s.ID}, "\n")),
		})
	}
	order := collate.New(language.Latvian)
	slices.SortFunc(list.entries, func(a, b searchEntry) int {
		return cmp.Or(order.CompareString(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// page is the part of the list behind an id, or from its beginning. It is not ok
// when there is no such id.
func (l *searchList) page(words []string, after string, n int) (found []Specialist, next string, ok bool) {
	begin := 0
	if after != "" {
		i := slices.IndexFunc(l.entries, func(e searchEntry) bool { return e.ID == after })
		if i < 0 {
			return nil, "", false
		}
		begin = i + 1
	}
	found = []Specialist{}
	for _, e := range l.entries[begin:] {
		if slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(e.folded, w) }) {
			continue
		}
		if len(found) == n {
			return found, found[n-1].ID, true
		}
		found = append(found, e.Specialist)
	}
	return found, "", true
}

package load

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

const (
	// specialistsPage is how many specialists are asked for at once.
	specialistsPage = 100
	// votesPage is how many votes of a voter are asked for at once.
	votesPage = 1000
	// maxSpecialists bounds the specialists of a campaign.
	maxSpecialists = 1 << 20
)

// receipt is the body of 201.
type receipt struct {
	Campaign   string    `json:"campaign"`
	Sequence   uint64    `json:"sequence"`
	EventID    uuid.UUID `json:"event_id"`
	Specialist string    `json:"specialist_id"`
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Code     string `json:"code"`
	Sequence uint64 `json:"sequence"`
}

// recorded is one vote of a voter as the ledger has it.
type recorded struct {
	Sequence   uint64    `json:"sequence"`
	EventID    uuid.UUID `json:"event_id"`
	Specialist string    `json:"specialist_id"`
	Status     string    `json:"status"`
}

// active is the status of a vote that counts.
const active = "active"

// post sends a vote.
func (c *client) post(ctx context.Context, key string, body []byte) (answer, error) {
	return c.do(ctx, call{method: http.MethodPost, url: c.api.votes, key: key, body: body, limit: maxAnswerBytes})
}

// digest tells bodies apart.
func (a *api) digest(body []byte) uint32 { return uint32(maphash.Bytes(a.digests, body)) }

// votesOf are the votes of a voter.
func (c *client) votesOf(ctx context.Context, voter string) (all []recorded, err error) {
	for after := ""; ; {
		page := *c.api.votes
		page.RawQuery = pageAfter(votesPage, after)
		var list struct {
			Votes []recorded `json:"votes"`
			Next  string     `json:"next"`
		}
		if err := c.get(ctx, &page, voter, &list); err != nil {
			return nil, err
		}
		all = append(all, list.Votes...)
		switch {
		case list.Next == "":
			return all, nil
		case list.Next == after || len(list.Votes) == 0:
			return nil, fmt.Errorf("%w: the pages of a voter's votes do not end", errMalformed)
		}
		after = list.Next
	}
}

// pageAfter is the query of a page.
func pageAfter(limit int, after string) string {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if after != "" {
		query.Set("after", after)
	}
	return query.Encode()
}

// specialists are the ids of all specialists of the campaign.
func (c *client) specialists(ctx context.Context) ([]string, error) {
	var ids []string
	for after := ""; ; {
		page := *c.api.specialist
		page.RawQuery = pageAfter(specialistsPage, after)
		var list struct {
			Specialists []struct {
				ID string `json:"id"`
			} `json:"specialists"`
			Next string `json:"next"`
		}
		if err := c.get(ctx, &page, "", &list); err != nil {
			return nil, err
		}
		for _, s := range list.Specialists {
			ids = append(ids, s.ID)
		}
		switch {
		case list.Next == "":
			return ids, nil
		case list.Next == after || len(list.Specialists) == 0:
			return nil, fmt.Errorf("%w: the pages of specialists do not end behind %q", errMalformed, after)
		case len(ids) > maxSpecialists:
			return nil, fmt.Errorf("%w: more than %d specialists", errMalformed, maxSpecialists)
		}
		after = list.Next
	}
}

// errMalformed is an answer that is not what was asked for.
var errMalformed = errors.New("the answer is not what the contract says")

// get reads JSON. The error is the context's, ErrRejected, ErrUnavailable or
// errMalformed.
func (c *client) get(ctx context.Context, u *url.URL, voter string, into any) error {
	a, err := c.do(ctx, call{method: http.MethodGet, url: u, voter: voter, limit: maxListBytes})
	switch {
	case err != nil:
		return err
	case a.status == 0:
		return fmt.Errorf("%w: GET %s, %d attempts: %w", ErrUnavailable, u.Path, c.api.attempts, a.why)
	case a.status != http.StatusOK:
		return fmt.Errorf("%w: GET %s: status %d: %s", errMalformed, u.Path, a.status, excerpt(a.body))
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%w: GET %s: %w", errMalformed, u.Path, err)
	}
	return nil
}

// Package credential keeps credentials: who sends a bearer token has the role
// that the token stands for, and no other. A channel may hand in votes by
// itself and by no other channel, auditors may read the log's events, the
// Chancellery may see counts that are not public (domain.Role).
//
// A token is shown once, when it is made (Store.Add). What is stored, in the
// JetStream key-value bucket paldies_credentials, is the SHA-256 of its secret.
// Whoever reads the bucket can therefore use no credential; whoever writes it
// can make one, so that only operators may. A revocation is a state and never
// a deletion: an id in an old log can be explained for ever.
//
// Intake workers keep a Book, which follows the bucket: a revocation takes
// effect within the time of a message, without a restart. While the server is
// away a Book goes by what it knew last, for a worker that forgot its
// credentials at each reconnect would turn votes away with a wrong reason; the
// votes themselves cannot be recorded then.
package credential

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"sakipaldies.lv/ledger/domain"
)

// Limits of a credential.
const (
	// MaxNoteBytes is the longest note, and the longest name of an institution,
	// in bytes of UTF-8.
	MaxNoteBytes = 256
	// MaxRate is the highest limit, in requests a second; above it a limit
	// protects nothing, and 0 says so in clear.
	MaxRate = 1e6
	// MaxBurst is the largest burst, in requests.
	MaxBurst = 1_000_000
)

// ErrInvalid says that a credential cannot be as it was asked for.
var ErrInvalid = errors.New("invalid credential")

// Credential is what a bearer token stands for. It does not change once a Book
// has handed it out; its methods may be called concurrently.
type Credential struct {
	ID          string      // public, stands in logs and lists
	Role        domain.Role // what it is for
	Channel     string      // of the role channel: its name, such as web, mobile or in_person
	Institution string      // of the role institution: its name, as specialists have it
	Campaign    string      // it is good for this campaign only; empty: for all
	Note        string      // for people; must not hold secrets
	Rate        float64     // requests a second that each worker lets pass; 0 is no limit
	Burst       int         // requests at once; 0 with a limit is one second's worth
	Created     time.Time   // UTC, whole milliseconds
	Expires     time.Time   // from then on it is good for nothing; zero: it stays in force
	Revoked     time.Time   // zero: it was not

	limiter *rate.Limiter // of one worker; nil: no limit
}

// Validate says what is wrong with the parts that people choose; the error
// wraps ErrInvalid.
func (c *Credential) Validate() error {
	if err := c.validateRole(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if c.Campaign != "" {
		if err := domain.ValidateCampaignID(c.Campaign); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if err := validateLine("note", c.Note); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case math.IsNaN(c.Rate) || c.Rate < 0 || c.Rate > MaxRate:
		return fmt.Errorf("%w: a rate of %v requests a second: use 0 for no limit, or at most %.0f", ErrInvalid, c.Rate, MaxRate)
	case c.Burst < 0 || c.Burst > MaxBurst:
		return fmt.Errorf("%w: a burst of %d requests: use at most %d", ErrInvalid, c.Burst, MaxBurst)
	case c.Rate == 0 && c.Burst != 0:
		return fmt.Errorf("%w: a burst of %d requests without a rate limits nothing: give a rate too", ErrInvalid, c.Burst)
	}
	return nil
}

// validateRole wants the name that goes with the role, and no other.
func (c *Credential) validateRole() error {
	switch {
	case !slices.Contains(domain.Roles, c.Role):
		return fmt.Errorf("the role %.64q: use one of %v", c.Role, domain.Roles)
	case c.Role == domain.RoleChannel && c.Institution != "":
		return errors.New("a channel has no institution")
	case c.Role == domain.RoleChannel:
		return domain.ValidateChannelName(c.Channel)
	case c.Channel != "":
		return fmt.Errorf("the role %s has no channel: it hands in no votes", c.Role)
	case c.Role == domain.RoleInstitution && c.Institution == "":
		return errors.New("the role institution needs the institution's name")
	case c.Role == domain.RoleInstitution:
		return validateLine("institution", c.Institution)
	case c.Institution != "":
		return fmt.Errorf("the role %s has no institution", c.Role)
	}
	return nil
}

// Holder names who the credential is for, in a message for people.
func (c *Credential) Holder() string {
	switch c.Role {
	case domain.RoleChannel:
		return "channel " + c.Channel
	case domain.RoleInstitution:
		return "institution " + c.Institution
	}
	return "role " + string(c.Role)
}

// Expired says whether its time is over.
func (c *Credential) Expired(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

// validateLine keeps a text to one line that shows all that it holds.
func validateLine(what, text string) error {
	switch {
	case len(text) > MaxNoteBytes:
		return fmt.Errorf("the %s has %d bytes, at most %d are allowed", what, len(text), MaxNoteBytes)
	case !utf8.ValidString(text):
		return fmt.Errorf("the %s is not valid UTF-8", what)
	}
	for _, r := range text {
		if !unicode.IsGraphic(r) {
			return fmt.Errorf("the %s has the invisible character %U", what, r)
		}
	}
	return nil
}

// Covers says whether the credential is good for a campaign. Whether the
// campaign takes votes by its channel is for the rules to say.
func (c *Credential) Covers(campaign string) bool {
	return c.Campaign == "" || c.Campaign == campaign
}

// Allow takes one request out of the credential's token bucket. When it is
// empty, ok is false and retryAfter is when one request is back in it, if
// nobody else takes it.
//
// Each worker has buckets of its own: n workers together let n times the rate
// pass.
func (c *Credential) Allow() (ok bool, retryAfter time.Duration) {
	return c.allowAt(time.Now())
}

// allowAt does not reserve: reservations that are cancelled would make those
// who are turned away wait for each other.
func (c *Credential) allowAt(now time.Time) (ok bool, retryAfter time.Duration) {
	if c.limiter == nil || c.limiter.AllowN(now, 1) {
		return true, 0
	}
	lacking := max(0, 1-c.limiter.TokensAt(now))
	seconds := lacking / c.Rate
	if seconds > maxRetryAfter.Seconds() {
		return false, maxRetryAfter
	}
	return false, time.Duration(seconds * float64(time.Second))
}

// maxRetryAfter is the longest that a client is told to wait.
const maxRetryAfter = time.Hour

// limit gives the credential its token bucket: that of what was known of it
// before, so that no change fills it, or a full one.
func (c *Credential) limit(before *Credential) {
	switch {
	case c.Rate == 0:
	case before != nil && before.Rate == c.Rate && before.Burst == c.Burst:
		c.limiter = before.limiter
	default:
		burst := c.Burst
		if burst == 0 {
			burst = int(math.Ceil(c.Rate))
		}
		c.limiter = rate.NewLimiter(rate.Limit(c.Rate), burst)
	}
}

package load

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxClients bounds clients and connections; each takes about 20 KiB here
	// and a file descriptor.
	maxClients = 10_000
	// maxRate is requests per second, more than one process can send.
	maxRate = 1_000_000
	// maxVotes bounds the new votes of a run: what the book can number, and
	// 17 GB of memory.
	maxVotes = 1 << 29
	// maxVoters bounds the numbers of voters.
	maxVoters = 1 << 31
	// maxRunTime bounds warm-up and duration each.
	maxRunTime = 7 * 24 * time.Hour
	// maxAttemptsMost is the most that Config.Attempts can be.
	maxAttemptsMost = 1000
	// maxCampaignBytes bounds the campaign's id, which is part of the path.
	maxCampaignBytes = 256
)

// What zero means in a Config.
const (
	DefaultClients  = 64
	DefaultVoters   = 1_000_000
	DefaultAttempts = 12
	DefaultTimeout  = 30 * time.Second
)

// Config is what a run does. Zero means the default where one is named.
type Config struct {
	URL      string // of the API's server, without /api/v1
	Campaign string
	Token    string // of the channel; empty sends none

	Clients     int     // how many requests are out at once; 0: DefaultClients
	Rate        float64 // requests per second of an open loop; 0: closed loop
	Poisson     bool    // arrivals of the open loop are random, not even
	Connections int     // kept open, and never more; 0: one a client

	WarmUp   time.Duration // requests of this time are judged, not measured
	Duration time.Duration // of what is measured; 0: until Votes are sent
	Votes    int           // new votes that are measured; 0: until Duration ends

	Voters      int      // how many different voters there are; 0: DefaultVoters
	Specialists []string // their ids; empty: the API is asked
	Repeats     float64  // share of requests with an earlier vote and a new key
	Retries     float64  // share of requests that were sent before
	Seed        uint64   // what is sent follows from it; 0: one is drawn
	Run         string   // names the voters; empty: drawn, never from the seed

	Attempts  int           // how often one request is sent at most; 0: DefaultAttempts
	Timeout   time.Duration // of one attempt; 0: DefaultTimeout
	SkipCheck bool          // believe the answers: neither receipts nor the ledger are looked into

	// Transport is used instead of the tuned one, which is then the
	// caller's to close.
	Transport http.RoundTripper
	// Progress is told of each stage when it begins, and its result is called
	// when it ends. A total of 0 is not known.
	Progress func(title string, total int64, done func() int64) (stop func())
}

// Validate says all that is wrong with a configuration, in words of the fields.
func (c Config) Validate() error {
	return errors.Join(c.validateTarget(), c.validateLoop(), c.validateVotes())
}

func (c Config) validateTarget() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return fmt.Errorf("the URL is http://HOST:PORT or https://HOST: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("the URL is http://HOST:PORT or https://HOST")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("the URL has no user, query or fragment; the token is given apart")
	case c.Campaign == "" || len(c.Campaign) > maxCampaignBytes:
		return fmt.Errorf("the campaign's id has 1 to %d bytes", maxCampaignBytes)
	case !isHeaderText(c.Token):
		return errors.New("the token has characters that a header cannot hold")
	case !isHeaderText(c.Run):
		return errors.New("the run's name has characters that a header cannot hold")
	}
	return nil
}

func (c Config) validateLoop() error {
	switch {
	case c.Clients < 0 || c.Clients > maxClients:
		return fmt.Errorf("clients are 1 to %d", maxClients)
	case c.Connections < 0 || c.Connections > maxClients:
		return fmt.Errorf("connections are 1 to %d", maxClients)
	case !(c.Rate >= 0 && c.Rate <= maxRate): // NaN is neither
		return fmt.Errorf("the rate is 0 (closed loop) to %d requests per second", maxRate)
	case c.Poisson && c.Rate == 0:
		return errors.New("random arrivals need a rate: in a closed loop the answers decide when requests are sent")
	case c.Duration == 0 && c.Votes == 0:
		return errors.New("a duration or a number of votes is needed, or the run never ends")
	case c.Duration < 0 || c.Duration > maxRunTime || c.WarmUp < 0 || c.WarmUp > maxRunTime:
		return fmt.Errorf("duration and warm-up are 0 to %s each", maxRunTime)
	case c.Attempts < 0 || c.Attempts > maxAttemptsMost:
		return fmt.Errorf("attempts are 1 to %d", maxAttemptsMost)
	case c.Timeout < 0:
		return errors.New("the timeout is not negative")
	}
	return nil
}

func (c Config) validateVotes() error {
	share := func(f float64) bool { return f >= 0 && f <= 1 }
	switch {
	case c.Votes < 0 || c.Votes > maxVotes:
		return fmt.Errorf("votes are 0 to %d", maxVotes)
	case c.Voters < 0 || c.Voters > maxVoters:
		return fmt.Errorf("voters are 1 to %d", maxVoters)
	case !share(c.Repeats) || !share(c.Retries):
		return errors.New("the shares of repeats and retries are 0 to 1")
	case c.Repeats+c.Retries > 0.99:
		return errors.New("repeats and retries together leave no room for new votes; use at most 0.99")
	case len(c.Specialists) > maxSpecialists:
		return fmt.Errorf("specialists are at most %d", maxSpecialists)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Clients = cmp.Or(c.Clients, DefaultClients)
	c.Connections = cmp.Or(c.Connections, c.Clients)
	c.Voters = cmp.Or(c.Voters, DefaultVoters)
	c.Attempts = cmp.Or(c.Attempts, DefaultAttempts)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Run = cmp.Or(c.Run, newRunID())
	for c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	return c
}

// isHeaderText says whether a text can stand in a header as it is.
func isHeaderText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

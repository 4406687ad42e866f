package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// kind is what a request is for.
type kind uint8

const (
	newVote kind = iota
	repeat       // an earlier vote with a key of its own
	retry        // an earlier request with its own key
	kinds
)

func (k kind) String() string { return [kinds]string{"vote", "repeat", "retry"}[k] }

// plan is who votes for whom, by the number of the vote. Nothing in it changes
// after it is made.
type plan struct {
	run         string
	seed        uint64
	repeats     float64
	retries     float64
	pairs       permutation
	specialists []string
	head        []byte   // of a body, up to the voter's number
	tails       [][]byte // of a body, from behind it, by specialist
}

func newPlan(cfg Config) (*plan, error) {
	if len(cfg.Specialists) == 0 {
		return nil, errors.New("the campaign has no specialists; `paldies specialist import` registers some")
	}
	pairs := uint64(cfg.Voters) * uint64(len(cfg.Specialists))
	if uint64(cfg.Votes) > pairs {
		return nil, fmt.Errorf("%d voters and %d specialists make %d pairs, too few for %d votes; more voters are needed",
			cfg.Voters, len(cfg.Specialists), pairs, cfg.Votes)
	}
	p := &plan{
		run: cfg.Run, seed: cfg.Seed, repeats: cfg.Repeats, retries: cfg.Retries,
		pairs:       newPermutation(pairs, mix(cfg.Seed)),
		specialists: cfg.Specialists,
		head:        fmt.Appendf(nil, `{"voter":"%s`, voterPrefix(cfg.Run)),
	}
	seen := make(map[string]bool, len(cfg.Specialists))
	for _, id := range cfg.Specialists {
		quoted, err := json.Marshal(id)
		if err != nil {
			return nil, fmt.Errorf("specialist %q: %w", id, err)
		}
		if seen[id] {
			return nil, fmt.Errorf("specialist %q is named twice", id)
		}
		seen[id] = true
		p.tails = append(p.tails, fmt.Appendf(nil, `","specialist_id":%s}`, quoted))
	}
	return p, nil
}

// voterPrefix begins the ids of the run's voters. The scheme keeps them apart
// from those of people.
func voterPrefix(run string) string { return "bench:" + run + "-" }

// kindOf is what the nth request of the run is for, if there is an earlier vote
// that it can take up.
func (p *plan) kindOf(n uint64) kind {
	const fraction = 1 << 53 // what a float64 holds exactly
	switch u := float64(mix(p.seed^mix(n))>>11) / fraction; {
	case u < p.repeats:
		return repeat
	case u < p.repeats+p.retries:
		return retry
	}
	return newVote
}

// pair is the voter and the specialist of a vote, and split the parts of it.
func (p *plan) pair(vote uint32) uint64 { return p.pairs.at(uint64(vote)) }

func (p *plan) split(pair uint64) (voter uint64, specialist int) {
	n := uint64(len(p.specialists))
	return pair / n, int(pair % n)
}

func (p *plan) voterID(voter uint64) string {
	return voterPrefix(p.run) + strconv.FormatUint(voter, 10)
}

// body is the JSON of a vote.
func (p *plan) body(vote uint32) []byte {
	const digits = 20 // of any voter's number
	voter, specialist := p.split(p.pair(vote))
	tail := p.tails[specialist]
	body := make([]byte, 0, len(p.head)+digits+len(tail))
	body = strconv.AppendUint(append(body, p.head...), voter, 10)
	return append(body, tail...)
}

// key is the idempotency key of a request. A repeat has one of its own.
func (p *plan) key(q request) string {
	var space [64]byte // on the stack; a longer key moves
	key := append(append(space[:0], p.run...), '-')
	key = strconv.AppendUint(key, uint64(q.vote), 10)
	if q.kind == repeat {
		key = strconv.AppendUint(append(key, "-r"...), q.number, 10)
	}
	return string(key)
}

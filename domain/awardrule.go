package domain

import (
	"fmt"

	"github.com/go-json-experiment/json"
)

// Limits of an award rule.
const (
	// MaxAwardRuleBytes is the largest file with an award rule, in bytes.
	MaxAwardRuleBytes = 4 << 10
	// MaxPlaces is how many awards, or letters, a rule may give.
	MaxPlaces = 10_000
	// MaxTied is how many may tie where a decision chooses among them.
	MaxTied = 100
	// maxAwardVotes is the most votes that a rule may ask for.
	maxAwardVotes = 1_000_000_000
)

// AwardRule says who is honoured for the results of a campaign. What is left
// out is not given. A person gets one award: letters of gratitude go to those
// who come next.
type AwardRule struct {
	// Specialists is how many specialists get the award.
	Specialists int `json:"specialists,omitzero"`
	// Institutions is how many institutions or branches get it, and InstitutionsBy
	// says which of the two: ByInstitution or ByBranch.
	Institutions   int     `json:"institutions,omitzero"`
	InstitutionsBy GroupBy `json:"institutions_by,omitzero"`
	// Letters is how many of the next specialists get a letter of gratitude.
	// LettersFrom, instead, gives one to all who have at least so many votes.
	Letters     int   `json:"letters,omitzero"`
	LettersFrom int64 `json:"letters_from,omitzero"`
	// MinimumVotes is what any award and any letter takes, in votes.
	MinimumVotes int64 `json:"minimum_votes,omitzero"`
	// WithoutIdentity lets votes of channels without identity count, too.
	WithoutIdentity bool `json:"without_identity,omitzero"`
}

// ParseAwardRule reads an award rule as JSON. Unknown and repeated members are
// errors: a misspelt one would give another award than was meant.
func ParseAwardRule(data []byte) (AwardRule, error) {
	if len(data) > MaxAwardRuleBytes {
		return AwardRule{}, fmt.Errorf("award rule has %d bytes, at most %d are allowed", len(data), MaxAwardRuleBytes)
	}
	var r *AwardRule
	if err := json.Unmarshal(data, &r, json.RejectUnknownMembers(true)); err != nil {
		return AwardRule{}, fmt.Errorf("award rule: %w", err)
	}
	if r == nil {
		return AwardRule{}, fmt.Errorf("award rule is null")
	}
	return *r, r.Validate()
}

// Validate says what is wrong with the rule.
func (r AwardRule) Validate() error {
	for _, places := range []struct {
		name string
		n    int
	}{{"specialists", r.Specialists}, {"institutions", r.Institutions}, {"letters", r.Letters}} {
		if places.n < 0 || places.n > MaxPlaces {
			return fmt.Errorf("award rule: %s is %d, use 0 to %d", places.name, places.n, MaxPlaces)
		}
	}
	for _, votes := range []struct {
		name string
		n    int64
	}{{"letters_from", r.LettersFrom}, {"minimum_votes", r.MinimumVotes}} {
		if votes.n < 0 || votes.n > maxAwardVotes {
			return fmt.Errorf("award rule: %s is %d, use 0 to %d", votes.name, votes.n, maxAwardVotes)
		}
	}
	named := r.InstitutionsBy == ByInstitution || r.InstitutionsBy == ByBranch
	switch {
	case r.Letters > 0 && r.LettersFrom > 0:
		return fmt.Errorf("award rule: letters and letters_from exclude each other")
	case r.Institutions > 0 && !named:
		return fmt.Errorf("award rule: institutions_by is %s, use %q or %q", quote(string(r.InstitutionsBy)), ByInstitution, ByBranch)
	case r.Institutions == 0 && r.InstitutionsBy != "":
		return fmt.Errorf("award rule: institutions_by is of no use without institutions")
	case r.Specialists+r.Institutions+r.Letters == 0 && r.LettersFrom == 0:
		return fmt.Errorf("award rule: it gives nothing; use specialists, institutions, letters or letters_from")
	}
	return nil
}

// minimum is what any award takes. Who has no vote never gets one.
func (r AwardRule) minimum() int64 { return max(r.MinimumVotes, 1) }

// counted are the votes of a standing that count for awards.
func (r AwardRule) counted(s Standing) int64 {
	if r.WithoutIdentity {
		return s.Votes
	}
	return s.Voters
}

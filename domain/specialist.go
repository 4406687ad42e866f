package domain

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Profile is what is known of a specialist besides the id.
type Profile struct {
	Name        string `json:"name"`
	Position    string `json:"position,omitzero"`
	Institution string `json:"institution,omitzero"`
	Branch      string `json:"branch,omitzero"`
	Region      string `json:"region,omitzero"`
}

// Validate bounds every field to MaxTextBytes. Even the name may be empty: real
// lists have such rows, and their votes count.
func (p Profile) Validate() error {
	return firstError(
		validateText("name", p.Name, MaxTextBytes, false),
		validateText("position", p.Position, MaxTextBytes, false),
		validateText("institution", p.Institution, MaxTextBytes, false),
		validateText("branch", p.Branch, MaxTextBytes, false),
		validateText("region", p.Region, MaxTextBytes, false),
	)
}

// Affiliation is where the specialist of the profile works.
func (p Profile) Affiliation() Affiliation {
	return Affiliation{Institution: p.Institution, Branch: p.Branch, Region: p.Region}
}

// Affiliation is where a specialist works. Totals of institutions use the one
// in force at the sequence of the vote.
type Affiliation struct {
	Institution, Branch, Region string
}

// Specialist is a person who can be praised. One that a Register gave away is
// never changed: an event puts a changed copy in its place.
type Specialist struct {
	ID string
	Profile
	Registered uint64 // sequence of the registration
	Last       uint64 // sequence of the last event on the specialist's subject
	Withdrawn  bool
	MergedInto string // the id under which this specialist goes on, or ""
	MergedBy   string // the decision by which

	index        int // place in Register.order
	affiliations []affiliationSince
}

// affiliationSince is in force from a sequence on.
type affiliationSince struct {
	from uint64
	Affiliation
}

// affiliationAt is the index of the affiliation in force at sequence, and
// false when the specialist was not registered below it. Who comes back to a
// place gets the index of the first time there: equal affiliations are one.
func (s *Specialist) affiliationAt(sequence uint64) (int, bool) {
	for _, since := range slices.Backward(s.affiliations) {
		if since.from < sequence {
			same := func(a affiliationSince) bool { return a.Affiliation == since.Affiliation }
			return slices.IndexFunc(s.affiliations, same), true
		}
	}
	return 0, false
}

func (s *Specialist) moveTo(a Affiliation, sequence uint64) {
	if n := len(s.affiliations); n == 0 || s.affiliations[n-1].Affiliation != a {
		s.affiliations = append(slices.Clip(s.affiliations), affiliationSince{sequence, a})
	}
}

// FoldName makes names equal that people take for the same: without
// diacritics, in lower case, with single spaces. "Cīrule" becomes "cirule".
func FoldName(name string) string {
	folded := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(name))
	return strings.Join(strings.Fields(folded), " ")
}

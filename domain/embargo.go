package domain

// PublicResults are the results that were certified and published, the newest
// ones.
type PublicResults struct {
	Certification uint64 // sequence of the results.certified event
	Sequence      uint64 // the results are those of events 1 to Sequence
}

// disclose makes public what an event has certified. One that certified nothing,
// or what lies above it, or what was superseded by what is public, changes
// nothing: no command of ours publishes that, and whoever does lifts the embargo
// from nothing.
func (c *Campaign) disclose(certification uint64) {
	for _, k := range c.Certifications {
		if k.Event == certification && k.Sequence < k.Event && k.Event > c.Public.Certification {
			c.Public = PublicResults{k.Event, k.Sequence}
		}
	}
}

// Role is what somebody may do who is neither a voter nor an operator.
type Role string

// The roles. Who has none is anybody: the public.
const (
	// RoleChannel hands in votes. It sees a voter's own votes, and no counts
	// that are not public.
	RoleChannel Role = "channel"
	// RoleAuditor reads the events themselves, from the log. Whoever has them
	// can count; but nobody counts for an auditor what is not public.
	RoleAuditor Role = "auditor"
	// RoleChancellery sees all counts at any time.
	RoleChancellery Role = "chancellery"
	// RoleInstitution is one institution of those that are praised. It sees no
	// counts that are not public, its own neither.
	RoleInstitution Role = "institution"
)

// Roles are all roles.
var Roles = []Role{RoleChannel, RoleAuditor, RoleChancellery, RoleInstitution}

// Disclosure says which counts of a campaign somebody may be told: those as of
// which events.
type Disclosure struct {
	All      bool   // as of any event, the newest one included
	Sequence uint64 // as of this event and no other one; 0 is none
}

// Allows says whether the counts as of an event may be told. Event 0 stands for
// the newest one, whichever that is.
func (d Disclosure) Allows(sequence uint64) bool {
	return d.All || sequence != 0 && sequence == d.Sequence
}

// Discloses is the embargo, and the only place where it is decided: until
// results are published, counts are for the Chancellery alone. What becomes
// public then is what was certified. What is changed afterwards is under the
// embargo until it is certified and published in its turn, so that public figures
// never change without a word.
//
// Counts as of other events never become public: those before and after a vote
// differ by that vote, and a receipt names its event. Whoever knows somebody's
// receipt would know for whom they voted.
//
// Archiving changes nothing about it.
func (c *Campaign) Discloses(to Role) Disclosure {
	return Disclosure{All: to == RoleChancellery, Sequence: c.Public.Sequence}
}

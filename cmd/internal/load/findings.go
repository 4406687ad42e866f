package load

import "sync"

// maxListed is how many discrepancies are listed. All are counted.
const maxListed = 100

// DiscrepancyKind says what differs from what the API promises.
type DiscrepancyKind string

// The discrepancies that a run can find.
const (
	// Missing is a vote that was acknowledged and is not in the ledger.
	Missing DiscrepancyKind = "missing"
	// Doubled is a vote that is in the ledger more than once.
	Doubled DiscrepancyKind = "doubled"
	// Altered is a vote in the ledger that is not as it was acknowledged.
	Altered DiscrepancyKind = "altered"
	// Surplus is a vote in the ledger that was refused or never sent.
	Surplus DiscrepancyKind = "surplus"
	// AcceptedRepeat is the second acknowledgement of one vote, with another
	// key.
	AcceptedRepeat DiscrepancyKind = "accepted_repeat"
	// OtherAnswer is a retry that was not answered like the first time.
	OtherAnswer DiscrepancyKind = "other_answer"
	// Unexpected is an answer that the API's contract does not have.
	Unexpected DiscrepancyKind = "unexpected"
)

// Discrepancy is one thing that is not as the API promises.
type Discrepancy struct {
	Kind       DiscrepancyKind `json:"kind"`
	Voter      string          `json:"voter"`
	Specialist string          `json:"specialist_id"`
	Key        string          `json:"key,omitempty"`      // of the request, if it is about an answer
	Sequence   uint64          `json:"sequence,omitempty"` // of the vote that it is about, as acknowledged if it was
	Detail     string          `json:"detail"`
}

// Discrepancies are all that a run found: how many, and the first of them.
type Discrepancies struct {
	Total  int64                     `json:"total"`
	ByKind map[DiscrepancyKind]int64 `json:"by_kind"`
	Listed []Discrepancy             `json:"listed"`
}

// findings collects discrepancies.
type findings struct {
	mu  sync.Mutex // guards all below
	all Discrepancies
}

func newFindings() *findings {
	return &findings{all: Discrepancies{ByKind: make(map[DiscrepancyKind]int64), Listed: []Discrepancy{}}}
}

func (f *findings) add(d Discrepancy) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all.Total++
	f.all.ByKind[d.Kind]++
	if len(f.all.Listed) < maxListed {
		f.all.Listed = append(f.all.Listed, d)
	}
}

// report is what was found. Nothing may be added afterwards.
func (f *findings) report() Discrepancies {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}

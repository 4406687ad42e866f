package audit

import (
	"fmt"
	"time"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
)

// The checks, in the order of the checklist.
const (
	CheckOrder       = "order"
	CheckEvents      = "events"
	CheckSubjects    = "subjects"
	CheckTime        = "time"
	CheckLife        = "life_cycle"
	CheckFence       = "close"
	CheckSpecialists = "specialists"
	CheckChannels    = "channels"
	CheckWindow      = "window"
	CheckOnce        = "once"
	CheckLimit       = "limit"
	CheckTaken       = "taken_back"
	CheckActive      = "active"
	CheckMerged      = "merged"
	CheckRecount     = "recount"
	CheckStream      = "stream"
)

// checklist is what each check means to a person.
var checklist = []Check{
	{Name: CheckOrder, Title: "The events are numbered from 1 without a gap"},
	{Name: CheckEvents, Title: "Every event can be read and is of a known kind"},
	{Name: CheckSubjects, Title: "Every event is where its content says"},
	{Name: CheckTime, Title: "The events' times follow their order"},
	{Name: CheckLife, Title: "Campaign and specialists went through their life in order"},
	{Name: CheckFence, Title: "Nothing was added after the close"},
	{Name: CheckSpecialists, Title: "Every vote is for a specialist who was registered and not withdrawn"},
	{Name: CheckChannels, Title: "Every vote came by a channel of the campaign"},
	{Name: CheckWindow, Title: "Every vote was cast while voting was open"},
	{Name: CheckOnce, Title: "Nobody voted twice for one specialist"},
	{Name: CheckLimit, Title: "Nobody had more votes than allowed"},
	{Name: CheckTaken, Title: "Every retraction and annulment takes away one vote in force"},
	{Name: CheckActive, Title: "Every event states the voter's votes in force correctly"},
	{Name: CheckMerged, Title: "No voter counts twice for a specialist who was registered twice"},
	{Name: CheckRecount, Title: "A recount by ballots gives the results"},
	{Name: CheckStream, Title: "The stream is set up to keep every event"},
}

// Status is what came of a check.
type Status string

const (
	// Passed says that everything was looked at and nothing was found.
	Passed Status = "ok"
	// Failed says that there are mismatches.
	Failed Status = "failed"
	// NotChecked says that nothing was found, but not everything could be
	// looked at: the audit ended early, or the stream was not asked about.
	NotChecked Status = "not_checked"
)

// Check is one line of the checklist.
type Check struct {
	Name       string     `json:"name"`
	Title      string     `json:"title"`
	Status     Status     `json:"status"`
	Mismatches []Mismatch `json:"mismatches,omitempty"`
}

// Mismatch is something that an honest ledger does not have.
type Mismatch struct {
	Sequence uint64 `json:"sequence,omitempty"` // of the event, or 0
	Text     string `json:"text"`
}

func (m Mismatch) String() string {
	if m.Sequence == 0 {
		return m.Text
	}
	return fmt.Sprintf("event %d: %s", m.Sequence, m.Text)
}

// Report is the outcome of an audit. The events in Void and Raced look odd and
// are honest: they were under way when something ended.
type Report struct {
	Campaign string        `json:"campaign"`
	Status   domain.Status `json:"status"`
	Events   uint64        `json:"events"`
	Ballots  int           `json:"ballots"`
	Votes    int64         `json:"votes"`  // in force
	Voters   int64         `json:"voters"` // with a vote in force, as far as channels know them
	AsOf     time.Time     `json:"as_of"`
	Checks   []Check       `json:"checks"`
	Void     []Mismatch    `json:"void,omitempty"`  // above the close or the archiving: they count for nothing
	Raced    []Mismatch    `json:"raced,omitempty"` // just above a withdrawal or a merge: they count

	tally *domain.Tally
}

// OK says that nothing was found.
func (r *Report) OK() bool {
	for _, c := range r.Checks {
		if c.Status == Failed {
			return false
		}
	}
	return true
}

// Tally is the count that was checked.
func (r *Report) Tally() *domain.Tally { return r.tally }

// AddStream adds what is wrong with the stream's configuration. It says nothing
// about the events that are there, but about those that may go missing. Until
// it is called, that check is NotChecked.
func (r *Report) AddStream(deviations []eventstore.Deviation) {
	for i := range r.Checks {
		c := &r.Checks[i]
		if c.Name != CheckStream {
			continue
		}
		c.Status = Passed
		for _, d := range deviations {
			c.Status = Failed
			c.Mismatches = append(c.Mismatches, Mismatch{Text: d.String()})
		}
	}
}

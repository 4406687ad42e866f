package queue

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

// Status is what became of a submission.
type Status string

// What becomes of a submission.
const (
	Accepted Status = "accepted"
	Refused  Status = "refused"
)

// Outcome is the answer to a submission. It holds nothing of the voter.
type Outcome struct {
	SubmissionID string        `json:"submission_id"`
	Action       domain.Action `json:"action"`
	Digest       domain.Digest `json:"digest"` // of what was sent, but for the voter
	Status       Status        `json:"status"`
	Code         domain.Code   `json:"code,omitempty"`        // of a refusal
	Sequence     uint64        `json:"sequence,omitzero"`     // the receipt number; of a refusal the event that stands in the way, if there is one
	EventID      string        `json:"event_id,omitempty"`    // of what was recorded
	RecordedAt   string        `json:"recorded_at,omitempty"` // of what was recorded
}

// OutcomeSubject is where the outcome of a submission is. The last token is the
// id of the event that it becomes when it is accepted: that is what the
// submission is known by in the ledger, and without the campaign's key nobody
// can tell by it who the voter is. The channel does not know it. It looks for
// its submission by the token before that, a hash of the submission id.
func OutcomeSubject(campaign, channel, submissionID string, event uuid.UUID) string {
	return outcomePlace(campaign, channel, submissionID) + event.String()
}

// OutcomeFilter matches the outcomes of a submission id. There is more than one
// when the channel has used the id for several voters, or for a vote and its
// retraction.
func OutcomeFilter(campaign, channel, submissionID string) string {
	return outcomePlace(campaign, channel, submissionID) + "*"
}

func outcomePlace(campaign, channel, submissionID string) string {
	return outcomesPrefix + campaign + "." + channel + "." + shortHash(submissionID) + "."
}

// accepted is the outcome of a command that was recorded, now or before.
func accepted(cmd intake.Command, r intake.Receipt) Outcome {
	o := outcomeOf(cmd)
	o.Status, o.Sequence, o.EventID, o.RecordedAt = Accepted, r.Sequence, r.EventID.String(), domain.FormatTime(r.RecordedAt)
	return o
}

// refused is the outcome of a command that the rules do not allow. It is none
// when the ledger has the submission with another content: see decide.
func refused(cmd intake.Command, r *domain.Refusal) Outcome {
	o := outcomeOf(cmd)
	o.Status, o.Code, o.Sequence = Refused, r.Code, r.Sequence
	return o
}

func outcomeOf(cmd intake.Command) Outcome {
	return Outcome{SubmissionID: cmd.SubmissionID, Action: cmd.Action, Digest: digestOf(cmd)}
}

func digestOf(cmd intake.Command) domain.Digest {
	at := cmd.At
	if !at.IsZero() {
		at = domain.Timestamp(at)
	}
	return domain.SubmissionDigest(cmd.Specialist, at)
}

func (o Outcome) encode() ([]byte, error) { return json.Marshal(o) }

// errOutcome says that an outcome cannot be read.
var errOutcome = errors.New("an outcome cannot be read")

// ParseOutcome reads an outcome as it is published.
func ParseOutcome(data []byte) (Outcome, error) {
	var o Outcome
	if err := json.Unmarshal(data, &o, json.RejectUnknownMembers(true)); err != nil {
		return o, fmt.Errorf("%w: %w", errOutcome, err)
	}
	if o.Status != Accepted && o.Status != Refused {
		return o, fmt.Errorf("%w: status %.40q", errOutcome, o.Status)
	}
	return o, nil
}

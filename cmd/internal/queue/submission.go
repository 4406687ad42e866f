package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
)

const (
	// bodyBytesMax is the largest body of a submission, in bytes, as over HTTP: the
	// largest one has a voter of 256 bytes, each of them written as six.
	bodyBytesMax = 8 << 10
	// keyBytesMax is the longest key, in bytes.
	keyBytesMax = 64
	// hashBytes is how much of a SHA-256 stands in a subject, in bytes.
	hashBytes = 16
)

// Submission is what a channel publishes.
type Submission struct {
	ID         string        `json:"submission_id"`
	Voter      string        `json:"voter,omitempty"` // empty on a channel without identity
	Specialist string        `json:"specialist_id"`
	Action     domain.Action `json:"action"`
	CastAt     string        `json:"cast_at,omitempty"` // RFC 3339; only for channels that may state it
}

// MalformedError says why a message is no submission and never will be. It
// repeats nothing of the body, which may hold a voter's id.
type MalformedError struct{ Err error }

func (e *MalformedError) Error() string { return e.Err.Error() }
func (e *MalformedError) Unwrap() error { return e.Err }

func malformedf(format string, args ...any) error {
	return &MalformedError{fmt.Errorf(format, args...)}
}

// Key is the token of a submission's subject that keeps one voter's submissions
// in order. Any token will do that is the same for all of them; this is the one
// that is used here, the same for all spellings of an id. It is no pseudonym: whoever guesses the id can tell.
func Key(s Submission) string {
	if s.Voter == "" { // every slip is its own voter
		return shortHash(s.ID)
	}
	return shortHash(spelling(s.Voter))
}

// shortHash is the first half of a SHA-256, in 32 hexadecimal digits.
func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:hashBytes])
}

// Subject is where a submission is published.
func Subject(campaign, channel, key string) string {
	return submissionsPrefix + campaign + "." + channel + "." + key
}

// Encode is the body of a submission.
func (s Submission) Encode() ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("submission: %w", err)
	}
	return data, nil
}

// place is where a submission was published.
type place struct{ campaign, channel, key string }

// parsePlace reads a subject. The channel is in it, and not in the body, because
// the servers check who may publish where.
func parsePlace(subject string) (place, error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 || tokens[0]+"." != submissionsPrefix {
		return place{}, malformedf("the subject is not submissions.CAMPAIGN.CHANNEL.KEY")
	}
	p := place{tokens[1], tokens[2], tokens[3]}
	if err := domain.ValidateCampaignID(p.campaign); err != nil {
		return place{}, malformedf("the subject: %w", err)
	}
	if err := domain.ValidateChannelName(p.channel); err != nil {
		return place{}, malformedf("the subject: %w", err)
	}
	if len(p.key) > keyBytesMax || !printable(p.key) {
		return place{}, malformedf("the subject: use 1 to %d printable ASCII characters as the key", keyBytesMax)
	}
	return p, nil
}

// command is what a body asks for at a place. Members that are there twice or
// that are not known, and what is not UTF-8, are errors.
func (p place) command(body []byte) (intake.Command, error) {
	if len(body) > bodyBytesMax {
		return intake.Command{}, malformedf("the body has %d bytes, at most %d are allowed", len(body), bodyBytesMax)
	}
	var s Submission
	var syntax *jsontext.SyntacticError
	switch err := json.Unmarshal(body, &s, json.RejectUnknownMembers(true)); {
	case errors.As(err, &syntax):
		return intake.Command{}, malformedf("the body is not JSON: at byte %d something is wrong", syntax.ByteOffset)
	case err != nil:
		return intake.Command{}, malformedf("the body is not one JSON object with the members that are described, each once, in UTF-8: see `paldies schema submission`")
	}
	action, err := domain.ParseAction(string(s.Action))
	if err != nil {
		return intake.Command{}, malformedf("action is not %q or %q", domain.Vote, domain.Retract)
	}
	if domain.ValidateSubmissionID(s.ID) != nil {
		return intake.Command{}, malformedf("submission_id is not 1 to %d bytes of visible text", domain.MaxSubmissionIDBytes)
	}
	if domain.ValidateSpecialistID(s.Specialist) != nil {
		return intake.Command{}, malformedf("specialist_id is not 1 to %d characters a-z, A-Z, 0-9, - and _, the first a letter or digit", domain.MaxSpecialistIDBytes)
	}
	at, err := intake.StatedTime(p.channel, s.CastAt)
	if err != nil {
		return intake.Command{}, &MalformedError{err}
	}
	return intake.Command{Action: action, Voter: s.Voter, Specialist: s.Specialist, Channel: p.channel, SubmissionID: s.ID, At: at}, nil
}

// spelling makes equal what means the same voter, as far as that can be told.
func spelling(voter string) string {
	if normal, err := domain.NormaliseVoterID(voter); err == nil {
		return normal
	}
	return voter
}

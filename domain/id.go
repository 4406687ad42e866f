package domain

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of what comes from outside, in bytes of UTF-8.
const (
	MaxCampaignIDBytes   = 63
	MaxSpecialistIDBytes = 64
	MaxChannelBytes      = 32
	MaxSubmissionIDBytes = 128
	MaxVoterIDBytes      = 256
	MaxTextBytes         = 1024 // a title, name, position, institution, branch, region or reason
	MaxDecisionRefBytes  = 128
	MaxEventBytes        = 16 << 10
)

var channelPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// ValidateCampaignID accepts a slug of lower-case ASCII letters, digits, "-"
// and "_". It becomes part of a stream's name and of subjects, where case,
// dots, spaces and wildcards would have another meaning.
func ValidateCampaignID(id string) error {
	if !validCampaignID(id) {
		return fmt.Errorf("campaign id %s: use 1 to %d characters a-z, 0-9, - and _, the first a letter or digit", quote(id), MaxCampaignIDBytes)
	}
	return nil
}

// ValidateSpecialistID accepts a slug or a UUID: ASCII letters, digits, "-"
// and "_".
func ValidateSpecialistID(id string) error {
	if !isSlug(id, MaxSpecialistIDBytes) {
		return fmt.Errorf("specialist id %s: use 1 to %d characters a-z, A-Z, 0-9, - and _, the first a letter or digit", quote(id), MaxSpecialistIDBytes)
	}
	return nil
}

// validCampaignID and isSlug are written by hand because they run once for each
// event.
func validCampaignID(id string) bool {
	return isSlug(id, MaxCampaignIDBytes) && strings.IndexFunc(id, unicode.IsUpper) < 0
}

// isSlug says whether id is 1 to maxBytes ASCII letters, digits, "-" and "_",
// the first a letter or digit.
func isSlug(id string, maxBytes int) bool {
	if id == "" || len(id) > maxBytes || id[0] == '-' || id[0] == '_' {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// ValidateChannelName accepts a slug such as "web" or "in_person".
func ValidateChannelName(name string) error {
	if !channelPattern.MatchString(name) {
		return fmt.Errorf("channel %s: use 1 to %d characters a-z, 0-9 and _, the first a letter", quote(name), MaxChannelBytes)
	}
	return nil
}

// ValidateSubmissionID accepts any visible text of at most
// MaxSubmissionIDBytes.
func ValidateSubmissionID(id string) error {
	return validateText("submission id", id, MaxSubmissionIDBytes, true)
}

// validateText refuses what is too long, is not UTF-8, or has characters that
// cannot be seen: they would make two texts differ that look the same.
func validateText(what, s string, maxBytes int, required bool) error {
	switch {
	case required && s == "":
		return fmt.Errorf("%s is empty", what)
	case len(s) > maxBytes:
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", what, len(s), maxBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not valid UTF-8", what)
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) {
			return fmt.Errorf("%s has the invisible character %U", what, r)
		}
	}
	return nil
}

// quote shows s in a message without letting it flood or garble a terminal.
func quote(s string) string {
	const maxShown = 64
	if len(s) > maxShown {
		return strconv.QuoteToGraphic(s[:maxShown]) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return strconv.QuoteToGraphic(s)
}

// Action is what a submission asks for.
type Action string

// The actions of a submission.
const (
	Vote    Action = "vote"
	Retract Action = "retract"
)

// ParseAction accepts "vote" and "retract".
func ParseAction(s string) (Action, error) {
	switch a := Action(s); a {
	case Vote, Retract:
		return a, nil
	}
	return "", fmt.Errorf("action %s: use %q or %q", quote(s), Vote, Retract)
}

// eventNamespace is the namespace of all derived event ids (RFC 9562, 5.5).
var eventNamespace = uuid.MustParse("0c1a5ce1-6c9e-5f0b-9d7e-3f3c5d2b8a41")

// derivedID is a UUIDv5 over parts that cannot contain NUL. It is uuid.NewSHA1
// without what that allocates.
func derivedID(parts ...string) uuid.UUID {
	var room [512]byte // for all that the limits allow
	buf := append(room[:0], eventNamespace[:]...)
	for _, p := range parts {
		buf = append(append(buf, p...), 0)
	}
	sum := sha1.Sum(buf)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 5<<4 // version
	id[8] = id[8]&0x3f | 0x80 // variant
	return id
}

// SubmissionEventID is the id of the event that a submission becomes when it
// is accepted. A retry has the same id and so finds its own event.
func SubmissionEventID(campaign, channel string, voter Pseudonym, submissionID string, action Action) uuid.UUID {
	return derivedID("submission", campaign, channel, voter.String(), submissionID, string(action))
}

// AnnulmentEventID is the id of the event that annuls the vote at a sequence:
// a vote can be annulled once.
func AnnulmentEventID(campaign string, vote uint64) uuid.UUID {
	return derivedID("annulment", campaign, strconv.FormatUint(vote, 10))
}

// Digest is the first 64 bits of a SHA-256 over the fields of a submission as
// they were sent. It tells a retry from another submission under the same id.
// The voter is not part of it: a digest of a personal code could be guessed.
type Digest [8]byte

// SubmissionDigest is the digest of a submission's content.
func SubmissionDigest(specialist string, at time.Time) Digest {
	var room [128]byte
	buf := append(room[:0], "paldies submission v1\x00"...)
	buf = append(append(buf, specialist...), 0)
	if !at.IsZero() {
		buf = binary.BigEndian.AppendUint64(buf, uint64(at.UnixMilli()))
	}
	sum := sha256.Sum256(buf)
	return Digest(sum[:8])
}

// MarshalText writes 16 lower-case hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads what MarshalText writes and nothing else.
func (d *Digest) UnmarshalText(text []byte) error { return decodeHex(d[:], text, "digest") }

// decodeHex is strict: the exact length, lower case only. Otherwise one value
// would have several spellings.
func decodeHex(dst, text []byte, what string) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%s has %d characters instead of %d", what, len(text), 2*len(dst))
	}
	for _, c := range text {
		if c >= 'A' && c <= 'F' {
			return fmt.Errorf("%s is not in lower case", what)
		}
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

package domain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Pseudonym stands for a voter in one campaign: the first 128 bits of
// HMAC-SHA-256(campaign key, domain tag ‖ normalised id). Without the key it
// says nothing about the person; with another campaign's key the same person
// gets another pseudonym.
type Pseudonym [16]byte

// Domain tags keep pseudonyms of people, of slips and the key's own
// fingerprint apart.
const (
	voterTag = "paldies voter v1\x00"
	slipTag  = "paldies slip v1\x00"
	keyIDTag = "paldies key id v1\x00"
)

// PseudonymKey is the secret of one campaign.
type PseudonymKey [32]byte

// sum is HMAC-SHA-256 (RFC 2104) over the parts: crypto/hmac without the 600
// bytes that it allocates for each vote. The key is shorter than a block.
func (k PseudonymKey) sum(parts ...string) (mac [sha256.Size]byte) {
	const innerPad, outerPad = 0x36, 0x5c
	var room [sha256.BlockSize + 512]byte // for the longest id and the longest tag
	buf := append(room[:0], k.pad(innerPad)...)
	for _, p := range parts {
		buf = append(buf, p...)
	}
	mac = sha256.Sum256(buf)
	buf = append(buf[:0], k.pad(outerPad)...)
	return sha256.Sum256(append(buf, mac[:]...))
}

// pad is a block with the key and one byte mixed.
func (k PseudonymKey) pad(with byte) []byte {
	block := make([]byte, sha256.BlockSize)
	copy(block, k[:])
	for i := range block {
		block[i] ^= with
	}
	return block
}

// ID is a fingerprint of the key, 16 hexadecimal digits. The campaign's first
// event holds it, so that a wrong key is noticed before it gives every voter a
// second pseudonym.
func (k PseudonymKey) ID() string {
	sum := k.sum(keyIDTag)
	return hex.EncodeToString(sum[:8])
}

// Voter is the pseudonym of a person. The id is normalised first.
func (k PseudonymKey) Voter(id string) (Pseudonym, error) {
	normal, err := NormaliseVoterID(id)
	if err != nil {
		return Pseudonym{}, err
	}
	sum := k.sum(voterTag, normal)
	return Pseudonym(sum[:16]), nil
}

// Slip is the pseudonym of a slip without a name: every slip is a voter of its
// own, known by the id of its submission.
func (k PseudonymKey) Slip(channel, submissionID string) (Pseudonym, error) {
	if err := ValidateSubmissionID(submissionID); err != nil {
		return Pseudonym{}, err
	}
	sum := k.sum(slipTag, channel, "\x00", submissionID)
	return Pseudonym(sum[:16]), nil
}

// personalCodeScheme is the scheme prefix of a Latvian personal code.
const personalCodeScheme = "lv-pk:"

// NormaliseVoterID makes equal what means the same person: Unicode NFC, no
// space around it, and for the scheme "lv-pk:" (a Latvian personal code) no
// hyphen. A scheme prefix keeps kinds of ids apart; an id without one is taken
// as it is. Ids with invisible characters, of more than MaxVoterIDBytes, or
// empty ones are refused.
func NormaliseVoterID(id string) (string, error) {
	if len(id) > MaxVoterIDBytes {
		return "", fmt.Errorf("voter id has %d bytes, at most %d are allowed", len(id), MaxVoterIDBytes)
	}
	id = strings.TrimSpace(norm.NFC.String(id))
	if err := validateText("voter id", id, MaxVoterIDBytes, true); err != nil {
		return "", err
	}
	if len(id) < len(personalCodeScheme) || !strings.EqualFold(id[:len(personalCodeScheme)], personalCodeScheme) {
		return id, nil
	}
	code := strings.TrimSpace(id[len(personalCodeScheme):])
	if len(code) == 12 && code[6] == '-' {
		code = code[:6] + code[7:]
	}
	if len(code) != 11 || strings.Trim(code, "0123456789") != "" {
		// The code itself stays out of the message: it is personal data.
		return "", fmt.Errorf("voter id: a personal code after %q has 11 digits, with or without a hyphen after the sixth", personalCodeScheme)
	}
	return personalCodeScheme + code, nil
}

// String is the pseudonym in 32 lower-case hexadecimal digits.
func (p Pseudonym) String() string { return hex.EncodeToString(p[:]) }

// MarshalText writes the form of String.
func (p Pseudonym) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, p[:]), nil }

// UnmarshalText reads the form of String and nothing else.
func (p *Pseudonym) UnmarshalText(text []byte) error { return decodeHex(p[:], text, "pseudonym") }

package transparency

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// keysBytesMax bounds a file of verifier keys, in bytes: hundreds of keys.
const keysBytesMax = 64 << 10

// ErrKey says that a key cannot be used.
var ErrKey = errors.New("the key cannot be used")

// Keys verify the checkpoints of one log: its signing key of today and those
// it had before. Safe for concurrent use.
type Keys struct {
	origin    string
	verifiers note.Verifiers
}

// Origin is the log that the keys are of.
func (k *Keys) Origin() string { return k.origin }

// ParseKeys reads verifier keys, one a line, as signed notes have them
// (name+hash+key; golang.org/x/mod/sumdb/note, Ed25519). All must be of one log.
func ParseKeys(text string) (*Keys, error) {
	if len(text) > keysBytesMax {
		return nil, fmt.Errorf("%w: verifier keys have at most %d bytes", ErrKey, keysBytesMax)
	}
	var list []note.Verifier
	seen := make(map[string]bool)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || seen[line] {
			continue
		}
		seen[line] = true
		verifier, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is no verifier key (name+hash+key): %w", ErrKey, line, err)
		}
		if len(list) > 0 && verifier.Name() != list[0].Name() {
			return nil, fmt.Errorf("%w: the keys are of two logs, %s and %s", ErrKey, list[0].Name(), verifier.Name())
		}
		list = append(list, verifier)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: there is no verifier key (name+hash+key)", ErrKey)
	}
	return &Keys{origin: list[0].Name(), verifiers: note.VerifierList(list...)}, nil
}

// GenerateKey makes a signing key for a log and the verifier key that belongs
// to it. Who has the signing key can sign forks of the log.
func GenerateKey(origin string) (signing, verifier string, err error) {
	signing, verifier, err = note.GenerateKey(rand.Reader, origin)
	if err == nil {
		// The library makes keys for names that it does not read.
		_, err = note.NewVerifier(verifier)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: origin %q: %w", ErrKey, origin, err)
	}
	return signing, verifier, nil
}

// ParseSigner reads a signing key as GenerateKey makes it. The error does not
// repeat it.
func ParseSigner(signing string) (note.Signer, error) {
	signer, err := note.NewSigner(strings.TrimSpace(signing))
	if err != nil {
		return nil, fmt.Errorf("%w: it is no signing key (PRIVATE+KEY+name+hash+key): restore it from its backup", ErrKey)
	}
	return signer, nil
}

// VerifierKey is the verifier key that belongs to a signing key. A signed note's
// signing key (PRIVATE+KEY+name+hash+key) holds the seed of an Ed25519 key
// (RFC 8032) behind one byte for the algorithm.
func VerifierKey(signing string) (string, error) {
	signer, err := ParseSigner(signing)
	if err != nil {
		return "", err
	}
	parts := strings.Split(strings.TrimSpace(signing), "+")
	seed, err := base64.StdEncoding.DecodeString(strings.Join(parts[4:], "+"))
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", fmt.Errorf("%w: it is no Ed25519 signing key", ErrKey)
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(signer.Name(), public)
}

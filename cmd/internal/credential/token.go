package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// A token is "paldies_" ID "_" SECRET, 71 characters, all of them part of a
// word, so that a double click selects it and secret scanners find it:
//
//	paldies_[0-9a-hjkmnp-tv-z]{10}_[0-9a-hjkmnp-tv-z]{52}
//
// The prefix is a promise to scanners: it never changes.
const (
	tokenPrefix = "paldies_"
	idChars     = 10 // 50 random bits
	secretBytes = 32
	secretChars = 52 // of base32, without padding

	// TokenChars is the length of every token, in characters and bytes.
	TokenChars = len(tokenPrefix) + idChars + 1 + secretChars
)

// crockford is the alphabet of Douglas Crockford's base32 in lower case: it
// has no letters that are taken for digits. There is one spelling of a token.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

var encoding = base32.NewEncoding(crockford).WithPadding(base32.NoPadding)

// inAlphabet says which bytes may be in an id and in a secret.
var inAlphabet = func() (in [256]bool) {
	for _, c := range []byte(crockford) {
		in[c] = true
	}
	return in
}()

// hash is the SHA-256 of a secret as it stands in the token. A slow hash, as
// for passwords, would protect nothing: a secret has 256 random bits and cannot
// be guessed however fast guesses are. It would only make checking slow.
type hash [sha256.Size]byte

// hashSecret does not allocate: the copy stays on the stack.
func hashSecret(secret string) hash {
	var text [secretChars]byte
	copy(text[:], secret)
	return sha256.Sum256(text[:])
}

// newID and newSecret are random; crypto/rand never fails.
func newID() string { return randomText(idChars) }

func newSecret() string {
	var b [secretBytes]byte
	rand.Read(b[:])
	return encoding.EncodeToString(b[:])
}

// randomText takes five bits of a random byte for each character.
func randomText(chars int) string {
	b := make([]byte, chars)
	rand.Read(b)
	for i := range b {
		b[i] = crockford[b[i]%byte(len(crockford))]
	}
	return string(b)
}

func formatToken(id, secret string) string { return tokenPrefix + id + "_" + secret }

// parseToken takes a token apart. It is strict: nothing is trimmed, and upper
// case is another text.
func parseToken(token string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(token) != TokenChars || rest[idChars] != '_' {
		return "", "", false
	}
	id, secret = rest[:idChars], rest[idChars+1:]
	return id, secret, allInAlphabet(id) && allInAlphabet(secret)
}

// ValidateID accepts what can be the id of a credential. The error wraps
// ErrUnknown and does not repeat the text, which may be a token or a part of
// one.
func ValidateID(id string) error {
	if validID(id) {
		return nil
	}
	if inside, _, ok := parseToken(id); ok {
		return fmt.Errorf("%w: this is a whole token, which should stand in no command line: its id is %s", ErrUnknown, inside)
	}
	return fmt.Errorf("%w: an id has %d characters a-z and 0-9", ErrUnknown, idChars)
}

// validID says whether a text can be the id of a credential.
func validID(id string) bool { return len(id) == idChars && allInAlphabet(id) }

func allInAlphabet(s string) bool {
	for i := range len(s) {
		if !inAlphabet[s[i]] {
			return false
		}
	}
	return true
}

package credential

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"sakipaldies.lv/ledger/domain"
)

// recordBytesMax is the largest value in the bucket, in bytes.
const recordBytesMax = 4 << 10

// ErrCorrupt says that an entry of the bucket cannot be read. The credential is
// refused as long as it is so.
var ErrCorrupt = errors.New("the stored credential cannot be read")

// record is a credential as it is stored. Members that this program does not
// know are an error and refuse the credential: one of them may limit it.
type record struct {
	Role        domain.Role `json:"role,omitzero"` // left out by channels, as before there were others
	Channel     string      `json:"channel,omitzero"`
	Institution string      `json:"institution,omitzero"`
	Campaign    string      `json:"campaign,omitzero"`
	Note        string      `json:"note,omitzero"`
	Rate        float64     `json:"rate,omitzero"`
	Burst       int         `json:"burst,omitzero"`
	Created     time.Time   `json:"created"`
	Expires     *time.Time  `json:"expires,omitzero"` // nil: it does not
	Revoked     *time.Time  `json:"revoked,omitzero"` // nil: it is in force
	Hash        string      `json:"secret_sha256"`    // hexadecimal
}

// stored is a credential with what its token is checked by.
type stored struct {
	credential *Credential
	hash       hash
	text       string // as it is in the bucket
}

// encodeRecord is the value of a credential in the bucket.
func encodeRecord(c *Credential, h hash) ([]byte, error) {
	r := record{Channel: c.Channel, Institution: c.Institution, Campaign: c.Campaign, Note: c.Note, Rate: c.Rate, Burst: c.Burst,
		Created: c.Created, Hash: hex.EncodeToString(h[:])}
	if c.Role != domain.RoleChannel {
		r.Role = c.Role
	}
	if !c.Expires.IsZero() {
		r.Expires = &c.Expires
	}
	if !c.Revoked.IsZero() {
		r.Revoked = &c.Revoked
	}
	value, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(value) > recordBytesMax {
		return nil, fmt.Errorf("%w: it takes %d bytes, at most %d are stored", ErrInvalid, len(value), recordBytesMax)
	}
	return value, nil
}

// decodeRecord reads what encodeRecord has written. The error wraps ErrCorrupt
// and names the credential.
func decodeRecord(id string, value []byte) (*stored, error) {
	s, err := decode(id, value)
	if err != nil {
		return nil, fmt.Errorf("credential %.64q: %w: %w", id, ErrCorrupt, err)
	}
	return s, nil
}

func decode(id string, value []byte) (*stored, error) {
	if !validID(id) {
		return nil, errors.New("its key is not an id")
	}
	if len(value) > recordBytesMax {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(value), recordBytesMax)
	}
	var r record
	if err := json.Unmarshal(value, &r, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	s := &stored{text: string(value), credential: &Credential{
		ID: id, Role: cmp.Or(r.Role, domain.RoleChannel), Channel: r.Channel, Institution: r.Institution, Campaign: r.Campaign,
		Note: r.Note, Rate: r.Rate, Burst: r.Burst, Created: domain.Timestamp(r.Created),
	}}
	if len(r.Hash) != hex.EncodedLen(len(s.hash)) {
		return nil, fmt.Errorf("secret_sha256 has %d characters instead of %d", len(r.Hash), hex.EncodedLen(len(s.hash)))
	}
	if _, err := hex.Decode(s.hash[:], []byte(r.Hash)); err != nil {
		return nil, errors.New("secret_sha256 is not hexadecimal")
	}
	if s.credential.Created.IsZero() {
		return nil, errors.New("it was never created")
	}
	if r.Expires != nil {
		if s.credential.Expires = domain.Timestamp(*r.Expires); s.credential.Expires.IsZero() {
			return nil, errors.New("it expires at no time") // and must not stay in force for ever
		}
	}
	if r.Revoked != nil {
		if s.credential.Revoked = domain.Timestamp(*r.Revoked); s.credential.Revoked.IsZero() {
			return nil, errors.New("it was revoked at no time") // and must not come back into force
		}
	}
	return s, s.credential.Validate()
}

package domain

// The two ways of decoding, for the tests that hold them against each other.

func (c *Codec) DecodeCanonical(data []byte) (Event, bool) { return c.decodeCanonical(data) }
func (c *Codec) DecodeGeneral(data []byte) (Event, error)  { return c.decodeGeneral(data) }

// The two ways of encoding, likewise.

var (
	EncodeCanonical = encodeCanonical
	EncodeGeneral   = encodeGeneral
)

// What is computed by hand, for the tests that hold it against a library.

func (k PseudonymKey) Sum(parts ...string) [32]byte { return k.sum(parts...) }

var (
	DerivedID      = derivedID
	EventNamespace = eventNamespace
)

package domain

// The two ways of decoding, for the tests that hold them against each other.

func (c *Codec) DecodeCanonical(data []byte) (Event, bool) { return c.decodeCanonical(data) }
func (c *Codec) DecodeGeneral(data []byte) (Event, error)  { return c.decodeGeneral(data) }

package transparency

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkpointBytesMax bounds a signed checkpoint, in bytes. One signature takes
// about 200; witnesses may add theirs.
const checkpointBytesMax = 64 << 10

// maxSize is the largest log, in entries. It keeps clear of what the library for
// proofs can count, which would go on for ever beyond 2^62.
const maxSize = 1 << 56

var (
	// ErrSignature says that a checkpoint is not signed by a key of the log.
	ErrSignature = errors.New("no key of the log has signed this checkpoint")
	// ErrMalformed says that a file is not written as its format demands. There
	// is one spelling of everything, so that no byte can be changed unnoticed.
	ErrMalformed = errors.New("the file is not written as its format demands")
)

// Checkpoint is a tree head (C2SP tlog-checkpoint): whoever has signed it says
// that the log had this root when it had this size.
type Checkpoint struct {
	Origin string // names the log
	Size   uint64 // entries
	Root   tlog.Hash
}

// Sign writes the checkpoint as a signed note with one signature.
func (c Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	body := log.Checkpoint{Origin: c.Origin, Size: c.Size, Hash: c.Root[:]}
	return note.Sign(&note.Note{Text: string(body.Marshal())}, signer)
}

// ParseCheckpoint reads a signed checkpoint of the log that the keys are of.
//
// It is stricter than C2SP demands of readers: there are no extension lines,
// base64 has its one spelling, and a signature in the log's own name must be by
// one of the keys. Signatures in other names, of witnesses, are passed over.
// Errors are ErrMalformed and ErrSignature.
func ParseCheckpoint(data []byte, keys *Keys) (Checkpoint, error) {
	if len(data) > checkpointBytesMax {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint has at most %d bytes", ErrMalformed, checkpointBytesMax)
	}
	n, err := note.Open(data, keys.verifiers)
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	case err != nil:
		var invalid *note.InvalidSignatureError
		if errors.As(err, &invalid) {
			return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
		}
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := strictSignatures(data, n, keys.origin); err != nil {
		return Checkpoint{}, err
	}
	var body log.Checkpoint
	if _, err := body.Unmarshal([]byte(n.Text)); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case !bytes.Equal(body.Marshal(), []byte(n.Text)) || len(body.Hash) != tlog.HashSize:
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint has three lines: origin, size, root", ErrMalformed)
	case body.Size > maxSize:
		return Checkpoint{}, fmt.Errorf("%w: a log has at most %d entries", ErrMalformed, uint64(maxSize))
	case body.Origin != keys.origin:
		return Checkpoint{}, fmt.Errorf("%w: it is of the log %q, the keys are of %q", ErrSignature, body.Origin, keys.origin)
	}
	return Checkpoint{Origin: body.Origin, Size: body.Size, Root: tlog.Hash(body.Hash)}, nil
}

// strictSignatures checks what note.Open passes over: repeated signatures,
// spellings of base64, and signatures in the log's name by keys that it has
// not.
func strictSignatures(data []byte, n *note.Note, origin string) error {
	lines := bytes.Count(data[len(n.Text):], []byte("\n"))
	if 1+len(n.Sigs)+len(n.UnverifiedSigs) != lines {
		return fmt.Errorf("%w: a signature stands there twice", ErrMalformed)
	}
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		decoded, err := base64.StdEncoding.DecodeString(s.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(decoded) != s.Base64 {
			return fmt.Errorf("%w: a signature is not in plain base64", ErrMalformed)
		}
	}
	for _, s := range n.UnverifiedSigs {
		if s.Name == origin {
			return fmt.Errorf("%w: the key %s+%08x is not known", ErrSignature, s.Name, s.Hash)
		}
	}
	return nil
}

// signaturePrefix begins the line of a signature.
const signaturePrefix = "— "

// splitCheckpoints takes the notes of CheckpointsPath apart. A note ends where
// a line follows its signatures that is none. What a crash has left of the last
// one is the rest.
func splitCheckpoints(data []byte) (notes [][]byte, rest []byte) {
	begin, end, signed := 0, 0, false
	for {
		newline := bytes.IndexByte(data[end:], '\n')
		signature := newline >= 0 && bytes.HasPrefix(data[end:], []byte(signaturePrefix))
		if signed && !signature {
			notes, begin, signed = append(notes, data[begin:end]), end, false
		}
		if newline < 0 {
			return notes, data[begin:]
		}
		signed = signature
		end += newline + 1
	}
}

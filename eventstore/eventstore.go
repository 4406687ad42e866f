package eventstore

import (
	"errors"
	"fmt"
	"time"
)

// Limits of one ledger. All of them are enforced before anything is sent.
const (
	// MaxEventBytes is the largest event in bytes.
	MaxEventBytes = 16 << 10
	// MaxSubjectBytes is the longest subject in bytes.
	MaxSubjectBytes = 255
	// MaxBatchEvents is the largest group commit, in events. It is the
	// server's limit for an atomic batch.
	MaxBatchEvents = 1000
)

// Message is one event on its way into a ledger.
type Message struct {
	Subject string // without wildcards
	Data    []byte // the event's bytes; never changed after Append was called
}

// Recorded is one event of a ledger.
type Recorded struct {
	Message
	Sequence uint64    // 1 for the first event of the ledger, without gaps
	Time     time.Time // when the server stored it; information, not evidence
}

// Appended says where an event was recorded.
type Appended struct {
	// Sequence is the event's place in the ledger.
	Sequence uint64
	// Control is the last sequence of the ledger's control subject, or 0 when
	// it has none, as a replica knows it that has this event: no control event
	// between Control and Sequence exists or can come to exist. Whoever decided
	// on an older control sequence must look at what has changed.
	Control uint64
}

var (
	// ErrConflict says that another event came first on the subject. Nothing
	// was recorded. Read the history again and decide again.
	ErrConflict = errors.New("another event was recorded first")
	// ErrBusy says that the bounded queue is full. Nothing was recorded; try
	// later.
	ErrBusy = errors.New("the ledger's queue is full")
	// ErrUnavailable says that the ledger cannot be reached or takes nothing,
	// and of an append that nothing was recorded.
	ErrUnavailable = errors.New("the ledger cannot be reached")
	// ErrOutcomeUnknown says that the event may or may not have been recorded.
	// Only the same bytes with the same expectation may be tried again.
	ErrOutcomeUnknown = errors.New("it is not known whether the event was recorded")
	// ErrSealed says that the ledger was sealed for good, and of an append that
	// nothing was recorded.
	ErrSealed = errors.New("the ledger is sealed")
	// ErrNotFound says that there is no such ledger.
	ErrNotFound = errors.New("no such ledger")
	// ErrExists says that the ledger exists already.
	ErrExists = errors.New("the ledger exists already")
	// ErrClosed says that the ledger was closed by its owner. Nothing was
	// recorded.
	ErrClosed = errors.New("the ledger is closed")
	// ErrCorrupt says that the ledger contradicts itself, for example by a gap
	// in its sequences. It is never passed over.
	ErrCorrupt = errors.New("the ledger is damaged")
)

// ConflictError is the ErrConflict of one append.
type ConflictError struct {
	Subject  string
	Expected uint64 // the last sequence that the author of the event knew of
	Actual   uint64 // the sequence that came between
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: %v: expected sequence %d, found %d", e.Subject, ErrConflict, e.Expected, e.Actual)
}

// Unwrap makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// Read says who may answer a question about the ledger.
type Read int

const (
	// AnyReplica is fast and may lag behind by what is under way.
	AnyReplica Read = iota
	// Leader is answered by the stream's leader, which has everything that was
	// acknowledged.
	Leader
)

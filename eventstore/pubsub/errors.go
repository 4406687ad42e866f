package pubsub

import (
	"errors"
	"fmt"
)

var (
	// ErrNoStream says that no stream stores the topic. Streams are made by
	// CreateStream, never by publishing or subscribing.
	ErrNoStream = errors.New("no stream stores this topic: create it first")
	// ErrRefused says that nothing of the batch was stored and that trying again
	// will not help: the server, or this package, does not take the message.
	ErrRefused = errors.New("the message was refused")
	// ErrUnavailable says that nothing of the batch was stored because the server
	// cannot be reached or is busy. Try again later.
	ErrUnavailable = errors.New("the server cannot be reached")
	// ErrOutcomeUnknown says that the messages may or may not have been stored.
	// Publishing them again may store them twice.
	ErrOutcomeUnknown = errors.New("it is not known whether the messages were stored")
	// ErrClosed says that the Publisher or Subscriber was closed by its owner.
	// Nothing was stored.
	ErrClosed = errors.New("closed")
)

// PublishError is what Publish returns. It unwraps to one of the errors of this
// package, which says what became of the first batch that failed.
type PublishError struct {
	Topic string
	// Stored is how many messages from the beginning of the call are durable. Err
	// speaks about the next one, and about those after it as far as they were in
	// the same atomic batch, of which all are stored or none. What comes after
	// that was not sent.
	Stored int
	Err    error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publish to %s: %d messages stored, then: %v", e.Topic, e.Stored, e.Err)
}

// Unwrap makes errors.Is and errors.As see what went wrong.
func (e *PublishError) Unwrap() error { return e.Err }

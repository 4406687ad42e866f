package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/pubsub"
)

const (
	// quickRetries is how often a submission is tried again before it is given
	// back, and quickPause the first pause, in time.
	quickRetries = 3
	quickPause   = 50 * time.Millisecond
	// patience is how long a submission waits, from its publication on, for
	// what only a person can mend, such as a key that is missing here. Longer
	// ones would fill what the worker may hold, and keep others waiting.
	patience = 5 * time.Minute
)

// The reasons for which a submission goes to the poison.
var (
	errUnknownCampaign = errors.New("there is no such campaign; when it was opened: paldies queue poison retry")
	errOtherContent    = errors.New("this submission id was used before with another content")
	errPanic           = errors.New("a mistake in the program; its log has the place")
)

// transient are faults that pass by themselves.
var transient = []error{
	eventstore.ErrUnavailable, eventstore.ErrBusy, eventstore.ErrOutcomeUnknown, eventstore.ErrClosed, intake.ErrContention,
	errOutcomeGone, pubsub.ErrUnavailable, pubsub.ErrOutcomeUnknown, pubsub.ErrClosed, context.Canceled, context.DeadlineExceeded,
}

// passes says whether a fault passes by itself.
func passes(err error) bool {
	for _, target := range transient {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// hopeless says that a submission can never succeed.
func hopeless(err error) bool {
	var malformed *MalformedError
	return errors.As(err, &malformed) || errors.Is(err, errUnknownCampaign) || errors.Is(err, errOtherContent) || errors.Is(err, errPanic)
}

// overdueError is a fault that a submission has waited for long enough.
type overdueError struct{ err error }

func (e *overdueError) Error() string {
	return fmt.Sprintf("not decided within %v: %v", patience, e.err)
}

func (e *overdueError) Unwrap() error { return e.err }

// poisoned says whether a submission is moved to the poison.
func poisoned(err error) bool {
	var overdue *overdueError
	return hopeless(err) || errors.As(err, &overdue)
}

// judge is a middleware that ends the waiting for what does not pass by itself.
func (w *Worker) judge(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		made, err := next(m)
		var panicked middleware.RecoveredPanicError
		switch {
		case errors.As(err, &panicked):
			w.config.Logger.Error("a submission ended in a panic", "panic", panicked.V, "stack", panicked.Stacktrace)
			err = errPanic
		case err != nil && !hopeless(err) && !passes(err) && w.waited(m) > patience:
			err = &overdueError{err}
		}
		return made, err
	}
}

// waited is how long ago a message was published.
func (w *Worker) waited(m *message.Message) time.Duration {
	published, err := time.Parse(time.RFC3339Nano, m.Metadata[pubsub.MetadataPublished])
	if err != nil {
		return 0
	}
	return w.config.Now().Sub(published)
}

// correlate gives a message an id by which it can be followed through logs and
// into the poison, unless its channel has given it one.
func correlate(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		middleware.SetCorrelationID(m.UUID, m)
		return next(m)
	}
}

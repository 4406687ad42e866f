package queue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/pubsub"
)

const (
	// quickRetries is how often a submission is tried again before it is given
	// back, and quickPause the first pause, in time.
	quickRetries = 3
	quickPause   = 50 * time.Millisecond
	// patience is how long a worker waits for what only a person can mend, such as
	// a key that is missing here, from the first time on that it was missed. More
	// patience would let those that wait fill what the worker may hold, and keep
	// others waiting.
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

// passes says whether a fault passes by itself. Servers that answer that they
// cannot now, with no leader for example, are as good as not there.
func passes(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code >= http.StatusInternalServerError {
		return true
	}
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
	if errors.Is(err, intake.ErrNoKey) && errors.Is(err, intake.ErrOver) {
		return true
	}
	return errors.As(err, &malformed) || errors.Is(err, errUnknownCampaign) || errors.Is(err, errOtherContent) || errors.Is(err, errPanic)
}

// unopenedError says why a campaign's submissions cannot be decided, any of them.
type unopenedError struct {
	campaign string
	err      error
}

func (e *unopenedError) Error() string { return e.err.Error() }
func (e *unopenedError) Unwrap() error { return e.err }

// faults remembers since when something has been amiss that only a person can
// mend, and who waits for it. It is safe for concurrent use.
type faults struct {
	mu    sync.Mutex
	known map[string]*fault // by what is amiss; guarded by mu
}

// fault is one thing that is amiss.
type fault struct {
	since   time.Time
	waiting map[string]bool // messages, by sequence
}

const (
	// maxFaults bounds what is remembered. It is only reached by submissions that
	// failed here and were decided by other workers.
	maxFaults = 2 * held
	// maxWaiting is how many submissions may wait for one fault. Those beyond are
	// not waited for, so that one campaign never takes all that the worker holds.
	maxWaiting = held / 4
)

// wait says that a message waits because of what is amiss, and whether it has
// done so for long enough: because the fault has lasted, or because too many wait
// for it.
func (f *faults) wait(what, message string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.known[what]
	if known == nil {
		if f.known == nil || len(f.known) >= maxFaults {
			f.known = make(map[string]*fault) // all are waited for anew
		}
		known = &fault{since: now, waiting: make(map[string]bool)}
		f.known[what] = known
	}
	switch {
	case now.Sub(known.since) > patience:
		return errLasts
	case !known.waiting[message] && len(known.waiting) >= maxWaiting:
		return errCrowd
	}
	known.waiting[message] = true
	return nil
}

// Why a submission does not wait any longer for what only a person can mend.
var (
	errLasts = fmt.Errorf("for %v and longer", patience)
	errCrowd = fmt.Errorf("and %d submissions wait for it already", maxWaiting)
)

// over says that nothing is amiss there any more.
func (f *faults) over(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.known, what)
}

// faultOf is what is amiss: a campaign, or else the message alone.
func faultOf(m *message.Message, err error) string {
	var unopened *unopenedError
	if errors.As(err, &unopened) {
		return campaignFault(unopened.campaign)
	}
	return messageFault(m)
}

func campaignFault(campaign string) string { return "campaign " + campaign }

func messageFault(m *message.Message) string { return m.Metadata[pubsub.MetadataSequence] }

// overdueError is a fault that is waited for no longer. Its text stands in the
// poison beside the voter's id, so that it must not hold the pseudonym.
type overdueError struct{ why, err error }

func (e *overdueError) Error() string {
	return fmt.Sprintf("%v: %s", e.why, hidePseudonyms(e.err))
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
			w.config.Logger.Error("a submission ended in a panic", "panic", hidePseudonyms(fmt.Errorf("%v", panicked.V)), "stack", panicked.Stacktrace)
			err = errPanic
		case err != nil && !hopeless(err) && !passes(err):
			if why := w.amiss.wait(faultOf(m, err), messageFault(m), w.config.Now()); why != nil {
				err = &overdueError{why, err}
			}
		}
		if err == nil || poisoned(err) {
			w.amiss.over(messageFault(m))
		}
		return made, err
	}
}

// correlate gives a message an id by which it can be followed through logs and
// into the poison, unless its channel has given it one.
func correlate(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		middleware.SetCorrelationID(m.UUID, m)
		return next(m)
	}
}

package projections

import (
	"context"
	"errors"
	"sync"
	"time"

	"sakipaldies.lv/ledger/eventstore"
)

// lookTimeout bounds a look at one ledger between two looks for campaigns.
const lookTimeout = time.Second

// errReplaced says that a stream is not the one that was there before.
var errReplaced = errors.New("the stream was created anew while it was followed")

// Status is what a Runner does about a campaign.
type Status string

// A campaign that is interrupted is tried again all the time, one that is
// halted needs somebody who mends what its error says.
const (
	Lagging     Status = "lagging" // on the way to where the ledger ended when it was opened
	Running     Status = "running"
	Interrupted Status = "interrupted"
	Halted      Status = "halted"
)

// State is how far the read model of one campaign is.
type State struct {
	Campaign string
	Status   Status
	Position uint64    // sequence of the last event in the read model
	AsOf     time.Time // when that event was recorded
	Last     uint64    // sequence of the last event in the ledger
	// Ready says that the read model has once reached the end of the ledger and
	// that nothing keeps it from going on. It may lag by what is under way.
	Ready bool
	Err   error // what keeps it from going on
}

// Lag is how many events the read model is behind.
func (s State) Lag() uint64 { return s.Last - s.Position }

// followed is one campaign of a Runner.
type followed struct {
	campaign string

	mu      sync.Mutex              // guards what follows
	working bool                    // the campaign's goroutine is there
	stop    context.CancelCauseFunc // ends the campaign's goroutine
	ledger  Ledger                  // nil while it is not open
	model   Model
	at      Position  // of the read model, once it is known
	last    uint64    // the ledger's last event as far as is known
	target  uint64    // the ledger's last event when it was opened
	created time.Time // of the stream that was compared with the read model
	err     error     // why it does not go on
}

// begin says whether a goroutine is to be started, and with which context.
func (f *followed) begin(ctx context.Context) (context.Context, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.working {
		return nil, false
	}
	f.working = true
	ctx, f.stop = context.WithCancelCause(ctx)
	return ctx, true
}

// end says that the goroutine ends.
func (f *followed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.working = false
	f.stop(nil)
}

func (f *followed) opened() Ledger {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ledger
}

func (f *followed) position() Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// resumed takes the position of the read model, and the state of the ledger
// that was compared with it. An error is over when there is nothing to do;
// otherwise something has to be done first.
func (f *followed) resumed(at Position, info eventstore.Info) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.last, f.created = at, info.Last, info.Created
	if at.Sequence == info.Last {
		f.err = nil
	}
}

// stored takes the position after a batch.
func (f *followed) stored(at Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.last, f.err = at, max(f.last, at.Sequence), nil
}

// failed takes the reason why it does not go on, and says whether it is news.
// That another projector was faster is no reason.
func (f *followed) failed(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, ErrMoved) {
		return true
	}
	news := f.err == nil || f.err.Error() != err.Error()
	f.err = err
	return news
}

// look notices what nobody does who waits for the ledger's next event: that
// it has become shorter, or was put in another's place. Then the campaign's
// goroutine ends, and the next one compares ledger and read model anew.
func (f *followed) look(ctx context.Context) {
	ledger := f.opened()
	if ledger == nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, lookTimeout)
	defer stop()
	at := f.position().Sequence
	info, err := ledger.Info(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil || f.created.IsZero() && at == 0:
		// Nobody answers, which the goroutine notices too, or it has just begun.
	case info.Last < at:
		f.stop(shorter(f.campaign, at, info.Last))
	case !info.Created.Equal(f.created):
		f.stop(errReplaced)
	}
}

// state asks the ledger for its end.
func (f *followed) state(ctx context.Context) State {
	f.mu.Lock()
	ledger, s := f.ledger, State{Campaign: f.campaign, Position: f.at.Sequence, AsOf: f.at.RecordedAt, Last: f.last, Err: f.err}
	target := f.target
	f.mu.Unlock()
	if ledger != nil {
		info, err := ledger.Info(ctx)
		switch {
		case err != nil && s.Err == nil:
			s.Err = err
		case err == nil && info.Last < s.Position && s.Err == nil:
			s.Err = shorter(f.campaign, s.Position, info.Last)
		case err == nil:
			s.Last = info.Last
		}
	}
	s.Last = max(s.Last, s.Position)
	s.Ready = s.Err == nil && ledger != nil && s.Position >= target
	switch {
	case halting(s.Err):
		s.Status = Halted
	case s.Err != nil:
		s.Status = Interrupted
	case s.Ready:
		s.Status = Running
	default:
		s.Status = Lagging
	}
	return s
}

var _ Ledger = (*eventstore.Ledger)(nil)

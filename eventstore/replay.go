package eventstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readEvents is how many events one request asks for. More would hardly be
	// faster, and while the server reads them nobody can commit a batch. It also
	// bounds what is on its way to a slow reader, to 20 MiB of the largest messages
	// a request: a server drops a connection that has 64 MiB to receive.
	readEvents = 1000
	// readEventsMin is how many it asks for where so many do not arrive in time.
	readEventsMin = 8
	// readAhead is how many requests of a reader are under way while there is more to
	// read, and all that it asked for has arrived in time.
	readAhead = 2
	// lackingMax is for how long the leader may lack what was read before. One that
	// was deposed and does not know it steps down within 20 s.
	lackingMax = 30 * time.Second
	// followPauseMin and followPauseMax bound the time for which a follower that has
	// seen all there is waits, as an average, before it looks again. It waits twice
	// as long each time that nothing has come.
	followPauseMin = 2 * time.Millisecond
	followPauseMax = 200 * time.Millisecond
)

// Replay hands the events from the sequence from up to the sequence to over to
// fn, in order and in batches. With to = 0 it ends at the last sequence at the
// time of the call; a to beyond that means the same. The slice is used again
// after fn returns; the Data of the events may be kept.
//
// The events have their Sequence and their Data, and neither Subject nor Time:
// see WithSubjects.
//
// A replay survives reconnects; ErrUnavailable is returned when nothing comes
// for 20 s.
// An error of fn ends the replay and is returned as it is. A sequence that
// does not continue the one before is ErrCorrupt.
func (l *Ledger) Replay(ctx context.Context, from, to uint64, fn func([]Recorded) error) error {
	return l.replay(ctx, &reader{ledger: l, next: from, to: to, fn: fn})
}

// WithSubjects is a ledger whose Replay tells the Subject and the Time of each
// event too. The server tells them by headers, six for each event, which takes
// twice the processor time and more.
type WithSubjects struct{ *Ledger }

// Replay is that of Ledger, with subjects.
func (l WithSubjects) Replay(ctx context.Context, from, to uint64, fn func([]Recorded) error) error {
	return l.replay(ctx, &reader{ledger: l.Ledger, next: from, to: to, fn: fn, subjects: true})
}

func (l *Ledger) replay(ctx context.Context, r *reader) error {
	info, err := l.Info(ctx)
	if err != nil {
		return err
	}
	r.next = max(r.next, 1)
	if r.to == 0 || r.to > info.Last {
		r.to = info.Last
	}
	if r.next > r.to {
		return nil
	}
	r.there, r.created = r.to, info.Created
	return r.read(ctx)
}

// Follow hands over the events from the sequence from on, for ever: first what
// is stored, then what is recorded while it runs, each batch as large as what
// is there. They are events as Replay gives them. It survives reconnects, and
// ends with ctx, with the ledger, by an error of fn, or with ErrCorrupt or
// ErrNotFound.
func (l *Ledger) Follow(ctx context.Context, from uint64, fn func([]Recorded) error) error {
	return (&reader{ledger: l, next: max(from, 1), fn: fn}).read(ctx)
}

// reader is one replay under way.
//
// It asks any replica for a batch of events at a time and makes no consumer: who
// may make one may have the server deliver to any subject. What a replica has is
// true, and what it lacks may be there all the same, so only the leader is
// believed that something is missing.
//
// Each request begins with the event that was read last. So a stream that was
// replaced, a batch that does not continue the one before and a replica that
// is behind show at once.
type reader struct {
	ledger   *Ledger
	next     uint64 // the sequence that must come next
	to       uint64 // the last one that is wanted; 0 for no end
	fn       func([]Recorded) error
	subjects bool   // fn is told subjects and times
	failed   error  // what fn returned
	last     []byte // the bytes of the event before next; nil before the first

	created time.Time // of the stream, once it is known
	lacking time.Time // since when the leader lacks the event before next; zero if it does not
	most    int       // how many events are asked for at a time

	there uint64      // the last event as far as is known, for what is asked for ahead
	asked []*question // under way, in order
	ended bool        // the last answer had less than was asked for
	doubt bool        // events were missing in an answer: the next one is to say which
	quiet int         // so many answers had nothing new
	batch []Recorded
}

// question is one request of a reader.
type question struct {
	*exchange
	from    uint64 // the first sequence that it asks for
	to      uint64 // and the last
	headers bool   // the answer tells sequences, subjects and times
}

// read reads until the end, or for ever. Each session reads on where the last
// one was interrupted.
func (r *reader) read(ctx context.Context) error {
	ctx, stop := r.ledger.within(ctx)
	defer stop()
	progress := time.Now()
	r.most = readEvents
	for try := 0; ; try++ {
		before := r.next
		err := r.session(ctx)
		if r.next != before {
			try, progress, r.lacking = 0, time.Now(), time.Time{}
		} else if errors.Is(err, errNoAnswer) || errors.Is(err, errConnectionLost) {
			r.most = max(r.most/4, readEventsMin)
		}
		switch {
		case err == nil:
			return nil
		case r.failed != nil:
			return r.failed
		case ctx.Err() != nil:
			return fmt.Errorf("ledger %s: reading from sequence %d: %w", r.ledger.config.Stream, r.next, context.Cause(ctx))
		case permanent(err):
			return fmt.Errorf("ledger %s: reading from sequence %d: %w", r.ledger.config.Stream, r.next, reachable(err))
		}
		if denied := r.ledger.denied(); denied != nil {
			return fmt.Errorf("ledger %s: reading from sequence %d: %w: %w", r.ledger.config.Stream, r.next, denied, err)
		}
		if r.to > 0 && time.Since(progress) > retryLimit {
			return fmt.Errorf("ledger %s: reading from sequence %d: %w: %w", r.ledger.config.Stream, r.next, ErrUnavailable, err)
		}
		_ = pause(ctx, try) // the next session notices the end of ctx
	}
}

// permanent reports whether the next session would end by the same error.
func permanent(err error) bool {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotFound), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, errNoDirect), errors.Is(err, errTooOld):
		return true
	}
	// A code of 4xx is the server's considered refusal; 5xx pass.
	return errors.As(err, &api) && api.Code >= 400 && api.Code < 500
}

// denied is the server's word that this connection may not read the ledger, or
// nil. The word comes apart from the request that it is about, whose answer
// then never comes, and the subject is only in its text.
func (l *Ledger) denied() error {
	err := l.wire.nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	for _, subject := range []string{l.directGetSubject, l.leaderGetSubject} {
		if strings.Contains(err.Error(), `"`+subject+`"`) {
			return err
		}
	}
	return nil
}

// session reads until the end or until the first disturbance.
func (r *reader) session(ctx context.Context) error {
	defer r.forget()
	if err := r.sameLedger(ctx); err != nil {
		return err
	}
	for {
		if err := r.ask(); err != nil {
			return err
		}
		if err := r.take(ctx); err != nil {
			return err
		}
		switch {
		case r.to > 0 && r.next > r.to:
			return nil
		case !r.ended: // there may be more
		case r.to > 0:
			return r.checkEnd(ctx)
		default:
			if err := backOff(ctx, followPauseMin, followPauseMax, r.quiet); err != nil {
				return err
			}
		}
	}
}

// sameLedger makes sure, before it reads on after a disturbance, that the last
// event which was handed over is still there: the stream may have been replaced,
// or deleted.
func (r *reader) sameLedger(ctx context.Context) error {
	if r.created.IsZero() {
		info, err := r.ledger.Info(ctx)
		if err != nil {
			return err
		}
		r.created = info.Created
	}
	e, found, err := r.ledger.leaderGet(ctx, getRequest{Sequence: max(r.next-1, 1)})
	switch {
	case err != nil || r.last == nil:
		return err
	case !found:
		return r.lacks(ctx)
	case !bytes.Equal(e.Data, r.last):
		return r.replaced()
	}
	return nil
}

// lacks judges that the leader does not have the event before next.
func (r *reader) lacks(ctx context.Context) error {
	later, found, err := r.ledger.firstAfter(ctx, AllSubjects, r.next-2)
	if err != nil {
		return err
	}
	if found {
		return missing(r.next-1, later.Sequence)
	}
	info, err := r.ledger.Info(ctx)
	if err != nil {
		return err
	}
	if !info.Created.Equal(r.created) {
		return r.replaced()
	}
	if r.lacking.IsZero() {
		r.lacking = time.Now()
	}
	if time.Since(r.lacking) > lackingMax {
		return missing(r.next-1, 0)
	}
	return errNotYetThere // a leader that was deposed without knowing it may lack it
}

// ask sends a request, and one ahead while it is known that there is more than
// the first one asks for.
func (r *reader) ask() error {
	for len(r.asked) < readAhead {
		from := r.next
		if n := len(r.asked); n > 0 {
			if r.most < readEvents {
				return nil
			}
			if from = r.asked[n-1].to; from >= r.there || from == r.to {
				return nil
			}
		} else if r.last != nil {
			from--
		}
		if err := r.question(from); err != nil {
			return err
		}
	}
	return nil
}

// question asks for the events from a sequence on.
func (r *reader) question(from uint64) error {
	to := from + uint64(r.most) - 1
	if r.to > 0 {
		to = min(to, r.to)
	}
	q := &question{from: from, to: to, headers: r.subjects || r.doubt}
	n := int(to - from + 1)
	body, err := getRequest{Sequence: from, Batch: n, NoHeaders: !q.headers}.encode()
	if err != nil {
		return err
	}
	q.exchange = r.ledger.wire.exchange(n + 1) // the events and the mark at the end
	r.asked = append(r.asked, q)
	return r.ledger.wire.nc.PublishRequest(r.ledger.directGetSubject, q.replyTo(0), body)
}

// forget gives up what is under way.
func (r *reader) forget() {
	for _, q := range r.asked {
		q.end()
	}
	r.asked = r.asked[:0]
}

// take waits for the answer to the oldest request and hands over what is new in
// it.
func (r *reader) take(ctx context.Context) error {
	q := r.asked[0]
	r.asked = append(r.asked[:0], r.asked[1:]...)
	defer q.end()
	err := r.receive(ctx, q)
	r.doubt = errors.Is(err, errIncompleteAnswer)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return r.ledger.unanswered(ctx, err)
	case err != nil && !errors.Is(err, ErrCorrupt):
		return err
	}
	if r.ended = q.from+uint64(len(r.batch)) <= q.to; r.ended {
		r.forget() // what was asked for ahead does not continue this
	}
	news := r.batch
	if r.last != nil {
		switch {
		case err != nil && len(news) == 0:
			return err
		case len(news) == 0:
			return errNotYetThere // this replica is behind
		case !bytes.Equal(news[0].Data, r.last):
			return r.replaced()
		}
		news = news[1:]
	}
	if r.quiet++; len(news) > 0 {
		r.quiet, r.most = 0, min(2*r.most, readEvents)
		r.next += uint64(len(news))
		r.last = news[len(news)-1].Data
		if r.failed = r.fn(news); r.failed != nil {
			return r.failed
		}
	}
	return err // about what comes behind them
}

// receive collects the answer to a request, with what it says about the end.
// ErrCorrupt is about the event that is missing behind those that were collected.
func (r *reader) receive(ctx context.Context, q *question) error {
	r.batch = r.batch[:0]
	var before uint64 // the sequence before, as the answer tells
	for {
		a, err := q.next(ctx)
		if err != nil {
			return err
		}
		next := q.from + uint64(len(r.batch))
		switch {
		case !q.headers && len(a.msg.Header) == 0:
			r.batch = append(r.batch, Recorded{Message{Data: a.msg.Data}, next, time.Time{}})
		case q.headers && !isEnd(a.msg):
			if err := r.add(ctx, a.msg, next, &before); err != nil {
				return err
			}
		default:
			if !q.headers {
				before = next - 1
			}
			pending, err := endOfDirect(a.msg, before)
			// Without headers nats-server counts those that it has sent.
			r.there = max(r.to, q.from-1+pending)
			return err
		}
	}
}

// add takes an event whose place is told by its headers, before being the
// sequence that came before it in the answer.
func (r *reader) add(ctx context.Context, msg *nats.Msg, next uint64, before *uint64) error {
	e, previous, err := parseDirect(msg)
	if errors.Is(err, errOddHeaders) {
		previous = *before
		e, err = r.odd(ctx, msg, next)
	}
	switch {
	case err != nil:
		return err
	case previous != *before:
		return errIncompleteAnswer // lost on the way, not in the ledger
	case e.Sequence != next:
		return r.gap(ctx, next)
	}
	*before = next
	if !r.subjects {
		e = Recorded{Message: Message{Data: e.Data}, Sequence: next}
	}
	r.batch = append(r.batch, e)
	return nil
}

// gap judges that the copy of one replica lacks an event that others follow. When
// the leader has it, that replica is damaged, and another one is asked.
func (r *reader) gap(ctx context.Context, next uint64) error {
	e, found, err := r.ledger.firstAfter(ctx, AllSubjects, next-1)
	switch {
	case err != nil:
		return err
	case !found:
		return errNotYetThere
	case e.Sequence == next:
		return errIncompleteAnswer
	}
	return missing(next, e.Sequence)
}

// odd asks the leader for the event that comes next, because the message that
// holds it does not say reliably what it is.
func (r *reader) odd(ctx context.Context, msg *nats.Msg, next uint64) (Recorded, error) {
	e, found, err := r.ledger.firstAfter(ctx, AllSubjects, next-1)
	switch {
	case err != nil:
		return Recorded{}, err
	case !found:
		return Recorded{}, errNotYetThere
	case !bytes.Equal(e.Data, msg.Data):
		return Recorded{}, errIncompleteAnswer
	}
	return e, nil
}

// unanswered is why nobody answers direct reads: err, unless the leader says that
// it will stay like that.
func (l *Ledger) unanswered(ctx context.Context, err error) error {
	msg, asking := l.wire.request(ctx, l.infoSubject, nil)
	if asking != nil {
		return err
	}
	var info struct {
		Error  *jetstream.APIError    `json:"error"`
		Config jetstream.StreamConfig `json:"config"`
	}
	switch asking := json.Unmarshal(msg.Data, &info); {
	case asking != nil:
		return err
	case info.Error != nil:
		return streamError(info.Error)
	case !info.Config.AllowDirect:
		return errNoDirect
	}
	return err
}

// checkEnd finds out whether the ledger ends before the sequence that it is
// known to have. The replica that answered may merely be behind, so the leader
// decides.
func (r *reader) checkEnd(ctx context.Context) error {
	_, found, err := r.ledger.leaderGet(ctx, getRequest{Sequence: r.next})
	switch {
	case err != nil:
		return err
	case found:
		return errNotYetThere
	}
	info, err := r.ledger.Info(ctx)
	if err == nil && info.Last >= r.next {
		err = missing(r.next, 0)
	}
	return cmp.Or(err, errNotYetThere) // this leader was deposed without knowing it
}

// replaced is the error about a stream that is another one than before.
func (r *reader) replaced() error {
	return fmt.Errorf("%w: event %d is not the one that was read before: the stream was replaced; begin again from the first event", ErrCorrupt, r.next-1)
}

// missing is the error about a gap; found is the sequence behind it, or 0.
func missing(sequence, found uint64) error {
	what := "nothing"
	if found > 0 {
		what = fmt.Sprintf("sequence %d", found)
	}
	return fmt.Errorf("%w: sequence %d is missing, %s comes next: stop recording and restore the stream from a copy", ErrCorrupt, sequence, what)
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/eventstore"
)

// Ledger is what is needed of the stream with a campaign's outcomes;
// *eventstore.Ledger is one. Append returns when the outcome is durable, and of
// several appends with the expectation 0 on one subject exactly one wins.
type Ledger interface {
	Append(ctx context.Context, m eventstore.Message, expected uint64) (eventstore.Appended, error)
	History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error)
	Close(ctx context.Context) error
}

// OpenLedger opens the stream with a campaign's outcomes, which is there.
type OpenLedger func(ctx context.Context, c eventstore.Config) (Ledger, error)

// books are the outcomes of all campaigns. It is safe for concurrent use.
type books struct {
	nc       *nats.Conn
	replicas int
	open     OpenLedger

	mu   sync.Mutex // guards what follows; nobody waits for a server with it
	kept map[string]*opening
}

// opening is the book of a campaign, or the attempt to open it.
type opening struct {
	done chan struct{} // closed when the rest is set
	book *book
	err  error
}

// book is the outcomes of one campaign.
type book struct {
	campaign string
	ledger   Ledger
	read     eventstore.Read

	reading sync.Mutex      // guards readers; nobody waits for a server with it
	readers map[string]bool // channels that have a consumer

	mu     sync.Mutex               // guards what follows
	atWork map[string]chan struct{} // by subject or consumer; closed when who is at work on it is done
}

// get is the book of a campaign; its stream is made for the first submission.
// Whoever needs it first opens it, and only those of the same campaign wait.
func (b *books) get(ctx context.Context, campaign string) (*book, error) {
	for {
		o, mine := b.find(campaign)
		if mine {
			b.fill(ctx, campaign, o)
		}
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// Who opened it for all may have had less time than this caller.
		if mine || !errors.Is(o.err, context.Canceled) && !errors.Is(o.err, context.DeadlineExceeded) {
			return o.book, o.err
		}
	}
}

// find is what is kept of a campaign, and whether the caller has to open it.
func (b *books) find(campaign string) (o *opening, mine bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.kept[campaign]; o != nil {
		return o, false
	}
	o = &opening{done: make(chan struct{})}
	b.kept[campaign] = o
	return o, true
}

// fill opens a book. What failed is not kept: the next one tries again.
func (b *books) fill(ctx context.Context, campaign string, o *opening) {
	o.err = errBookNotOpened // if it does not return
	defer func() {
		if o.err != nil {
			b.mu.Lock()
			delete(b.kept, campaign)
			b.mu.Unlock()
		}
		close(o.done)
	}()
	o.book, o.err = b.openBook(ctx, campaign)
}

// errBookNotOpened says that the opening of a book ended in a panic.
var errBookNotOpened = errors.New("the outcomes of the campaign could not be opened")

func (b *books) openBook(ctx context.Context, campaign string) (*book, error) {
	l, err := b.open(ctx, outcomesConfig(campaign, b.replicas))
	if errors.Is(err, eventstore.ErrNotFound) { // a worker of a deployment may make none, and need not
		if err := CreateOutcomes(ctx, b.nc, campaign, b.replicas); err != nil {
			return nil, err
		}
		l, err = b.open(ctx, outcomesConfig(campaign, b.replicas))
	}
	if err != nil {
		return nil, fmt.Errorf("open the outcomes of campaign %s: %w", campaign, err)
	}
	// An outcome that a follower does not have yet would be decided again. A
	// server that is alone follows nobody.
	made := &book{campaign: campaign, ledger: l, read: eventstore.AnyReplica, readers: make(map[string]bool), atWork: make(map[string]chan struct{})}
	if b.replicas > 1 {
		made.read = eventstore.Leader
	}
	return made, nil
}

// readableBy makes the durable consumer by which a channel reads its outcomes,
// unless it is there. A channel cannot be let make one: the server would publish
// for it wherever it likes.
func (b *books) readableBy(ctx context.Context, of *book, channel string) error {
	if of.readable(channel) {
		return nil
	}
	leave, err := of.enter(ctx, ChannelConsumer(channel)) // which is no subject of an outcome
	if err != nil {
		return err
	}
	defer leave()
	if of.readable(channel) {
		return nil
	}
	js, err := jetstream.New(b.nc)
	if err != nil {
		return err
	}
	_, err = js.CreateOrUpdateConsumer(ctx, OutcomesStream(of.campaign), jetstream.ConsumerConfig{Durable: ChannelConsumer(channel),
		FilterSubject: outcomesPrefix + of.campaign + "." + channel + ".>", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return unavailable(err)
	}
	of.reading.Lock()
	defer of.reading.Unlock()
	of.readers[channel] = true
	return nil
}

// readable says whether a channel's consumer was made.
func (b *book) readable(channel string) bool {
	b.reading.Lock()
	defer b.reading.Unlock()
	return b.readers[channel]
}

// close lets all books record what they have accepted. It comes when no handler
// is at work any more, or when those that are were given up.
func (b *books) close(ctx context.Context) error {
	b.mu.Lock()
	kept := b.kept
	b.kept = make(map[string]*opening)
	b.mu.Unlock()
	var errs []error
	for _, o := range kept {
		select {
		case <-o.done:
			if o.err == nil {
				errs = append(errs, o.book.ledger.Close(ctx))
			}
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
		}
	}
	return errors.Join(errs...)
}

// errDecided says that a submission has its outcome already.
var errDecided = errors.New("it has an outcome already")

// settle is the one outcome of the submission whose subject this is: the one
// that is there, or else what decide says, which is written down first. Known
// reports that it was there before.
//
// Decide calls undecided between reading the voter's ballot and recording what
// it decides on it, whenever it has read the ballot. A worker that is relieved in
// between does not know what the next one has told since: but if that one has
// decided anything later of the voter, the ballot has moved, so that this one's
// append is refused, and the outcome is seen in the next attempt.
func (b *book) settle(ctx context.Context, subject string, decide func(undecided func(context.Context) error) (Outcome, error)) (o Outcome, known bool, err error) {
	leave, err := b.enter(ctx, subject)
	if err != nil {
		return o, false, err
	}
	defer leave()
	var told Outcome
	o, err = decide(func(ctx context.Context) error {
		found, err := false, error(nil)
		if told, found, err = b.find(ctx, subject, b.read); found {
			return errDecided
		}
		return err
	})
	if errors.Is(err, errDecided) {
		return told, true, nil
	}
	if err != nil {
		return o, false, err
	}
	data, err := o.encode()
	if err != nil {
		return o, false, err
	}
	_, err = b.ledger.Append(ctx, eventstore.Message{Subject: subject, Data: data}, 0)
	if errors.Is(err, eventstore.ErrConflict) {
		// Another worker, which this one has relieved, was still at it.
		first, found, err := b.find(ctx, subject, eventstore.Leader)
		if err == nil && !found {
			err = fmt.Errorf("%s: %w", subject, errOutcomeGone)
		}
		if err == nil && first.Status != o.Status {
			err = &contradictionError{subject, o, first}
		}
		return first, true, err
	}
	return o, false, err
}

// errOutcomeGone says that an outcome was there and is not any more. Trying again
// will find out.
var errOutcomeGone = errors.New("its outcome has just expired")

// contradictionError says that two workers came to different answers, and which
// one stands. The ledger says what counts.
type contradictionError struct {
	subject    string
	ours, told Outcome
}

func (e *contradictionError) Error() string {
	return fmt.Sprintf("%s: two workers have decided it; the outcome says %s %s, and this worker %s %s",
		e.subject, e.told.Status, e.told.Code, e.ours.Status, e.ours.Code)
}

// find reads an outcome.
func (b *book) find(ctx context.Context, subject string, read eventstore.Read) (o Outcome, found bool, err error) {
	events, err := b.ledger.History(ctx, subject, 0, read)
	if err != nil || len(events) == 0 {
		return o, false, err
	}
	o, err = ParseOutcome(events[0].Data)
	return o, err == nil, err
}

// enter waits until nobody else in this process is at work on the subject: a
// channel may have published a submission twice, under two keys.
func (b *book) enter(ctx context.Context, subject string) (leave func(), err error) {
	mine := make(chan struct{})
	for {
		b.mu.Lock()
		other := b.atWork[subject]
		if other == nil {
			b.atWork[subject] = mine
			b.mu.Unlock()
			return func() {
				b.mu.Lock()
				delete(b.atWork, subject)
				b.mu.Unlock()
				close(mine)
			}, nil
		}
		b.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

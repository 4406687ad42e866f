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

	mu   sync.Mutex // guards what follows, and is held while a book is opened
	kept map[string]*book
}

// book is the outcomes of one campaign.
type book struct {
	campaign string
	ledger   Ledger
	read     eventstore.Read

	reading sync.Mutex      // held while a consumer is made
	readers map[string]bool // channels that have one; guarded by reading

	mu     sync.Mutex               // guards what follows
	atWork map[string]chan struct{} // by subject; closed when whoever decides it is done
}

// get is the book of a campaign; its stream is made for the first submission.
func (b *books) get(ctx context.Context, campaign string) (*book, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.kept[campaign]; known != nil {
		return known, nil
	}
	if err := CreateOutcomes(ctx, b.nc, campaign, b.replicas); err != nil {
		return nil, err
	}
	l, err := b.open(ctx, outcomesConfig(campaign, b.replicas))
	if err != nil {
		return nil, fmt.Errorf("open the outcomes of campaign %s: %w", campaign, err)
	}
	// An outcome that a follower does not have yet would be decided again. A
	// server that is alone follows nobody.
	made := &book{campaign: campaign, ledger: l, read: eventstore.AnyReplica, readers: make(map[string]bool), atWork: make(map[string]chan struct{})}
	if b.replicas > 1 {
		made.read = eventstore.Leader
	}
	b.kept[campaign] = made
	return made, nil
}

// readableBy makes the durable consumer by which a channel reads its outcomes,
// unless it is there. A channel cannot be let make one: the server would publish
// for it wherever it likes.
func (b *books) readableBy(ctx context.Context, of *book, channel string) error {
	of.reading.Lock()
	defer of.reading.Unlock()
	if of.readers[channel] {
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
	of.readers[channel] = true
	return nil
}

// close lets all books record what they have accepted.
func (b *books) close(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for campaign, kept := range b.kept {
		errs = append(errs, kept.ledger.Close(ctx))
		delete(b.kept, campaign)
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

package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/nats-io/nats.go"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/pubsub"
)

const (
	// group is the durable consumer that all workers share.
	group = "intake"
	// inFlight is how many submissions one worker decides at a time: four full
	// group commits, two for the ledger and two for the outcomes.
	inFlight = 4 * eventstore.MaxBatchEvents
	// held is how many a worker holds, those that wait for a fault to pass
	// included; with messageBytesMax it bounds its memory.
	held = 4 * inFlight
	// trimInterval is how soon what is decided leaves the queue, in time.
	trimInterval = 10 * time.Second
	// stopTimeout is how long submissions in hand have when a worker is asked to
	// stop.
	stopTimeout = 15 * time.Second
	// subscribePause is between two tries to begin, in time.
	subscribePause = 500 * time.Millisecond
	// quietly is how often a worker logs faults that pass by themselves.
	quietly = time.Second
)

// Campaigns is where the campaigns are; *intake.Campaigns is one. Get is called
// by many goroutines at any time. Its errors are intake.ErrNoKey when the
// campaign's key is not here, with intake.ErrOver if it is closed, and eventstore.ErrNotFound when there is no such
// campaign.
type Campaigns interface {
	Get(ctx context.Context, campaign string) (*intake.Intake, error)
}

// Config is what a Worker is made of.
type Config struct {
	Conn       *nats.Conn // made with eventstore.ConnectOptions; stays its owner's
	Replicas   int        // of streams that are made
	Campaigns  Campaigns
	OpenLedger OpenLedger // nil: eventstore.Open
	Metrics    *Metrics
	Logger     *slog.Logger
	Now        func() time.Time // nil: time.Now
	// TakeoverAfter is after what silence of the active worker another one takes
	// over, in time; 0 means 10 s.
	TakeoverAfter time.Duration
}

var (
	errEnded    = errors.New("the worker's subscription has ended: somebody has deleted the queue or its durable consumer")
	errNotBegun = errors.New("the worker has not reached the queue yet; its log says why")
	errNoWorker = errors.New("the queue has no durable consumer of workers: start `paldies intake --queue` or `paldies dev` again to make one")
)

// Worker decides submissions. Any number of workers may run: one is active,
// the others stand by.
type Worker struct {
	config Config
	books  books
	logged atomic.Int64 // when a fault that passes was logged last, in Unix nanoseconds
	faults atomic.Int64 // since then
	amiss  faults       // what only a person can mend

	subscribed atomic.Bool // it takes submissions, or stands by
}

// NewWorker makes a worker.
func NewWorker(c Config) *Worker {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OpenLedger == nil {
		c.OpenLedger = func(ctx context.Context, ec eventstore.Config) (Ledger, error) {
			l, err := eventstore.Open(ctx, c.Conn, ec)
			if err != nil {
				return nil, err // not a nil *eventstore.Ledger in an interface
			}
			return l, nil
		}
	}
	return &Worker{config: c, books: books{nc: c.Conn, replicas: c.Replicas, open: c.OpenLedger, kept: make(map[string]*opening)}}
}

// Run decides submissions until ctx ends. Then no more are taken, and those in
// hand are brought to their end; without a connection there is no end to come to,
// and they are left to the next worker. It makes the streams of the queue if
// they are not there. It returns nil when it was asked to end and has done so.
func (w *Worker) Run(ctx context.Context) (err error) {
	publisher, err := pubsub.NewPublisher(w.config.Conn, pubsub.PublisherConfig{Subject: poisonSubject, CloseTimeout: stopTimeout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(publisher)) }()
	filed := filing{publisher, w.noteFiled}
	subscriber, err := w.subscriber(filed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, subscriber.Close()) }()
	working, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	messages, err := w.subscribe(ctx, working, subscriber)
	if ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	w.subscribed.Store(true)
	defer w.subscribed.Store(false)
	router, err := w.router(subscribed{subscriber, messages}, filed)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- router.Run(working) }()
	select { // one that is closed before it runs waits for handlers that never begin
	case <-router.Running():
	case err := <-ended:
		return cmp.Or(err, errEnded)
	}
	trimming := time.NewTicker(trimInterval)
	defer trimming.Stop()
	for {
		select {
		case err := <-ended:
			return cmp.Or(err, errEnded)
		case <-trimming.C:
			w.trim(working)
		case <-ctx.Done():
			if !w.config.Conn.IsConnected() {
				cut()
			}
			w.trim(working) // and not later, see pubsub.Trim
			// The router does not wait for a message that it takes while it closes:
			// only the subscriber knows when all are acked.
			return errors.Join(router.Close(), <-ended, subscriber.Close())
		}
	}
}

// subscribe makes the queue, unless it is there, and begins to take from it; that
// goes on until working ends. Servers that have no leader right now are asked again
// until ctx ends: an election must not end the process that answers voters.
func (w *Worker) subscribe(ctx, working context.Context, s *pubsub.Subscriber) (<-chan *message.Message, error) {
	working, cut := context.WithCancel(working)
	uncut := context.AfterFunc(ctx, cut)
	var said string
	for {
		err := CreateStreams(ctx, w.config.Conn, w.config.Replicas)
		if err == nil {
			var messages <-chan *message.Message
			if messages, err = s.Subscribe(working, submissionsPrefix+">"); err == nil && uncut() {
				return messages, nil
			}
		}
		if ctx.Err() != nil || !passes(err) || refusedForGood(err) || w.config.Conn.IsClosed() {
			uncut()
			cut()
			return nil, err
		}
		if err.Error() != said { // not the same again and again
			said = err.Error()
			w.config.Logger.Warn("the queue cannot be reached yet", "error", err)
		}
		select {
		case <-time.After(subscribePause):
		case <-ctx.Done():
		}
	}
}

func (w *Worker) close(publisher *pubsub.Publisher) error {
	ctx, stop := context.WithTimeout(context.Background(), stopTimeout)
	defer stop()
	return errors.Join(publisher.Close(), w.books.close(ctx))
}

// trim removes what is decided. That it fails is nothing new while the servers
// cannot be reached, and the next time makes up for it.
func (w *Worker) trim(ctx context.Context) {
	if !w.config.Conn.IsConnected() {
		return
	}
	ctx, stop := context.WithTimeout(ctx, trimInterval)
	defer stop()
	if _, err := pubsub.Trim(ctx, w.config.Conn, SubmissionsStream, group); err != nil {
		w.config.Logger.Warn("what is decided could not be removed from the queue", "error", err)
	}
}

// subscribed is a subscription that has begun. A router that subscribes itself
// gives the subscription a context that ends as soon as the router begins to close,
// and with it those of all messages in hand: what they had recorded would not be
// told. And when it fails to, it leaves a goroutine behind.
type subscribed struct {
	message.Subscriber // closed by the router
	messages           <-chan *message.Message
}

// Subscribe implements message.Subscriber.
func (s subscribed) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s.messages, nil
}

// subscriber gives out each voter's submissions in order.
func (w *Worker) subscriber(publisher message.Publisher) (*pubsub.Subscriber, error) {
	return pubsub.NewSubscriber(w.config.Conn, pubsub.SubscriberConfig{
		Group: group, InFlight: inFlight, MaxAckPending: held, OrderBy: orderKey,
		TakeoverAfter: w.config.TakeoverAfter, CloseTimeout: stopTimeout, Logger: w.config.Logger,
		Poison: &pubsub.Poison{Publisher: publisher, Topic: poisonTopic},
	})
}

// router is Watermill's, with everything between a message and its handler.
func (w *Worker) router(subscriber message.Subscriber, publisher message.Publisher) (*message.Router, error) {
	// Its own words would repeat each fault for each message.
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * stopTimeout}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	toPoison, err := middleware.PoisonQueueWithFilter(publisher, poisonTopic, poisoned)
	if err != nil {
		return nil, err
	}
	retry := middleware.Retry{MaxRetries: quickRetries, InitialInterval: quickPause, Multiplier: 2, MaxInterval: time.Second,
		ShouldRetry: func(p middleware.RetryParams) bool { return passes(p.Err) && !w.config.Conn.IsClosed() }}
	router.AddMiddleware(correlate, w.account, toPoison, w.note, w.judge, retry.Middleware, middleware.Recoverer)
	router.AddConsumerHandler(group, submissionsPrefix+">", subscriber, w.handle)
	return router, nil
}

// handle brings one submission to its outcome.
func (w *Worker) handle(m *message.Message) error {
	ctx := m.Context()
	p, err := parsePlace(m.Metadata[pubsub.MetadataSubject])
	if err != nil {
		return err
	}
	cmd, err := p.command(m.Payload)
	if err != nil {
		return err
	}
	in, err := w.config.Campaigns.Get(ctx, p.campaign)
	if errors.Is(err, eventstore.ErrNotFound) {
		return errUnknownCampaign
	}
	if err != nil {
		return &unopenedError{p.campaign, err}
	}
	w.amiss.over(campaignFault(p.campaign))
	id, err := in.EventID(ctx, cmd)
	if err != nil {
		return malformed(err)
	}
	b, err := w.books.get(ctx, p.campaign)
	if err != nil {
		return err
	}
	if _, declared := in.Register().Campaign().Channel(p.channel); declared {
		if err := w.books.readableBy(ctx, b, p.channel); err != nil {
			return err
		}
	}
	o, known, err := b.settle(ctx, OutcomeSubject(p.campaign, p.channel, cmd.SubmissionID, id), func(undecided func(context.Context) error) (Outcome, error) {
		asked := cmd
		asked.Before = undecided
		return decide(ctx, in, asked)
	})
	var contradiction *contradictionError
	switch {
	case errors.As(err, &contradiction):
		w.config.Logger.Error("what was recorded and what was told differ: the ledger counts", "error", hidePseudonyms(err))
	case err != nil:
		return err
	case o.Digest != digestOf(cmd):
		return errOtherContent
	}
	w.config.Metrics.settled(o, known)
	return nil
}

// decide asks intake.
func decide(ctx context.Context, in *intake.Intake, cmd intake.Command) (Outcome, error) {
	receipt, err := in.Submit(ctx, cmd)
	var refusal *domain.Refusal
	switch {
	case err == nil:
		return accepted(cmd, receipt), nil
	case errors.As(err, &refusal) && refusal.Code == domain.IdempotencyMismatch:
		// The ledger has the submission, with the content that it had first. The
		// one outcome is that one's.
		return Outcome{}, errOtherContent
	case errors.As(err, &refusal):
		return refused(cmd, refusal), nil
	}
	return Outcome{}, malformed(err)
}

// malformed tells a command that is malformed in its own terms from a fault.
func malformed(err error) error {
	var invalid *intake.InvalidError
	if errors.As(err, &invalid) {
		return &MalformedError{invalid}
	}
	return err
}

// note logs why a submission is not decided. Faults that pass come in crowds.
func (w *Worker) note(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		made, err := next(m)
		switch {
		case err == nil, poisoned(err): // noteFiled comes when it is there
		default:
			w.config.Metrics.faults.Inc()
			w.noteFault(err)
		}
		return made, err
	}
}

// noteFiled counts what is in the poison.
func (w *Worker) noteFiled(m *message.Message) {
	w.config.Metrics.poisoned.Inc()
	w.config.Logger.Warn("a submission is in the poison", "reason", hidePseudonyms(errors.New(m.Metadata[pubsub.MetadataPoisonReason])),
		"sequence", m.Metadata[pubsub.MetadataSequence], "correlation_id", middleware.MessageCorrelationID(m))
}

func (w *Worker) noteFault(err error) {
	count, last, now := w.faults.Add(1), w.logged.Load(), time.Now().UnixNano()
	if time.Duration(now-last) < quietly || !w.logged.CompareAndSwap(last, now) || errors.Is(err, context.Canceled) {
		return
	}
	w.faults.Add(-count)
	w.config.Logger.Warn("submissions wait for a fault to pass", "submissions", count, "error", hidePseudonyms(err))
}

// account measures how long a submission was worked on.
func (w *Worker) account(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		begun := time.Now()
		made, err := next(m)
		w.config.Metrics.took.Observe(time.Since(begun).Seconds())
		return made, err
	}
}

// Ready says whether submissions can be decided: nil when they can, and how many
// wait.
func (w *Worker) Ready(ctx context.Context) (detail string, err error) {
	if !w.subscribed.Load() {
		return "", errNotBegun
	}
	b, err := readBacklog(ctx, w.config.Conn)
	if err != nil {
		return "", err
	}
	if !b.taken {
		return "", errNoWorker
	}
	return fmt.Sprintf("%d submissions wait, %d are in hand", b.Pending, b.InFlight), nil
}

// Backlog is what waits in the queue, for this worker or another one.
func (w *Worker) Backlog(ctx context.Context) (Backlog, error) {
	return ReadBacklog(ctx, w.config.Conn)
}

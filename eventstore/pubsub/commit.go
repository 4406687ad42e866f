package pubsub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Headers of an atomic batch (ADR-50).
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// Error codes of nats-server 2.15 that say for certain that nothing was stored.
const (
	codeMessageTooLarge jetstream.ErrorCode = 10054
	codeSealed          jetstream.ErrorCode = 10109
	codeBatchesDisabled jetstream.ErrorCode = 10174
	codeBatchIncomplete jetstream.ErrorCode = 10176
	codeTooManyBatches  jetstream.ErrorCode = 10210
)

// answerTimeout is how long a commit waits for the server, in time. A lost
// connection is noticed at once.
const answerTimeout = 5 * time.Second

var (
	errConnectionLost = errors.New("the connection was lost before the answer")
	errNoBatch        = errors.New("the server takes no atomic batch now")
)

// commit stores the messages of all parcels and leaves the outcome in each.
func (l *lane) commit(parcels []*parcel) {
	var messages []*nats.Msg
	for _, p := range parcels {
		messages = append(messages, p.messages...)
	}
	if l.atomic && (len(messages) >= batchMessagesMin || len(messages) > len(parcels)) {
		err := l.sendBatch(messages)
		if !errors.Is(err, errNoBatch) {
			for _, p := range parcels {
				if p.err = err; err == nil {
					p.stored = len(p.messages)
				}
			}
			return
		}
	}
	l.commitInTurn(parcels)
}

// commitInTurn stores without a batch: the first message of every parcel, then
// the second ones, and so on. What comes after a message that failed, in its
// parcel, is not sent, so that it does not overtake that one when its caller
// tries again.
func (l *lane) commitInTurn(parcels []*parcel) {
	open := slices.Clone(parcels)
	for len(open) > 0 {
		messages, errs := make([]*nats.Msg, len(open)), make([]error, len(open))
		for i, p := range open {
			messages[i] = p.messages[p.stored]
		}
		l.sendSingles(messages, errs)
		for i, p := range open {
			if p.err = errs[i]; p.err == nil {
				p.stored++
			}
		}
		open = slices.DeleteFunc(open, func(p *parcel) bool { return p.err != nil || p.stored == len(p.messages) })
	}
}

// commitContext ends with the connection, after answerTimeout, or when Close
// has lost its patience.
func (p *Publisher) commitContext() (context.Context, context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return context.WithTimeoutCause(p.connected, answerTimeout, fmt.Errorf("no answer within %v", answerTimeout))
}

// sendBatch stores all messages as one atomic batch, or none of them. errNoBatch
// says that nothing was stored and that single publishes may fare better: they
// also find out which message the server does not take.
func (l *lane) sendBatch(messages []*nats.Msg) error {
	ctx, cancel := l.publisher.commitContext()
	defer cancel()
	last := len(messages) - 1
	if err := l.sendAllButLast(messages); err != nil {
		return notSent(err)
	}
	answer, err := l.publisher.nc.RequestMsgWithContext(ctx, messages[last])
	for _, m := range messages {
		stripBatch(m)
	}
	if err != nil {
		l.missing(err)
		return unanswered(ctx, err)
	}
	return parseAck(answer, len(messages))
}

// sendAllButLast numbers the messages of a batch and sends all but the last one.
// One batch is sent at a time: if several took turns they would all be complete
// at the same moment, and the server would have nothing to do while their callers
// are answered.
func (l *lane) sendAllButLast(messages []*nats.Msg) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	id := []string{nuid.Next()}
	for i, m := range messages {
		m.Header[headerBatchID] = id
		m.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
		if i == len(messages)-1 {
			m.Header[headerBatchCommit] = []string{"1"}
			return nil
		}
		if err := l.publisher.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// stripBatch takes the headers of a batch off a message that may be sent again.
func stripBatch(m *nats.Msg) {
	delete(m.Header, headerBatchID)
	delete(m.Header, headerBatchSequence)
	delete(m.Header, headerBatchCommit)
}

// sendSingles stores each message, of different parcels, by a publish of its own.
// They are sent in their order and their answers awaited afterwards.
func (l *lane) sendSingles(messages []*nats.Msg, errs []error) {
	ctx, cancel := l.publisher.commitContext()
	defer cancel()
	nc := l.publisher.nc
	if len(messages) == 1 { // the client's shared inbox is cheaper
		answer, err := nc.RequestMsgWithContext(ctx, messages[0])
		if err != nil {
			l.missing(err)
			errs[0] = unanswered(ctx, err)
			return
		}
		errs[0] = parseAck(answer, 1)
		return
	}
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, len(messages))
	sub, err := nc.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		for i := range errs {
			errs[i] = notSent(err)
		}
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	sent := 0
	for i, m := range messages {
		m.Reply = inbox + "." + strconv.Itoa(i)
		if err := nc.PublishMsg(m); err != nil {
			for j := i; j < len(messages); j++ { // the connection takes nothing now
				errs[j] = notSent(err)
			}
			break
		}
		sent++
	}
	l.awaitSingles(ctx, answers, sent, len(inbox)+1, errs)
}

// awaitSingles collects the answers to the first sent messages. The index of a
// message is the end of the subject of its answer, from offset on.
func (l *lane) awaitSingles(ctx context.Context, answers <-chan *nats.Msg, sent, offset int, errs []error) {
	for i := range sent {
		errs[i] = ErrOutcomeUnknown
	}
	for open := sent; open > 0; {
		select {
		case answer := <-answers:
			i, err := strconv.Atoi(answer.Subject[offset:])
			if err != nil || i < 0 || i >= sent || errs[i] != ErrOutcomeUnknown {
				continue // anybody may publish to an inbox
			}
			open--
			errs[i] = parseAck(answer, 1)
			l.missing(errs[i])
		case <-ctx.Done():
			for i := range sent {
				if errs[i] == ErrOutcomeUnknown {
					errs[i] = unanswered(ctx, ctx.Err())
				}
			}
			return
		}
	}
}

// missing lets the next call look for the stream again when nobody listened.
func (l *lane) missing(err error) {
	if errors.Is(err, nats.ErrNoResponders) {
		l.publisher.forget(l)
	}
}

// notSent is the outcome of messages that did not leave, or of a batch whose
// last message did not.
func notSent(err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// unanswered is the outcome of a request whose answer did not come.
func unanswered(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject):
		return notSent(err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	default:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

// publishAck is the server's answer to a publish or to a committed batch.
type publishAck struct {
	Sequence uint64              `json:"seq"`
	Count    int                 `json:"count"` // of a batch
	Error    *jetstream.APIError `json:"error"`
}

// parseAck reads the answer to count messages. All error codes that are not
// certainly a refusal leave the outcome open: a full disk, for example, may be
// met after a message was written.
func parseAck(answer *nats.Msg, count int) error {
	if len(answer.Data) == 0 && answer.Header.Get("Status") == "503" {
		return fmt.Errorf("%w: %w", ErrUnavailable, nats.ErrNoResponders)
	}
	var ack publishAck
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return fmt.Errorf("%w: the server's acknowledgement: %w", ErrOutcomeUnknown, err)
	}
	if ack.Error == nil {
		if ack.Sequence == 0 || count > 1 && ack.Count != count {
			return fmt.Errorf("%w: unexpected acknowledgement %.200q", ErrOutcomeUnknown, answer.Data)
		}
		return nil
	}
	switch ack.Error.ErrorCode {
	case codeBatchIncomplete, codeTooManyBatches, codeBatchesDisabled:
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, errNoBatch, ack.Error)
	case codeMessageTooLarge:
		if count > 1 {
			return fmt.Errorf("%w: %w: %w", ErrRefused, errNoBatch, ack.Error)
		}
		return fmt.Errorf("%w: %w", ErrRefused, ack.Error)
	case codeSealed:
		return fmt.Errorf("%w: %w", ErrRefused, ack.Error)
	default:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ack.Error)
	}
}

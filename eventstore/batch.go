package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Transport headers of JetStream (ADR-50 for atomic batches).
const (
	headerExpectedStream   = "Nats-Expected-Stream"
	headerExpectedSequence = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedLast     = "Nats-Expected-Last-Sequence" // of the whole stream
	headerBatchID          = "Nats-Batch-Id"
	headerBatchSequence    = "Nats-Batch-Sequence"
	headerBatchCommit      = "Nats-Batch-Commit"
)

// Error codes of nats-server 2.15 that mean something here.
const (
	codeAccountFull            jetstream.ErrorCode = 10002
	codeTemporarilyUnavailable jetstream.ErrorCode = 10008
	codeServerFull             jetstream.ErrorCode = 10023
	codeNoMessage              jetstream.ErrorCode = 10037
	codeStorageFull            jetstream.ErrorCode = 10047
	codeMessageTooLarge        jetstream.ErrorCode = 10054
	codeOtherStream            jetstream.ErrorCode = 10060
	codeWrongSequence          jetstream.ErrorCode = 10071
	codeStoreFailed            jetstream.ErrorCode = 10077
	codeSealed                 jetstream.ErrorCode = 10109
	codeStreamFull             jetstream.ErrorCode = 10122
	codeWrongSequenceConstant  jetstream.ErrorCode = 10164 // another append on the subject is in flight
	codeBatchesDisabled        jetstream.ErrorCode = 10174
	codeBatchIncomplete        jetstream.ErrorCode = 10176
	codeTooManyBatches         jetstream.ErrorCode = 10210
)

// verdict is what one attempt says about an event.
type verdict int

const (
	// verdictUnknown: the event may have been recorded.
	verdictUnknown verdict = iota
	// verdictRecorded: the event is durable.
	verdictRecorded
	// verdictConflict: this attempt recorded nothing, because an expectation
	// did not hold or another append on the subject is in flight.
	verdictConflict
	// verdictRefused: this attempt recorded nothing, for a reason that has
	// nothing to do with its events and may pass.
	verdictRefused
	// verdictRejected: this attempt recorded nothing, and none will.
	verdictRejected
	// verdictLost: another event came first on the subject.
	verdictLost
)

// publishAck is the server's answer to a publish or to a committed batch.
type publishAck struct {
	Stream   string              `json:"stream"`
	Sequence uint64              `json:"seq"`
	Batch    string              `json:"batch"`
	Count    uint64              `json:"count"`
	Error    *jetstream.APIError `json:"error"`
}

// parseAck reads an answer and what it means. The batch is the id that was
// sent, or empty; count is the number of events in it.
func (l *Ledger) parseAck(msg *nats.Msg, batch string, count int) (uint64, verdict, error) {
	if noResponders(msg) {
		return 0, verdictRefused, nats.ErrNoResponders
	}
	var ack publishAck
	if err := json.Unmarshal(msg.Data, &ack); err != nil {
		return 0, verdictUnknown, fmt.Errorf("the server's acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return 0, verdictOf(ack.Error.ErrorCode), ack.Error
	}
	if ack.Stream != l.config.Stream || ack.Batch != batch || ack.Sequence < uint64(count) ||
		batch != "" && ack.Count != uint64(count) {
		return 0, verdictUnknown, fmt.Errorf("unexpected acknowledgement %q", msg.Data)
	}
	return ack.Sequence, verdictRecorded, nil
}

// verdictOf judges the server's error codes. All that are not certainly a
// refusal leave the outcome open: a full disk, for example, may be met after
// the event was written.
func verdictOf(code jetstream.ErrorCode) verdict {
	switch code {
	case codeWrongSequence, codeWrongSequenceConstant:
		return verdictConflict
	case codeBatchIncomplete, codeTooManyBatches, codeBatchesDisabled:
		return verdictRefused
	case codeSealed, codeOtherStream, codeMessageTooLarge:
		return verdictRejected
	default:
		return verdictUnknown
	}
}

// storageFull reports whether the server cannot store. That does not pass in
// the time in which an append is tried again.
func storageFull(err error) bool {
	for _, code := range []jetstream.ErrorCode{codeAccountFull, codeServerFull, codeStorageFull, codeStoreFailed, codeStreamFull} {
		if hasCode(err, code) {
			return true
		}
	}
	return false
}

// verdictOfPublish judges an error of the client library before anything was
// handed to the connection.
func verdictOfPublish(err error) verdict {
	switch {
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return verdictRefused
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining),
		errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject):
		return verdictRejected
	default:
		return verdictUnknown
	}
}

// sendBatch makes one attempt to record all requests as one atomic batch:
// either all of them are recorded with consecutive sequences, or none.
func (l *Ledger) sendBatch(ctx context.Context, rs []*request) {
	sequence, verdict, err := l.tryBatch(ctx, rs)
	for i, r := range rs {
		r.verdict, r.err = verdict, err
		if verdict == verdictRecorded {
			r.sequence = sequence - uint64(len(rs)-1-i)
		}
	}
}

func (l *Ledger) tryBatch(ctx context.Context, rs []*request) (last uint64, v verdict, err error) {
	expected := []string{""}
	b, v, err := l.startBatch(len(rs), func(i int, msg *nats.Msg) {
		msg.Subject, msg.Data = rs[i].message.Subject, rs[i].message.Data
		expected[0] = strconv.FormatUint(rs[i].expected, 10)
		msg.Header[headerExpectedSequence] = expected
	})
	if err != nil {
		return 0, v, err
	}
	return l.awaitBatch(ctx, b)
}

// sentBatch is a batch whose messages were all handed to the connection.
type sentBatch struct {
	id       string // new for each attempt: the server may still hold the last one
	count    int    // of its events
	exchange *exchange
}

// startBatch sends one atomic batch of so many messages. The function fill puts
// the subject, the bytes and the expectation of each into the message given,
// which is the same one each time. Who started a batch must await it.
func (l *Ledger) startBatch(count int, fill func(i int, msg *nats.Msg)) (*sentBatch, verdict, error) {
	b := &sentBatch{id: nuid.Next(), count: count}
	b.exchange = l.wire.exchange(2) // the first message is answered, and the last
	if v, err := l.publishBatch(b, fill); err != nil {
		b.exchange.end()
		return nil, v, err
	}
	return b, verdictUnknown, nil
}

// publishBatch sends the messages of one batch. One batch is sent at a time: if
// several took turns they would all be complete at the same moment, and the
// server would have nothing to do while their callers are answered.
func (l *Ledger) publishBatch(b *sentBatch, fill func(i int, msg *nats.Msg)) (verdict, error) {
	l.sending.Lock()
	defer l.sending.Unlock()
	number := []string{""}
	msg := nats.Msg{Header: nats.Header{
		headerExpectedStream: {l.config.Stream},
		headerBatchID:        {b.id},
		headerBatchSequence:  number,
	}}
	for i := range b.count {
		msg.Reply = ""
		number[0] = strconv.Itoa(i + 1)
		switch i {
		case 0:
			msg.Reply = b.exchange.replyTo(0)
		case 1: // once a batch is enough, and the header is stored with the event
			delete(msg.Header, headerExpectedStream)
		}
		fill(i, &msg)
		last := i == b.count-1
		if last {
			msg.Header[headerBatchCommit] = []string{"1"}
			msg.Reply = b.exchange.replyTo(1)
		}
		if err := l.wire.nc.PublishMsg(&msg); err != nil {
			v := verdictOfPublish(err)
			if v == verdictUnknown && !last {
				v = verdictRefused // without its last message no batch is committed
			}
			return v, err
		}
	}
	return verdictUnknown, nil
}

// awaitBatch waits for the answer to the commit. The answer to the first
// message is normally empty; when it is an error, it is the reason why the
// commit is answered by "incomplete".
func (l *Ledger) awaitBatch(ctx context.Context, b *sentBatch) (uint64, verdict, error) {
	defer b.exchange.end()
	var reason error
	for {
		a, err := b.exchange.next(ctx)
		if err != nil {
			return 0, verdictUnknown, err
		}
		if a.index == 0 {
			if len(a.msg.Data) > 0 || noResponders(a.msg) {
				_, _, reason = l.parseAck(a.msg, b.id, b.count)
			}
			continue
		}
		last, v, err := l.parseAck(a.msg, b.id, b.count)
		if v == verdictRefused && reason != nil {
			err = reason
		}
		return last, v, err
	}
}

// sendSingles makes one attempt to record each request by a publish of its
// own. The requests are independent of each other.
func (l *Ledger) sendSingles(ctx context.Context, rs []*request) {
	e := l.wire.exchange(len(rs))
	defer e.end()
	expected := []string{""}
	msg := nats.Msg{Header: nats.Header{
		headerExpectedStream:   {l.config.Stream},
		headerExpectedSequence: expected,
	}}
	awaited := 0
	for i, r := range rs {
		msg.Subject, msg.Data, msg.Reply = r.message.Subject, r.message.Data, e.replyTo(i)
		expected[0] = strconv.FormatUint(r.expected, 10)
		if err := l.wire.nc.PublishMsg(&msg); err != nil {
			r.verdict, r.err = verdictOfPublish(err), err
			continue
		}
		r.verdict, r.err = verdictUnknown, nil
		awaited++
	}
	for range awaited {
		a, err := e.next(ctx)
		if err != nil {
			for _, r := range rs {
				if r.verdict == verdictUnknown && r.err == nil {
					r.err = err
				}
			}
			return
		}
		r := rs[a.index]
		r.sequence, r.verdict, r.err = l.parseAck(a.msg, "", 1)
	}
}

// hasCode reports whether err holds a JetStream error with this code.
func hasCode(err error, code jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == code
}

package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// historyPageEvents is how much of a history one request asks for.
const historyPageEvents = 256

// maxHistories is how many pages of histories a ledger asks for at a time. For
// each the server goes through what lies between two events of the subject, one
// after the other: a thousand at once only make all of them late, and those that
// are asked again because they were late make it later still.
const maxHistories = 16

// getRequest is the body of JetStream's direct and leader reads.
type getRequest struct {
	Sequence  uint64   `json:"seq,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	Last      string   `json:"last_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	NoHeaders bool     `json:"no_hdr,omitempty"` // a direct answer then tells neither sequences nor subjects
}

func (r getRequest) encode() ([]byte, error) { return json.Marshal(r) }

// History returns the events of a subject above the sequence after, in order.
// The subject may hold wildcards.
//
// A history read from any replica may lack its newest events, but never one
// in the middle.
func (l *Ledger) History(ctx context.Context, subject string, after uint64, read Read) ([]Recorded, error) {
	if err := l.readable(subject); err != nil {
		return nil, err
	}
	if after == 0 && read == AnyReplica && single(subject) {
		absent, done, err := l.probes.absent(ctx, subject)
		if err != nil {
			return nil, fmt.Errorf("ledger %s: history of %s: %w", l.config.Stream, subject, err)
		}
		if absent {
			return nil, nil
		}
		defer done()
	}
	var events []Recorded
	err := l.retryRead(ctx, func(ctx context.Context) error {
		for {
			if read == Leader { // what a replica has is true; what it lacks, and mostly nothing is new, only the leader knows
				next, ok, err := l.firstAfter(ctx, subject, after)
				if err != nil || !ok {
					return err
				}
				after, events = next.Sequence, append(events, next)
			}
			for more := true; more; {
				page, pending, err := l.historyPage(ctx, subject, after)
				if err != nil && !errors.Is(err, errOddHeaders) {
					return err
				}
				if err != nil {
					odd, found, err := l.firstAfter(ctx, subject, lastOf(page, after))
					if err != nil {
						return err
					}
					if !found {
						return errNotYetThere
					}
					page, pending = append(page, odd), true
				}
				after = lastOf(page, after)
				events = append(events, page...)
				more = pending && len(page) > 0
			}
			if read == AnyReplica {
				return nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ledger %s: history of %s: %w", l.config.Stream, subject, err)
	}
	return events, nil
}

// lastOf is the sequence of the last of these events, or the given one.
func lastOf(events []Recorded, sequence uint64) uint64 {
	if len(events) > 0 {
		sequence = events[len(events)-1].Sequence
	}
	return sequence
}

// Last returns the last event of a subject, which may hold wildcards, and false
// when there is none.
func (l *Ledger) Last(ctx context.Context, subject string, read Read) (Recorded, bool, error) {
	if err := l.readable(subject); err != nil {
		return Recorded{}, false, err
	}
	var (
		event Recorded
		found bool
	)
	err := l.retryRead(ctx, func(ctx context.Context) (err error) {
		if read == Leader {
			event, found, err = l.leaderGet(ctx, getRequest{Last: subject})
			return err
		}
		var events []Recorded
		events, _, err = l.directGet(ctx, getRequest{Last: subject}, 1)
		if errors.Is(err, errOddHeaders) {
			event, found, err = l.leaderGet(ctx, getRequest{Last: subject})
			return err
		}
		if found = len(events) > 0; found {
			event = events[0]
		}
		return err
	})
	if err != nil {
		return Recorded{}, false, fmt.Errorf("ledger %s: last event of %s: %w", l.config.Stream, subject, err)
	}
	return event, found, nil
}

// Count returns how many events the leader has of a subject, which may hold
// wildcards. The server reads them off its index of subjects and looks at no
// event, so this costs as much as there are subjects that match: what asks often
// whether there is anything new asks here, and not History.
func (l *Ledger) Count(ctx context.Context, subject string) (count uint64, err error) {
	if err := l.readable(subject); err != nil {
		return 0, err
	}
	err = l.retryRead(ctx, func(ctx context.Context) (err error) {
		count, err = l.countSubjects(ctx, subject)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ledger %s: count of %s: %w", l.config.Stream, subject, err)
	}
	return count, nil
}

// countSubjects adds up the pages in which the server lists subjects.
func (l *Ledger) countSubjects(ctx context.Context, subject string) (count uint64, err error) {
	for offset, total := 0, 1; offset < total; {
		body, err := json.Marshal(map[string]any{"subjects_filter": subject, "offset": offset})
		if err != nil {
			return 0, err
		}
		msg, err := l.wire.request(ctx, l.infoSubject, body)
		if err != nil {
			return 0, err
		}
		var page struct {
			Error *jetstream.APIError `json:"error"`
			Total int                 `json:"total"`
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
		}
		if err := json.Unmarshal(msg.Data, &page); err != nil {
			return 0, fmt.Errorf("the server's answer about the stream: %w", err)
		}
		if page.Error != nil {
			return 0, streamError(page.Error)
		}
		for _, n := range page.State.Subjects {
			count += n
		}
		if offset, total = offset+len(page.State.Subjects), page.Total; len(page.State.Subjects) == 0 {
			break
		}
	}
	return count, nil
}

func (l *Ledger) readable(subject string) error {
	if l.ctx.Err() != nil {
		return fmt.Errorf("ledger %s: %w", l.config.Stream, ErrClosed)
	}
	if err := validateFilter(subject); err != nil {
		return fmt.Errorf("ledger %s: %w", l.config.Stream, err)
	}
	return nil
}

// retryRead repeats a read while nobody answers: a new leader is elected in
// seconds. It ends with ctx, with the ledger or after retryLimit.
func (l *Ledger) retryRead(ctx context.Context, read func(context.Context) error) error {
	ctx, stop := l.within(ctx)
	defer stop()
	giveUp := time.Now().Add(retryLimit)
	for try := 0; ; try++ {
		err := read(ctx)
		if !transient(err) {
			return reachable(err)
		}
		if time.Now().After(giveUp) {
			return reachable(err)
		}
		if cause := pause(ctx, try); cause != nil {
			return fmt.Errorf("%w: %w: %w", ErrUnavailable, cause, err)
		}
	}
}

// transient reports whether the same request may be answered a little later.
func transient(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, errConnectionLost) ||
		errors.Is(err, errNoAnswer) ||
		errors.Is(err, errIncompleteAnswer) ||
		errors.Is(err, errNotYetThere) ||
		broken(err) ||
		hasCode(err, codeTemporarilyUnavailable)
}

// broken recognises what a write says to a connection that has just been lost, in
// process or over TCP, before the client has noticed and connects again.
func broken(err error) bool {
	return errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// reachable says ErrUnavailable where nobody answered, beside the reason. Other
// errors, and none, stay as they are.
func reachable(err error) error {
	if transient(err) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// historyPage reads one page from any replica and says whether more was there.
func (l *Ledger) historyPage(ctx context.Context, subject string, after uint64) ([]Recorded, bool, error) {
	select {
	case l.histories <- struct{}{}:
		defer func() { <-l.histories }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	return l.directGet(ctx, getRequest{Sequence: after + 1, Next: subject, Batch: historyPageEvents}, historyPageEvents)
}

// lastOfMany returns the last sequence of each of the subjects that has one,
// as any replica knows it. The server takes at most 1024 subjects, which is
// more than a batch has. It says nothing about subjects that are missing in
// the answer: the replica may be behind, or the answer may have grown too long.
func (l *Ledger) lastOfMany(ctx context.Context, subjects []string) (map[string]uint64, error) {
	events, _, err := l.directGet(ctx, getRequest{MultiLast: subjects}, len(subjects))
	if err != nil {
		return nil, err
	}
	last := make(map[string]uint64, len(events))
	for _, e := range events {
		last[e.Subject] = e.Sequence
	}
	return last, nil
}

// firstAfter asks the leader for the first event of a subject above a
// sequence.
func (l *Ledger) firstAfter(ctx context.Context, subject string, after uint64) (Recorded, bool, error) {
	return l.leaderGet(ctx, getRequest{Sequence: after + 1, Next: subject})
}

// leaderGet asks the stream's leader. The client library's own get would ask
// any replica, because the stream allows direct reads.
func (l *Ledger) leaderGet(ctx context.Context, get getRequest) (Recorded, bool, error) {
	get.NoHeaders = true
	body, err := get.encode()
	if err != nil {
		return Recorded{}, false, err
	}
	msg, err := l.wire.request(ctx, l.leaderGetSubject, body)
	if err != nil {
		return Recorded{}, false, err
	}
	var resp struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &resp); err != nil {
		return Recorded{}, false, fmt.Errorf("the leader's answer: %w", err)
	}
	switch {
	case resp.Error != nil && resp.Error.ErrorCode == codeNoMessage:
		return Recorded{}, false, nil
	case resp.Error != nil && resp.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return Recorded{}, false, fmt.Errorf("%w: %w", ErrNotFound, resp.Error)
	case resp.Error != nil:
		return Recorded{}, false, resp.Error
	case resp.Message == nil:
		return Recorded{}, false, errIncompleteAnswer
	}
	m := resp.Message
	return Recorded{Message{m.Subject, m.Data}, m.Sequence, m.Time}, true, nil
}

// errIncompleteAnswer says that a part of an answer did not arrive.
var errIncompleteAnswer = errors.New("the server's answer is incomplete")

// directGet asks any replica and collects at most max events. The flag says
// that the server had more.
func (l *Ledger) directGet(ctx context.Context, get getRequest, max int) ([]Recorded, bool, error) {
	body, err := get.encode()
	if err != nil {
		return nil, false, err
	}
	e := l.wire.exchange(max + 1) // the events and the mark at the end
	defer e.end()
	if err := l.wire.nc.PublishRequest(l.directGetSubject, e.replyTo(0), body); err != nil {
		return nil, false, err
	}
	many := get.Batch > 0 || len(get.MultiLast) > 0
	var events []Recorded
	var last uint64
	for {
		a, err := e.next(ctx)
		if err != nil {
			return nil, false, err
		}
		if isEnd(a.msg) {
			pending, err := endOfDirect(a.msg, last)
			return events, pending > 0, err
		}
		event, previous, err := parseDirect(a.msg)
		if err != nil {
			return events, false, err
		}
		if many && previous != last {
			return nil, false, errIncompleteAnswer
		}
		last = event.Sequence
		events = append(events, event)
		if !many {
			return events, false, nil
		}
	}
}

// errOddHeaders says that the headers of a message do not tell reliably which
// event it is. The leader does, for it does not tell it by headers.
var errOddHeaders = errors.New("the event was stored with headers that hide those of the server")

// maxHeaders is how many headers a message may have whose headers are believed.
// It has six from the server and at most four from Append.
const maxHeaders = 24

// believable reports whether all headers of a message were seen. They are stored
// with an event as they were sent, and the server puts its own behind them: an
// empty line among them hides these, and others may imitate them. What is hidden
// is missing in the sum of the lengths; spaces and line ends that were left out
// in so few headers do not make up for it.
func believable(msg *nats.Msg) bool {
	headers, size := 0, len("NATS/1.0\r\n\r\n")
	for name, values := range msg.Header {
		headers += len(values)
		for _, value := range values {
			size += len(value)
			if name == "Status" || name == "Description" { // are in the first line
				size += len(" ")
			} else {
				size += len(name) + len(": \r\n")
			}
		}
	}
	return headers <= maxHeaders && size == msg.Size()-len(msg.Subject)-len(msg.Reply)-len(msg.Data)
}

// serverHeader returns the last value of a header, which is the server's.
func serverHeader(msg *nats.Msg, key string) string {
	values := msg.Header[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// isEnd tells the server's status, which ends an answer, from an event.
func isEnd(msg *nats.Msg) bool {
	return len(msg.Header["Nats-Sequence"]) == 0 && believable(msg)
}

// endOfDirect judges the status that ends a direct read whose last event was at
// sequence last, and says how much more the server had.
func endOfDirect(msg *nats.Msg, last uint64) (pending uint64, err error) {
	switch status := serverHeader(msg, "Status"); status {
	case "404":
		return 0, nil
	case "204":
		if serverHeader(msg, "Nats-Last-Sequence") != strconv.FormatUint(last, 10) {
			return 0, errIncompleteAnswer
		}
		return strconv.ParseUint(serverHeader(msg, "Nats-Num-Pending"), 10, 64)
	case "503":
		return 0, nats.ErrNoResponders
	case "":
		return 0, errTooOld
	default:
		code, _ := strconv.Atoi(status)
		return 0, fmt.Errorf("direct read: %w", &jetstream.APIError{Code: code, Description: serverHeader(msg, "Description")})
	}
}

// errTooOld says that a server sends headers to who wants none.
var errTooOld = errors.New("the server cannot leave out headers: nats-server 2.12 or later is needed")

// parseDirect reads one event of a direct read and the sequence of the one
// that was sent before it.
func parseDirect(msg *nats.Msg) (Recorded, uint64, error) {
	if !believable(msg) {
		return Recorded{}, 0, errOddHeaders
	}
	sequence, err := strconv.ParseUint(serverHeader(msg, "Nats-Sequence"), 10, 64)
	if err != nil {
		return Recorded{}, 0, fmt.Errorf("direct read: %w", err)
	}
	var previous uint64
	if s := serverHeader(msg, "Nats-Last-Sequence"); s != "" {
		if previous, err = strconv.ParseUint(s, 10, 64); err != nil {
			return Recorded{}, 0, fmt.Errorf("direct read: %w", err)
		}
	}
	stored, err := time.Parse(time.RFC3339Nano, serverHeader(msg, "Nats-Time-Stamp"))
	if err != nil {
		return Recorded{}, 0, fmt.Errorf("direct read: %w", err)
	}
	return Recorded{Message{serverHeader(msg, "Nats-Subject"), msg.Data}, sequence, stored}, previous, nil
}

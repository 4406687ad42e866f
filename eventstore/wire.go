package eventstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// answerTimeout is how long one attempt waits for the server, in time. It is
// generous: a disk that is busy answers late, and an attempt that is given up
// costs a look at what became of it. A lost connection is noticed at once.
const answerTimeout = 5 * time.Second

var (
	errConnectionLost = errors.New("the connection was lost before the answer")
	errNoAnswer       = fmt.Errorf("no answer within %v", answerTimeout)
)

// wire publishes to the server and hands the answers to who waits for them.
// One wildcard subscription serves all exchanges, because a subscription for
// each batch would cost two more protocol messages and a server-side lock.
type wire struct {
	nc     *nats.Conn
	prefix string // of every reply subject
	sub    *nats.Subscription
	status chan nats.Status
	done   sync.WaitGroup // the watcher

	mu   sync.Mutex
	last uint64               // the last exchange's number
	open map[uint64]*exchange // by number
}

// exchange is a number of messages whose answers are awaited together.
type exchange struct {
	wire    *wire
	number  uint64
	reply   string        // the reply subject up to the index
	arrived chan struct{} // has room for one: there are answers
	lost    chan struct{} // closed when the connection broke
	timer   *time.Timer

	mu      sync.Mutex // guards what follows
	answers []answer   // that have arrived and were not taken yet
	room    int        // for so many more: what is expected at most
	indexes int        // the messages have indexes below this
}

// answer is one reply and the index of the message that it answers.
type answer struct {
	index int
	msg   *nats.Msg
}

func newWire(nc *nats.Conn) (*wire, error) {
	w := &wire{nc: nc, prefix: nc.NewInbox() + ".", open: make(map[uint64]*exchange)}
	sub, err := nc.Subscribe(w.prefix+"*.*", w.deliver)
	if err != nil {
		return nil, err
	}
	w.sub = sub
	w.status = nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	w.done.Go(func() {
		for range w.status {
			w.abandonAll()
		}
	})
	return w, nil
}

// close ends the subscription and waits for the watcher.
func (w *wire) close() error {
	w.nc.RemoveStatusListener(w.status)
	w.done.Wait()
	if err := w.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	return nil
}

// exchange opens an exchange that expects at most n answers. The caller, who is
// the only one to wait for them, must end it.
func (w *wire) exchange(n int) *exchange {
	e := &exchange{
		wire:    w,
		arrived: make(chan struct{}, 1),
		lost:    make(chan struct{}),
		room:    n,
		indexes: n,
		timer:   time.NewTimer(answerTimeout),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	e.number = w.last
	e.reply = w.prefix + strconv.FormatUint(e.number, 36) + "."
	w.open[e.number] = e
	return e
}

// end forgets the exchange; later answers are dropped.
func (e *exchange) end() {
	e.timer.Stop()
	e.wire.mu.Lock()
	defer e.wire.mu.Unlock()
	delete(e.wire.open, e.number)
}

// replyTo is the reply subject of the exchange's message with this index.
func (e *exchange) replyTo(index int) string {
	return e.reply + strconv.Itoa(index)
}

// next waits for an answer, at most until answerTimeout after the beginning
// of the exchange.
func (e *exchange) next(ctx context.Context) (answer, error) {
	for {
		if a, ok := e.take(); ok { // first, so that nothing that has arrived is lost
			return a, nil
		}
		select {
		case <-e.arrived:
		case <-e.lost:
			return answer{}, errConnectionLost
		case <-e.timer.C:
			return answer{}, errNoAnswer
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
}

// take is the oldest answer that was not taken yet.
func (e *exchange) take() (a answer, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.answers) == 0 {
		return answer{}, false
	}
	a, e.answers = e.answers[0], e.answers[1:]
	return a, true
}

// put adds an answer, unless there are more than were asked for, or it answers
// no message of the exchange: anybody may publish to an inbox.
func (e *exchange) put(a answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.room == 0 || a.index < 0 || a.index >= e.indexes {
		return
	}
	e.room--
	e.answers = append(e.answers, a)
	select {
	case e.arrived <- struct{}{}:
	default: // it is known already that there are answers
	}
}

// deliver runs in the subscription's goroutine and never blocks.
func (w *wire) deliver(msg *nats.Msg) {
	token, rest, _ := strings.Cut(strings.TrimPrefix(msg.Subject, w.prefix), ".")
	number, err := strconv.ParseUint(token, 36, 64)
	if err != nil {
		return
	}
	index, err := strconv.Atoi(rest)
	if err != nil {
		return
	}
	w.mu.Lock()
	e := w.open[number]
	w.mu.Unlock()
	if e != nil { // else it answers what was given up
		e.put(answer{index, msg})
	}
}

// abandonAll wakes everybody whose answer can no longer arrive.
func (w *wire) abandonAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for number, e := range w.open {
		close(e.lost)
		delete(w.open, number)
	}
}

// request sends data and waits for one answer.
func (w *wire) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	e := w.exchange(1)
	defer e.end()
	if err := w.nc.PublishRequest(subject, e.replyTo(0), data); err != nil {
		return nil, err
	}
	a, err := e.next(ctx)
	if err != nil {
		return nil, err
	}
	if noResponders(a.msg) {
		return nil, nats.ErrNoResponders
	}
	return a.msg, nil
}

// noResponders recognises the server's word that nobody listens on a subject,
// and so that nobody got the message.
func noResponders(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && len(msg.Header) > 0 && msg.Header.Get("Status") == "503"
}

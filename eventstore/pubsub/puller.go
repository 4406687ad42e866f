package pubsub

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pullExpiry is how long the server keeps a request of an unordered
	// subscription.
	pullExpiry = 30 * time.Second
	// pullHeartbeat is how often the server shows that it has a request, at least.
	pullHeartbeat = 5 * time.Second
	// heartbeatsMissed is after how many missing heartbeats a request is lost.
	heartbeatsMissed = 3
	// statusRoom is the room for the server's words beside messages.
	statusRoom = 256
	// priorityGroup is the name that pinned consumers need.
	priorityGroup = "order"
)

var (
	errDisplaced  = errors.New("another subscriber of the group is active now")
	errSilent     = errors.New("the server is silent")
	errNoConsumer = errors.New("the durable consumer is gone: subscribe again to make another one, which begins with the oldest message")
	// errMissing is the word of the server that keeps the list of consumers. Without
	// it nobody listened to a request, which also happens while leaders change.
	errMissing = fmt.Errorf("%w, because somebody has deleted this one", errNoConsumer)
)

// puller asks one durable consumer for messages. The client library's Consume
// and Fetch would do, but for two things: they ask for more than there is room
// for, so that messages rest where no heartbeat keeps them alive; and they lose
// what is on its way when they are stopped.
type puller struct {
	nc      *nats.Conn
	subject string // of requests
	sub     *nats.Subscription
	arrived chan *nats.Msg
	expiry  time.Duration
	ordered bool
	pin     string // the server's name for the active subscriber, or empty

	outstanding int // messages that were asked for and have not come
	heard       time.Time
}

// pullRequest is the request of JetStream's protocol (ADR-13, ADR-42).
type pullRequest struct {
	Batch     int           `json:"batch"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat"`
	Group     string        `json:"group,omitempty"`
	Pin       string        `json:"id,omitempty"`
}

// newPuller starts to listen for what is asked for. At most room messages may
// be outstanding.
func newPuller(nc *nats.Conn, stream, consumer string, room int, c SubscriberConfig) (*puller, error) {
	p := &puller{
		nc:      nc,
		subject: "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer,
		arrived: make(chan *nats.Msg, room+statusRoom),
		expiry:  pullExpiry,
		ordered: c.OrderBy != nil,
		heard:   time.Now(),
	}
	if p.ordered {
		// Requests are what shows the server that the active subscriber lives.
		p.expiry = c.TakeoverAfter / 3
	}
	var err error
	p.sub, err = nc.ChanSubscribe(nc.NewInbox(), p.arrived)
	return p, err
}

func (p *puller) heartbeat() time.Duration { return min(pullHeartbeat, p.expiry/2) }

// pull asks for so many messages more.
func (p *puller) pull(batch int) error {
	request := pullRequest{Batch: batch, Expires: p.expiry, Heartbeat: p.heartbeat()}
	if p.ordered {
		request.Group, request.Pin = priorityGroup, p.pin
	}
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if err := p.nc.PublishRequest(p.subject, p.sub.Subject, data); err != nil {
		return err
	}
	if p.outstanding == 0 {
		p.heard = time.Now() // the server had no reason to speak before
	}
	p.outstanding += batch
	return nil
}

// silent reports whether the server has failed to show that it has a request.
func (p *puller) silent() bool {
	return p.outstanding > 0 && time.Since(p.heard) > heartbeatsMissed*p.heartbeat()
}

// status takes the server's words about requests. They have no reply subject,
// as messages do.
func (p *puller) status(msg *nats.Msg) error {
	switch code := msg.Header.Get("Status"); code {
	case "100": // a heartbeat
		return nil
	case "404", "408", "409":
		left, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
		if err == nil { // a request has ended
			p.outstanding = max(p.outstanding-left, 0)
			return nil
		}
		return fmt.Errorf("the server has ended a request: %s %s", code, msg.Header.Get("Description"))
	case "423":
		p.pin = ""
		return errDisplaced
	case "503":
		return errNoConsumer
	default:
		return fmt.Errorf("the server has answered a request by %s %s", code, msg.Header.Get("Description"))
	}
}

// parseDelivery reads what the server says about a delivery.
func parseDelivery(msg *nats.Msg) (delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return delivery{}, err
	}
	return delivery{
		stream:     meta.Stream,
		sequence:   meta.Sequence.Stream,
		consumer:   meta.Sequence.Consumer,
		deliveries: meta.NumDelivered,
		published:  meta.Timestamp,
	}, nil
}

// pinOf is the pin under which a message was delivered. Only the last value is
// the server's: whoever publishes can imitate the others.
func pinOf(msg *nats.Msg) string {
	values := msg.Header[headerPinID]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

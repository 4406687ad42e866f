package pubsub

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// Metadata that every received message has. It describes one delivery and is
// not published again with the message.
const (
	// MetadataStream is the name of the stream that holds the message.
	MetadataStream = "nats_stream"
	// MetadataSequence is the message's sequence in its stream, in decimal.
	MetadataSequence = "nats_sequence"
	// MetadataDeliveries is how often the message was delivered to the group, in
	// decimal: 1 for the first time. It begins again when an ordered group gets
	// another active subscriber.
	MetadataDeliveries = "nats_deliveries"
	// MetadataSubject is the subject that the message was published to. It
	// matters when the topic has wildcards.
	MetadataSubject = "nats_subject"
	// MetadataPublished is when the server stored the message (RFC 3339, UTC).
	MetadataPublished = "nats_published"
	// MetadataMalformed is why a message is malformed. It is there only on such
	// messages.
	MetadataMalformed = "nats_malformed"
)

// Metadata of messages in a poison topic. The names are those of Watermill's
// own poison queue, so that both kinds can be read alike.
const (
	MetadataPoisonReason  = "reason_poisoned"
	MetadataPoisonTopic   = "topic_poisoned"
	MetadataPoisonHandler = "subscriber_poisoned" // the group
)

// Headers of a published message. Metadata whose key and value a header can
// carry is a header of that name; the rest is a JSON object in one header.
const (
	headerUUID     = "Paldies-Message-Uuid"
	headerMetadata = "Paldies-Metadata"
	headerPinID    = "Nats-Pin-Id"
)

// uuidBytesMax is the longest UUID of a message, in bytes. Watermill lets it be
// any text.
const uuidBytesMax = 256

var errMalformed = errors.New("malformed message")

// uuidSpace makes the UUIDs of messages that came without one: the same message
// has the same UUID in each delivery.
var uuidSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://sakipaldies.lv/ledger/pubsub"))

// encode makes the NATS message for a Watermill message.
func encode(subject string, m *message.Message) (*nats.Msg, error) {
	if m.UUID != "" && !plainValue(m.UUID) || len(m.UUID) > uuidBytesMax {
		return nil, fmt.Errorf("%w: its UUID %.40q is no header value of at most %d bytes", ErrRefused, m.UUID, uuidBytesMax)
	}
	header := nats.Header{}
	if m.UUID != "" {
		header[headerUUID] = []string{m.UUID}
	}
	var rest map[string]string
	for key, value := range m.Metadata {
		switch {
		case ofDelivery(key):
		case plainKey(key) && plainValue(value):
			header[key] = []string{value}
		case !utf8.ValidString(key) || !utf8.ValidString(value):
			return nil, fmt.Errorf("%w: its metadata %.40q is not UTF-8", ErrRefused, key)
		default:
			if rest == nil {
				rest = make(map[string]string)
			}
			rest[key] = value
		}
	}
	if rest != nil {
		data, err := json.Marshal(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: its metadata: %w", ErrRefused, err)
		}
		header[headerMetadata] = []string{string(data)}
	}
	return &nats.Msg{Subject: subject, Header: header, Data: m.Payload}, nil
}

// ofDelivery recognises the metadata that a subscriber adds.
func ofDelivery(key string) bool {
	switch key {
	case MetadataStream, MetadataSequence, MetadataDeliveries, MetadataSubject, MetadataPublished, MetadataMalformed:
		return true
	}
	return false
}

// plainKey reports whether the name of a header can be this key and mean nothing else.
func plainKey(key string) bool {
	if key == "" || reserved(key) {
		return false
	}
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}

// reserved recognises the headers of the server and of this package. The server
// compares some of its own without regard to case.
func reserved(key string) bool {
	for _, prefix := range []string{"Nats-", "Paldies-"} {
		if len(key) >= len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
			return true
		}
	}
	return strings.EqualFold(key, "Status") || strings.EqualFold(key, "Description")
}

// plainValue reports whether a header can carry the value unchanged.
func plainValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(value) && value == strings.TrimSpace(value)
}

// delivery is what the server says about one delivery of a message.
type delivery struct {
	stream     string
	sequence   uint64 // in the stream
	consumer   uint64 // in the consumer, since its last reset
	deliveries uint64
	published  time.Time
}

// decode makes the Watermill message for a delivered one. Whatever others have
// published, it returns a message that can be worked with; malformed says what
// is wrong with it, or is nil.
func decode(msg *nats.Msg, d delivery) (m *message.Message, malformed error) {
	id, malformed := decodeUUID(msg.Header)
	if id == "" {
		id = uuid.NewSHA1(uuidSpace, []byte(d.stream+"/"+strconv.FormatUint(d.sequence, 10))).String()
	}
	m = message.NewMessage(id, msg.Data)
	for key, values := range msg.Header {
		if !reserved(key) && len(values) > 0 && utf8.ValidString(key) && utf8.ValidString(values[0]) {
			m.Metadata[key] = values[0]
		}
	}
	if err := decodeMetadata(msg.Header, m.Metadata); err != nil {
		malformed = err
	}
	if unreadable(msg) {
		malformed = fmt.Errorf("%w: its headers cannot be read", errMalformed)
	}
	m.Metadata[MetadataStream] = d.stream
	m.Metadata[MetadataSequence] = strconv.FormatUint(d.sequence, 10)
	m.Metadata[MetadataDeliveries] = strconv.FormatUint(d.deliveries, 10)
	m.Metadata[MetadataSubject] = msg.Subject
	m.Metadata[MetadataPublished] = d.published.UTC().Format(time.RFC3339Nano)
	delete(m.Metadata, MetadataMalformed) // somebody else's word
	if malformed != nil {
		m.Metadata[MetadataMalformed] = malformed.Error()
	}
	return m, malformed
}

// unreadable recognises a message whose headers the client library could not
// read: it passes the message on without them, but knows its size on the wire.
func unreadable(msg *nats.Msg) bool {
	return msg.Header == nil && msg.Size() > len(msg.Subject)+len(msg.Reply)+len(msg.Data)
}

// decodeUUID returns an empty UUID when there is none, which is no mistake:
// others publish with tools that know nothing of it.
func decodeUUID(header nats.Header) (string, error) {
	values := header[headerUUID]
	switch {
	case len(values) == 0 || values[0] == "":
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("%w: %d headers %s", errMalformed, len(values), headerUUID)
	case len(values[0]) > uuidBytesMax || !plainValue(values[0]):
		return "", fmt.Errorf("%w: header %s is %.40q", errMalformed, headerUUID, values[0])
	}
	return values[0], nil
}

func decodeMetadata(header nats.Header, into message.Metadata) error {
	values := header[headerMetadata]
	if len(values) == 0 {
		return nil
	}
	var rest map[string]string
	if err := json.Unmarshal([]byte(values[0]), &rest); err != nil || len(values) > 1 {
		return fmt.Errorf("%w: header %s is no JSON object of texts", errMalformed, headerMetadata)
	}
	for key, value := range rest {
		into[key] = value
	}
	return nil
}

// Metadata reads the metadata of a stored message, for programs that look at a
// stream without subscribing to it. What cannot be read is left out.
func Metadata(header nats.Header) message.Metadata {
	m, _ := decode(&nats.Msg{Header: header}, delivery{})
	for key := range m.Metadata {
		if ofDelivery(key) {
			delete(m.Metadata, key)
		}
	}
	return m.Metadata
}

package domain

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

const (
	specVersion  = "1.0"
	typePrefix   = "lv.sakipaldies."
	sourcePrefix = "/campaigns/"
)

// envelope is a CloudEvent 1.0 in its JSON format (CloudEvents JSON Event
// Format, section 3). There is no datacontenttype: JSON is its default.
type envelope[D any] struct {
	SpecVersion string    `json:"specversion"`
	ID          eventID   `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Time        time.Time `json:"time"`
	Data        D         `json:"data"`
}

// eventID is a UUID that has one spelling only: in lower case, with hyphens.
type eventID uuid.UUID

func (id eventID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

func (id *eventID) UnmarshalText(text []byte) error {
	parsed, err := uuid.ParseBytes(text)
	if err != nil {
		return err
	}
	if canonical, _ := parsed.MarshalText(); !bytes.Equal(text, canonical) {
		return errors.New("a UUID is written in lower case with hyphens")
	}
	*id = eventID(parsed)
	return nil
}

// Encode writes an event as it is stored. It is called once in an event's
// life; from then on its bytes are what counts.
func Encode(e Event) ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	if data, ok := encodeCanonical(e); ok {
		return data, nil
	}
	return encodeGeneral(e)
}

// encodeGeneral writes any event that is valid.
func encodeGeneral(e Event) ([]byte, error) {
	data, err := json.Marshal(envelope[Payload]{
		SpecVersion: specVersion,
		ID:          eventID(e.ID),
		Source:      sourcePrefix + e.Campaign,
		Type:        typePrefix + e.Data.kind(),
		Time:        e.Time,
		Data:        e.Data,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.Data.kind(), err)
	}
	if len(data) > MaxEventBytes {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", e.Data.kind(), len(data), MaxEventBytes)
	}
	return data, nil
}

func (e Event) validate() error {
	if e.Data == nil {
		return errors.New("event without data")
	}
	if e.ID == uuid.Nil || e.Time.IsZero() {
		return fmt.Errorf("%s: id and time are needed", e.Data.kind())
	}
	if err := firstError(ValidateCampaignID(e.Campaign), validTime("time", e.Time), e.Data.validate()); err != nil {
		return fmt.Errorf("%s: %w", e.Data.kind(), err)
	}
	return nil
}

// ErrUnknownType says that an event's type or version is not known to this
// program. Nothing may skip it: a newer program is needed.
var ErrUnknownType = errors.New("unknown event type")

// Upcaster turns the data of an older version of a type into a newer one. It
// is how the schema changes: stored bytes stay as they are.
type Upcaster struct {
	From, To string // types without their prefix: "vote.cast.v1", "vote.cast.v2"
	Data     func(jsontext.Value) (jsontext.Value, error)
}

// Codec decodes events. It is safe for concurrent use.
type Codec struct {
	upcasters map[string]Upcaster
}

// NewCodec makes a codec that knows the given older versions. Two upcasters
// from one type, or a circle of them, are a programming error.
func NewCodec(upcasters ...Upcaster) (*Codec, error) {
	c := &Codec{upcasters: make(map[string]Upcaster, len(upcasters))}
	for _, u := range upcasters {
		if _, ok := c.upcasters[u.From]; ok {
			return nil, fmt.Errorf("two upcasters from %s", u.From)
		}
		c.upcasters[u.From] = u
	}
	for kind := range c.upcasters {
		for steps, next := 0, kind; ; steps++ {
			u, ok := c.upcasters[next]
			if !ok {
				break
			}
			if steps > len(upcasters) {
				return nil, fmt.Errorf("the upcasters from %s go in a circle", kind)
			}
			next = u.To
		}
	}
	return c, nil
}

// Decode reads an event as it is stored. The event keeps nothing of data.
func (c *Codec) Decode(data []byte) (Event, error) {
	if e, ok := c.decodeCanonical(data); ok {
		return e, nil
	}
	return c.decodeGeneral(data)
}

// decodeGeneral reads every event, in whatever form it is written. It alone
// says what is accepted: decodeCanonical only says the same sooner.
func (c *Codec) decodeGeneral(data []byte) (Event, error) {
	if len(data) > MaxEventBytes {
		return Event{}, fmt.Errorf("event has %d bytes, at most %d are allowed", len(data), MaxEventBytes)
	}
	var env envelope[jsontext.Value]
	if err := json.Unmarshal(data, &env, json.RejectUnknownMembers(true)); err != nil {
		return Event{}, fmt.Errorf("event is not a CloudEvent of this ledger: %w", err)
	}
	if env.SpecVersion != specVersion {
		return Event{}, fmt.Errorf("CloudEvents version %s instead of %s", quote(env.SpecVersion), specVersion)
	}
	campaign, ok := strings.CutPrefix(env.Source, sourcePrefix)
	if !ok {
		return Event{}, fmt.Errorf("source %s does not name a campaign", quote(env.Source))
	}
	payload, err := c.payload(env.Type, env.Data)
	if err != nil {
		return Event{}, err
	}
	e := Event{ID: uuid.UUID(env.ID), Campaign: campaign, Time: env.Time, Data: payload}
	if err := e.validate(); err != nil {
		return Event{}, err
	}
	return e, nil
}

func (c *Codec) payload(typ string, data jsontext.Value) (Payload, error) {
	kind, ok := strings.CutPrefix(typ, typePrefix)
	if !ok {
		return nil, fmt.Errorf("%w %s", ErrUnknownType, quote(typ))
	}
	for {
		up, ok := c.upcasters[kind]
		if !ok {
			break
		}
		newer, err := up.Data(data)
		if err != nil {
			return nil, fmt.Errorf("upcast %s to %s: %w", up.From, up.To, err)
		}
		kind, data = up.To, newer
	}
	decode, ok := payloads[kind]
	if !ok {
		return nil, fmt.Errorf("%w %s", ErrUnknownType, quote(typ))
	}
	p, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return p, nil
}

func decode[P Payload](data jsontext.Value) (Payload, error) {
	var p P
	if err := json.Unmarshal(data, &p, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return p, nil
}

// payloads are all the kinds of event that this program knows.
var payloads = map[string]func(jsontext.Value) (Payload, error){
	CampaignOpened{}.kind():       decode[CampaignOpened],
	CampaignAmended{}.kind():      decode[CampaignAmended],
	CampaignClosed{}.kind():       decode[CampaignClosed],
	CampaignArchived{}.kind():     decode[CampaignArchived],
	SpecialistRegistered{}.kind(): decode[SpecialistRegistered],
	SpecialistUpdated{}.kind():    decode[SpecialistUpdated],
	SpecialistWithdrawn{}.kind():  decode[SpecialistWithdrawn],
	SpecialistMerged{}.kind():     decode[SpecialistMerged],
	VoteCast{}.kind():             decode[VoteCast],
	VoteRetracted{}.kind():        decode[VoteRetracted],
	VoteAnnulled{}.kind():         decode[VoteAnnulled],
	ResultsDecided{}.kind():       decode[ResultsDecided],
	ResultsCertified{}.kind():     decode[ResultsCertified],
	ResultsPublished{}.kind():     decode[ResultsPublished],
}

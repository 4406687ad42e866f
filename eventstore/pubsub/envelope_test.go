package pubsub

import (
	"maps"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

// Whatever metadata a message has, it comes back unchanged.
func TestMetadataComesBack(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", " a", "a\r\nb: c", "Nats-Batch-Id", "paldies-metadata", "Status", "ā", "a:b", "correlation_id",
	}))
	rapid.Check(t, func(t *rapid.T) {
		m := message.NewMessage(rapid.StringMatching(`[!-~]{0,40}`).Draw(t, "uuid"), []byte("x"))
		m.Metadata = rapid.MapOf(texts, texts).Draw(t, "metadata")
		msg, err := encode("topic", m)
		if err != nil {
			t.Fatal(err)
		}
		for key := range msg.Header {
			if reserved(key) && key != headerUUID && key != headerMetadata {
				t.Fatalf("metadata became the header %s", key)
			}
		}
		got, malformed := decode(msg, delivery{sequence: 1})
		if malformed != nil {
			t.Fatal(malformed)
		}
		if m.UUID != "" && got.UUID != m.UUID {
			t.Fatalf("UUID %q became %q", m.UUID, got.UUID)
		}
		maps.DeleteFunc(got.Metadata, func(key, _ string) bool { return ofDelivery(key) })
		if !maps.Equal(got.Metadata, m.Metadata) {
			t.Fatalf("%q became %q", m.Metadata, got.Metadata)
		}
	})
}

func TestWhatAHeaderCannotCarryIsRefused(t *testing.T) {
	for _, m := range []*message.Message{
		message.NewMessage("a\nb", nil),
		message.NewMessage(string(make([]byte, uuidBytesMax+1)), nil),
		{UUID: "1", Metadata: message.Metadata{"bytes": "\xff"}},
	} {
		if _, err := encode("topic", m); err == nil {
			t.Errorf("%q %q is published", m.UUID, m.Metadata)
		}
	}
}

// What others publish is never a panic, always a message with a UUID that is the
// same each time, and our word about the delivery is not theirs.
func FuzzDecode(f *testing.F) {
	f.Add("Paldies-Message-Uuid", "", "Paldies-Metadata", "{")
	f.Add("Paldies-Message-Uuid", "\r\n", "Paldies-Metadata", `{"a":1}`)
	f.Add("nats_sequence", "7", "nats_malformed", "lie")
	f.Add("Paldies-Metadata", `{"nats_sequence":"7"}`, "Status", "503")
	f.Add("Paldies-Metadata", "null", "\xff", "\xff")
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		header := nats.Header{key1: {value1}}
		header[key2] = append(header[key2], value2)
		msg := &nats.Msg{Subject: "topic", Header: header, Data: []byte(value1)}
		d := delivery{stream: "S", sequence: 42, deliveries: 1, published: time.Unix(0, 0)}
		m, malformed := decode(msg, d)
		again, _ := decode(msg, d)
		if m.UUID == "" || m.UUID != again.UUID {
			t.Fatalf("UUID %q, then %q", m.UUID, again.UUID)
		}
		if m.Metadata[MetadataSequence] != "42" || m.Metadata[MetadataSubject] != "topic" {
			t.Fatalf("the delivery is described as %q", m.Metadata)
		}
		if said := m.Metadata[MetadataMalformed]; (malformed == nil) != (said == "") {
			t.Fatalf("malformed: %v, metadata %q", malformed, said)
		}
		if _, err := encode("topic", m); err != nil && malformed == nil {
			t.Fatalf("it cannot be published again: %v", err)
		}
	})
}

package eventstore

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

// TestSubjectsAsTheServerReadsThem compares the package's reading of subjects
// with the server's.
func TestSubjectsAsTheServerReadsThem(t *testing.T) {
	token := rapid.SampledFrom([]string{"ā", "b", "ķī", "*", ">", "", "a*", " ", "x\ty"})
	subject := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(token, 1, 5).Draw(t, "tokens"), ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		filter, literal := subject.Draw(t, "filter"), subject.Draw(t, "literal")
		if got, want := validateFilter(filter) == nil, server.IsValidSubject(filter); got && !want {
			t.Fatalf("%q is accepted, but the server refuses it", filter)
		}
		if validateFilter(filter) != nil || validateSubject(literal) != nil {
			return
		}
		if !server.IsValidLiteralSubject(literal) {
			t.Fatalf("%q is accepted for events, but it is no literal for the server", literal)
		}
		if got, want := matches(filter, literal), server.SubjectsCollide(filter, literal); got != want {
			t.Fatalf("%q matches %q: %v, the server says %v", filter, literal, got, want)
		}
	})
}

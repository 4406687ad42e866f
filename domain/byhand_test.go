package domain_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

// TestEncodeTheSame holds the fast encoder against the general one.
func TestEncodeTheSame(t *testing.T) {
	same := func(tb rapid.TB, e domain.Event) (canonical bool) {
		tb.Helper()
		got, canonical := domain.EncodeCanonical(e)
		want, err := domain.EncodeGeneral(e)
		if canonical && (err != nil || !bytes.Equal(got, want)) {
			tb.Fatalf("%+v is written as\n%s\nin general as\n%s, %v", e, got, want, err)
		}
		return canonical
	}
	for _, e := range samples() {
		_, vote := e.Data.(domain.VoteCast)
		_, retraction := e.Data.(domain.VoteRetracted)
		if got := same(t, e); got != (vote || retraction) {
			t.Errorf("%T takes the fast way: %v", e.Data, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		if !same(t, submissions().Draw(t, "event")) {
			t.Fatal("it does not take the fast way")
		}
	})
	rapid.Check(t, func(t *rapid.T) { // channels with anything in them
		e := submissions().Draw(t, "event")
		channel := rapid.String().Draw(t, "channel")
		switch d := e.Data.(type) {
		case domain.VoteCast:
			d.Channel = channel
			e.Data = d
		case domain.VoteRetracted:
			d.Vote.Channel = channel
			e.Data = d
		}
		same(t, e)
	})
}

// TestByHand holds what is computed by hand, because libraries allocate for it,
// against the libraries.
func TestByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := domain.PseudonymKey(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		parts := rapid.SliceOf(rapid.String()).Draw(t, "parts")
		mac := hmac.New(sha256.New, key[:])
		var data []byte
		for _, p := range parts {
			mac.Write([]byte(p))
			data = append(append(data, p...), 0)
		}
		if got := key.Sum(parts...); !bytes.Equal(got[:], mac.Sum(nil)) {
			t.Errorf("the HMAC of %q is %x", strings.Join(parts, "|"), got)
		}
		if got, want := domain.DerivedID(parts...), uuid.NewSHA1(domain.EventNamespace, data); got != want {
			t.Errorf("the id of %q is %s, want %s", parts, got, want)
		}
	})
}

// TestDecidingAllocates bounds what a vote costs the garbage collector, in
// allocations: the pseudonym, the decision and the event's bytes.
func TestDecidingAllocates(t *testing.T) {
	s := newStory(t)
	sub := s.submission(domain.Vote, "Ilze", berzina)
	key := testKey()
	got := testing.AllocsPerRun(1000, func() {
		voter, err := key.Voter("lv-pk:010180-12345")
		if err != nil {
			t.Fatal(err)
		}
		sub.Voter = voter
		d, err := domain.Decide(&s.register, nil, sub)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := domain.Encode(d.Event); err != nil {
			t.Fatal(err)
		}
	})
	if got > 9 {
		t.Errorf("%v allocations", got)
	}
}

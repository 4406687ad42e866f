package domain_test

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

// sameDecoding holds the canonical form against the general decoder, which is
// its oracle: what is recognised is what the general decoder reads and what
// Encode writes, and Decode does as the general decoder does in any case.
func sameDecoding(tb rapid.TB, c *domain.Codec, data []byte) (recognised bool) {
	tb.Helper()
	want, wantErr := c.DecodeGeneral(data)
	got, gotErr := c.Decode(data)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
		tb.Fatalf("%q\ndecodes to %+v, %v\nin general  %+v, %v", data, got, gotErr, want, wantErr)
	}
	canonical, recognised := c.DecodeCanonical(data)
	if !recognised {
		return false
	}
	// The operator compares the pointers of the times' locations, too.
	if wantErr != nil || canonical != want {
		tb.Fatalf("%q\nis recognised as %+v\nin general it is %+v, %v", data, canonical, want, wantErr)
	}
	if written, err := domain.Encode(canonical); err != nil || !bytes.Equal(written, data) {
		tb.Fatalf("%q\nis recognised, but written as\n%q, %v", data, written, err)
	}
	return true
}

// submissions draws the events for which there is a canonical form.
func submissions() *rapid.Generator[domain.Event] {
	const numberMax = 999_999_999_999_999_999 // of 18 digits
	campaign := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,62}`)
	specialist := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,63}`)
	channel := rapid.StringMatching(`[a-z][a-z0-9_]{0,31}`)
	seconds := rapid.Map(rapid.Int64Range(-62135596799, 253402300799), func(s int64) time.Time { return time.Unix(s, 0).UTC() })
	times := rapid.OneOf(moments(), seconds)
	bytes16 := rapid.Map(rapid.SliceOfN(rapid.ByteMin(1), 16, 16), func(b []byte) [16]byte { return [16]byte(b) })
	return rapid.Custom(func(t *rapid.T) domain.Event {
		voter := domain.Pseudonym(bytes16.Draw(t, "voter"))
		digest := bytes16.Draw(t, "digest")
		var stated time.Time
		if rapid.Bool().Draw(t, "is stated") {
			stated = times.Draw(t, "stated")
		}
		e := domain.Event{ID: uuid.UUID(bytes16.Draw(t, "id")), Campaign: campaign.Draw(t, "campaign"), Time: times.Draw(t, "time")}
		if rapid.Bool().Draw(t, "is a vote") {
			e.Data = domain.VoteCast{Voter: voter, Specialist: specialist.Draw(t, "specialist"), Channel: channel.Draw(t, "channel"),
				CastAt: stated, Digest: domain.Digest(digest[:8]), Active: rapid.IntRange(1, numberMax).Draw(t, "active")}
			return e
		}
		ref := domain.VoteRef{Sequence: rapid.Uint64Range(1, numberMax).Draw(t, "sequence"), Channel: channel.Draw(t, "vote's channel"), CastAt: times.Draw(t, "cast_at")}
		e.Data = domain.VoteRetracted{Voter: voter, Specialist: specialist.Draw(t, "specialist"), Channel: channel.Draw(t, "channel"),
			RetractedAt: stated, Vote: ref, Digest: domain.Digest(digest[:8]), Active: rapid.IntRange(0, numberMax).Draw(t, "active")}
		return e
	})
}

// TestCanonicalIsRecognised: every vote and retraction that Encode writes takes
// the fast way. Without this a new member would make all replays slow, and no
// other test would notice.
func TestCanonicalIsRecognised(t *testing.T) {
	codec := newCodec(t)
	for _, e := range samples() {
		data := encode(t, e)
		_, vote := e.Data.(domain.VoteCast)
		_, retraction := e.Data.(domain.VoteRetracted)
		if got := sameDecoding(t, codec, data); got != (vote || retraction) {
			t.Errorf("%s\nis recognised: %t", data, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		e := submissions().Draw(t, "event")
		data, err := domain.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if !sameDecoding(t, codec, data) {
			t.Fatalf("%s\nis not recognised", data)
		}
		if decoded, _ := codec.DecodeCanonical(data); decoded != e {
			t.Fatalf("%s\ndecodes to %+v\ninstead of %+v", data, decoded, e)
		}
	})
}

// TestRareFormsAreLeftToTheGeneralDecoder: what Encode writes and the fast way
// does not know is still read.
func TestRareFormsAreLeftToTheGeneralDecoder(t *testing.T) {
	for name, change := range map[string]func(*domain.VoteCast){
		"channel in Latvian":  func(d *domain.VoteCast) { d.Channel = "tīmeklis" },
		"channel with quotes": func(d *domain.VoteCast) { d.Channel = `"web"` },
		"19 digits":           func(d *domain.VoteCast) { d.Active = 1_000_000_000_000_000_000 },
	} {
		e := sampleVote()
		d := e.Data.(domain.VoteCast)
		change(&d)
		e.Data = d
		if data := encode(t, e); sameDecoding(t, newCodec(t), data) {
			t.Errorf("%s: %s is recognised", name, data)
		}
		roundTrip(t, newCodec(t), e)
	}
}

// TestCanonicalToTheByte tries everything that one byte can do to a vote and a
// retraction with all members: every value at every place, every byte missing
// or twice, every end.
func TestCanonicalToTheByte(t *testing.T) {
	codec := newCodec(t)
	for _, e := range []domain.Event{sampleVote(), samples()[7]} {
		data := encode(t, e)
		changed := slices.Clone(data)
		for i, old := range data {
			for b := range 256 {
				changed[i] = byte(b)
				sameDecoding(t, codec, changed)
			}
			changed[i] = old
			sameDecoding(t, codec, data[:i])
			sameDecoding(t, codec, slices.Delete(slices.Clone(data), i, i+1))
			sameDecoding(t, codec, slices.Insert(slices.Clone(data), i, old))
		}
	}
}

// fragments are texts that mean something in JSON, in a time, in an id or in a
// number, or that are not UTF-8.
var fragments = []string{" ", "\t", "\r\n", "\x00", "\x7f", `"`, `\`, `\"`, `\\`, `\/`, `\u0061`, `\u0000`, `\ud800`, `\ud83d\ude00`, `,`, `:`, `{`, `}`, `{}`, `[]`, `}}`, `null`,
	"\xff", "\xc3", "\xed\xa0\x80", "ā", "\u2028", "\ufeff", "0", "00", "000", "-", "-0", "+", "1e1", ".0", ".5", "9223372036854775807", "9223372036854775808", "18446744073709551616", "Z", "z", "+00:00", "T", ".1", ".10", ",1", ".000Z", "_", "A", "Ž"}

// rewritings change what a vote or a retraction says or only how it is written.
var rewritings = []struct{ pattern, replacement string }{
	{`([,:{])`, "$1 "},
	{`([,:}])`, "\n$1"},
	{`([0-9a-f]{8}-[0-9a-f]{4})`, "{$1"},
	{`a`, `\u0061`},
	{`/`, `\/`},
	{`a`, `A`},
	{`[0-9a-f]`, "F"},
	{`-`, ""},
	{`-`, "–"},
	{`T(\d\d)`, "t$1"},
	{`T0`, "T"},
	{`T\d\d`, "T24"},
	{`-(\d\d)-(\d\d)T`, "-02-30T"},
	{`-(\d\d)-(\d\d)T`, "-02-29T"},
	{`-(\d\d)-(\d\d)T`, "-00-00T"},
	{`:\d\d(\.\d+)?Z`, ":60Z"},
	{`(\d\d\d\d)-(\d\d)-(\d\d)T`, "0000-$2-${3}T"},
	{`"\d\d\d\d-[^"]*Z"`, `"0001-01-01T00:00:00Z"`},
	{`"\d\d\d\d-[^"]*Z"`, `null`},
	{`(\.\d+)?Z`, ".1Z"},
	{`(\.\d+)?Z`, ".10Z"},
	{`(\.\d+)?Z`, ".000Z"},
	{`(\.\d+)?Z`, ".0001Z"},
	{`(\.\d+)?Z`, ".123456789Z"},
	{`(\.\d+)?Z`, ".Z"},
	{`(\.\d+)?Z`, "z"},
	{`(\.\d+)?Z`, "+00:00"},
	{`(\.\d+)?Z`, "-00:00"},
	{`(\.\d+)?Z`, "+03:00"},
	{`\.(\d+)Z`, ",${1}Z"},
	{`":(\d+)`, `":0$1`},
	{`":(\d+)`, `":-$1`},
	{`":(\d+)`, `":$1.0`},
	{`":(\d+)`, `":${1}e0`},
	{`":(\d+)`, `":"$1"`},
	{`":(\d+)`, `":0`},
	{`":(\d+)`, `":9999999999999999999`},
	{`":(\d+)`, `":${1}00000000000000000000`},
	{`("[a-z_]+":(?:"[^"]*"|\d+)),`, `$1,$1,`},
	{`("[a-z_]+":(?:"[^"]*"|\d+)),("[a-z_]+":(?:"[^"]*"|\d+))`, `$2,$1`},
	{`("[a-z_]+":(?:"[^"]*"|\d+)),`, ``},
	{`("[a-z_]+":)(?:"[^"]*"|\d+)`, `$1""`},
	{`("[a-z_]+":)(?:"[^"]*"|\d+)`, `$1{}`},
	{`"([a-z])([a-z_]+)":`, `"\u0076$2":`},
	{`"channel":"[^"]*"`, `"channel":"_web"`},
	{`"channel":"[^"]*"`, `"channel":"Web"`},
	{`vote\.cast\.v1`, "vote.retracted.v1"},
	{`vote\.(cast|retracted)\.v1`, "vote.annulled.v1"},
	{`vote\.(cast|retracted)\.v1`, `vote.$1.v2`},
	{`\}\}$`, `},"x":1}`},
}

// spoiled changes one place of data.
func spoiled(t *rapid.T, data []byte) []byte {
	at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
	until := min(len(data), at+rapid.IntRange(1, 4).Draw(t, "bytes"))
	fragment := []byte(rapid.SampledFrom(fragments).Draw(t, "fragment"))
	switch rapid.IntRange(0, 5).Draw(t, "way") {
	case 0:
		return slices.Insert(slices.Clone(data), at, fragment...)
	case 1:
		return slices.Replace(slices.Clone(data), at, until, fragment...)
	case 2:
		return slices.Insert(slices.Clone(data), at, data[at:until]...)
	case 3:
		return slices.Delete(slices.Clone(data), at, until)
	}
	r := rapid.SampledFrom(rewritings).Draw(t, "rewriting")
	pattern := regexp.MustCompile(r.pattern)
	found := pattern.FindAllSubmatchIndex(data, -1)
	if len(found) == 0 {
		return data
	}
	m := rapid.SampledFrom(found).Draw(t, "match")
	changed := pattern.Expand(slices.Clone(data[:m[0]]), []byte(r.replacement), data, m)
	return append(changed, data[m[1]:]...)
}

// TestSpoiledDecodesTheSame: however an event is changed, the fast way and the
// general decoder agree.
func TestSpoiledDecodesTheSame(t *testing.T) {
	codec := newCodec(t)
	recognised, accepted, all := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		data, err := domain.Encode(submissions().Draw(t, "event"))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			changed := spoiled(t, data)
			if len(changed) > 0 && rapid.IntRange(0, 3).Draw(t, "twice") == 0 {
				changed = spoiled(t, changed)
			}
			all++
			if sameDecoding(t, codec, changed) {
				recognised++
			}
			if _, err := codec.Decode(changed); err == nil {
				accepted++
			}
		}
	})
	t.Logf("of %d changed events %d can be read, %d of them the fast way", all, accepted, recognised)
	if recognised == 0 || accepted <= recognised || all <= accepted {
		t.Error("the changes do not reach every case")
	}
}

// TestUpcasterTurnsCanonicalOff: once a newer version exists, the older one
// goes through its upcaster however it is written.
func TestUpcasterTurnsCanonicalOff(t *testing.T) {
	vote, retraction := encode(t, sampleVote()), encode(t, samples()[7])
	codec := newCodec(t, renamed("vote.cast.v1", "vote.cast.v2", "voter", "vēlētājs"))
	if sameDecoding(t, codec, vote) {
		t.Error("a vote is recognised in spite of its upcaster")
	}
	if _, err := codec.Decode(vote); err == nil {
		t.Error("a vote is read without its upcaster")
	}
	if !sameDecoding(t, codec, retraction) {
		t.Error("a retraction, which has no upcaster, is not recognised")
	}
}

// TestDecodeKeepsNothingOfItsInput: a reader may use one buffer for all events.
func TestDecodeKeepsNothingOfItsInput(t *testing.T) {
	for _, e := range samples() {
		data := encode(t, e)
		decoded, err := newCodec(t).Decode(data)
		clear(data)
		if err != nil || !reflect.DeepEqual(decoded, e) {
			t.Errorf("it decodes to %+v, %v\ninstead of %+v", decoded, err, e)
		}
	}
}

// TestDecodeAllocations counts them for a vote: three texts and the payload.
func TestDecodeAllocations(t *testing.T) {
	const allocationsMax = 4
	codec, data := newCodec(t), encode(t, sampleVote())
	if n := testing.AllocsPerRun(100, func() { _, _ = codec.Decode(data) }); n > allocationsMax {
		t.Errorf("decoding a vote takes %v allocations, want at most %d", n, allocationsMax)
	}
}

package domain_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/domain"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// samples are one event of every kind, and two where a kind has members that
// may be left out: one with all of them, one with none.
func samples() []domain.Event {
	limit := 5
	anna := voter("lv-pk:010190-12345")
	digest := domain.SubmissionDigest(berzina, noon)
	web := domain.VoteRef{Sequence: 6, Channel: "web", CastAt: noon}
	payloads := []domain.Payload{
		opened(),
		domain.CampaignAmended{Title: "Laba servisa kustība", OpensAt: opensAt.Add(-time.Hour), ClosesAt: closesAt.Add(time.Millisecond),
			VotesPerVoter: &limit, AddChannels: []domain.Channel{{Name: "kiosks", Identity: domain.Declared}}, Reason: "Pagarināts pēc iestāžu lūguma."},
		domain.CampaignAmended{},
		domain.SpecialistRegistered{Specialist: berzina, Profile: inGulbene},
		domain.SpecialistRegistered{Specialist: skele, Profile: domain.Profile{Name: "Ņikita Šķēle"}},
		domain.VoteCast{Voter: anna, Specialist: berzina, Channel: "web", CastAt: noon, Digest: digest, Active: 1},
		domain.VoteCast{Voter: anna, Specialist: skele, Channel: "mobile", Digest: digest, Active: 2},
		domain.VoteRetracted{Voter: anna, Specialist: berzina, Channel: "mobile", RetractedAt: noon.Add(time.Hour), Vote: web, Digest: digest, Active: 1},
		domain.VoteRetracted{Voter: anna, Specialist: skele, Channel: "web", Vote: web, Digest: digest},
		domain.VoteAnnulled{Voter: anna, Specialist: berzina, Vote: web, Decision: "VK lēmums Nr. 12/2018", Reason: "Balsis iegūtas negodīgi.", Active: 0},
		domain.VoteAnnulled{Voter: anna, Specialist: berzina, Vote: web, Decision: "VK lēmums Nr. 13/2018", Reason: "Dubultbalsis.", AfterClose: true},
		domain.SpecialistUpdated{Specialist: berzina, Profile: inCesis},
		domain.SpecialistWithdrawn{Specialist: skele, Reason: "Pašas lūgums."},
		domain.SpecialistWithdrawn{Specialist: skele},
		domain.SpecialistMerged{Specialist: skele, Into: berzina, Decision: "Reģistrēta divreiz."},
		domain.CampaignClosed{Reason: "Kampaņa noslēgusies."},
		domain.CampaignClosed{},
		domain.ResultsCertified{Sequence: 16, AwardRule: &domain.AwardRule{Specialists: 3, Institutions: 1, InstitutionsBy: domain.ByBranch, Letters: 10, MinimumVotes: 5, WithoutIdentity: true},
			TallyDigest: "sha256:00", LogSize: 16, LogRoot: "AAAA", Supersedes: 15, Reason: "Labojums."},
		domain.ResultsCertified{Sequence: 16, TallyDigest: "sha256:00"},
		domain.ResultsPublished{Certified: 17},
		domain.CampaignArchived{},
		domain.ResultsDecided{Award: domain.InstitutionAward, Places: 1, Winners: []domain.Candidate{{Institution: "Valsts ieņēmumu dienests", Branch: "Cēsis"}},
			Others: []domain.Candidate{{Institution: "Nodarbinātības valsts aģentūra"}}, Decision: "VK lēmums Nr. 14/2018", Reason: "Žūrijas balsojums."},
		domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: berzina}}, Decision: "VK lēmums Nr. 15/2018", Reason: "Godā abas."},
	}
	var events []domain.Event
	for i, p := range payloads {
		id := uuid.NewSHA1(uuid.NameSpaceOID, []byte{byte(i)})
		events = append(events, domain.Event{ID: id, Campaign: campaignID, Time: noon.Add(time.Duration(i) * time.Millisecond), Data: p})
	}
	return events
}

func encode(tb testing.TB, e domain.Event) []byte {
	tb.Helper()
	data, err := domain.Encode(e)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// TestNoKindIsForgotten finds every payload in the source, so that a new one
// cannot do without a sample.
func TestNoKindIsForgotten(t *testing.T) {
	var want []string
	for _, f := range sources(t) {
		for _, d := range f.Decls {
			if m, ok := d.(*ast.FuncDecl); ok && m.Recv != nil && m.Name.Name == "kind" {
				want = append(want, m.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	var got []string
	for _, e := range samples() {
		got = append(got, reflect.TypeOf(e.Data).Name())
	}
	slices.Sort(want)
	slices.Sort(got)
	if got = slices.Compact(got); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("samples are of %q, the payloads are %q", got, want)
	}
}

// sources are the parsed files of the package, without tests.
func sources(tb testing.TB) []*ast.File {
	tb.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		tb.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// TestGolden holds the bytes of every kind of event. Ledgers with such bytes
// exist: they must be readable for ever.
func TestGolden(t *testing.T) {
	const file = "testdata/events.jsonl"
	var got bytes.Buffer
	for _, e := range samples() {
		got.Write(encode(t, e))
		got.WriteByte('\n')
	}
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./domain -run TestGolden -update", err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("events are encoded as\n%s\ninstead of\n%s", &got, want)
	}
	lines := bytes.Split(bytes.TrimSuffix(want, []byte("\n")), []byte("\n"))
	for i, e := range samples() {
		decoded, err := newCodec(t).Decode(lines[i])
		if err != nil || !reflect.DeepEqual(decoded, e) {
			t.Errorf("%s\ndecodes to %+v, %v\ninstead of %+v", lines[i], decoded, err, e)
		}
	}
}

func TestVoteIsSmall(t *testing.T) {
	const voteBytesMax = 320
	e := domain.Event{ID: domain.AnnulmentEventID(campaignID, 1), Campaign: "lsk-2018", Time: noon.Add(123 * time.Millisecond),
		Data: domain.VoteCast{Voter: voter("Žanete"), Specialist: "anna-berzina-gulbene", Channel: "mobile", Digest: domain.SubmissionDigest(berzina, noon), Active: 12}}
	data := encode(t, e)
	t.Logf("%d bytes: %s", len(data), data)
	if len(data) >= voteBytesMax {
		t.Errorf("a vote has %d bytes, want less than %d", len(data), voteBytesMax)
	}
}

// sampleVote is the vote among the samples with all members.
func sampleVote() domain.Event { return samples()[5] }

var voteID = sampleVote().ID.String()

// spoilings of sampleVote's bytes: each replaces one text by another.
var spoilings = []struct{ name, old, new string }{
	{"unknown member", `"specversion"`, `"subject":"x","specversion"`},
	{"unknown member of data", `"voter"`, `"vārds":"Žanete","voter"`},
	{"duplicate member", `"specversion":"1.0"`, `"specversion":"1.0","specversion":"1.0"`},
	{"duplicate member, escaped", `"active":1`, `"active":1,"\u0061ctive":1`},
	{"other case", `"time"`, `"Time"`},
	{"other case in data", `"voter"`, `"Voter"`},
	{"invalid UTF-8", berzina, "anna-b\xe7rzi\xf2a"},
	{"invalid UTF-8 in the channel", `"web"`, "\"w\xff\""},
	{"surrogate half", `"web"`, `"w\ud800"`},
	{"other specversion", `"1.0"`, `"0.3"`},
	{"specversion as a number", `"1.0"`, `1.0`},
	{"no specversion", `"specversion":"1.0",`, ``},
	{"foreign type", "lv.sakipaldies.vote.cast.v1", "lv.citi.vote.cast.v1"},
	{"no type", "lv.sakipaldies.vote.cast.v1", ""},
	{"foreign source", "/campaigns/", "/kampanas/"},
	{"campaign in upper case", "/campaigns/laba", "/campaigns/Laba"},
	{"no campaign", "/campaigns/" + campaignID, "/campaigns/"},
	{"campaign with a dot", "laba-servisa", "laba.servisa"},
	{"campaign in Latvian", "kustiba", "kustība"},
	{"offset", `"cast_at":"2018-05-04T09:00:00Z"`, `"cast_at":"2018-05-04T12:00:00+03:00"`},
	{"offset zero", `"cast_at":"2018-05-04T09:00:00Z"`, `"cast_at":"2018-05-04T09:00:00+00:00"`},
	{"time without offset", `"cast_at":"2018-05-04T09:00:00Z"`, `"cast_at":"2018-05-04T09:00:00"`},
	{"time with a comma", `"cast_at":"2018-05-04T09:00:00Z"`, `"cast_at":"2018-05-04T09:00:00,1Z"`},
	{"microseconds", `"cast_at":"2018-05-04T09:00:00Z"`, `"cast_at":"2018-05-04T09:00:00.000001Z"`},
	{"no such day", `"cast_at":"2018-05-04T09:00:00Z"`, `"cast_at":"2018-02-30T09:00:00Z"`},
	{"time with an offset", `"time":"2018-05-04T09:00:00.005Z"`, `"time":"2018-05-04T11:00:00.005+02:00"`},
	{"no time", `"time":"2018-05-04T09:00:00.005Z",`, ``},
	{"id null", `"id":"`, `"id":null,"x":"`},
	{"id zero", voteID, uuid.Nil.String()},
	{"id in upper case", voteID, strings.ToUpper(voteID)},
	{"id as a URN", voteID, "urn:uuid:" + voteID},
	{"id in braces", voteID, "{" + voteID + "}"},
	{"id without hyphens", voteID, strings.ReplaceAll(voteID, "-", "")},
	{"no data", `"data":{`, `"dati":{`},
	{"data is a list", `"data":{`, `"data":[{`},
	{"no voter", `"voter":"` + voter("lv-pk:010190-12345").String() + `",`, ``},
	{"voter in upper case", "7f5c", "7F5C"},
	{"active zero", `"active":1`, `"active":0`},
	{"active negative", `"active":1`, `"active":-1`},
	{"active a fraction", `"active":1`, `"active":1.5`},
	{"active a text", `"active":1`, `"active":"1"`},
	{"active too large", `"active":1`, `"active":9223372036854775808`},
	{"specialist with a dot", berzina, "anna.berzina"},
	{"specialist with a wildcard", berzina, "anna-*"},
	{"trailing data", `}}`, `}}{}`},
	{"trailing brace", `}}`, `}}}`},
	{"cut off", `}}`, `}`},
	{"comment", `}}`, `}/* */}`},
	{"byte order mark", `{"specversion"`, "\ufeff" + `{"specversion"`},
	{"too large", `}}`, `}` + strings.Repeat(" ", domain.MaxEventBytes) + `}`},
}

// TestDecodeIsStrict changes one thing in a good event at a time.
func TestDecodeIsStrict(t *testing.T) {
	vote := string(encode(t, sampleVote()))
	for _, c := range spoilings {
		t.Run(c.name, func(t *testing.T) {
			if n := strings.Count(vote, c.old); n != 1 {
				t.Fatalf("%q is %d times in %s", c.old, n, vote)
			}
			changed := strings.Replace(vote, c.old, c.new, 1)
			sameDecoding(t, newCodec(t), []byte(changed))
			if e, err := newCodec(t).Decode([]byte(changed)); err == nil {
				t.Errorf("%s\ndecodes to %+v", changed, e)
			}
		})
	}
	for _, data := range []string{"", "null", "{}", "[]", `""`, "1", "\x00", vote + vote} {
		if e, err := newCodec(t).Decode([]byte(data)); err == nil {
			t.Errorf("%q decodes to %+v", data, e)
		}
	}
	if _, err := newCodec(t).Decode([]byte(vote + "\n")); err != nil {
		t.Errorf("space around an event: %v", err)
	}
}

func TestUnknownType(t *testing.T) {
	for _, e := range samples() {
		data := string(encode(t, e))
		for _, version := range []string{".v2", ".v0", ".v11", ""} {
			changed := strings.Replace(data, `.v1"`, version+`"`, 1)
			if _, err := newCodec(t).Decode([]byte(changed)); !errors.Is(err, domain.ErrUnknownType) {
				t.Errorf("%s: error is %v, want ErrUnknownType", changed, err)
			}
		}
	}
}

func TestEventBytesMax(t *testing.T) {
	e := samples()[21]
	d := e.Data.(domain.ResultsDecided)
	d.Winners = nil
	for i := range 8 { // every quotation mark takes two bytes
		d.Winners = append(d.Winners, domain.Candidate{Institution: fmt.Sprint(i) + strings.Repeat(`"`, domain.MaxTextBytes-1)})
	}
	d.Reason = "?"
	last := &d.Winners[7].Institution
	*last = (*last)[:1]
	e.Data = d
	rest := len(encode(t, e))
	*last += strings.Repeat(`"`, (domain.MaxEventBytes-rest)/2)
	if n := len(encode(t, e)); n < domain.MaxEventBytes-1 {
		t.Fatalf("the event has %d bytes", n)
	}
	roundTrip(t, newCodec(t), e)
	*last += `"`
	if data, err := domain.Encode(e); err == nil {
		t.Errorf("an event of %d bytes is written", len(data))
	}
}

// TestEncodeRefuses what Decode would refuse: such an event could never be
// read again.
func TestEncodeRefuses(t *testing.T) {
	good := sampleVote()
	for name, change := range map[string]func(*domain.Event){
		"no data":            func(e *domain.Event) { e.Data = nil },
		"no id":              func(e *domain.Event) { e.ID = uuid.Nil },
		"no time":            func(e *domain.Event) { e.Time = time.Time{} },
		"time in Riga":       func(e *domain.Event) { e.Time = e.Time.In(riga(t)) },
		"time in UTC+0":      func(e *domain.Event) { e.Time = e.Time.In(time.FixedZone("", 0)) },
		"microseconds":       func(e *domain.Event) { e.Time = e.Time.Add(time.Microsecond) },
		"year 10000":         func(e *domain.Event) { e.Time = e.Time.AddDate(8000, 0, 0) },
		"no campaign":        func(e *domain.Event) { e.Campaign = "" },
		"campaign in quotes": func(e *domain.Event) { e.Campaign = "Ķekava" },
		"payload":            func(e *domain.Event) { e.Data = domain.VoteCast{} },
	} {
		e := good
		change(&e)
		if data, err := domain.Encode(e); err == nil {
			t.Errorf("%s: it is encoded as %s", name, data)
		}
	}
}

// renamed is an upcaster that renames a member.
func renamed(from, to, member, newer string) domain.Upcaster {
	return domain.Upcaster{From: from, To: to, Data: func(v jsontext.Value) (jsontext.Value, error) {
		return bytes.Replace(v, []byte(`"`+member+`"`), []byte(`"`+newer+`"`), 1), nil
	}}
}

func TestUpcasters(t *testing.T) {
	e := sampleVote()
	older := strings.Replace(string(encode(t, e)), "vote.cast.v1", "vote.cast.v0", 1)
	older = strings.Replace(older, `"specialist_id"`, `"darbinieks"`, 1)
	chain := newCodec(t,
		renamed("vote.cast.v0", "vote.cast.v0a", "darbinieks", "employee"),
		renamed("vote.cast.v0a", "vote.cast.v1", "employee", "specialist_id"))
	decoded, err := chain.Decode([]byte(older))
	if err != nil || !reflect.DeepEqual(decoded, e) {
		t.Errorf("the older event decodes to %+v, %v, want %+v", decoded, err, e)
	}
	roundTrip(t, chain, e) // what is new stays as it is

	half := newCodec(t, renamed("vote.cast.v0", "vote.cast.v0a", "darbinieks", "employee"))
	if _, err := half.Decode([]byte(older)); !errors.Is(err, domain.ErrUnknownType) {
		t.Errorf("an upcaster to nowhere: error is %v, want ErrUnknownType", err)
	}
	broken := errors.New("trūkst lauka")
	failing := newCodec(t, domain.Upcaster{From: "vote.cast.v0", To: "vote.cast.v1",
		Data: func(jsontext.Value) (jsontext.Value, error) { return nil, broken }})
	if _, err := failing.Decode([]byte(older)); !errors.Is(err, broken) {
		t.Errorf("error is %v, want that of the upcaster", err)
	}
}

func TestNewCodecRefuses(t *testing.T) {
	up := func(from, to string) domain.Upcaster { return renamed(from, to, "", "") }
	for name, upcasters := range map[string][]domain.Upcaster{
		"itself":         {up("a", "a")},
		"circle of two":  {up("a", "b"), up("b", "a")},
		"into a circle":  {up("x", "a"), up("a", "b"), up("b", "c"), up("c", "a")},
		"two from one":   {up("a", "b"), up("a", "c")},
		"the same twice": {up("a", "b"), up("a", "b")},
	} {
		if _, err := domain.NewCodec(upcasters...); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	newCodec(t, up("a", "b"), up("b", "c"), up("c", "d"), up("x", "d"), up("y", "d"))
}

// FuzzDecode: decoding never panics, both ways of decoding agree, and what is
// read can be written and read again without a change.
func FuzzDecode(f *testing.F) {
	for _, e := range samples() {
		data, err := domain.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
		f.Add(bytes.Replace(data, []byte(`.v1"`), []byte(`.v2"`), 1))
		f.Add(bytes.ReplaceAll(data, []byte("a"), []byte(`\u0061`)))
	}
	for _, c := range spoilings {
		f.Add(bytes.Replace(encode(f, sampleVote()), []byte(c.old), []byte(c.new), 1))
	}
	codec, err := domain.NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sameDecoding(t, codec, data)
		e, err := codec.Decode(data)
		if err != nil {
			return
		}
		again, err := codec.Decode(encode(t, e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%s\ndecodes to %+v\nand when encoded again to %+v, %v", data, e, again, err)
		}
	})
}

// latvian draws text as it comes from people.
func latvian(maxRunes int) *rapid.Generator[string] {
	return rapid.StringOfN(rapid.SampledFrom([]rune(`aābcčdeēfgģhiījkķlļmnņoprsštuūvzžAĀČĒĢĪĶĻŅŠŪŽ 0123456789.,-–„“"\/&<>€`+"\u0301")), 1, maxRunes, -1)
}

func moments() *rapid.Generator[time.Time] {
	return rapid.Map(rapid.Int64Range(-62135596799999, 253402300799999), func(ms int64) time.Time { return time.UnixMilli(ms).UTC() })
}

// other is an id that differs from the given one.
func other(id string) string {
	if id == "a" {
		return "b"
	}
	return "a"
}

// TestRoundTrip: what can be encoded decodes to the same event.
func TestRoundTrip(t *testing.T) {
	codec := newCodec(t)
	id := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,63}`)
	count := rapid.IntRange(1, 1<<40)
	rapid.Check(t, func(t *rapid.T) {
		var v domain.Pseudonym
		copy(v[:], rapid.SliceOfN(rapid.ByteMin(1), 16, 16).Draw(t, "voter"))
		ref := domain.VoteRef{Sequence: rapid.Uint64Min(1).Draw(t, "sequence"), Channel: "web", CastAt: moments().Draw(t, "cast_at")}
		digest := domain.SubmissionDigest(berzina, ref.CastAt)
		specialist, reason, active := id.Draw(t, "specialist"), latvian(200).Draw(t, "reason"), count.Draw(t, "active")
		p := profile(latvian(100).Draw(t, "name"), latvian(100).Draw(t, "institution"), latvian(100).Draw(t, "branch"), reason)
		data := rapid.SampledFrom([]domain.Payload{
			domain.SpecialistRegistered{Specialist: specialist, Profile: p},
			domain.SpecialistUpdated{Specialist: specialist, Profile: p},
			domain.SpecialistWithdrawn{Specialist: specialist, Reason: reason},
			domain.SpecialistMerged{Specialist: specialist, Into: other(specialist), Decision: "Nr. 1"},
			domain.VoteCast{Voter: v, Specialist: specialist, Channel: "web", CastAt: ref.CastAt, Digest: digest, Active: active},
			domain.VoteRetracted{Voter: v, Specialist: specialist, Channel: "web", RetractedAt: ref.CastAt, Vote: ref, Digest: digest, Active: active},
			domain.VoteAnnulled{Voter: v, Specialist: specialist, Vote: ref, Decision: "Nr. 2", Reason: reason, Active: active, AfterClose: rapid.Bool().Draw(t, "after")},
			domain.CampaignAmended{Title: reason, OpensAt: ref.CastAt, Reason: reason},
			domain.CampaignClosed{Reason: reason},
			domain.ResultsDecided{Award: domain.Letter, Places: 1, Winners: []domain.Candidate{{Specialist: specialist}}, Others: []domain.Candidate{{Specialist: other(specialist)}}, Decision: "Nr. 3", Reason: reason + "."},
			domain.ResultsCertified{Sequence: ref.Sequence, TallyDigest: "sha256:00", AwardRule: &domain.AwardRule{Specialists: active % domain.MaxPlaces, LettersFrom: 1}},
		}).Draw(t, "data")
		e := domain.Event{ID: domain.AnnulmentEventID(specialist, ref.Sequence), Campaign: "lsk", Time: moments().Draw(t, "time"), Data: data}
		roundTrip(t, codec, e)
	})
}

func BenchmarkEncode(b *testing.B) {
	e := sampleVote()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := domain.Encode(e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecode decodes many different events in turn, because a processor
// learns a single one by heart. The general decoder is measured beside the fast
// way, so that one run tells the ratio.
func BenchmarkDecode(b *testing.B) {
	codec := newCodec(b)
	votes, retractions := manySubmissions(b)
	for _, c := range []struct {
		name   string
		events [][]byte
		decode func([]byte) (domain.Event, error)
	}{
		{"vote", votes, codec.Decode},
		{"vote, general decoder", votes, codec.DecodeGeneral},
		{"retraction", retractions, codec.Decode},
		{"retraction, general decoder", retractions, codec.DecodeGeneral},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.events[0])))
			for i := 0; b.Loop(); i++ {
				if _, err := c.decode(c.events[i%len(c.events)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// manySubmissions are the bytes of votes and retractions as campaigns have them.
func manySubmissions(tb testing.TB) (votes, retractions [][]byte) {
	tb.Helper()
	for i := range uint64(512) {
		v, specialist := voter(fmt.Sprint("voter-", i)), fmt.Sprintf("specialist-%d", i*i%300)
		castAt := noon.Add(time.Duration(i*i) * time.Millisecond)
		cast := domain.VoteCast{Voter: v, Specialist: specialist, Channel: "web", Digest: domain.SubmissionDigest(specialist, castAt), Active: int(i%12) + 1}
		if i%2 == 0 {
			cast.Channel, cast.CastAt = "mobile", castAt
		}
		retracted := domain.VoteRetracted{Voter: v, Specialist: specialist, Channel: "web", Digest: cast.Digest, Active: int(i % 12),
			Vote: domain.VoteRef{Sequence: i + 1, Channel: cast.Channel, CastAt: castAt}}
		e := domain.Event{ID: domain.AnnulmentEventID(campaignID, i), Campaign: campaignID, Time: castAt.Add(time.Second), Data: cast}
		votes = append(votes, encode(tb, e))
		e.Data = retracted
		retractions = append(retractions, encode(tb, e))
	}
	return votes, retractions
}

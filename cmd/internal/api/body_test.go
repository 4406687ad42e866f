package api_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"sakipaldies.lv/ledger/cmd/internal/api"
	"sakipaldies.lv/ledger/domain"
)

// goodBody is a vote that is accepted.
const goodBody = `{"voter":"lv-pk:010180-12345","specialist_id":"ilze-berzina"}`

// strange are bodies that are not quite a vote; all of them are malformed.
var strange = map[string]string{
	"nothing":              "",
	"white space":          " \r\n\t",
	"null":                 "null",
	"a list":               "[" + goodBody + "]",
	"a number":             "1",
	"a text":               `"lv-pk:010180-12345"`,
	"no members":           "{}",
	"no specialist":        `{"voter":"a"}`,
	"no voter":             `{"specialist_id":"ilze-berzina"}`,
	"voter null":           `{"voter":null,"specialist_id":"ilze-berzina"}`,
	"specialist null":      `{"voter":"a","specialist_id":null}`,
	"voter a number":       `{"voter":1,"specialist_id":"ilze-berzina"}`,
	"voter a list":         `{"voter":["a"],"specialist_id":"ilze-berzina"}`,
	"voter an object":      `{"voter":{"a":1},"specialist_id":"ilze-berzina"}`,
	"specialist true":      `{"voter":"a","specialist_id":true}`,
	"a member twice":       `{"voter":"a","voter":"b","specialist_id":"ilze-berzina"}`,
	"the same twice":       `{"voter":"a","specialist_id":"ilze-berzina","voter":"a"}`,
	"twice, escaped":       `{"voter":"a","v\u006fter":"b","specialist_id":"ilze-berzina"}`,
	"unknown member":       `{"voter":"a","specialist_id":"ilze-berzina","channel":"in_person"}`,
	"another case":         `{"Voter":"a","specialist_id":"ilze-berzina"}`,
	"trailing object":      goodBody + "{}",
	"trailing text":        goodBody + "x",
	"trailing zero":        goodBody + "\x00",
	"trailing comma":       `{"voter":"a","specialist_id":"ilze-berzina",}`,
	"comment":              goodBody + "//",
	"single quotes":        `{'voter':'a','specialist_id':'ilze-berzina'}`,
	"breaks off":           goodBody[:40],
	"byte order mark":      "\ufeff" + goodBody,
	"not UTF-8":            "{\"voter\":\"\xff\xfe\",\"specialist_id\":\"ilze-berzina\"}",
	"overlong UTF-8":       "{\"voter\":\"\xc0\xaf\",\"specialist_id\":\"ilze-berzina\"}",
	"half a surrogate":     `{"voter":"\ud800","specialist_id":"ilze-berzina"}`,
	"UTF-16":               inUTF16(goodBody),
	"control character":    "{\"voter\":\"a\nb\",\"specialist_id\":\"ilze-berzina\"}",
	"escaped zero":         `{"voter":"a\u0000b","specialist_id":"ilze-berzina"}`,
	"invisible character":  `{"voter":"a\u200bb","specialist_id":"ilze-berzina"}`,
	"empty voter":          `{"voter":"  ","specialist_id":"ilze-berzina"}`,
	"voter too long":       fmt.Sprintf(`{"voter":%q,"specialist_id":"ilze-berzina"}`, strings.Repeat("ā", domain.MaxVoterIDBytes/2+1)),
	"half a personal code": `{"voter":"lv-pk:010180","specialist_id":"ilze-berzina"}`,
	"specialist too long":  fmt.Sprintf(`{"voter":"a","specialist_id":%q}`, strings.Repeat("a", 65)),
	"specialist with dots": `{"voter":"a","specialist_id":"ilze.berzina"}`,
	"specialist wildcard":  `{"voter":"a","specialist_id":">"}`,
	"deep lists":           strings.Repeat("[", api.MaxBodyBytes),
	"deep objects":         strings.Repeat(`{"voter":`, api.MaxBodyBytes/9),
	"deep, unknown":        `{"x":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + "}",
	"a form":               "voter=a&specialist_id=ilze-berzina",
	"infinity":             `{"voter":Infinity,"specialist_id":"ilze-berzina"}`,
	"large number":         `{"voter":1` + strings.Repeat("0", 4000) + `,"specialist_id":"ilze-berzina"}`,
}

func inUTF16(text string) string {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(text)) {
		out = append(out, byte(u), byte(u>>8))
	}
	return string(out)
}

// posted is a vote's request as it goes over a connection, with a body and with
// headers of the test's own.
func (k *worker) posted(body string, headers ...string) string {
	head := []string{"POST /api/v1/campaigns/" + campaign + "/votes HTTP/1.1", "Host: api", "Authorization: Bearer " + k.world.tokens["web"],
		"Content-Length: " + strconv.Itoa(len(body))}
	return strings.Join(append(head, headers...), "\r\n") + "\r\n\r\n" + body
}

const isJSON = "Content-Type: application/json"

// TestMalformed: what is not quite a vote is refused with words that repeat
// nothing of it, on a connection that goes on.
func TestMalformed(t *testing.T) {
	d := newDesk(t)
	c := dial(t, d.front(t))
	for name, body := range strange {
		r, err := c.ask(d.posted(body, isJSON))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p := refused(t, r, api.Malformed); p.Detail == "" || strings.Contains(p.Detail, "010180") {
			t.Errorf("%s: the detail is %q", name, p.Detail)
		}
	}
	if n := len(d.votes()); n != 0 {
		t.Errorf("%d votes came of it", n)
	}
}

// TestMalformedHeaders: the same for what stands beside the body.
func TestMalformedHeaders(t *testing.T) {
	d := newDesk(t)
	cast(d)
	for name, q := range map[string]request{
		"no voter":             {path: "votes"},
		"empty voter":          request{path: "votes"}.of(""),
		"blank voter":          request{path: "votes"}.of("%20"),
		"half an escape":       request{path: "votes"}.of("a%2"),
		"no escape":            request{path: "votes"}.of("a%zz"),
		"not UTF-8":            request{path: "votes"}.of("a%ff"),
		"not UTF-8, raw":       request{path: "votes"}.of("a\xff"),
		"a zero":               request{path: "votes"}.of("a%00"),
		"voter too long":       request{path: "votes"}.of(strings.Repeat("a", domain.MaxVoterIDBytes+1)),
		"empty key":            vote(anna, "zane-cirule", "k").with("Idempotency-Key", ""),
		"empty key, quoted":    vote(anna, "zane-cirule", `""`),
		"key too long":         vote(anna, "zane-cirule", strings.Repeat("k", domain.MaxSubmissionIDBytes+1)),
		"key not UTF-8":        vote(anna, "zane-cirule", "k\xff"),
		"key with a tab":       vote(anna, "zane-cirule", "k\tk"),
		"number 0":             taking(0),
		"number -1":            taking(-1),
		"number with zeros":    request{path: "votes/005"}.of(anna),
		"number with a sign":   request{path: "votes/+5"}.of(anna),
		"number, hexadecimal":  request{path: "votes/0x5"}.of(anna),
		"number too large":     request{path: "votes/18446744073709551616"}.of(anna),
		"number above 63 bits": request{path: "votes/9223372036854775808"}.of(anna),
		"number with a space":  request{path: "votes/5%20"}.of(anna),
		"number in Arabic":     request{path: "votes/%D9%A5"}.of(anna),
		"unknown parameter":    request{path: "votes?voter=x"}.of(anna),
		"after a word":         request{path: "votes?after=x"}.of(anna),
		"after below zero":     request{path: "votes?after=-1"}.of(anna),
	} {
		if p := refused(t, d.ask(q), api.Malformed); p.Detail == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	longest := strings.Repeat("k", domain.MaxSubmissionIDBytes)
	d.ask(vote(anna, "zane-cirule", longest)).receipt(t)
}

// TestContentTypes: JSON in UTF-8 that is not compressed, or nothing.
func TestContentTypes(t *testing.T) {
	d := newDesk(t)
	addr := d.front(t)
	for _, good := range []string{isJSON, "content-type:application/json", isJSON + "; charset=utf-8", isJSON + `;charset="UTF-8"`, "Content-Type: Application/JSON",
		isJSON + "\r\nContent-Encoding: identity"} {
		r, err := dial(t, addr).ask(d.posted(goodBody, good, "Idempotency-Key: k1"))
		check(t, err)
		r.receipt(t)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(goodBody))
	check(t, err)
	check(t, z.Close())
	for _, bad := range []struct{ headers, body, detail string }{
		{"X: y", goodBody, ""},
		{"Content-Type:", goodBody, ""},
		{"Content-Type: text/plain", goodBody, ""},
		{"Content-Type: text/json", goodBody, ""},
		{"Content-Type: application/problem+json", goodBody, ""},
		{"Content-Type: application/json-seq", goodBody, ""},
		{"Content-Type: application/x-www-form-urlencoded", "voter=a", ""},
		{"Content-Type: multipart/form-data; boundary=x", "--x--", ""},
		{isJSON + "; charset=utf-16", inUTF16(goodBody), ""},
		{isJSON + "; charset=iso-8859-13", goodBody, ""},
		{isJSON + ", text/plain", goodBody, ""},
		{isJSON + "; charset", goodBody, ""},
		{isJSON + "; charset=utf-8; charset=utf-16", goodBody, ""},
		{isJSON + "\r\nContent-Type: text/plain", goodBody, ""},
		{isJSON + "\r\n" + isJSON, goodBody, ""},
		{"Content-Type: \xff\xfe", goodBody, ""},
		{isJSON + "\r\nContent-Encoding: gzip", packed.String(), "Content-Encoding"},
		{isJSON + "\r\nContent-Encoding: br", goodBody, "Content-Encoding"},
		{isJSON + "\r\nContent-Encoding: identity, gzip", goodBody, "Content-Encoding"},
		{isJSON + "\r\nContent-Encoding: identity\r\nContent-Encoding: gzip", goodBody, "Content-Encoding"},
	} {
		r, err := dial(t, addr).ask(d.posted(bad.body, bad.headers))
		check(t, err)
		if p := refused(t, r, api.UnsupportedMediaType); !strings.Contains(p.Detail, bad.detail) {
			t.Errorf("%q: %+v", bad.headers, p)
		}
	}
	if n := len(d.votes()); n != 1 {
		t.Errorf("%d votes came of it", n)
	}
}

// chunked is a body in chunks of a size.
func chunked(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func (k *worker) postedInChunks(body string, size int, headers ...string) string {
	head := []string{"POST /api/v1/campaigns/" + campaign + "/votes HTTP/1.1", "Host: api", "Authorization: Bearer " + k.world.tokens["web"],
		isJSON, "Transfer-Encoding: chunked"}
	return strings.Join(append(head, headers...), "\r\n") + "\r\n\r\n" + chunked(body, size)
}

// TestBodyLimit: a body of the largest size is read, and one that is a byte
// larger is refused, however it is sent.
func TestBodyLimit(t *testing.T) {
	d := newDesk(t)
	addr := d.front(t)
	largest := goodBody + strings.Repeat(" ", api.MaxBodyBytes-len(goodBody))
	for _, text := range []string{d.posted(largest, isJSON, "Idempotency-Key: k1"), d.postedInChunks(largest, 100, "Idempotency-Key: k1"),
		d.postedInChunks(largest, api.MaxBodyBytes, "Idempotency-Key: k1"), d.postedInChunks(goodBody, 1, "Idempotency-Key: k1")} {
		r, err := dial(t, addr).ask(text)
		check(t, err)
		r.receipt(t)
	}
	for _, text := range []string{d.posted(largest+" ", isJSON), d.postedInChunks(largest+" ", 100), d.postedInChunks(largest+" ", api.MaxBodyBytes+1),
		d.posted(largest[1:]+"]]", isJSON)} {
		r, err := dial(t, addr).ask(text)
		check(t, err)
		refused(t, r, api.BodyTooLarge)
	}
	escaped := strings.Repeat(`\u0101`, domain.MaxVoterIDBytes/2)
	r := d.ask(request{path: "votes", body: `{"voter":"` + escaped + `","specialist_id":"zane-cirule"}`})
	if r.status != http.StatusCreated {
		t.Errorf("the longest voter: %d %s", r.status, r.body)
	}
}

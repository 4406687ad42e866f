package credential

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"sakipaldies.lv/ledger/domain"
)

func FuzzRecord(f *testing.F) {
	h := hashSecret(newSecret())
	for _, c := range []Credential{
		{Role: domain.RoleChannel, Channel: "web", Created: moment},
		{Role: domain.RoleInstitution, Institution: "Nodarbinātības valsts aģentūra", Created: moment, Expires: moment.Add(time.Hour)},
		{Role: domain.RoleChannel, Channel: "in_person", Campaign: "kustiba-2018", Note: "Gulbenes klientu centrs", Rate: 2.5, Burst: 10, Created: moment, Revoked: moment.Add(time.Hour)},
	} {
		value, err := encodeRecord(&c, h)
		must(f, err)
		f.Add("9bq1ytaygr", value)
		f.Add("9bq1ytaygr", value[:len(value)/2])
		f.Add("9BQ1YTAYGR", value)
		f.Add("9bq1ytaygr", []byte(strings.Replace(string(value), "{", `{"channel":"mobile",`, 1)))
		f.Add("9bq1ytaygr", []byte(strings.Replace(string(value), "{", `{"new":1,`, 1)))
	}
	for _, value := range []string{"", "null", "[]", "{}", `{"channel":"web","created":"9999-12-31T23:59:59Z","secret_sha256":""}`, strings.Repeat("[", recordBytesMax), `{"rate":1e999}`} {
		f.Add("9bq1ytaygr", []byte(value))
	}
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		s, err := decodeRecord(id, value)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || s != nil {
				t.Errorf("%v, %v", s, err)
			}
			return
		}
		if err := s.credential.Validate(); err != nil {
			t.Errorf("read what could not be written: %v", err)
		}
		written, err := encodeRecord(s.credential, s.hash)
		if err != nil {
			t.Fatalf("cannot be written again: %v", err)
		}
		again, err := decodeRecord(id, written)
		if err != nil {
			t.Fatalf("cannot be read again: %v in %s", err, written)
		}
		if *again.credential != *s.credential || again.hash != s.hash {
			t.Errorf("%+v has become %+v", s.credential, again.credential)
		}
	})
}

// TestRecordOfBefore: what was stored before there were other roles is a
// channel's, and a channel's is stored as it was then, so that an older program
// reads it.
func TestRecordOfBefore(t *testing.T) {
	h := hashSecret(strings.Repeat("0", secretChars))
	text := `{"channel":"web","created":"2018-03-01T08:00:00Z","secret_sha256":"` + hex.EncodeToString(h[:]) + `"}`
	s, err := decodeRecord("9bq1ytaygr", []byte(text))
	must(t, err)
	if want := (Credential{ID: "9bq1ytaygr", Role: domain.RoleChannel, Channel: "web", Created: moment}); *s.credential != want {
		t.Errorf("it is %+v", s.credential)
	}
	value, err := encodeRecord(s.credential, s.hash)
	must(t, err)
	if string(value) != text {
		t.Errorf("it is stored as %s", value)
	}
}

// TestStrictRecord: nothing about a credential is guessed.
func TestStrictRecord(t *testing.T) {
	value, err := encodeRecord(&Credential{Role: domain.RoleChannel, Channel: "web", Created: moment}, hash{})
	must(t, err)
	if _, err := decodeRecord("9bq1ytaygr", value); err != nil {
		t.Fatal(err)
	}
	text := string(value)
	for name, wrong := range map[string]string{
		"an unknown member":   strings.Replace(text, "{", `{"valid_from":"2018-03-02T00:00:00Z",`, 1),
		"a member twice":      strings.Replace(text, "{", `{"channel":"mobile",`, 1),
		"no channel":          strings.Replace(text, `"channel":"web",`, "", 1),
		"a wrong channel":     strings.Replace(text, `"web"`, `"WEB"`, 1),
		"no hash":             text[:strings.Index(text, `,"secret`)] + "}",
		"no time of creation": strings.Replace(text, `"created":"2018-03-01T08:00:00Z",`, "", 1),
		"more after it":       text + "{}",
		"another case":        strings.Replace(text, `"channel"`, `"Channel"`, 1),
		"revoked at no time":  strings.Replace(text, "{", `{"revoked":"0001-01-01T00:00:00.0001Z",`, 1),
		"expires at no time":  strings.Replace(text, "{", `{"expires":"0001-01-01T00:00:00.0001Z",`, 1),
		"an unknown role":     strings.Replace(text, "{", `{"role":"ministrs",`, 1),
		"a role that votes":   strings.Replace(text, "{", `{"role":"auditor",`, 1),
		"a negative rate":     strings.Replace(text, "{", `{"rate":-1,`, 1),
	} {
		if _, err := decodeRecord("9bq1ytaygr", []byte(wrong)); !errors.Is(err, ErrCorrupt) || wrong == text {
			t.Errorf("%s: %v", name, err)
		}
	}
}

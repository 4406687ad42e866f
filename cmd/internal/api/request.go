package api

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"sakipaldies.lv/ledger/cmd/internal/credential"
)

// The headers of this interface.
const (
	idempotencyHeader = "Idempotency-Key"
	voterHeader       = "Paldies-Voter"
)

// Bearer is the token of a request (RFC 6750, 2.1); the error is one of
// credential.
func Bearer(h http.Header) (string, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", credential.ErrMissing
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", credential.ErrMalformed
	}
	return token, nil
}

// one is the value of a header that may be there once, or empty.
func (c *call) one(name string) (string, error) {
	values := c.Header[name]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", &malformedError{"the header " + name + " is there more than once"}
}

// idempotencyKey is the channel's own id of the submission, or empty. The IETF
// draft of the header writes it in quotes; both ways mean the same key.
func (c *call) idempotencyKey() (string, error) {
	key, err := c.one(idempotencyHeader)
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if err == nil && key == "" && len(c.Header[idempotencyHeader]) > 0 {
		return "", &malformedError{"the header " + idempotencyHeader + " is empty"} // It would protect from nothing.
	}
	return key, err
}

// voter is the voter of a request without a body. Headers are ASCII for many
// clients, so that the id is percent-encoded UTF-8; what is not encoded stands
// for itself.
func (c *call) voter() (string, error) {
	value, err := c.one(voterHeader)
	if err != nil {
		return "", err
	}
	if value == "" {
		return "", &malformedError{"the header " + voterHeader + " is missing"}
	}
	id, err := url.PathUnescape(value)
	if err != nil || !utf8.ValidString(id) {
		return "", &malformedError{"the header " + voterHeader + " is not percent-encoded UTF-8"}
	}
	return id, nil
}

// sequence is the receipt number in the address.
func (c *call) sequence() (uint64, error) {
	text := c.PathValue("sequence")
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, &malformedError{"the receipt number is not a number of 1 or more"}
	}
	return n, nil
}

// query are the parameters of the address, of which there may be these and no
// others, each once.
func (c *call) query(names ...string) (map[string]string, error) {
	if c.URL.RawQuery == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, &malformedError{"the query cannot be read"}
	}
	found := make(map[string]string, len(names))
	for _, name := range names {
		if list := values[name]; len(list) == 1 {
			found[name] = list[0]
			delete(values, name)
		}
	}
	if len(values) > 0 {
		return nil, &malformedError{"the query may have these parameters, each once: " + strings.Join(names, ", ")}
	}
	return found, nil
}

// limit is how many items are wanted.
func limit(text string) (int, error) {
	if text == "" {
		return pageDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > pageMax {
		return 0, &malformedError{"limit is not a number from 1 to " + strconv.Itoa(pageMax)}
	}
	return n, nil
}

// readBody reads the whole body, within its limits.
func (c *call) readBody(w http.ResponseWriter) error {
	if types := c.Header["Content-Type"]; len(types) != 1 || !isJSON(types[0]) {
		return errNotJSON
	}
	// What is compressed would be read as JSON that is broken.
	if encodings := c.Header["Content-Encoding"]; len(encodings) > 1 || len(encodings) == 1 && !strings.EqualFold(encodings[0], "identity") {
		return errEncoded
	}
	if c.ContentLength > maxBodyBytes {
		return errBodyTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, c.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case err == nil:
		c.body = body
		return nil
	case errors.As(err, &tooLarge):
		return errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return errBodyTimeout
	}
	return &malformedError{"the body breaks off"}
}

func isJSON(contentType string) bool {
	const wanted = "application/json"
	if contentType == wanted {
		return true
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	return err == nil && media == wanted
}

// decode reads the body into a value. Members that are there twice or that are
// not known, and what is not UTF-8, are errors.
func (c *call) decode(into any) error {
	err := json.Unmarshal(c.body, into, json.RejectUnknownMembers(true))
	if err != nil {
		return &malformedError{"the body is not one JSON object with the members that are described, each once, in UTF-8"}
	}
	return nil
}

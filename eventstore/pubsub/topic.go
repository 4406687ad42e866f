package pubsub

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// topicBytesMax is the longest topic, in bytes.
const topicBytesMax = 255

var errTopic = errors.New("invalid topic")

// validateTopic accepts what one message can be published under: a NATS subject
// without wildcards.
func validateTopic(topic string) error {
	if err := validateFilter(topic); err != nil {
		return err
	}
	if strings.ContainsAny(topic, "*>") {
		return fmt.Errorf("%w %q: only subscribers may use wildcards", errTopic, topic)
	}
	return nil
}

// validateFilter accepts a NATS subject in which whole tokens may be wildcards.
func validateFilter(topic string) error {
	switch {
	case topic == "" || len(topic) > topicBytesMax:
		return fmt.Errorf("%w: %d bytes: use 1 to %d", errTopic, len(topic), topicBytesMax)
	case !utf8.ValidString(topic):
		return fmt.Errorf("%w %q: it is not UTF-8", errTopic, topic)
	case strings.ContainsFunc(topic, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("%w %q: it has a space or a control character", errTopic, topic)
	}
	tokens := strings.Split(topic, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return fmt.Errorf("%w %q: it has an empty token", errTopic, topic)
		case token == ">" && i < len(tokens)-1:
			return fmt.Errorf("%w %q: > stands only at the end", errTopic, topic)
		case len(token) > 1 && strings.ContainsAny(token, "*>"):
			return fmt.Errorf("%w %q: a wildcard is a token of its own", errTopic, topic)
		}
	}
	return nil
}

// matches reports whether a filter covers a topic.
func matches(filter, topic string) bool {
	moreFilter, moreTopic := true, true
	for moreFilter && moreTopic {
		var f, t string
		f, filter, moreFilter = strings.Cut(filter, ".")
		if f == ">" {
			return true
		}
		t, topic, moreTopic = strings.Cut(topic, ".")
		if f != "*" && f != t {
			return false
		}
	}
	return moreFilter == moreTopic
}

// LastToken is an OrderBy for subjects that end with what is to be kept in
// order, for example a voter's pseudonym.
func LastToken(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

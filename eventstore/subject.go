package eventstore

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// AllSubjects matches every event of a ledger. Unlike a wildcard below a prefix,
// for which nats-server compares all subjects that it has, a read of the last
// one costs the same however many there are.
const AllSubjects = ">"

var errSubject = errors.New("invalid subject")

// validateSubject accepts what one event can be stored under: tokens without
// wildcards, separated by single dots.
func validateSubject(s string) error {
	if err := validateFilter(s); err != nil {
		return err
	}
	if strings.ContainsAny(s, "*>") {
		return fmt.Errorf("%w %q: it has a wildcard", errSubject, s)
	}
	return nil
}

// validateFilter accepts a subject in which whole tokens may be wildcards.
func validateFilter(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", errSubject)
	case len(s) > MaxSubjectBytes:
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", errSubject, len(s), MaxSubjectBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w %q: it is not UTF-8", errSubject, s)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("%w %q: it has a space or a control character", errSubject, s)
	}
	rest, more := s, true
	for more {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		if token == "" {
			return fmt.Errorf("%w %q: it has an empty token", errSubject, s)
		}
		if token == ">" && more {
			return fmt.Errorf("%w %q: > stands only at the end", errSubject, s)
		}
	}
	return nil
}

// covered reports whether one of the filters matches the subject.
func covered(filters []string, subject string) bool {
	for _, f := range filters {
		if matches(f, subject) {
			return true
		}
	}
	return false
}

// single reports whether a filter is one subject: it has no wildcards.
func single(filter string) bool { return !strings.ContainsAny(filter, "*>") }

func matches(filter, subject string) bool {
	moreFilter, moreSubject := true, true
	for moreFilter && moreSubject {
		var f, s string
		f, filter, moreFilter = strings.Cut(filter, ".")
		if f == ">" {
			return true
		}
		s, subject, moreSubject = strings.Cut(subject, ".")
		if f != "*" && f != s {
			return false
		}
	}
	return moreFilter == moreSubject
}

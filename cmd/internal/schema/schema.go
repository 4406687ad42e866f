// Package schema holds the JSON Schemas (2020-12) of what is exchanged with
// programs in other languages: submissions, their outcomes, and every event of a
// ledger.
//
// They are written by hand and compared by tests with what is really published.
// Schemas that are made from the Go types would say less: what a text may hold,
// and what excludes what, is in functions there.
package schema

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.json
var files embed.FS

// suffix is what the names of the files end with.
const suffix = ".json"

// ErrUnknown says that there is no such schema.
var ErrUnknown = errors.New("there is no such schema")

// Names are the schemas that there are, sorted: "submission", "outcome", and the
// types of events without their prefix, such as "vote.cast.v1".
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // they are in the program
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), suffix)
	}
	return names
}

// Get is the text of a schema.
func Get(name string) ([]byte, error) {
	text, err := files.ReadFile(name + suffix)
	if err != nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	return text, nil
}

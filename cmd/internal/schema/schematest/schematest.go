// Package schematest holds published messages against their schemas, in tests.
package schematest

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sakipaldies.lv/ledger/cmd/internal/schema"
)

// Schema is a schema that a validator of other people has read.
type Schema struct{ compiled *jsonschema.Schema }

// Read reads a schema, formats and all.
func Read(t testing.TB, name string) Schema {
	t.Helper()
	text, err := schema.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, document); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	compiled, err := c.Compile(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return Schema{compiled}
}

// Check is what a message has against the schema, or nil.
func (s Schema) Check(text []byte) error {
	message, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.compiled.Validate(message)
}

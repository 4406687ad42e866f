package postgres

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sakipaldies.lv/ledger/projections"
)

// TestExplain: every answer of Postgres that an operator can do something
// about becomes one sentence, and all else stays as it was.
func TestExplain(t *testing.T) {
	config, err := Config{URL: "postgres://ligita:noslepums@datubaze.example:5432/balsis"}.pool()
	if err != nil {
		t.Fatal(err)
	}
	db := &DB{connect: config.ConnConfig, schema: "paldies"}
	answer := func(code string) error {
		return fmt.Errorf("iekšā: %w", &pgconn.PgError{Code: code, Message: "tā teica\n\tserveris"})
	}
	for _, c := range []struct {
		err  error
		kind error
		says string
	}{
		{answer("28P01"), ErrRefused, "password"},
		{answer("3D000"), ErrRefused, "balsis"},
		{answer("42501"), ErrRefused, "grant"},
		{answer("53100"), ErrUnavailable, "free space"},
		{answer("53300"), ErrUnavailable, "by itself"},
		{answer("57P01"), ErrUnavailable, "by itself"},
		{answer("40P01"), ErrUnavailable, "by itself"},
		{answer("25006"), ErrUnavailable, "primary"},
		{io.ErrUnexpectedEOF, ErrUnavailable, "was lost"},
	} {
		explained := db.explain(c.err)
		if !errors.Is(explained, c.kind) || !errors.Is(explained, c.err) || !strings.Contains(explained.Error(), c.says) ||
			strings.ContainsAny(explained.Error(), "\n\t") {
			t.Errorf("%v becomes %q, want %v that says %q", c.err, explained, c.kind, c.says)
		}
		if again := db.explain(explained); again != explained {
			t.Errorf("explained twice it is %v", again)
		}
	}
	var schema *SchemaError
	if err := db.explain(answer("42P01")); !errors.As(err, &schema) {
		t.Errorf("a missing table becomes %v", err)
	}
	for _, err := range []error{nil, projections.ErrMoved, projections.ErrNoCampaign, io.ErrShortWrite, answer("22003")} {
		if got := db.explain(err); got != err {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}

// TestSchemaErrorSays what to do about tables of any version.
func TestSchemaErrorSays(t *testing.T) {
	for want, e := range map[string]SchemaError{
		"the database has no tables of paldies in its schema balsis: run paldies migrate":            {"balsis", 0, 3},
		"the tables in schema balsis have version 2, this program needs 3: run paldies migrate":      {"balsis", 2, 3},
		"the tables in schema balsis have version 4, this program knows only 3: run a newer paldies": {"balsis", 4, 3},
	} {
		if e.Error() != want {
			t.Errorf("it says %q, want %q", e.Error(), want)
		}
	}
}

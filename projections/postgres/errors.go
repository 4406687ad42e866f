package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"sakipaldies.lv/ledger/projections"
)

var (
	// ErrUnavailable says that Postgres cannot be reached or cannot work at the
	// moment. It may pass by itself; what was under way may have been stored.
	ErrUnavailable = errors.New("the database is not available")
	// ErrRefused says that Postgres does not let this user do it. Somebody must
	// change something.
	ErrRefused = errors.New("the database refuses")
)

// SchemaError says that the tables are not those of this program.
type SchemaError struct {
	Schema     string
	Have, Want int64 // versions; 0 means that there are no tables
}

func (e *SchemaError) Error() string {
	switch {
	case e.Have == 0:
		return fmt.Sprintf("the database has no tables of paldies in its schema %s: run paldies migrate", e.Schema)
	case e.Have < e.Want:
		return fmt.Sprintf("the tables in schema %s have version %d, this program needs %d: run paldies migrate", e.Schema, e.Have, e.Want)
	default:
		return fmt.Sprintf("the tables in schema %s have version %d, this program knows only %d: run a newer paldies", e.Schema, e.Have, e.Want)
	}
}

// Error is an error of Postgres in one sentence with its remedy.
type Error struct {
	Kind error // ErrUnavailable or ErrRefused
	Text string
	Err  error // as it came
}

func (e *Error) Error() string { return e.Kind.Error() + ": " + e.Text }

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// explain names the remedy of an error where there is one.
func (db *DB) explain(err error) error {
	var (
		own     *Error
		schema  *SchemaError
		refused *pgconn.PgError
		connect *pgconn.ConnectError
	)
	switch {
	case err == nil, errors.As(err, &own), errors.As(err, &schema),
		errors.Is(err, projections.ErrMoved), errors.Is(err, projections.ErrOtherFold), errors.Is(err, projections.ErrNoCampaign),
		errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &refused):
		return db.explainAnswer(refused, err)
	case errors.As(err, &connect):
		return &Error{ErrUnavailable, fmt.Sprintf("nobody answers at %s: start it, or correct the database URL (%s)", db.address(), oneLine(rootCause(connect).Error())), err}
	case lost(err):
		return &Error{ErrUnavailable, fmt.Sprintf("the connection to %s was lost: look at its log if that happens again (%s)", db.address(), oneLine(rootCause(err).Error())), err}
	}
	return err
}

// explainAnswer goes by the error codes of Postgres (its manual, appendix A).
func (db *DB) explainAnswer(e *pgconn.PgError, err error) error {
	user, database, address := db.connect.User, db.connect.Database, db.address()
	said := oneLine(e.Message)
	var kind error
	var text string
	switch class := e.Code[:min(2, len(e.Code))]; {
	case class == "28":
		kind, text = ErrRefused, fmt.Sprintf("user %s may not connect to database %s at %s: check user and password in the database URL (%s)", user, database, address, said)
	case e.Code == "3D000":
		kind, text = ErrRefused, fmt.Sprintf("there is no database %s at %s: create it, or correct the database URL", database, address)
	case e.Code == "42501":
		kind, text = ErrRefused, fmt.Sprintf("user %s lacks a right in database %s: grant it, or run as the owner of schema %s (%s)", user, database, db.schema, said)
	case e.Code == "42P01", e.Code == "3F000":
		return &SchemaError{Schema: db.schema, Want: latestVersion}
	case e.Code == "25006":
		kind, text = ErrUnavailable, fmt.Sprintf("%s is read-only, perhaps a standby: connect to the primary", address)
	case e.Code == "53100":
		kind, text = ErrUnavailable, fmt.Sprintf("the disk of %s is full: free space there, then it goes on by itself (%s)", address, said)
	case strings.Contains(passing, class), e.Code == "55P03", e.Code == "57014", e.Code == "25P03":
		kind, text = ErrUnavailable, fmt.Sprintf("%s answers %q: it goes on by itself when that is over", address, said)
	default:
		return err
	}
	return &Error{kind, text, err}
}

// passing are the classes of errors that have to do with the server's state:
// connections, conflicts between transactions, resources, operators, the system.
const passing = "08 40 53 57 58"

// lost says whether the connection has gone.
func lost(err error) bool {
	var network net.Error
	return errors.As(err, &network) || pgconn.SafeToRetry(err) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// rootCause is the error behind all wrapping, for each address that was tried
// adds a line, and a connection's own port makes the same reason another text
// every time.
func rootCause(err error) error {
	for {
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			inner := e.Unwrap()
			if inner == nil {
				return err
			}
			err = inner
		case interface{ Unwrap() []error }:
			inner := e.Unwrap()
			if len(inner) == 0 {
				return err
			}
			err = inner[len(inner)-1]
		default:
			return err
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

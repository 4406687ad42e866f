// Package postgres is the read model in PostgreSQL: what dashboards and
// people with SQL read.
//
// # Exactly once
//
// A batch of events is one transaction. It first moves the campaign's position
// by compare-and-set (sequence and hash of the last event), then adds the
// batch's sums to the counts. Whatever dies, the position says what is
// counted, and nobody needs to know how a COMMIT ended whose answer was lost:
// the projector asks for the position on another connection and goes on from
// there. Even if that COMMIT still arrives after the question, the next batch
// begins at a position that is no longer there, changes nothing, and the
// projector asks again.
//
// Of several projectors on a database the one that holds an advisory lock
// works, see Leader. The lock only spares work. The fence is the
// compare-and-set, which holds for projectors that know nothing of each other.
//
// # Rebuild
//
// A read model can be built anew beside the one that is read, see Rebuild: in the
// same tables, under another key. The switch writes that key into the campaign's row
// in positions. Views, grants and prepared statements stay as they are, and no report
// is in its way, as one would be in that of renaming a table. The rebuild never goes
// beyond the read model that is read, and the two change places at the same event,
// which is held still for as long as the last events take; the projector then goes on
// with the batch that it has.
//
// # Decisions
//
// Keys are sequences of the ledger, not generated numbers and not texts. A
// batch therefore needs to look up nothing, a rebuilt read model has the same
// rows, and a row of cells takes 24 bytes where institution, branch, region
// and specialist in full would take 150, twice with the index.
//
// Everything of a batch is one statement a table, with unnest. What limits the
// speed is the insertion of new rows into cells, 3 µs each. Foreign keys took
// a third of the whole and are not there; with the hour in front of the key,
// the index grows at its end, and five million votes slow nothing down.
//
// Measured on 2 cores that also ran nats-server and PostgreSQL 15 with all its
// safety, where nearly every vote is a new row (BenchmarkProjection with -votes
// 500000): 200,000 events/s, 0.61 to 0.81 of a bare ordered consumer and 160 times
// a projector with one event a transaction; a rebuild with its switch 0.99 of that. At 10,000 votes/s a vote is visible
// 5 ms after its acknowledgement, 99 of 100 within 15 ms (BenchmarkVisible). A
// projector that reads by a consumer would have it after 2 ms and within 8, and
// could spoil the ledger, see eventstore.
//
// What is asked all the time is counted while votes are: totals by placement, from
// which specialists, institutions and branches follow, and votes by hour, from
// which timelines and channels do. The cells are for who needs all of it.
//
// People with SQL read reporting_v1, see migrations and docs/reporting.md.
//
// Names are put into order by domain and not by ORDER BY, so that results come
// in one order whatever holds them: ICU's lv-x-icu (CLDR 42) and Go's Latvian
// collation (CLDR 23) agree on every text in Latvian letters, but ICU sorts y
// with i and Go sorts it behind z.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sakipaldies.lv/ledger/projections"
)

const (
	// defaultSchema is where the tables are unless Config says otherwise.
	defaultSchema = "paldies"
	// maxConnsDefault is how many connections a DB has at most.
	maxConnsDefault = 8
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
)

// sessionSettings are those of every connection, unless the URL sets them.
// They bound how long a session can be in the way whose client has vanished
// without a word: it holds the row of a position, or the leader's lock.
var sessionSettings = map[string]string{
	"application_name":                    "paldies",
	"timezone":                            "UTC",
	"lock_timeout":                        "10s",
	"statement_timeout":                   "60s",
	"idle_in_transaction_session_timeout": "15s",
	"tcp_keepalives_idle":                 "5",
	"tcp_keepalives_interval":             "2",
	"tcp_keepalives_count":                "3",
}

// Config says which read models are meant.
type Config struct {
	// URL is how to connect, as libpq understands it. The PG* environment
	// variables fill what it leaves out.
	URL string
	// Schema is where the tables are; "" means paldies.
	Schema string
	// MaxConns bounds the connections of one DB; 0 means 8.
	MaxConns int
}

// schemaName is what needs no quotes.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Validate reports the first thing that is wrong with the configuration. It
// never repeats the URL, which may hold a password.
func (c Config) Validate() error {
	if _, err := c.pool(); err != nil {
		return err
	}
	if !schemaName.MatchString(c.schema()) {
		return fmt.Errorf("schema %q: use lower case letters, digits and underscores, at most 63", c.Schema)
	}
	if c.MaxConns < 0 {
		return fmt.Errorf("%d connections: use at least 1, or 0 for %d", c.MaxConns, maxConnsDefault)
	}
	return nil
}

func (c Config) schema() string {
	if c.Schema == "" {
		return defaultSchema
	}
	return c.Schema
}

func (c Config) pool() (*pgxpool.Config, error) {
	if c.URL == "" {
		return nil, errors.New("no database URL: use one like postgres://user:password@host:5432/database")
	}
	p, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err) // pgx leaves the password out
	}
	p.MaxConns = maxConnsDefault
	if c.MaxConns > 0 {
		p.MaxConns = int32(min(c.MaxConns, 1000))
	}
	settings := p.ConnConfig.RuntimeParams
	for name, value := range sessionSettings {
		if _, ok := settings[name]; !ok {
			settings[name] = value
		}
	}
	settings["search_path"] = c.schema()
	if p.ConnConfig.ConnectTimeout == 0 {
		p.ConnConfig.ConnectTimeout = connectTimeout
	}
	return p, nil
}

// DB is the read models of all campaigns in one schema of a database. It is
// safe for concurrent use.
type DB struct {
	pool    *pgxpool.Pool
	connect *pgx.ConnConfig
	schema  string
}

var (
	_ projections.Models = (*DB)(nil)
	_ projections.Reader = (*DB)(nil)
)

// Open connects and sees that the tables are those of this program.
//
// Errors: ErrUnavailable, ErrRefused, *SchemaError. Later ones are the same,
// and a DB survives them all: connections come back by themselves.
func Open(ctx context.Context, c Config) (*DB, error) {
	db, err := open(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	if err := db.checkSchema(ctx, db.pool); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// open does not look at the tables. Its settings of the sessions go before
// those of the URL.
func open(ctx context.Context, c Config, settings map[string]string) (*DB, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	config, err := c.pool()
	if err != nil {
		return nil, err
	}
	maps.Copy(config.ConnConfig.RuntimeParams, settings)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return &DB{pool: pool, connect: config.ConnConfig, schema: c.schema()}, nil
}

// Close waits until nobody uses a connection and closes them all.
func (db *DB) Close() { db.pool.Close() }

func (db *DB) address() string {
	return net.JoinHostPort(db.connect.Host, strconv.Itoa(int(db.connect.Port)))
}

package postgres

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Roles of which logins are members. Those of reports are made by Migrate; the
// others are for who wants a login for each process, see MakeLogins. Migrate
// gives each its rights on all tables.
const (
	ProjectorRole = "paldies_projector" // writes what it counts
	ReaderRole    = "paldies_reader"    // sees all counts, as dashboards do that keep the embargo by themselves
	ReportingRole = "reporting_ro"      // sees what is public
)

// Login is a user of a server.
type Login struct {
	Name string
	// Role is that of which it is a member, or the login's own name. The owner of
	// the tables has none: it may create schemas, and so migrates.
	Role string
	// Verifier is what the server compares a password with, as in pg_authid. A
	// password itself could get into the server's log.
	Verifier string
}

var verifier = regexp.MustCompile(`^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$`)

func (l Login) validate() error {
	if !schemaName.MatchString(l.Name) || l.Role != "" && !schemaName.MatchString(l.Role) {
		return fmt.Errorf("login %q of role %q: use lower case letters, digits and underscores, at most 63", l.Name, l.Role)
	}
	if !verifier.MatchString(l.Verifier) {
		return fmt.Errorf("login %s: what the server is to compare its password with is no verifier of SCRAM-SHA-256", l.Name)
	}
	return nil
}

// MakeLogins makes the users of a server that is there for these read models only,
// or gives those that are there other passwords. Nobody else can connect to any
// of its databases afterwards. It needs a superuser.
func MakeLogins(ctx context.Context, c Config, logins []Login) error {
	for _, l := range logins {
		if err := l.validate(); err != nil {
			return err
		}
	}
	db, err := open(ctx, c, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	var super bool
	if err := db.pool.QueryRow(ctx, `select rolsuper from pg_roles where rolname = current_user`).Scan(&super); err != nil {
		return db.explain(err)
	}
	if !super {
		return fmt.Errorf("%w: user %s may not make logins: use a superuser", ErrRefused, db.connect.User)
	}
	for _, role := range reportingRoles {
		if _, err := db.makeRole(ctx, role); err != nil {
			return db.explain(err)
		}
	}
	return db.explain(pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// Two who change one role at once fail.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('paldies logins', 0))`); err != nil {
			return err
		}
		statements, err := loginStatements(ctx, tx, logins)
		if err != nil {
			return err
		}
		return execAll(ctx, tx, statements)
	}))
}

// loginStatements make roles, give logins their passwords and nothing that they do
// not need, and close the databases to everybody else.
func loginStatements(ctx context.Context, tx pgx.Tx, logins []Login) (list []string, err error) {
	roles, err := texts(ctx, tx, `select rolname from pg_roles`)
	if err != nil {
		return nil, err
	}
	databases, err := texts(ctx, tx, `select quote_ident(datname) from pg_database order by datname = current_database()`)
	if err != nil {
		return nil, err
	}
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	create := func(role string) {
		if !slices.Contains(roles, role) {
			add("create role %s nologin", role)
			roles = append(roles, role)
		}
	}
	for _, name := range databases {
		add("revoke all on database %s from public", name)
	}
	here := databases[len(databases)-1]
	for _, role := range append([]string{ProjectorRole, ReaderRole}, reportingRoles...) {
		create(role)
		add("grant connect on database %s to %s", here, role)
	}
	for _, l := range logins {
		create(l.Name)
		add("alter role %s login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password '%s'", l.Name, l.Verifier)
		switch l.Role {
		case "":
			add("grant connect, create on database %s to %s", here, l.Name)
		case l.Name:
		default:
			add("grant %s to %s", l.Role, l.Name)
		}
	}
	// What reports sort can then fill no disk. Only a superuser may set that.
	for _, role := range reportingRoles {
		add("alter role %s set temp_file_limit = '1GB'", role)
	}
	return list, nil
}

func texts(ctx context.Context, tx pgx.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func execAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

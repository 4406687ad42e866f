package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sakipaldies.lv/ledger/cmd/internal/cli"
	"sakipaldies.lv/ledger/cmd/internal/deploy"
	"sakipaldies.lv/ledger/projections/postgres/pgserver"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// database is a Postgres of a deployment's own, as its first start makes it.
type database struct {
	t       testing.TB
	secrets string
	server  *pgserver.Server
}

// startDatabase makes logins and tables as docker-compose.yml does.
func startDatabase(t testing.TB, secrets string) *database {
	t.Helper()
	d := &database{t, secrets, pgtest.NewServer(t, map[string]string{"fsync": "off", "log_statement": "all"})}
	_, err := d.server.EnsureDatabase(t.Context(), "paldies")
	check(t, err)
	d.makeLogins()
	if out := d.run(0, "migrate", "--database-url", d.url("migrate")); strings.Contains(out, "administrator") {
		t.Errorf("something is left to do: %s", out)
	}
	return d
}

func (d *database) makeLogins() {
	d.t.Helper()
	d.run(0, "deploy", "logins", "--dir", filepath.Join(d.secrets, "logins"), "--database-url", d.server.URL("paldies"))
}

// run is a command and what it says.
func (d *database) run(code int, args ...string) string {
	d.t.Helper()
	var out bytes.Buffer
	if got := cli.Run(d.t.Context(), args, nil, &out, &out); got != code {
		d.t.Fatalf("paldies %s: exit code %d, not %d\n%s", strings.Join(args[:2], " "), got, code, out.String())
	}
	return out.String()
}

// url is what a login connects to, with its password. Only the address is another
// one than in the deployment.
func (d *database) url(login string) string {
	d.t.Helper()
	address, err := url.Parse(d.server.URL("paldies"))
	check(d.t, err)
	if login == "reporting_ro" { // Grafana has no URL
		password, err := os.ReadFile(filepath.Join(d.secrets, "grafana", deploy.ReportingFile))
		check(d.t, err)
		address.User = url.UserPassword(login, string(password))
		return address.String()
	}
	text, err := os.ReadFile(filepath.Join(d.secrets, login, deploy.DatabaseFile))
	check(d.t, err)
	u, err := url.Parse(strings.TrimSpace(string(text)))
	check(d.t, err)
	if u.Host != "postgres:5432" || u.Path != "/paldies" || u.User.Username() != login {
		d.t.Fatalf("%s connects to %s", login, u.Redacted())
	}
	u.Host, u.RawQuery = address.Host, address.RawQuery
	return u.String()
}

func connect(t testing.TB, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		t.Cleanup(func() { check(t, conn.Close(context.Background())) })
	}
	return conn, err
}

// answer is the code of Postgres for an error, "" where there is none.
func answer(t testing.TB, err error) string {
	t.Helper()
	refused := new(pgconn.PgError)
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return refused.Code
}

// logins are those of Postgres.
var logins = []string{"migrate", "projector", "dashboard", "auditor", "admin", "reporting_ro"}

// statements are what logins try, each alone and rolled back, and who may.
var statements = map[string][]string{
	`select * from paldies.totals join paldies.cells using (campaign, placement)`:                              {"migrate", "projector", "dashboard", "auditor", "admin"},
	`select * from paldies.schema_version`:                                                                     {"migrate", "projector", "dashboard", "auditor", "admin"},
	`select * from paldies.standings(1)`:                                                                       {"migrate", "projector", "dashboard", "auditor", "admin"},
	`select * from reporting_v1.specialist_totals`:                                                             {"migrate", "reporting_ro"},
	`insert into paldies.channels values (1, 1, 'web', 'none')`:                                                {"migrate", "projector"},
	`insert into paldies.positions values (default, 'a', '', sha256(''), 1, sha256(''), now(), 0, 0, 0, 0, 1)`: {"migrate", "projector"},
	`insert into paldies.rebuilds values (default, 'a', '', sha256(''), 1, sha256(''), now(), 0, 0, 0, 0, 1)`:  {"migrate", "projector"},
	`insert into paldies.retired values (1)`:                                                                   {"migrate", "projector"},
	`update paldies.totals set votes = 1`:                                                                      {"migrate", "projector"},
	`delete from paldies.cells`:                                                                                {"migrate", "projector"},
	`select pg_try_advisory_lock(1, 2)`:                                                                        {"migrate", "projector"}, // the leader's, among others
	`select pg_total_relation_size('paldies.cells')`:                                                           nil,
	`select reltuples from pg_class`:                                                                           nil,
	`select * from pg_stat_user_tables`:                                                                        nil,
	`select lo_create(0)`:                                                                                      nil,
	`select relname from pg_class`:                                                                             logins,
	`insert into paldies.schema_version (version_id, is_applied) values (99, true)`:                            {"migrate"},
	`truncate paldies.cells`:                                                                                   {"migrate"},
	`drop table paldies.cells`:                                                                                 {"migrate"},
	`alter table paldies.cells add column x int`:                                                               {"migrate"},
	`alter table paldies.cells disable trigger all`:                                                            {"migrate"},
	`create table paldies.x (id int)`:                                                                          {"migrate"},
	`create index on paldies.cells (votes)`:                                                                    {"migrate"},
	`create or replace view reporting_v1.x as select 1`:                                                        {"migrate"},
	`alter default privileges for role migrate grant select on tables to public`:                               {"migrate"},
	`create schema x`:                              {"migrate"},
	`create temporary table x (id int)`:            nil,
	`create table public.x (id int)`:               nil,
	`create role x`:                                nil,
	`create extension dblink`:                      nil,
	`select rolpassword from pg_authid`:            nil,
	`select passwd from pg_shadow`:                 nil,
	`select pg_read_file('/etc/hostname')`:         nil,
	`copy paldies.cells to program 'true'`:         nil,
	`alter role reporting_ro connection limit 100`: nil,
	`alter role reporting_chancellery login`:       nil,
	`grant reporting_chancellery to reporting_ro`:  nil,
	`set role reporting_chancellery`:               nil,
	`set session authorization migrate`:            {"migrate"},
	`set session authorization postgres`:           nil,
	`alter database paldies connection limit 1`:    nil,
	`set temp_file_limit = -1`:                     nil,
	`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'`: nil,
}

// TestLogins tries what each login may do and what it may not, on a real Postgres.
func TestLogins(t *testing.T) {
	secrets := t.TempDir()
	made := deploy.Config{Dir: secrets, Hosts: []string{"nats-1"}, Now: time.Now()}
	check(t, deploy.MakeSecrets(made))
	d := startDatabase(t, secrets)
	d.makeLogins() // again
	before := make(map[string]string)
	super, err := connect(t, d.server.URL("paldies")) // whom nobody may terminate
	check(t, err)
	for _, login := range logins {
		before[login] = d.url(login)
		conn, err := connect(t, before[login])
		check(t, err)
		for statement, may := range statements {
			tryStatement(t, conn, login, statement, slices.Contains(may, login))
		}
		u, err := url.Parse(before[login])
		check(t, err)
		u.Path = "/postgres"
		if _, err := connect(t, u.String()); answer(t, err) != "42501" {
			t.Errorf("%s connects to another database: %v", login, err)
		}
	}
	check(t, super.Ping(t.Context()))

	// A login of a person's own reads reports; one of nothing reads nothing.
	_, err = super.Exec(t.Context(), `create role ilze login password 'p' in role reporting_ro; create role cits login password 'p'`)
	check(t, err)
	u, err := url.Parse(d.server.URL("paldies"))
	check(t, err)
	u.User = url.UserPassword("ilze", "p")
	ilze, err := connect(t, u.String())
	check(t, err)
	tryStatement(t, ilze, "ilze", `select * from reporting_v1.specialist_totals`, true)
	tryStatement(t, ilze, "ilze", `select * from paldies.totals`, false)
	u.User = url.UserPassword("cits", "p")
	if _, err := connect(t, u.String()); answer(t, err) != "42501" {
		t.Errorf("anybody connects: %v", err)
	}

	// Other secrets are other passwords, but not the superuser's, and no right is lost.
	check(t, os.Remove(filepath.Join(secrets, "authority", "ca.key")))
	check(t, deploy.MakeSecrets(made))
	// Nor do they keep one that is not theirs.
	_, err = super.Exec(t.Context(), `grant reporting_chancellery to auditor, reporting_ro; grant paldies_reader to projector; grant postgres to migrate`)
	check(t, err)
	d.makeLogins()
	var members string
	check(t, super.QueryRow(t.Context(), `
		select string_agg(format('%s in %s', member::regrole, roleid::regrole), ', ' order by member::regrole::text)
		from pg_auth_members where member::regrole::text = any ($1)`, logins).Scan(&members))
	if want := "admin in paldies_reader, auditor in paldies_reader, dashboard in paldies_reader, projector in paldies_projector"; members != want {
		t.Errorf("roles and their members are %s, want %s", members, want)
	}
	for _, login := range logins {
		if _, err := connect(t, before[login]); answer(t, err) != "28P01" {
			t.Errorf("%s connects with the old password: %v", login, err)
		}
		conn, err := connect(t, d.url(login))
		check(t, err)
		for statement, may := range statements {
			if slices.Contains(may, login) {
				tryStatement(t, conn, login, statement, true)
			}
		}
	}
	for _, login := range logins {
		u, err := url.Parse(d.url(login))
		check(t, err)
		if password, _ := u.User.Password(); strings.Contains(strings.Join(d.server.Log(), "\n"), password) {
			t.Errorf("the server's log has the password of %s", login)
		}
	}

	if out := d.run(4, "deploy", "logins", "--dir", filepath.Join(secrets, "logins"), "--database-url", d.url("migrate")); !strings.Contains(out, "use a superuser") {
		t.Errorf("who is no superuser is told %s", out)
	}
	if out := d.run(2, "deploy", "logins", "--dir", secrets, "--database-url", d.server.URL("paldies")); !strings.Contains(out, "paldies deploy secrets") {
		t.Errorf("without its folder it says %s", out)
	}
}

// traps are what the owner of the tables can put in the way of a superuser who looks
// names up there: better matches than those of Postgres for calls of MakeLogins.
const traps = `
	create function paldies.seize(by text) returns void language plpgsql as
		$$ begin if to_regrole(by) is null then execute 'create role ' || by || ' superuser'; end if; end $$;
	create function paldies.hashtextextended(text, int) returns bigint language plpgsql as $$ begin perform paldies.seize('by_function'); return 0; end $$;
	create function paldies.differs(oid, regtype) returns boolean language plpgsql as $$ begin perform paldies.seize('by_operator'); return true; end $$;
	create operator paldies.<> (leftarg = oid, rightarg = regtype, function = paldies.differs)`

// TestLoginsAmongTraps: the owner of the tables does not become a superuser by what
// the job does that makes the logins.
func TestLoginsAmongTraps(t *testing.T) {
	secrets := t.TempDir()
	check(t, deploy.MakeSecrets(deploy.Config{Dir: secrets, Hosts: []string{"nats-1"}, Now: time.Now()}))
	d := startDatabase(t, secrets)
	migrate, err := connect(t, d.url("migrate"))
	check(t, err)
	_, err = migrate.Exec(t.Context(), traps)
	check(t, err)
	d.makeLogins()
	var supers string
	check(t, migrate.QueryRow(t.Context(), `select string_agg(rolname, ' ' order by rolname) from pg_roles where rolsuper`).Scan(&supers))
	if supers != "postgres" {
		t.Errorf("superusers are %s", supers)
	}
}

// tryStatement wants a statement to be let through or to be forbidden. Nothing of
// it stays.
func tryStatement(t testing.TB, conn *pgx.Conn, login, statement string, may bool) {
	t.Helper()
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadWrite})
	check(t, err)
	_, err = tx.Exec(t.Context(), statement)
	if code := answer(t, err); may && code != "" || !may && code != "42501" {
		t.Errorf("%s: %s is answered %v", login, statement, err)
	}
	check(t, tx.Rollback(t.Context()))
}

package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

// sql runs statements as the test's administrator.
func sql(t testing.TB, url string, statements string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer func() { check(t, conn.Close(context.Background())) }()
	_, err = conn.Exec(t.Context(), statements)
	check(t, err)
}

// as is the URL with another user, password and database, where they are given.
func as(t testing.TB, databaseURL, user, password, database string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	check(t, err)
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

// oneSentence wants an error of a kind that says what matters, on one line and
// without the password.
func oneSentence(t testing.TB, err, kind error, says ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("the error is %v, want %v", err, kind)
		return
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\t") || strings.Contains(err.Error(), secret) {
		t.Errorf("%q is not one line without secrets", err)
	}
}

const secret = "zvirbulis-uz-jumta"

// TestErrorsAtStart takes a server of its own, which asks for passwords.
func TestErrorsAtStart(t *testing.T) {
	server := pgtest.NewServer(t, map[string]string{"fsync": "off"})
	url := server.URL("postgres")
	sql(t, url, `create role ligita login password '`+secret+`'; create role ilze login password '`+secret+`'`)
	sql(t, url, `create database balsis`)
	balsis := as(t, url, "", "", "balsis")
	open(t, balsis)
	try := func(url string) error {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err == nil {
			db.Close()
		}
		return err
	}
	oneSentence(t, try(as(t, url, "ligita", "nepareiza", "balsis")), postgres.ErrRefused, "ligita", "password")
	oneSentence(t, try(as(t, url, "neviens", secret, "balsis")), postgres.ErrRefused, "neviens")
	oneSentence(t, try(as(t, url, "ligita", secret, "nav")), postgres.ErrRefused, "database nav", "create it")
	oneSentence(t, try(as(t, url, "ligita", secret, "balsis")), postgres.ErrRefused, "ligita", "grant")
	_, err := postgres.Migrate(t.Context(), postgres.Config{URL: as(t, url, "ligita", secret, "balsis"), Schema: "cita"})
	oneSentence(t, err, postgres.ErrRefused, "ligita", "grant")

	// Who may read but not write is told so when it comes to writing.
	sql(t, balsis, `grant usage on schema paldies to ilze; grant select on all tables in schema paldies to ilze`)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: as(t, url, "ilze", secret, "balsis")})
	check(t, err)
	defer db.Close()
	h, campaigns := campaign(t)
	oneSentence(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()), postgres.ErrRefused, "ilze", "grant")
	// The rights are given, and it goes on without help.
	sql(t, balsis, `grant insert, update on all tables in schema paldies to ilze`)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)

	log := new(bytes.Buffer) // read after the leader's end only
	leader := db.NewLeader(slog.New(slog.NewTextHandler(log, nil)))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = leader.Run(ctx, func(ctx context.Context) error { // it can only return nil
			<-ctx.Done()
			return nil
		})
	})
	storetest.Eventually(t, "it leads", func() bool { return leader.State().Leading })

	check(t, server.Kill())
	oneSentence(t, try(url), postgres.ErrUnavailable, "start it", "127.0.0.1")
	storetest.Eventually(t, "the leader says so too", func() bool {
		err := leader.State().Err
		return err != nil && strings.Contains(err.Error(), "start it")
	})
	oneSentence(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()), postgres.ErrUnavailable, "127.0.0.1")
	check(t, server.Restart(t.Context()))
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	storetest.Eventually(t, "it leads again", func() bool { return leader.State().Leading })
	stop()
	running.Wait()
	// The lock was lost first; why it cannot be had is said as well, and once.
	if n := strings.Count(log.String(), "nobody answers"); n != 1 {
		t.Errorf("the log says %d times that nobody answers:\n%s", n, log)
	}
}

func TestConfig(t *testing.T) {
	for want, c := range map[string]postgres.Config{
		"no database URL": {},
		"database URL":    {URL: "postgres://ligita:" + secret + "@127.0.0.1:piecdesmit/balsis"},
		"lower case":      {URL: "postgres://ligita@127.0.0.1/balsis", Schema: "Balsis; drop"},
		"connections":     {URL: "postgres://ligita@127.0.0.1/balsis", MaxConns: -1},
	} {
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("the error is %v, want one that says %q", err, want)
		}
		if _, err := postgres.Open(t.Context(), c); err == nil {
			t.Errorf("a database is opened that way: %+v", c)
		}
	}
}

// TestSchema: tables that are older or newer than the program stop it, in
// words, and so does their absence.
func TestSchema(t *testing.T) {
	url := pgtest.NewDatabase(t)
	config := postgres.Config{URL: url, Schema: "laba_servisa_kustiba"}
	refused := func(says string) {
		t.Helper()
		_, err := postgres.Open(t.Context(), config)
		var schema *postgres.SchemaError
		if !errors.As(err, &schema) || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, want one that says %q", err, says)
		}
	}
	refused("run paldies migrate")
	var work sync.WaitGroup
	for range 4 { // at once
		work.Go(func() {
			m, err := postgres.Migrate(t.Context(), config)
			if err != nil || m.To != 5 || m.Schema != config.Schema {
				t.Errorf("migrated %+v, %v", m, err)
			}
		})
	}
	work.Wait()
	db, err := postgres.Open(t.Context(), config)
	check(t, err)
	defer db.Close()

	sql(t, url, `insert into laba_servisa_kustiba.schema_version (version_id, is_applied) values (999, true)`)
	refused("run a newer paldies")
	_, err = postgres.Migrate(t.Context(), config)
	var schema *postgres.SchemaError
	if !errors.As(err, &schema) || schema.Have != 999 {
		t.Errorf("migrating back: %v", err)
	}
	leader := db.NewLeader(projectiontest.Discard)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = leader.Run(ctx, func(context.Context) error {
			t.Error("it works on tables of another version")
			return nil
		})
	})
	storetest.Eventually(t, "the leader refuses the tables", func() bool { return errors.As(leader.State().Err, &schema) })
	stop()
	running.Wait()

	// One that is at work hears of it, and makes way.
	sql(t, url, `delete from laba_servisa_kustiba.schema_version where version_id = 999`)
	ctx, stop = context.WithCancel(t.Context())
	running.Go(func() {
		_ = leader.Run(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
	})
	storetest.Eventually(t, "it works", func() bool { return leader.State().Leading })
	sql(t, url, `insert into laba_servisa_kustiba.schema_version (version_id, is_applied) values (999, true)`)
	storetest.Eventually(t, "it has stopped", func() bool {
		s := leader.State()
		return !s.Leading && errors.As(s.Err, &schema)
	})
	stop()
	running.Wait()

	sql(t, url, `delete from laba_servisa_kustiba.schema_version where version_id = 999`)
	h, campaigns := campaign(t)
	check(t, projectiontest.Runner(t, campaigns, db).RunToEnd(t.Context()))
	projectiontest.Expect(t, db, h.Campaign, &h.Tally)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sakipaldies.lv/ledger/projections/postgres"
	"sakipaldies.lv/ledger/projections/postgres/pgserver"
)

const (
	// localDatabase is the value of --database for a private server.
	localDatabase = "local"
	// localRestartInterval is the pause between two attempts to start it again.
	localRestartInterval = time.Second
	// localName is the private server's database.
	localName = "paldies"
	// localStopTimeout is what the private server gets for stopping in order.
	localStopTimeout = 30 * time.Second
)

// devDatabase is where dev keeps read models besides its memory: nowhere, in a
// database that somebody else runs, or in a private server.
type devDatabase struct {
	kind string // of --database
	url  string

	db     *postgres.DB
	server *pgserver.Server // private
	file   string           // that holds the private server's URL
	log    *slog.Logger
}

func (d *devDatabase) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.url, databaseName, "", "keep the read model in this Postgres database too, for example postgres://user:password@host:5432/database")
	cmd.Flags().StringVar(&d.kind, "database", "", "local: keep the read model too in a private Postgres server on DATA/postgres")
}

func (d *devDatabase) validate() error {
	switch {
	case d.kind != "" && d.kind != localDatabase:
		return usagef("--database %q: use %s, or name a database of your own with --%s", d.kind, localDatabase, databaseName)
	case d.kind != "" && d.url != "":
		return usagef("--database and --%s exclude each other", databaseName)
	case d.url != "":
		_, err := databaseConfig(d.url)
		return err
	}
	return nil
}

func (d *devDatabase) wanted() bool { return d.kind != "" || d.url != "" }

// open starts the private server if it is to be that, and makes the tables what
// this program needs. After an error, too, close must be called.
func (d *devDatabase) open(ctx context.Context, dataDir string, log *slog.Logger) error {
	d.log = log
	if d.kind == localDatabase {
		if err := d.start(ctx, dataDir); err != nil {
			return err
		}
	}
	config, err := databaseConfig(d.url)
	if err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, config); err != nil {
		return err
	}
	d.db, err = postgres.Open(ctx, config)
	return err
}

// start starts the private server. Its URL holds a password, so that it goes
// into a file that only this user can read.
func (d *devDatabase) start(ctx context.Context, dataDir string) (err error) {
	if err := letPass(dataDir); err != nil {
		return err
	}
	d.server, err = pgserver.Start(ctx, pgserver.Config{Dir: filepath.Join(dataDir, "postgres"), Logger: d.log})
	if err != nil {
		return err
	}
	if d.url, err = d.server.EnsureDatabase(ctx, localName); err != nil {
		return err
	}
	file := filepath.Join(dataDir, "database-url")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.file = file
	return os.WriteFile(file, []byte(d.url+"\n"), 0o600)
}

// letPass lets other users go through the data directory, though not look into
// it: Postgres does not run as root, and its user has to reach its own files.
func letPass(dataDir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	return os.Chmod(dataDir, info.Mode().Perm()|0o011)
}

// keep starts the private server again whenever it ends by itself, until the
// context ends.
func (d *devDatabase) keep(ctx context.Context) error {
	for {
		err := d.server.Wait(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.log.Warn("the private Postgres server has ended and is started again", "error", err)
		d.restart(ctx)
	}
}

// restart tries until the server runs or the context ends. Votes need no read
// model: what keeps the server from starting, a full disk for example, must not
// end the node. Each reason is logged once, and /readyz says that nobody
// answers.
func (d *devDatabase) restart(ctx context.Context) {
	reason := ""
	for {
		err := d.server.Restart(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if err.Error() != reason {
			reason = err.Error()
			d.log.Error("the private Postgres server cannot be started; it is tried again", "error", err)
		}
		select {
		case <-time.After(localRestartInterval):
		case <-ctx.Done():
		}
	}
}

// close gives everything back. Nothing may use the database any more.
func (d *devDatabase) close() error {
	var errs []error
	if d.db != nil {
		d.db.Close()
	}
	if d.file != "" {
		errs = append(errs, os.Remove(d.file))
	}
	if d.server != nil {
		ctx, stop := context.WithTimeout(context.Background(), localStopTimeout)
		defer stop()
		errs = append(errs, d.server.Stop(ctx))
	}
	return errors.Join(errs...)
}

// describe says for people where the database is and how commands find it.
func (d *devDatabase) describe() string {
	where := databaseAddress(d.url)
	if d.server == nil {
		return where
	}
	return fmt.Sprintf("%s (private server; other commands: PALDIES_DATABASE_URL_FILE=%s)", where, quoteArgs([]string{d.file}))
}

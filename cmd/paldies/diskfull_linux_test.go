package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sakipaldies.lv/ledger/projections/postgres/pgserver"
	"sakipaldies.lv/ledger/projections/postgres/pgtest"
)

// TestPostgresDiskFull takes the disk from a real Postgres while a real
// projector works, and gives it back. The file systems are small ones in the
// memory. They and all processes belong to namespaces that end with the test,
// however it ends.
func TestPostgresDiskFull(t *testing.T) {
	if !isApart() {
		t.Parallel()
		withSmallDisks(t)
		return
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("%s mount: %v", refused, err)
	}
	t.Run("tables", fullTables)
	t.Run("log", fullLog)
}

// withSmallDisks runs this test where it may mount what nobody else sees.
func withSmallDisks(t *testing.T) {
	t.Helper()
	err := apart(t, syscall.CLONE_NEWNS, capSysAdmin)
	switch {
	case err == nil:
	case os.Geteuid() == 0:
		t.Errorf("no full disk was tested, for root may not mount here (%v): give the tests CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN), or run them as another user", err)
	default:
		fmt.Println("NOTE: no full disk was tested: this system lets only root mount")
		t.Skipf("this system lets only root mount (%v): run the tests as root once", err)
	}
}

// smallDisk is where a small file system is mounted.
type smallDisk string

// newSmallDisk mounts a file system that outlives the servers of the test.
func newSmallDisk(t *testing.T, size string) smallDisk {
	t.Helper()
	dir, err := pgserver.MkdirTemp()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, os.Remove(dir)) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Fatalf("%s mount: %v", refused, err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	return smallDisk(dir)
}

// give makes the server's user the disk's owner.
func (d smallDisk) give(t *testing.T, server *pgserver.Server) {
	t.Helper()
	info, err := os.Stat(server.Dir())
	check(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	check(t, os.Chown(string(d), int(owner.Uid), int(owner.Gid)))
}

func (d smallDisk) ballast() string { return filepath.Join(string(d), "balasts") }

// fill takes all space that is left.
func (d smallDisk) fill(t *testing.T) {
	t.Helper()
	file, err := os.Create(d.ballast())
	check(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling a disk: %v", err)
	}
	check(t, file.Close())
}

// free gives the space back.
func (d smallDisk) free(t *testing.T) {
	t.Helper()
	check(t, os.Remove(d.ballast()))
}

// diskFullSays is the fault and the remedy.
var diskFullSays = []string{"the database is not available: the disk of 127.0.0.1:", "is full: free space there, then it goes on by itself", "No space left on device"}

// fullTables fills the disk of a tablespace, which Postgres survives.
func fullTables(t *testing.T) {
	disk := newSmallDisk(t, "48m")
	// A vacuum could give back some pages, and there would be space.
	server := pgtest.NewServer(t, map[string]string{"autovacuum": "off"})
	disk.give(t, server)
	execute(t, server.URL("postgres"), `create tablespace mazs location '`+string(disk)+`'`)
	execute(t, server.URL("postgres"), `create database balsis template template0 encoding 'UTF8' tablespace mazs`)
	databaseURL := server.URL("balsis")
	data := t.TempDir()
	paldies(t, data, "migrate", "--database-url", databaseURL)
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0")
	projector := startDaemon(t, data, projectArgs(databaseURL)...)
	small := smallBallots(t)
	before, during, later := small.as("pirms"), small.as("laika"), small.as("velak")
	all := []ballotSet{before, during, later}
	for _, set := range all {
		set.open(t, data)
	}
	paldies(t, data, before.importArgs()...)
	projector.reachesEnd(t, all...)

	disk.fill(t)
	paldies(t, data, during.importArgs()...) // Votes are recorded as ever.
	eventually(t, "the projector says that the disk is full", func() bool {
		c := projector.campaign(t, during)
		return c.Status == "interrupted" && sentence(c.Error, diskFullSays...)
	})
	before.assertSame(t, data, databaseURL)
	during.assertRight(t, data, databaseURL)
	if c := projector.campaign(t, before); c.Status != "running" || c.Lag != 0 {
		t.Errorf("a campaign without news: %+v", c)
	}
	disk.free(t)
	projector.reachesEnd(t, all...)
	during.assertSame(t, data, databaseURL)

	// Who does not wait for space is told.
	projector.stop(t)
	disk.fill(t)
	paldies(t, data, later.importArgs()...)
	once := []string{"project", "--once", "--database-url", databaseURL}
	wantUnavailable(t, data, once, diskFullSays...)
	later.assertRight(t, data, databaseURL)
	disk.free(t)
	paldies(t, data, once...)
	assertProjected(t, data, databaseURL, all...)
	node.stop(t)
}

// fullLog fills the disk of the write-ahead log. That ends Postgres, and it
// cannot start before there is space; then somebody has to start it.
func fullLog(t *testing.T) {
	disk := newSmallDisk(t, "96m")
	server := pgtest.NewServer(t, map[string]string{"min_wal_size": "32MB", "max_wal_size": "32MB"})
	disk.give(t, server)
	moveLog(t, server, disk)
	databaseURL, err := server.EnsureDatabase(t.Context(), "balsis")
	check(t, err)
	data := t.TempDir()
	paldies(t, data, "migrate", "--database-url", databaseURL)
	node := startDaemon(t, data, "dev", "--http", "127.0.0.1:0")
	projector := startDaemon(t, data, projectArgs(databaseURL)...)
	small := smallBallots(t)
	before, during := small.as("pirms"), small.as("laika")
	before.open(t, data)
	paldies(t, data, before.importArgs()...)
	during.open(t, data)
	projector.reachesEnd(t, before, during)

	disk.fill(t)
	ended := make(chan error, 1)
	go func() {
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		ended <- server.Wait(ctx)
	}()
	stopSwitching := switchLog(t, databaseURL)
	paldies(t, data, during.importArgs()...)
	var failure *pgserver.ServerError
	if err := <-ended; !errors.As(err, &failure) || !strings.Contains(strings.Join(failure.Log, "\n"), "No space left on device") {
		t.Fatalf("Postgres without space for its log ends with %v", err)
	}
	stopSwitching()
	remedy := []string{"the database is not available: nobody answers at 127.0.0.1:", ": start it"}
	eventually(t, "the projector says that Postgres is not there", func() bool {
		report, err := projector.projector(t.Context())
		return err == nil && report.State == "interrupted" && sentence(report.Error, remedy...)
	})
	wantUnavailable(t, data, []string{"project", "--once", "--database-url", databaseURL}, remedy...)
	wantUnavailable(t, data, []string{"results", "--campaign", before.name, "--database-url", databaseURL}, remedy...)

	disk.free(t)
	check(t, server.Restart(t.Context()))
	projector.reachesEnd(t, before, during)
	assertProjected(t, data, databaseURL, before, during)
	projector.stop(t)
	node.stop(t)
}

// moveLog moves a server's write-ahead log to a disk.
func moveLog(t *testing.T, server *pgserver.Server, disk smallDisk) {
	t.Helper()
	check(t, server.Stop(t.Context()))
	log, moved := filepath.Join(server.Dir(), "data", "pg_wal"), filepath.Join(string(disk), "pg_wal")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", log, moved).CombinedOutput(); err != nil {
		t.Fatalf("copying the log: %v: %s", err, out)
	}
	check(t, os.RemoveAll(log))
	check(t, os.Symlink(moved, log))
	check(t, server.Restart(t.Context()))
}

// switchLog makes Postgres begin one log file after the other, for each of
// which it needs new space. While it takes no connections it is seldom asked, for it
// writes down each, and only the end of what it writes is kept.
func switchLog(t *testing.T, databaseURL string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			conn, err := pgx.Connect(ctx, databaseURL)
			if err != nil {
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
				continue
			}
			_, _ = conn.Exec(ctx, `select pg_switch_wal()`) // fails when Postgres ends of it
			_ = conn.Close(ctx)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// campaign is what a projector says of the set's campaign.
func (d *daemon) campaign(t *testing.T, set ballotSet) projectedCampaign {
	t.Helper()
	report, err := d.projector(t.Context())
	check(t, err)
	i := slices.IndexFunc(report.Campaigns, func(c projectedCampaign) bool { return c.Campaign == set.name })
	if i < 0 {
		return projectedCampaign{}
	}
	return report.Campaigns[i]
}

// assertRight wants the read model to be what the ledger says at its position.
func (s ballotSet) assertRight(t *testing.T, data, databaseURL string) {
	t.Helper()
	out, errOut, code := try(t, data, "audit", "verify", "--campaign", s.name, "--database-url", databaseURL)
	if code != 0 {
		t.Errorf("the read model of campaign %s differs: exit code %d\n%s%s", s.name, code, out, errOut)
	}
}

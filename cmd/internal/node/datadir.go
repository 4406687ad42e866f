package node

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Names in the data directory.
const (
	lockName    = "lock"
	addressName = "node.json"
	storeName   = "jetstream" // the server's own name
)

// recordBytesMax is the largest lock record or node.json that is read, in
// bytes.
const recordBytesMax = 64 << 10

// errLocked says that another process holds the data directory.
var errLocked = errors.New("locked by another process")

// processID is what others are told about this process.
var processID = os.Getpid()

// holder is the record in the lock file: who has the data directory.
type holder struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// Instance tells a process from an earlier one of the same number: a
	// node.json belongs to the holder of the lock if both have the same.
	Instance string `json:"instance"`
	// Serve announces that node.json will follow.
	Serve bool `json:"serve"`
}

// address is node.json: how other processes of this user reach the server.
type address struct {
	holder
	URL   string `json:"url"`
	Token string `json:"token"`
	HTTP  string `json:"http,omitempty"`
	// SyncAlways says that the server acknowledges nothing before it is on the
	// disk. A server does not tell its clients.
	SyncAlways bool `json:"sync_always"`
}

// newInstance and newToken are random texts of 128 bits and more.
func newInstance() string { return rand.Text() }
func newToken() string    { return rand.Text() + rand.Text() }

func lockPath(dataDir string) string    { return filepath.Join(dataDir, lockName) }
func addressPath(dataDir string) string { return filepath.Join(dataDir, addressName) }

// makeDataDir makes the directory for its user alone. The permissions of a
// directory that exists are left as they are, for it may hold other things
// too: everything in it that counts has its own.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return dataDirError(dir, err)
	}
	return nil
}

// hasData says whether a node has been on the directory. A copy may lack the
// lock, and a node that is just starting the store. What cannot be looked at is
// left to those who open it: they say what is wrong.
func hasData(dir string) bool {
	for _, path := range []string{lockPath(dir), filepath.Join(dir, storeName)} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// dataDirError puts a failed access to the data directory into words.
func dataDirError(dir string, err error) error {
	if IsDiskFull(err) {
		return fullError(dir, err)
	}
	return fmt.Errorf("%w: %w: name a directory on a local disk that you may write to with --data, or repair %s", ErrDataDir, err, dir)
}

// dataLock is the lock on the data directory that this process holds.
type dataLock struct {
	holder holder
	file   *os.File
}

// takeLock locks the data directory for this process, or returns errLocked.
// The lock file is never removed: a process that opened it before the removal
// would lock a file that nobody else sees.
func takeLock(dataDir string, h holder) (*dataLock, error) {
	file, err := os.OpenFile(lockPath(dataDir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dataDirError(dataDir, err)
	}
	if err := lockFile(file); err != nil {
		file.Close() // Nothing was written.
		if errors.Is(err, errLocked) {
			return nil, errLocked
		}
		return nil, dataDirError(dataDir, fmt.Errorf("locking %s: %w", file.Name(), err))
	}
	lock := &dataLock{holder: h, file: file}
	if err := lock.write(); err != nil {
		return nil, errors.Join(dataDirError(dataDir, err), lock.release())
	}
	return lock, nil
}

// write tells others who holds the lock.
func (l *dataLock) write() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	return json.NewEncoder(io.NewOffsetWriter(l.file, 0)).Encode(l.holder)
}

// release gives the data directory free. The record goes first, so that nobody
// takes it for that of the next holder.
func (l *dataLock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}

// readHolder reads who holds the lock.
func readHolder(dataDir string) (holder, error) {
	var h holder
	err := readRecord(lockPath(dataDir), &h)
	return h, err
}

// readAddress reads node.json.
func readAddress(dataDir string) (address, error) {
	var a address
	err := readRecord(addressPath(dataDir), &a)
	return a, err
}

func readRecord(path string, record any) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := json.NewDecoder(io.LimitReader(file, recordBytesMax)).Decode(record); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// write puts node.json in place at once, readable by this user only: who has
// its token can append to the ledger.
func (a *address) write(dataDir string) (err error) {
	defer func() {
		if err != nil {
			err = dataDirError(dataDir, err)
		}
	}()
	file, err := os.CreateTemp(dataDir, addressName+".*") // mode 0600
	if err != nil {
		return err
	}
	err = errors.Join(json.NewEncoder(file).Encode(a), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), addressPath(dataDir))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func removeAddress(dataDir string) error {
	if err := os.Remove(addressPath(dataDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

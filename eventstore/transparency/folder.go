package transparency

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"sakipaldies.lv/ledger/eventstore"
)

const (
	// fileBytesMax bounds a file of the log that is read as a whole, in bytes. A
	// full bundle of the largest entries has 8 MiB.
	fileBytesMax = TileWidth * (lengthBytes + MaxEntryBytes)
	// checkpointsBytesMax bounds the list of all checkpoints, in bytes: one a
	// second for two months, or ten million of a longer campaign.
	checkpointsBytesMax = 2 << 30
	// parallelSyncs is how many files are synced at a time: file systems put
	// the fsyncs of several into one write of their journal.
	parallelSyncs = 16
	// wholeSyncMin is from how many files on their file system is synced as a
	// whole, where the system can do that: once for all is then cheaper.
	wholeSyncMin = 16
	// unfinishedPrefix begins the name of a file that is being written.
	unfinishedPrefix = ".new-"
	// unsignedPrefix begins the name of one that was never signed.
	unsignedPrefix = ".unsigned-"
)

// ErrChanged says that a file that never changes holds something else than
// what belongs there.
var ErrChanged = errors.New("a file that must never change has another content")

// Folder is a log as files, laid out as C2SP tlog-tiles serves them. Reading is
// safe for concurrent use, also while another process writes. One process at a
// time may write; its owner sees to that.
type Folder struct {
	dir string
	// step does one operation on a file. Tests put faults before and after it.
	step func(operation string, path string, run func() error) error
	// named are the folders whose own names are durable. Only the writer uses
	// it. What another process has left is not known to be.
	named map[string]bool
}

// The operations of a Folder.
const (
	opRead   = "read"
	opWrite  = "write"  // a new file, unnamed
	opFlush  = "flush"  // of new files, so that their bytes are durable
	opRename = "rename" // to its name
	opSync   = "sync"   // of a folder, so that names in it are durable
	opAppend = "append" // and fsync
	opCut    = "cut"    // what a crash left at the end of a file
	opRemove = "remove"
)

// NewFolder is a log in a directory, which need not be there yet.
func NewFolder(dir string) *Folder {
	return &Folder{dir: dir, step: func(_, _ string, run func() error) error { return run() }, named: make(map[string]bool)}
}

// Dir is the directory.
func (f *Folder) Dir() string { return f.dir }

func (f *Folder) name(p string) string { return filepath.Join(f.dir, filepath.FromSlash(p)) }

// Read returns a whole file. It is fs.ErrNotExist when there is none.
func (f *Folder) Read(p string) (data []byte, err error) {
	err = f.step(opRead, p, func() error {
		data, err = f.read(p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// read looks before it opens: to open a named pipe would wait for ever. It looks
// again at what it has opened, which may be another file of the same name, as a
// newer checkpoint is.
func (f *Folder) read(p string) ([]byte, error) {
	name := f.name(p)
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a file", eventstore.ErrCorrupt, name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	limit := int64(fileBytesMax)
	if p == CheckpointsPath {
		limit = checkpointsBytesMax
	}
	info, err = file.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Size() > limit:
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are read", eventstore.ErrCorrupt, name, info.Size(), limit)
	}
	// It may be shorter by now: a signer cuts what a crash has left of a list.
	data := make([]byte, info.Size())
	n, err := io.ReadFull(file, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%w: %s: %w", eventstore.ErrCorrupt, name, err)
	}
	return data[:n], nil
}

// readRow reads a tile or a bundle of the given width. A log may delete a
// partial one once the full one is there, whose beginning is then the same.
func (f *Folder) readRow(p place) (data []byte, width int, err error) {
	data, err = f.Read(p.path())
	if !errors.Is(err, fs.ErrNotExist) || p.width == TileWidth {
		return data, p.width, err
	}
	full := p
	full.width = TileWidth
	data, fullErr := f.Read(full.path())
	if errors.Is(fullErr, fs.ErrNotExist) {
		return nil, 0, err
	}
	return data, TileWidth, fullErr
}

// readExactly reads a tile or a bundle of just this width; nil when it is not
// there.
func (f *Folder) readExactly(p place) ([]byte, error) {
	data, err := f.Read(p.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// file is a tile or a bundle to be written.
type file struct {
	place
	data []byte
}

// write puts whole files in place and makes them durable; after a failure any
// of them may be there. Files that never change are not written again, and it
// is ErrChanged when they hold something else. Their folders are synced all the
// same: the process that wrote them may have died before it did so.
func (f *Folder) write(files []file) error {
	var missing []file
	for _, one := range files {
		have, err := f.Read(one.path())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, one)
		case err != nil:
			return err
		case !bytes.Equal(have, one.data):
			return fmt.Errorf("%w: %s: nothing is signed any more; compare it with a copy of the log, and find out whether it or the ledger was changed", ErrChanged, f.name(one.path()))
		}
	}
	folders, err := f.makeFolders(files)
	if err != nil {
		return err
	}
	if err := f.putAll(missing); err != nil {
		return err
	}
	if err := f.syncFolders(folders); err != nil {
		return err
	}
	for _, dir := range folders {
		f.named[dir] = true // Its parent is among them, or was synced before.
	}
	return nil
}

// replace puts one file in place of another.
func (f *Folder) replace(p string, data []byte) error {
	if err := f.put(p, data); err != nil {
		return err
	}
	return f.syncFolders([]string{path.Dir(p)})
}

// put writes a file under another name first, so that it is there as a whole
// or not at all.
func (f *Folder) put(p string, data []byte) error {
	return f.putNamed(map[string][]byte{p: data})
}

func (f *Folder) putAll(files []file) error {
	named := make(map[string][]byte, len(files))
	for _, one := range files {
		named[one.path()] = one.data
	}
	return f.putNamed(named)
}

// putNamed writes files, makes their bytes durable, and only then gives them
// their names.
func (f *Folder) putNamed(files map[string][]byte) error {
	paths := slices.Sorted(maps.Keys(files))
	unfinished := make([]string, len(paths))
	for i, p := range paths {
		dir, name := filepath.Split(f.name(p))
		unfinished[i] = filepath.Join(dir, unfinishedPrefix+name)
		if err := f.step(opWrite, p, func() error { return os.WriteFile(unfinished[i], files[p], 0o644) }); err != nil {
			return err
		}
	}
	if len(paths) == 0 {
		return nil
	}
	if err := f.step(opFlush, paths[0], func() error { return f.flush(unfinished) }); err != nil {
		return err
	}
	for i, p := range paths {
		if err := f.step(opRename, p, func() error { return os.Rename(unfinished[i], f.name(p)) }); err != nil {
			return err
		}
	}
	return nil
}

// flush makes the bytes of files durable: one by one, or all at once with the
// rest of their file system.
func (f *Folder) flush(names []string) error {
	if len(names) >= wholeSyncMin {
		if done, err := syncWhole(f.dir); done {
			return err
		}
	}
	errs := make([]error, len(names))
	places := make(chan struct{}, parallelSyncs)
	var syncing sync.WaitGroup
	for i, name := range names {
		places <- struct{}{}
		syncing.Go(func() {
			errs[i] = syncFile(name)
			<-places
		})
	}
	syncing.Wait()
	return errors.Join(errs...)
}

func syncFile(name string) error {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// append adds to the end of a file. A crash may leave a part of it.
func (f *Folder) append(p string, data []byte) error {
	return f.step(opAppend, p, func() error { return appendSynced(f.name(p), data) })
}

func appendSynced(name string, data []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// cut shortens a file.
func (f *Folder) cut(p string, size int64) error {
	return f.step(opCut, p, func() error {
		file, err := os.OpenFile(f.name(p), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(file.Truncate(size), file.Sync(), file.Close())
	})
}

// removePartial deletes the partial tiles or bundles of a place whose full one
// is there.
func (f *Folder) removePartial(p place) error {
	p.width = TileWidth
	dir := p.path() + ".p"
	delete(f.named, dir)
	return f.step(opRemove, p.path(), func() error { return os.RemoveAll(f.name(dir)) })
}

// putUnsignedAside renames tiles and bundles that reach beyond what was signed.
// A signer that was killed has left them; the ledger may have lost their events
// since, and have others in their place. Nobody reads them under their new names,
// but they may hold the only copy of an event.
func (f *Folder) putUnsignedAside(size uint64) error {
	return f.walk(func(at place) error {
		if at.width <= widthAt(size, at.level, at.index) {
			return nil
		}
		dir, name := path.Split(at.path())
		return f.step(opRename, at.path(), func() error {
			return os.Rename(f.name(at.path()), f.name(dir+unsignedPrefix+name))
		})
	}, func(string) {})
}

// walk goes through the tiles and bundles, and through the files that are none.
// What vanishes meanwhile is passed over, and so is what nobody reads: files that
// are being written, and those that file managers leave behind.
func (f *Folder) walk(row func(place) error, stray func(path string)) error {
	root := f.name(strings.TrimSuffix(tilePrefix, "/"))
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") || d.Name() == "Thumbs.db" || d.Name() == "desktop.ini" {
			return nil
		}
		relative, err := filepath.Rel(f.dir, name)
		if err != nil {
			return err
		}
		path := filepath.ToSlash(relative)
		at, ok := parsePlace(path)
		if !ok {
			stray(path)
			return nil
		}
		return row(at)
	})
}

// makeFolders makes the folders of files and returns all those in which names
// are to become durable: theirs and, unless that is done, those of the folders.
func (f *Folder) makeFolders(files []file) (dirs []string, err error) {
	seen := make(map[string]bool)
	for _, one := range files {
		dir := path.Dir(one.path())
		if seen[dir] {
			continue
		}
		if err := os.MkdirAll(f.name(dir), 0o755); err != nil {
			return nil, err
		}
		for ; !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			dirs = append(dirs, dir)
			if f.named[dir] {
				break
			}
		}
	}
	slices.Sort(dirs)
	return dirs, nil
}

func (f *Folder) syncFolders(dirs []string) error {
	for _, dir := range dirs {
		if err := f.step(opSync, dir, func() error { return syncDir(f.name(dir)) }); err != nil {
			return err
		}
	}
	return nil
}

// create makes the directory itself, and its name and its parent's durable:
// both may be new.
func (f *Folder) create() error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	parent := filepath.Dir(f.dir)
	return f.step(opSync, "..", func() error { return errors.Join(syncDir(parent), syncDir(filepath.Dir(parent))) })
}

// checkpoint returns the published checkpoint, or nil when there is none.
func (f *Folder) checkpoint(keys *Keys) (*Checkpoint, []byte, error) {
	data, err := f.Read(CheckpointPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	c, err := ParseCheckpoint(data, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.name(CheckpointPath), err)
	}
	return &c, data, nil
}

// mendCheckpoints returns the published checkpoint, or nil, and finishes what a
// crash has interrupted: CheckpointsPath may end with a part of a checkpoint, or
// lack the last one.
func (f *Folder) mendCheckpoints(keys *Keys) (*Checkpoint, error) {
	published, signed, err := f.checkpoint(keys)
	if err != nil {
		return nil, err
	}
	// The process that put it there may have died before it synced the folder.
	// Were the power to fail now, the next one would find a checkpoint that is
	// older than the last of all.
	if err := f.syncFolders([]string{"."}); err != nil {
		return nil, err
	}
	all, err := f.Read(CheckpointsPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	notes, rest := splitCheckpoints(all)
	if len(rest) > 0 {
		if err := f.cut(CheckpointsPath, int64(len(all)-len(rest))); err != nil {
			return nil, err
		}
	}
	if len(notes) > 0 {
		last, err := ParseCheckpoint(notes[len(notes)-1], keys)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: the last one: %w", f.name(CheckpointsPath), err)
		case published == nil || published.Size < last.Size:
			return nil, fmt.Errorf("%w: %s is older than the last one of %s: restore it from there", ErrChanged, f.name(CheckpointPath), f.name(CheckpointsPath))
		case published.Size == last.Size && published.Root != last.Root:
			return nil, fmt.Errorf("%w: %s and the last one of %s have two roots for %d entries", ErrFork, f.name(CheckpointPath), f.name(CheckpointsPath), last.Size)
		case published.Size == last.Size:
			return published, nil
		}
	}
	if published == nil {
		return nil, nil
	}
	return published, f.append(CheckpointsPath, signed)
}

// AddKey writes a verifier key into the folder's list, unless it is there.
func (f *Folder) AddKey(verifier string) error {
	if err := f.create(); err != nil {
		return err
	}
	known, err := f.HasKey(verifier)
	if err != nil || known {
		return err
	}
	data, err := f.Read(KeysPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n') // somebody has written it by hand
	}
	data = append(data, verifier+"\n"...)
	if _, err := ParseKeys(string(data)); err != nil {
		return fmt.Errorf("%s: %w", f.name(KeysPath), err)
	}
	return f.replace(KeysPath, data)
}

// HasKey says whether a verifier key is in the folder's list.
func (f *Folder) HasKey(verifier string) (bool, error) {
	data, err := f.Read(KeysPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for line := range bytes.Lines(data) {
		if string(bytes.TrimSpace(line)) == verifier {
			return true, nil
		}
	}
	return false, err
}

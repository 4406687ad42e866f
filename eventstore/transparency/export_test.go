package transparency

import "golang.org/x/mod/sumdb/tlog"

// The operations at which tests put faults.
const (
	OpRead   = opRead
	OpWrite  = opWrite
	OpFlush  = opFlush
	OpRename = opRename
	OpSync   = opSync
	OpAppend = opAppend
	OpCut    = opCut
	OpRemove = opRemove
)

// Step is one operation on a file.
type Step = func(operation, path string, run func() error) error

// OnStep puts itself between the folder and its files. Operations come from
// several goroutines.
func (f *Folder) OnStep(step Step) { f.step = step }

// Canonical reads a path and writes it again.
func Canonical(path string) (spelled string, ok bool) {
	p, ok := parsePlace(path)
	return p.path(), ok
}

// SplitCheckpoints is splitCheckpoints.
func SplitCheckpoints(data []byte) (notes [][]byte, rest []byte) { return splitCheckpoints(data) }

// FlipInTree changes a bit of a hash that the signer has in its memory: of the
// tree of the entries as they came, or of those as they were read back.
func (s *Sealer) FlipInTree(stored bool, level int) {
	t := &s.tree
	if stored {
		t = &s.stored
	}
	t.edge[level][0][0] ^= 1
	t.peaks[0][0] ^= 1
}

// FlipInPending changes a bit of a full tile or bundle that is not written yet.
func (s *Sealer) FlipInPending(n int) { s.pending[n].data[0] ^= 1 }

// Hash is a hash of a tree.
type Hash = tlog.Hash

package transparency

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Paths within a log, with slashes (C2SP tlog-tiles). Those that C2SP does not
// know are ours: every checkpoint that was signed, one after the other, and the
// keys that verify them.
const (
	CheckpointPath  = "checkpoint"
	CheckpointsPath = "checkpoints"
	KeysPath        = "vkey"

	tilePrefix    = "tile/"
	entriesPrefix = "tile/entries/"
	partialInfix  = ".p/"
)

// tilePath is where a tile is.
func tilePath(level int, index uint64, width int) string {
	return tilePrefix + strconv.Itoa(level) + "/" + indexPath(index) + partialSuffix(width)
}

// bundlePath is where a bundle of entries is.
func bundlePath(index uint64, width int) string {
	return entriesPrefix + indexPath(index) + partialSuffix(width)
}

// indexPath writes a number in groups of three digits: 1234067 is
// x001/x234/067.
func indexPath(n uint64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	return path
}

func partialSuffix(width int) string {
	if width == TileWidth {
		return ""
	}
	return partialInfix + strconv.Itoa(width)
}

// place is a path of a tile or a bundle, read.
type place struct {
	entries bool // a bundle; its level is 0
	level   int
	index   uint64
	width   int
}

// place is where the tile belongs.
func (t Tile) place() place { return place{level: t.Level, index: t.Index, width: len(t.Hashes)} }

func (p place) path() string {
	if p.entries {
		return bundlePath(p.index, p.width)
	}
	return tilePath(p.level, p.index, p.width)
}

// parsePlace reads a path. It accepts one spelling only, so that no two paths
// name one file, and none leads elsewhere.
func parsePlace(path string) (p place, ok bool) {
	rest, ok := strings.CutPrefix(path, tilePrefix)
	if !ok {
		return p, false
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return p, false
	}
	if level == "entries" {
		p.entries = true
	} else if n, err := strconv.ParseUint(level, 10, 8); err == nil && n <= maxLevel {
		p.level = int(n)
	} else {
		return p, false
	}
	p.width = TileWidth
	if at := strings.Index(rest, partialInfix); at >= 0 {
		n, err := strconv.ParseUint(rest[at+len(partialInfix):], 10, 8)
		if err != nil || n == 0 {
			return p, false
		}
		rest, p.width = rest[:at], int(n)
	}
	for element := range strings.SplitSeq(strings.ReplaceAll(rest, "x", ""), "/") {
		n, err := strconv.ParseUint(element, 10, 16)
		if err != nil || n > 999 || p.index > (1<<62)/1000 {
			return p, false
		}
		p.index = p.index*1000 + n
	}
	return p, p.path() == path
}

// maxLevel is the highest level of a tile: maxSize is 256 to the power of 7.
const maxLevel = 7

// encodeTile writes hashes one behind the other.
func encodeTile(hashes []tlog.Hash) []byte {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}

// decodeTile reads so many hashes.
func decodeTile(data []byte, width int) ([]tlog.Hash, error) {
	if len(data) != width*tlog.HashSize {
		return nil, fmt.Errorf("%d bytes, a tile of %d hashes has %d", len(data), width, width*tlog.HashSize)
	}
	hashes := make([]tlog.Hash, width)
	for i := range hashes {
		hashes[i] = tlog.Hash(data[i*tlog.HashSize:])
	}
	return hashes, nil
}

// IsLogPath says whether a path is that of a tile or a bundle.
func IsLogPath(path string) bool {
	_, ok := parsePlace(path)
	return ok
}

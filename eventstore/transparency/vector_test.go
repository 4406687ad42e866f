package transparency_test

import (
	"bytes"
	"flag"
	"slices"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

var rewrite = flag.Bool("rewrite", false, "write the files of testdata anew; look at what has changed")

// vectorDir is explained by its README.
const vectorDir = "testdata/vector"

// TestVector makes the log of the README anew: a fixed key and fixed entries
// give the same bytes in every file, with this implementation and any other.
func TestVector(t *testing.T) {
	l := newLog(t, 0)
	inner, err := transparency.ParseSigner(string(read(t, vectorDir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	l.signer, l.keys = &signer{Signer: inner}, mustKeys(t, string(read(t, vectorDir, "vkey")))
	for _, line := range strings.Split(strings.TrimSuffix(string(read(t, vectorDir, "entries")), "\n"), "\n") {
		l.ledger.Append([]byte(line))
		if _, err := l.seal(); err != nil {
			t.Fatal(err)
		}
	}
	receipt, err := l.folder().Receipt(l.keys, 2)
	if err != nil {
		t.Fatal(err)
	}
	write(t, l.dir, "receipt", receipt.Marshal())
	made := files(t, l.dir)
	if *rewrite {
		for _, path := range made {
			write(t, vectorDir, path, read(t, l.dir, path))
		}
	}
	for _, path := range made {
		if want := read(t, vectorDir, path); !bytes.Equal(read(t, l.dir, path), want) {
			t.Errorf("%s differs from testdata", path)
		}
	}
	given := []string{".gitattributes", "README.md", "entries", "key", "vkey"}
	for _, path := range files(t, vectorDir) {
		if !slices.Contains(made, path) && !slices.Contains(given, path) {
			t.Errorf("%s in testdata is not made", path)
		}
	}
	if found := verify(t, vectorDir, l.keys); len(found) > 0 {
		t.Errorf("the log in testdata is not sound: %q", found)
	}
	if err := checkReceipt(read(t, vectorDir, "receipt"), l.keys); err != nil {
		t.Error(err)
	}
	if folder := transparency.NewFolder(vectorDir); folder.Dir() != vectorDir {
		t.Error(folder.Dir())
	} else if keys, err := folder.Keys(); err != nil || keys.Origin() != l.signer.Name() {
		t.Errorf("the keys in the folder: %v", err)
	}
}

package transparency_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

// What a parser accepts it accepts in one spelling: written again it is the
// same. The seeds are the files of the test vector.

func FuzzParseCheckpoint(f *testing.F) {
	keys := mustKeys(f, string(read(f, vectorDir, "vkey")))
	f.Add(read(f, vectorDir, "checkpoint"))
	notes, _ := transparency.SplitCheckpoints(read(f, vectorDir, "checkpoints"))
	for _, note := range notes {
		f.Add(note)
	}
	signer, err := transparency.ParseSigner(string(read(f, vectorDir, "key")))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := transparency.ParseCheckpoint(data, keys)
		if err != nil {
			return
		}
		again, err := c.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		// Witnesses may have signed behind the log.
		if !bytes.HasPrefix(data, again[:bytes.Index(again, []byte("\n\n"))+2]) {
			t.Errorf("%q is read as %q", data, again)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	f.Add(read(f, vectorDir, "receipt"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra \nindex 18446744073709551615\n\n"))
	keys := mustKeys(f, string(read(f, vectorDir, "vkey")))
	entry := bytes.Split(read(f, vectorDir, "entries"), []byte("\n"))[1]
	f.Fuzz(func(t *testing.T, data []byte) {
		receipt, err := transparency.ParseReceipt(data)
		if err != nil {
			return
		}
		if again := receipt.Marshal(); !bytes.Equal(again, data) {
			t.Errorf("%q is read as %q", data, again)
		}
		if _, err := receipt.Verify(keys); err == nil && !bytes.Equal(receipt.Entry, entry) && receipt.Sequence == 2 {
			t.Errorf("a proof for %q", receipt.Entry)
		}
	})
}

func FuzzParsePlace(f *testing.F) {
	for _, path := range []string{"tile/0/000", "tile/entries/x001/x234/067.p/8", "tile/7/999.p/255", "tile/0/x000/000", "tile/0/000.p/256"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if spelled, ok := transparency.Canonical(path); ok && spelled != path {
			t.Errorf("%q and %q name one file", path, spelled)
		}
	})
}

func FuzzSplitBundle(f *testing.F) {
	f.Add(read(f, vectorDir, "tile/entries/000.p/5"), 5)
	f.Add([]byte{0, 0, 0, 1, 'x', 255, 255}, 2)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if n < 0 || n > transparency.TileWidth {
			return
		}
		entries, rest, err := transparency.SplitBundle(data, n)
		if err != nil {
			return
		}
		if len(entries) != n {
			t.Errorf("%d entries, want %d", len(entries), n)
		}
		var again []byte
		for _, entry := range entries {
			again = binary.BigEndian.AppendUint16(again, uint16(len(entry)))
			again = append(again, entry...)
		}
		if !bytes.Equal(append(again, rest...), data) {
			t.Errorf("%x is read as %x and %x", data, again, rest)
		}
	})
}

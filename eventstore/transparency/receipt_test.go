package transparency_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

// readReceipt is a second implementation of a receipt's verification. It shares
// nothing with the first one: it has the standard library, C2SP tlog-proof,
// tlog-checkpoint and signed-note, and section 2.1.1 of RFC 6962.
func readReceipt(receipt, vkey string) (entry []byte, index, size uint64, err error) {
	head, note, ok := strings.Cut(receipt, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return nil, 0, 0, errors.New("no tlog-proof")
	}
	if entry, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra ")); err != nil {
		return nil, 0, 0, err
	}
	if index, err = strconv.ParseUint(strings.TrimPrefix(lines[2], "index "), 10, 64); err != nil {
		return nil, 0, 0, err
	}
	size, root, err := readCheckpoint(note, vkey)
	if err != nil {
		return nil, 0, 0, err
	}
	h := sha256.Sum256(append([]byte{0}, entry...))
	path := lines[3:]
	// The way up: the last one of a row that has no neighbour moves on as it is.
	for at, last := index, size-1; last > 0; at, last = at/2, last/2 {
		if at == last && at%2 == 0 {
			continue
		}
		if len(path) == 0 {
			return nil, 0, 0, errors.New("the proof is too short")
		}
		neighbour, err := base64.StdEncoding.DecodeString(path[0])
		if err != nil {
			return nil, 0, 0, err
		}
		path = path[1:]
		pair := append(append([]byte{1}, h[:]...), neighbour...)
		if at%2 == 1 {
			pair = append(append([]byte{1}, neighbour...), h[:]...)
		}
		h = sha256.Sum256(pair)
	}
	if index >= size || len(path) > 0 || !bytes.Equal(h[:], root) {
		return nil, 0, 0, errors.New("the entry is not there")
	}
	return entry, index, size, nil
}

func readCheckpoint(note, vkey string) (size uint64, root []byte, err error) {
	name, key, _ := strings.Cut(vkey, "+")
	_, key, _ = strings.Cut(key, "+")
	public, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return 0, nil, err
	}
	text, signature, _ := strings.Cut(note, "\n\n")
	text += "\n"
	signed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(signature, "— "+name+" ")))
	if err != nil {
		return 0, nil, err
	}
	// Four bytes name the key; the first byte of the key names its algorithm.
	if len(signed) != 4+ed25519.SignatureSize || !ed25519.Verify(public[1:], []byte(text), signed[4:]) {
		return 0, nil, errors.New("not signed by this key")
	}
	lines := strings.Split(text, "\n")
	if lines[0] != name {
		return 0, nil, errors.New("of another log")
	}
	if size, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return 0, nil, err
	}
	root, err = base64.StdEncoding.DecodeString(lines[2])
	return size, root, err
}

func TestReceiptsHoldForASecondImplementation(t *testing.T) {
	r := random(t)
	signing, vkey, err := transparency.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := transparency.ParseSigner(signing)
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(t, 0)
	l.signer, l.keys = &signer{Signer: inner}, mustKeys(t, vkey)
	_, otherKey := newKey(t)
	for _, size := range []int{1, 2, 3, 7, 8, 255, 256, 257, 1000, 65_537} {
		if testing.Short() && size > 1000 {
			continue // The same code at another level; the long run has it.
		}
		l.mustSeal(size)
		indices := []int{0, size / 2, size - 1}
		for range 20 {
			indices = append(indices, r.IntN(size))
		}
		for _, index := range indices {
			receipt, err := l.folder().Receipt(l.keys, uint64(index+1))
			if err != nil {
				t.Fatal(err)
			}
			data := receipt.Marshal()
			entry, at, of, err := readReceipt(string(data), vkey)
			if err != nil || at != uint64(index) || of != uint64(size) || !bytes.Equal(entry, sealtest.Entry(index)) {
				t.Fatalf("entry %d of %d: the second implementation reads entry %d of %d, %q: %v", index, size, at, of, entry, err)
			}
			if _, _, _, err := readReceipt(string(data), otherKey); err == nil {
				t.Fatal("the second implementation accepts any key")
			}
			wrong := *receipt
			wrong.Entry = []byte("another vote")
			if _, _, _, err := readReceipt(string(wrong.Marshal()), vkey); err == nil {
				t.Fatal("the second implementation accepts any entry")
			}
		}
	}
}

func TestReceiptsOfOddEntries(t *testing.T) {
	l := newLog(t, 0)
	entries := [][]byte{{}, {0}, []byte("\r\n"), bytes.Repeat([]byte("\xff"), transparency.MaxEntryBytes), []byte("last")}
	l.ledger.Append(entries...)
	if _, err := l.seal(); err != nil {
		t.Fatal(err)
	}
	l.wantSound()
	for i, want := range entries {
		receipt, err := l.folder().Receipt(l.keys, uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		data := receipt.Marshal()
		if len(data) > transparency.MaxReceiptBytes {
			t.Errorf("a receipt of %d bytes", len(data))
		}
		again, err := transparency.ParseReceipt(data)
		if err != nil {
			t.Errorf("entry %d of %d bytes: %v", i+1, len(want), err)
			continue
		}
		if _, err := again.Verify(l.keys); err != nil || !bytes.Equal(again.Entry, want) {
			t.Errorf("entry %d: %q, %v", i+1, again.Entry, err)
		}
	}
}

func TestNoReceiptWithoutACheckpoint(t *testing.T) {
	l := newLog(t, 3)
	for _, sequence := range []uint64{0, 1, 3} {
		if _, err := l.folder().Receipt(l.keys, sequence); !errors.Is(err, transparency.ErrNotSealed) {
			t.Errorf("entry %d: %v", sequence, err)
		}
	}
	if _, err := l.folder().Checkpoint(l.keys); !errors.Is(err, transparency.ErrNotSealed) {
		t.Error(err)
	}
	l.mustSeal(3)
	for _, sequence := range []uint64{0, 4, 1 << 63} {
		if _, err := l.folder().Receipt(l.keys, sequence); !errors.Is(err, transparency.ErrNotSealed) {
			t.Errorf("entry %d: %v", sequence, err)
		}
	}
	if c, err := l.folder().Checkpoint(l.keys); err != nil || c.Size != 3 {
		t.Errorf("%v: %v", c, err)
	}
}

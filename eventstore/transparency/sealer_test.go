package transparency_test

import (
	"fmt"
	"testing"

	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
	"sakipaldies.lv/ledger/eventstore/transparency"
)

const origin = "sakipaldies.lv/ledger/test"

func TestSealedLogIsWhole(t *testing.T) {
	nc := storetest.NewServer(t).Connect(t)
	config := storetest.Config("LEDGER_test", 1)
	if err := eventstore.Create(t.Context(), nc, config); err != nil {
		t.Fatal(err)
	}
	ledger, err := eventstore.Open(t.Context(), nc, config)
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close(t.Context())
	signing, verifier, err := transparency.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := transparency.ParseSigner(signing)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := transparency.ParseKeys(verifier)
	if err != nil {
		t.Fatal(err)
	}
	fence, err := transparency.NewBucketFence(t.Context(), nc, "LEDGER_test", 1)
	if err != nil {
		t.Fatal(err)
	}
	folder := transparency.NewFolder(t.TempDir())
	s, err := transparency.NewSealer(transparency.Config{Ledger: ledger, Folder: folder, Fence: fence, Signer: signer, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, size := range []int{0, 1, 2, 255, 256, 257, 600} {
		for ; n < size; n++ {
			if _, err := ledger.Append(t.Context(), storetest.Event(fmt.Sprintf("LEDGER_test.balsotājs.%d", n)), 0); err != nil {
				t.Fatal(err)
			}
		}
		c, err := s.RunToEnd(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.Size != uint64(size) {
			t.Fatalf("sealed %d entries, want %d", c.Size, size)
		}
		newest, heads, findings, err := folder.Heads(keys)
		if err != nil || newest != c {
			t.Fatalf("%v: %v", newest, err)
		}
		r := transparency.NewRebuild(folder, heads)
		if err := (transparency.Entries{Folder: folder, Size: newest.Size}).Replay(t.Context(), 1, 0, func(batch []eventstore.Recorded) error {
			var entries [][]byte
			for _, e := range batch {
				entries = append(entries, e.Data)
			}
			r.Append(transparency.LeafHashes(entries))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, f := range append(findings, r.Finish()...) {
			t.Errorf("%d: %v", size, f)
		}
		for i := range size {
			receipt, err := folder.Receipt(keys, uint64(i+1))
			if err != nil {
				t.Fatal(err)
			}
			read, err := transparency.ParseReceipt(receipt.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := read.Verify(keys); err != nil {
				t.Fatal(err)
			}
		}
	}
}

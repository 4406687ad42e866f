//go:build unix

package transparency_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sakipaldies.lv/ledger/eventstore/transparency"
	"sakipaldies.lv/ledger/eventstore/transparency/sealtest"
)

const (
	benchEntries = 200_000
	// votesPerSecond is the load for which the signer's share of a core counts.
	votesPerSecond = 20_000
)

// benchLedger has entries as large as votes.
func benchLedger() *sealtest.Ledger {
	text := strings.Repeat("Paldies par sirsnīgu apkalpošanu! ", 9)
	ledger := sealtest.NewLedger(0)
	for i := range benchEntries {
		ledger.Append(fmt.Appendf(nil, "%08d%s", i, text[:292]))
	}
	return ledger
}

// usage is processor time: the program's own, and the kernel's, nearly all of
// which is the file system's and depends on it.
type usage struct{ own, kernel time.Duration }

// cpu is the processor time that this process has used.
func cpu(b *testing.B) usage {
	b.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return usage{time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())}
}

// since adds what was used since before.
func (u *usage) since(b *testing.B, before usage) {
	now := cpu(b)
	u.own += now.own - before.own
	u.kernel += now.kernel - before.kernel
}

// report says which share of a core so many votes take, per votesPerSecond.
func (u usage) report(b *testing.B, votes float64) {
	share := func(d time.Duration) float64 { return d.Seconds() / votes * votesPerSecond * 100 }
	b.ReportMetric(share(u.own+u.kernel), "core-%@20k/s")
	b.ReportMetric(share(u.own), "own-core-%@20k/s")
}

// BenchmarkSeal seals a ledger of 300-byte entries into a folder on the disk of
// the temporary folder, fsyncs included, beside hashing the same entries alone
// in the same run: entries/s, the ratio to hashing, and the share of one core at
// 20,000 votes/s.
func BenchmarkSeal(b *testing.B) {
	ledger := benchLedger()
	entries := entriesOf(b, ledger)
	l := newLog(b, 0)
	l.ledger = ledger
	var sealing, hashing time.Duration
	var used usage
	for b.Loop() {
		begun := time.Now()
		var tree transparency.Tree
		for _, leaf := range transparency.LeafHashes(entries) {
			tree.Append(leaf)
		}
		root := tree.Root()
		hashing += time.Since(begun)

		l.fence, l.dir = &sealtest.Fence{}, filepath.Join(b.TempDir(), "log")
		before := cpu(b)
		begun = time.Now()
		c, err := l.seal()
		sealing += time.Since(begun)
		used.since(b, before)
		if err != nil || c.Root != root {
			b.Fatalf("sealed %v, want %v: %v", c.Root, root, err)
		}
		if err := os.RemoveAll(l.dir); err != nil {
			b.Fatal(err)
		}
	}
	sealed := float64(benchEntries) * float64(b.N)
	b.ReportMetric(sealed/sealing.Seconds(), "entries/s")
	b.ReportMetric(sealing.Seconds()/hashing.Seconds(), "times-hashing")
	used.report(b, sealed)
}

// BenchmarkSealEverySecond is the signer's usual work: 20,000 votes come each
// second and are sealed once, partial tiles and the checkpoint included, by the
// signer that has sealed all before. A turn takes a second, most of it waiting.
func BenchmarkSealEverySecond(b *testing.B) {
	source := entriesOf(b, benchLedger())
	l := newLog(b, 0)
	l.dir = filepath.Join(b.TempDir(), "log")
	r := start(b, l.config(l.folder()))
	r.wantSealed(0)
	size, used := 0, usage{}
	for b.Loop() {
		before := cpu(b)
		at := size % benchEntries
		l.ledger.Append(source[at : at+votesPerSecond]...)
		size += votesPerSecond
		r.wantSealed(size)
		used.since(b, before)
	}
	r.end()
	used.report(b, float64(size))
}

// BenchmarkReceipt makes and verifies receipts of a log of many entries.
func BenchmarkReceipt(b *testing.B) {
	l := newLog(b, 0)
	l.ledger = benchLedger()
	if _, err := l.seal(); err != nil {
		b.Fatal(err)
	}
	r := random(b)
	folder := l.folder()
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			if _, err := folder.Receipt(l.keys, 1+r.Uint64N(benchEntries)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		receipt, err := folder.Receipt(l.keys, 1+r.Uint64N(benchEntries))
		if err != nil {
			b.Fatal(err)
		}
		data := bytes.Clone(receipt.Marshal())
		for b.Loop() {
			if err := checkReceipt(data, l.keys); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkVerify verifies a folder in full, on one core, beside hashing the same
// entries alone in the same run.
func BenchmarkVerify(b *testing.B) {
	l := newLog(b, 0)
	l.ledger = benchLedger()
	if _, err := l.seal(); err != nil {
		b.Fatal(err)
	}
	entries := entriesOf(b, l.ledger)
	var verifying, hashing time.Duration
	for b.Loop() {
		begun := time.Now()
		transparency.LeafHashes(entries)
		hashing += time.Since(begun)
		begun = time.Now()
		l.wantSound()
		verifying += time.Since(begun)
	}
	b.ReportMetric(float64(benchEntries)*float64(b.N)/verifying.Seconds(), "entries/s")
	b.ReportMetric(verifying.Seconds()/hashing.Seconds(), "times-hashing")
}

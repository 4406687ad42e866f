package load

import (
	"math/rand/v2"
	"testing"
)

// TestPermutation looks at every number of small sizes: each has one place.
func TestPermutation(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, size := range []uint64{1, 2, 3, 4, 5, 7, 16, 17, 64, 65, 1000, 4096, 100_003} {
		p := newPermutation(size, seed)
		seen := make([]bool, size)
		fixed := 0
		for i := range size {
			at := p.at(i)
			if seen[at] || p.find(at) != i {
				t.Fatalf("size %d: %d is at %d, where %d is", size, i, at, p.find(at))
			}
			seen[at] = true
			if at == i {
				fixed++
			}
		}
		if size > 100 && fixed > 20 { // one is expected
			t.Errorf("size %d: %d numbers stay where they are", size, fixed)
		}
	}
	large := newPermutation(1<<51+12345, seed)
	for range 1000 {
		if i := rand.Uint64N(large.size); large.find(large.at(i)) != i {
			t.Fatal(i)
		}
	}
}

// TestKinds holds the shares of kinds against what was asked for.
func TestKinds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := plan{seed: seed, repeats: 0.1, retries: 0.05}
	const n = 100_000
	var count [kinds]int
	for i := range uint64(n) {
		count[p.kindOf(i)]++
	}
	// Five standard deviations are under 0.5 % of n.
	for k, share := range map[kind]float64{newVote: 0.85, repeat: 0.1, retry: 0.05} {
		if got := float64(count[k]) / n; got < share-0.005 || got > share+0.005 {
			t.Errorf("%s: %f instead of %f", k, got, share)
		}
	}
}

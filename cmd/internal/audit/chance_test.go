package audit

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// choose is a binomial coefficient without rounding.
func choose(n, k int64) *big.Rat {
	if k < 0 || k > n {
		return new(big.Rat)
	}
	return new(big.Rat).SetInt(new(big.Int).Binomial(n, k))
}

// bigLog10 is a logarithm of a number that may be too small for a float64.
func bigLog10(r *big.Rat) float64 {
	f := new(big.Float).SetPrec(200).SetRat(r)
	mantissa := new(big.Float)
	exponent := f.MantExp(mantissa)
	m, _ := mantissa.Float64()
	return math.Log10(m) + float64(exponent)*math.Log10(2)
}

// wantTail compares a tail with the sum of its terms in exact fractions.
func wantTail(t *rapid.T, got float64, from, to int64, term func(k int64) *big.Rat) {
	sum := new(big.Rat)
	for k := from; k <= to; k++ {
		sum.Add(sum, term(k))
	}
	if want := bigLog10(sum); math.Abs(got-want) > 1e-9*max(1, -want) {
		t.Errorf("10^%v, the exact sum is 10^%v", got, want)
	}
}

func TestBinomialTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hours := rapid.Int64Range(2, 9000).Draw(t, "hours")
		active := rapid.Int64Range(1, min(hours-1, 168)).Draw(t, "active")
		n := rapid.Int64Range(1, 60).Draw(t, "n")
		k := rapid.Int64Range(n*active/hours+1, n).Draw(t, "k")
		wantTail(t, log10Binomial(k, n, float64(active)/float64(hours)), k, n, func(k int64) *big.Rat {
			term := choose(n, k)
			for range k {
				term.Mul(term, big.NewRat(active, hours))
			}
			for range n - k {
				term.Mul(term, big.NewRat(hours-active, hours))
			}
			return term
		})
	})
}

func TestHypergeometricTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(2, 600).Draw(t, "total")
		marked := rapid.Int64Range(1, total-1).Draw(t, "marked")
		n := rapid.Int64Range(1, total-1).Draw(t, "n")
		// The mean lies below both marked and n, which are less than total.
		k := rapid.Int64Range(marked*n/total+1, min(marked, n)).Draw(t, "k")
		wantTail(t, log10Hypergeometric(k, total, marked, n), k, min(marked, n), func(k int64) *big.Rat {
			term := new(big.Rat).Mul(choose(marked, k), choose(total-marked, n-k))
			return term.Quo(term, choose(total, n))
		})
	})
}

func TestNoTailBelowTheMean(t *testing.T) {
	if p := log10Binomial(10, 100, 0.1); p != 0 {
		t.Errorf("the mean of a binomial has 10^%v", p)
	}
	if p := log10Hypergeometric(10, 1000, 100, 100); p != 0 {
		t.Errorf("the mean of a hypergeometric has 10^%v", p)
	}
}

// TestTeaLady is Fisher's own example: who tells all eight cups apart, of which
// four had the milk first, does so by luck once in 70 times.
func TestTeaLady(t *testing.T) {
	if got := log10Hypergeometric(4, 8, 4, 4); math.Abs(got+math.Log10(70)) > 1e-12 {
		t.Errorf("10^%v", got)
	}
}

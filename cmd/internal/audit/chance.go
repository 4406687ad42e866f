package audit

import "math"

// log10Binomial is the decimal logarithm of the probability that at least k of n
// trials succeed, each with probability p. Below the mean, where no tail is
// small, it is 0.
func log10Binomial(k, n int64, p float64) float64 {
	if float64(k) <= float64(n)*p {
		return 0
	}
	first := logChoose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
	return log10Tail(first, k, n, func(k float64) float64 {
		return (float64(n) - k) / (k + 1) * p / (1 - p)
	})
}

// log10Hypergeometric is the decimal logarithm of the probability that of n balls
// drawn from an urn with total balls, of which marked are marked, at least k are.
// Below the mean, where no tail is small, it is 0.
func log10Hypergeometric(k, total, marked, n int64) float64 {
	if float64(k)*float64(total) <= float64(marked)*float64(n) {
		return 0
	}
	first := logChoose(marked, k) + logChoose(total-marked, n-k) - logChoose(total, n)
	return log10Tail(first, k, min(marked, n), func(k float64) float64 {
		return (float64(marked) - k) * (float64(n) - k) / ((k + 1) * (float64(total-marked-n) + k + 1))
	})
}

// log10Tail sums the probabilities from k to last, given the natural logarithm of
// that of k and the ratio of each one to the one before. Above the mean these
// fall faster and faster, so that few of them matter.
func log10Tail(first float64, k, last int64, ratio func(k float64) float64) float64 {
	const negligible = 1e-12 // of the sum
	sum, term := 1.0, 1.0
	for ; k < last && term > negligible*sum; k++ {
		term *= ratio(float64(k))
		sum += term
	}
	return min((first+math.Log(sum))/math.Ln10, 0)
}

// logChoose is the natural logarithm of a binomial coefficient.
func logChoose(n, k int64) float64 { return logFactorial(n) - logFactorial(k) - logFactorial(n-k) }

func logFactorial(n int64) float64 {
	l, _ := math.Lgamma(float64(n) + 1)
	return l
}

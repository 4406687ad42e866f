package load

import "math/bits"

// permutationRounds are enough that the order looks drawn. Nobody has to be
// kept from guessing it.
const permutationRounds = 4

// permutation is a one-to-one mapping of the numbers below size to themselves,
// drawn from a seed, that takes no memory: a Feistel network over the next
// even number of bits, walked until it comes back below size. At most four
// steps are needed on average.
type permutation struct {
	size uint64
	seed uint64
	half uint   // bits of one half
	mask uint64 // of one half
}

// newPermutation needs 0 < size < 1<<62.
func newPermutation(size, seed uint64) permutation {
	half := max(1, uint(bits.Len64(size-1)+1)/2)
	return permutation{size: size, seed: seed, half: half, mask: 1<<half - 1}
}

// at is the place of i.
func (p permutation) at(i uint64) uint64 {
	for {
		left, right := i>>p.half, i&p.mask
		for round := range uint64(permutationRounds) {
			left, right = right, left^p.scramble(right, round)
		}
		if i = left<<p.half | right; i < p.size {
			return i
		}
	}
}

// find is the number whose place is at: find(at(i)) = i.
func (p permutation) find(at uint64) uint64 {
	for {
		left, right := at>>p.half, at&p.mask
		for round := range uint64(permutationRounds) {
			left, right = right^p.scramble(left, permutationRounds-1-round), left
		}
		if at = left<<p.half | right; at < p.size {
			return at
		}
	}
}

func (p permutation) scramble(half, round uint64) uint64 {
	return mix(p.seed+round<<56^half) & p.mask
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014): numbers that
// follow each other become numbers that have nothing to do with each other.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

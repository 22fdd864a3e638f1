package balancer

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"

	"usher/registry"
)

func weightOf(b *registry.Backend) uint64 { return max(uint64(b.Weight), 1) }

// weigh prepares what the policies need of the weights of the Backends to
// choose from: nothing when all weigh the same.
func (l *list) weigh() {
	weights := make([]uint64, l.choosable)
	equal := true
	for place := range weights {
		weights[place] = weightOf(l.at(int32(place)))
		equal = equal && weights[place] == weights[0]
	}
	switch {
	case equal || l.policy == registry.Maglev:
	case l.policy == registry.Random || l.policy == registry.P2C:
		total := uint64(0)
		for _, w := range weights {
			total += w
			l.sums = append(l.sums, total)
		}
	default:
		l.cycle = cycleOf(weights)
	}
}

// cycleOf returns the shortest cycle that has each place as often as its weight
// says, and as evenly spread as that goes.
func cycleOf(weights []uint64) []int32 {
	common := uint64(0)
	for _, w := range weights {
		common = gcd(common, w)
	}
	// The visits of a place are due at the middles of as many equal parts of the
	// cycle.
	type visit struct {
		place  int32
		due, w uint64 // due/w halves of the cycle
	}
	var visits []visit
	for place, w := range weights {
		w /= common
		for k := range w {
			visits = append(visits, visit{int32(place), 2*k + 1, w})
		}
	}
	slices.SortFunc(visits, func(a, b visit) int {
		return cmp.Or(cmp.Compare(a.due*b.w, b.due*a.w), cmp.Compare(a.place, b.place))
	})
	cycle := make([]int32, len(visits))
	for i, v := range visits {
		cycle[i] = v.place
	}
	return cycle
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// atRandom returns a place at random, by weight.
func (l *list) atRandom() int32 {
	if l.sums == nil {
		return int32(l.below(uint64(l.choosable)))
	}
	n := l.below(l.sums[len(l.sums)-1])
	return int32(sort.Search(len(l.sums), func(i int) bool { return l.sums[i] > n }))
}

// below returns a random number under n.
func (l *list) below(n uint64) uint64 {
	high, _ := bits.Mul64(l.picker.random(), n)
	return high
}

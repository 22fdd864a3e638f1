//go:build linux

package main

import (
	"slices"
	"time"
)

// median returns the middle of the values, or the mean of the two in the
// middle. It is 0 for none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile returns the least duration that a part p of the sorted ones does
// not exceed. It is 0 for none.
func quantile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// A ratio is how one peer's figure is to another's: the median of the rounds,
// and the least and the greatest of them.
type ratio struct {
	median, least, greatest float64
	rounds                  int
}

// ratioOf divides the figures of each round that has both. What the machine
// did else in a round counts for both of them, and so falls out.
func ratioOf(ours, theirs map[int]float64) ratio {
	var list []float64
	for round, our := range ours {
		if their := theirs[round]; our > 0 && their > 0 {
			list = append(list, our/their)
		}
	}
	if len(list) == 0 {
		return ratio{}
	}
	return ratio{median(list), slices.Min(list), slices.Max(list), len(list)}
}

// Package nearest finds the name that a misspelled one stands for.
package nearest

import (
	"slices"

	"github.com/agnivade/levenshtein"
)

// farFetched is the number of letters of a name for each that may be wrong.
const farFetched = 4

// To returns the one of known that is most like name, and reports whether it is
// like enough to be meant.
func To(name string, known []string) (nearest string, ok bool) {
	if len(known) == 0 {
		return "", false
	}
	known = slices.Sorted(slices.Values(known))
	nearest = slices.MinFunc(known, func(a, b string) int {
		return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
	})

	return nearest, levenshtein.ComputeDistance(name, nearest) <= len(name)/farFetched
}

// Package nearest suggests corrections for misspelled names.
package nearest

import (
	"slices"

	"github.com/agnivade/levenshtein"
)

// lettersPerTypo is the number of letters in a name per accepted typo.
const lettersPerTypo = 4

// To returns the name in known that is most similar to name, and reports whether
// it is similar enough for a suggestion.
func To(name string, known []string) (nearest string, ok bool) {
	if len(known) == 0 {
		return "", false
	}
	known = slices.Sorted(slices.Values(known))
	nearest = slices.MinFunc(known, func(a, b string) int {
		return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
	})

	return nearest, levenshtein.ComputeDistance(name, nearest) <= len(name)/lettersPerTypo
}

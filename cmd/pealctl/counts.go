package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"
)

// byReason formats the sum of counts and its parts, the largest part first.
func byReason(counts map[string]int64) string {
	total := sum(counts)
	if total == 0 {
		return "0"
	}

	reasons := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return int(min(max(counts[b]-counts[a], -1), 1))
		}
		return strings.Compare(a, b)
	})

	parts := make([]string, len(reasons))
	for i, r := range reasons {
		parts[i] = fmt.Sprintf("%s %d", r, counts[r])
	}

	return fmt.Sprintf("%d (%s)", total, strings.Join(parts, ", "))
}

func sum(counts map[string]int64) int64 {
	var total int64
	for _, n := range counts {
		total += n
	}
	return total
}

func byteCount(n int64) string { return progress.FormatBytes(n) }

func perSecond(n int64, elapsed time.Duration) string {
	rate := float64(n) / elapsed.Seconds()
	if rate >= 100 {
		return fmt.Sprintf("%.0f", rate)
	}
	return fmt.Sprintf("%.1f", rate)
}

// alignment returns the alignment of a column: left for text and counts by
// reason, right for numbers.
func alignment(header any) text.Align {
	switch header {
	case "disconnected", "dropped", "shard", "node", "state", "version", "log", "quorum", "source", "kind":
		return text.AlignLeft
	default:
		return text.AlignRight
	}
}

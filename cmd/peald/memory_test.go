//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
)

// TestGarbageIsCollectedSeldomInAStorm opens and closes connections faster than
// a storm begins, and looks at what the process says of its collector.
func TestGarbageIsCollectedSeldomInAStorm(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "unset GOGC")
	usual := collectorPercent(t, p.REST)
	if err := await("a storm", func() bool {
		for range 50 {
			connect(t, p.SSE).Close()
		}
		return collectorPercent(t, p.REST) > usual
	}); err != nil {
		t.Fatal(err)
	}
	if err := await("the calm after it", func() bool { return collectorPercent(t, p.REST) == usual }); err != nil {
		t.Error(err)
	}
}

// collectorPercent is the growth of the heap between two collections.
func collectorPercent(t *testing.T, addr string) int {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s/metrics", addr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^go_gc_gogc_percent (\d+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("/metrics doesn't say the collector's percent")
	}
	percent, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return percent
}

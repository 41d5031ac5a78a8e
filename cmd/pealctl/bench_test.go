package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peald/peald/internal/bench"
)

// startFaulty starts a daemon, and a stream server that writes the nth published
// message times(n) times.
func startFaulty(t *testing.T, times func(n int) int) (d *daemon, url string) {
	t.Helper()
	d = startDaemon(t)
	frames := make(chan string, 100)

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ":\n\n")
		_ = http.NewResponseController(w).Flush()

		for {
			select {
			case frame := <-frames:
				fmt.Fprint(w, frame)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))

	t.Cleanup(server.Close)
	n := 0

	d.pass = func(data string) {
		for range times(n) {
			frames <- "data: " + data + "\n\n"
		}
		n++
	}

	return d, server.URL
}

func TestBenchReportsFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		times func(n int) int
		want  string
	}{
		{"lost", func(n int) int { return min(1, max(n-2, 2-n)) }, "1 lost"}, // all but the third
		{"duplicated", func(n int) int { return 1 + n%2 }, "5 duplicated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, url := startFaulty(t, c.times)
			r := d.pealctl(t, []string{"bench", "--url", url, "--clients", "1", "--burst", "10", "--patience", "1s"})
			r.wantError(t, c.want)
			if !strings.Contains(r.stdout, c.want) || !strings.Contains(r.stdout, "latency") {
				t.Errorf("the result is missing:\n%s", r.stdout)
			}
		})
	}
}

func TestBench(t *testing.T) {
	d, url := startFaulty(t, func(int) int { return 1 })
	args := []string{"bench", "--url", url, "--clients", "1", "--rate", "100", "--duration", "100ms", "--patience", "2s"}

	r := d.pealctl(t, args)
	if r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, "delivered  10 of 10") || !strings.Contains(r.stdout, "0 lost") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}

	svg := filepath.Join(t.TempDir(), "out.svg")
	r = d.pealctl(t, append(args, "--output", "json", "--plot", svg))

	if drawn, err := os.ReadFile(svg); err != nil || !strings.Contains(string(drawn), "1 streams, 10 messages of 100 bytes") {
		t.Errorf("the plot is %q (%v)", drawn, err)
	}

	var result bench.Result
	if err := json.Unmarshal([]byte(r.stdout), &result); err != nil || result.Delivered != 10 || result.Latency.P50 <= 0 {
		t.Errorf("%v: %s", err, r.stdout)
	}
}

func TestBenchStartErrors(t *testing.T) {
	d := startDaemon(t)
	rejecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "token required", http.StatusUnauthorized)
	}))
	defer rejecting.Close()

	svg := filepath.Join(t.TempDir(), "none.svg")
	d.pealctl(t, []string{"bench", "--url", rejecting.URL, "--clients", "2", "--plot", svg}).wantError(t, "401 Unauthorized: token required")

	if _, err := os.Stat(svg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plot without data exists: %v", err)
	}

	d.pealctl(t, []string{"bench", "--clients", "100000000"}).wantError(t, "100000000 streams need", "ulimit -n")
	d.pealctl(t, []string{"bench", "--clients", "0"}).wantError(t, "clients: 0")

	_, url := startFaulty(t, func(int) int { return 1 })
	pealctl(t, []string{"--addr", "127.0.0.1:1", "bench", "--url", url, "--clients", "1"}).wantError(t, "publish message 1 of 100", "UNAVAILABLE")
}

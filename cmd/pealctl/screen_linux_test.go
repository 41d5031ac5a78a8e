package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	main "github.com/peald/peald/cmd/pealctl"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestStatsWatchRedrawsInPlace(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse { return someStats(1000) }
	master, terminal := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		main.Run(ctx, []string{"--addr", d.addr, "stats", "--watch", "1ms"}, func(string) string { return "" }, strings.NewReader(""), terminal, terminal)
	})
	lines := bufio.NewScanner(master)
	// A headline, a table header, two shards and the total: the next frame starts
	// five lines above the cursor.
	scanUntil(t, lines, "peald 1.2.3")
	scanUntil(t, lines, "\x1b[5A", "peald 1.2.3")
	cancel()
	master.Close() // so that writing an unread frame doesn't block
	wg.Wait()
}

// TestStatsWatchFitsTerminal checks frames and an error between them. No line may
// be longer than the terminal is wide, and all rates must be shown. A frame with
// many shards must not have more lines than the terminal.
func TestStatsWatchFitsTerminal(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse {
		stats := someStats(1_000_000)
		for range 40 {
			stats.Shards = append(stats.Shards, stats.GetTotal())
		}
		return stats
	}

	master, terminal := openTerminal(t)
	const width, height = 80, 24
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		main.Run(ctx, []string{"--addr", d.addr, "stats", "--watch", "1ms"}, func(string) string { return "" }, strings.NewReader(""), terminal, terminal)
	})
	lines := bufio.NewScanner(master)
	inFrame, frames := 0, 0
	control := regexp.MustCompile("\x1b\\[[0-9;]*[A-Z]")

	for _, until := range []string{"CLOSES/S", "CLOSES/S", "UNAVAILABLE", "CLOSES/S"} {
		if until == "UNAVAILABLE" {
			d.set(func() {
				d.fail = status.Error(codes.Unavailable, "stopping, for a reason that takes "+strings.Repeat("many words ", 10))
			})
		}

		for seen := false; !seen && lines.Scan(); {
			if strings.Contains(lines.Text(), "\x1b["+strconv.Itoa(height-1)+"A") {
				inFrame, frames = 0, frames+1
			}
			line := strings.TrimRight(control.ReplaceAllString(lines.Text(), ""), "\r")
			if inFrame++; len(line) > width || inFrame > height-1 {
				t.Errorf("line %d of a frame has %d columns: %q", inFrame, len(line), line)
			}
			seen = strings.Contains(line, until)
		}

		d.set(func() { d.fail = nil })
	}

	if frames < 2 {
		t.Errorf("only %d frames replaced another one", frames)
	}

	cancel()
	master.Close()
	wg.Wait()
}

// openTerminal opens a pseudo terminal and returns both ends.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals available: %v", err)
	}

	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}

	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}

	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals available: %v", err)
	}

	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 160}); err != nil {
		t.Fatal(err)
	}

	return master, terminal
}

func TestBenchShowsProgress(t *testing.T) {
	d, url := startFaulty(t, func(int) int { return 1 })
	for args, want := range map[string][]string{
		"--clients=1 --burst=10 --patience=2s": {"opening streams ... done!", "delivering ... done!"},
		"--clients=0":                          {"opening streams ... fail!", "delivering ... fail!"},
	} {
		master, terminal := openTerminal(t)
		var (
			wg     sync.WaitGroup
			stdout bytes.Buffer
		)
		wg.Go(func() {
			main.Run(t.Context(), append([]string{"--addr", d.addr, "bench", "--url", url}, strings.Fields(args)...),
				func(string) string { return "" }, strings.NewReader(""), &stdout, terminal)
		})
		lines := bufio.NewScanner(master)
		for _, line := range want {
			scanUntil(t, lines, line)
		}
		wg.Wait()
	}
}

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	main "github.com/peald/peald/cmd/pealctl"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestWatchedStatsAreDrawnInPlace(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse { return someStats(1000) }
	master, terminal := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		main.Run(ctx, []string{"--addr", d.addr, "stats", "--watch", "1ms"}, func(string) string { return "" }, strings.NewReader(""), terminal, terminal)
	})
	lines := bufio.NewScanner(master)
	// A headline, the names of the columns, two shards and their sum: the next
	// frame begins five lines above the cursor.
	scanUntil(t, lines, "peald 1.2.3")
	scanUntil(t, lines, "\x1b[5A", "peald 1.2.3")
	cancel()
	master.Close() // so that a frame nobody reads holds nothing up
	wg.Wait()
}

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
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
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 160}); err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

func TestBenchShowsHowFarItHasCome(t *testing.T) {
	d, url := unsound(t, func(int) int { return 1 })
	for args, says := range map[string][]string{
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
		for _, line := range says {
			scanUntil(t, lines, line)
		}
		wg.Wait()
	}
}

package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWatchdog lets the daemon take the test for systemd.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setup string
		isFed bool
	}{
		"of this process":    {"export WATCHDOG_USEC=20000 WATCHDOG_PID=$$", true},
		"of any process":     {"export WATCHDOG_USEC=20000", true},
		"of another process": {"export WATCHDOG_USEC=20000 WATCHDOG_PID=1", false},
		"none":               {":", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "notify")
			socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			if err := socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			p := startProcess(t, "export NOTIFY_SOCKET="+path+"; "+test.setup)

			feeds, stopping := 0, false
			for buffer := make([]byte, 1<<10); !stopping; {
				n, err := socket.Read(buffer)
				if err != nil {
					t.Fatalf("%v, after %d signs of life", err, feeds)
				}
				said := string(buffer[:n])
				stopping = strings.Contains(said, "STOPPING=1")
				if strings.Contains(said, "WATCHDOG=1") {
					feeds++
				}
				if feeds == 5 && test.isFed || strings.Contains(said, "READY=1") && !test.isFed {
					terminateProcess(t, p)
				}
			}
			if (feeds > 0) != test.isFed {
				t.Errorf("%d signs of life", feeds)
			}
		})
	}
}

func terminateProcess(t *testing.T, p process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWatchdog plays the role of systemd.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setup string
		want  bool // watchdog notifications
	}{
		"this process":    {"export WATCHDOG_USEC=20000 WATCHDOG_PID=$$", true},
		"any process":     {"export WATCHDOG_USEC=20000", true},
		"another process": {"export WATCHDOG_USEC=20000 WATCHDOG_PID=1", false},
		"none":            {":", false},
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

			count, stopping := 0, false
			for buffer := make([]byte, 1<<10); !stopping; {
				n, err := socket.Read(buffer)
				if err != nil {
					t.Fatalf("%v, after %d watchdog notifications", err, count)
				}
				message := string(buffer[:n])
				stopping = strings.Contains(message, "STOPPING=1")
				if strings.Contains(message, "WATCHDOG=1") {
					count++
				}
				if count == 5 && test.want || strings.Contains(message, "READY=1") && !test.want {
					terminateProcess(t, p)
				}
			}
			if (count > 0) != test.want {
				t.Errorf("%d watchdog notifications", count)
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

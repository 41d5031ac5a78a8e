package daemon_test

import (
	"testing"

	"github.com/peald/peald/daemon"
)

func TestReachable(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"[::]:8080":      "localhost:8080",
		"0.0.0.0:8080":   "127.0.0.1:8080",
		"127.0.0.1:9091": "127.0.0.1:9091",
		"[::1]:9091":     "[::1]:9091",
	} {
		if got := daemon.Reachable(addr); got != want {
			t.Errorf("%s is reached at %s, want %s", addr, got, want)
		}
	}
}

//go:build !linux

package daemon

import (
	"syscall"
	"time"
)

// loseDeadPeers leaves them to the system's own limits.
func loseDeadPeers(time.Duration) func(network, address string, socket syscall.RawConn) error {
	return nil
}

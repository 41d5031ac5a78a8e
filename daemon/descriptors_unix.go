//go:build unix

package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// plentyOfDescriptors is counted with where the system names no limit.
const plentyOfDescriptors = 1 << 20

// raiseDescriptorLimit raises the soft limit of file descriptors to the hard
// one, and returns what it is then.
func raiseDescriptorLimit() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of file descriptors: %w", err)
	}
	if limit.Cur != limit.Max {
		raised := limit
		raised.Cur = limit.Max
		// Some systems refuse a limit that they name themselves; the soft one
		// then stands.
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return int(min(limit.Cur, plentyOfDescriptors)), nil
}

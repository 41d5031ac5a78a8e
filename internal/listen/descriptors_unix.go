//go:build unix

package listen

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// unlimitedDescriptors is the assumed limit if the system has none.
const unlimitedDescriptors = 1 << 20

// raiseDescriptorLimit raises the soft file descriptor limit to the hard limit,
// and returns the result.
func raiseDescriptorLimit() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the file descriptor limit: %w", err)
	}

	if limit.Cur != limit.Max {
		raised := limit
		raised.Cur = limit.Max
		// Some systems reject the hard limit that they themselves report. In that case,
		// the soft limit stays in effect.
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}

	return int(min(limit.Cur, unlimitedDescriptors)), nil
}

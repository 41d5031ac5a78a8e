//go:build unix

package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// checkDescriptors returns an error if the file descriptor limit is too low for
// this many streams on this many connections. The Go runtime has already raised the soft limit to the hard
// limit.
func checkDescriptors(streams, connections int) error {
	const others = 64 // standard streams, the control connection, files opened by libraries
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("get the file descriptor limit: %w", err)
	}
	if need := uint64(connections + others); uint64(limit.Cur) < need {
		return fmt.Errorf("%d streams need %d file descriptors, but the limit is %d; raise it (ulimit -n %d) or open fewer streams",
			streams, need, limit.Cur, need)
	}
	return nil
}

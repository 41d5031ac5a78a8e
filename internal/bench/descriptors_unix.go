//go:build unix

package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// enoughDescriptors says so if this process may not open as many files as the
// streams need. Go has raised the soft limit to the hard one by itself.
func enoughDescriptors(streams int) error {
	const others = 64 // the connection to the control plane, standard streams, what libraries open
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask for the limit of file descriptors: %w", err)
	}
	if need := uint64(streams + others); uint64(limit.Cur) < need {
		return fmt.Errorf("%d streams need %d file descriptors, and this process may open %d: raise the limit (ulimit -n %d), or ask for fewer streams",
			streams, need, limit.Cur, need)
	}
	return nil
}

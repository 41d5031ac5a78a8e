package pealdtest

import (
	"syscall"
	"testing"
)

// SmallDisk returns a directory that holds few bytes: size is as tmpfs has it,
// such as "1m". It needs root.
func SmallDisk(tb testing.TB, size string) (dir string) {
	tb.Helper()

	dir = tb.TempDir()

	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if err != nil {
		Missingf(tb, "a small disk can't be mounted: %v", err)
	}

	tb.Cleanup(func() {
		err := syscall.Unmount(dir, 0)
		if err != nil {
			tb.Error(err)
		}
	})

	return dir
}

// ResizeDisk changes how much a small disk holds.
func ResizeDisk(tb testing.TB, dir, size string) {
	tb.Helper()

	err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size="+size)
	if err != nil {
		tb.Fatalf("change the size of a disk: %v", err)
	}
}

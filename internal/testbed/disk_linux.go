package testbed

import (
	"syscall"
	"testing"
)

// SmallDisk mounts a tmpfs of the given size ("1m", for example) and returns its
// directory. It requires root.
func SmallDisk(tb testing.TB, size string) (dir string) {
	tb.Helper()

	dir = tb.TempDir()

	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if err != nil {
		Missingf(tb, "mount a small disk: %v", err)
	}

	tb.Cleanup(func() {
		err := syscall.Unmount(dir, syscall.MNT_DETACH)
		if err != nil {
			tb.Error(err)
		}
	})

	return dir
}

// ResizeDisk changes the size of a small disk.
func ResizeDisk(tb testing.TB, dir, size string) {
	tb.Helper()

	err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size="+size)
	if err != nil {
		tb.Fatalf("resize a disk: %v", err)
	}
}

package cluster

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// identity returns what distinguishes a file from its copies: its inode and, if the
// filesystem records it, the inode's creation time. It returns zeros if they are
// unknown.
func identity(path string) (inode uint64, born int64) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &stat); err != nil {
		return 0, 0
	}
	if stat.Mask&unix.STATX_BTIME != 0 {
		born = stat.Btime.Sec*1e9 + int64(stat.Btime.Nsec)
	}
	return stat.Ino, born
}

// bootID returns an id that changes each time the machine boots. It returns an empty
// string if the id is unknown.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

//go:build linux

package engine

import (
	"testing"
	"unsafe"
)

// TestSocketSize keeps the memory of a stream from growing unnoticed: 48 bytes are
// an allocator size class, and the next one is 64.
func TestSocketSize(t *testing.T) {
	if size := unsafe.Sizeof(socket{}); size > 48 {
		t.Errorf("a socket takes %d bytes, want at most 48", size)
	}
}

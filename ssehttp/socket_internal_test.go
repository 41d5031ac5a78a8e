//go:build linux

package ssehttp

import (
	"testing"
	"unsafe"
)

// TestSizeOfASocket keeps the memory of a stream from growing unnoticed: 48
// bytes are a size class of the allocator, whose next is 64.
func TestSizeOfASocket(t *testing.T) {
	if size := unsafe.Sizeof(socket{}); size > 48 {
		t.Errorf("a socket takes %d bytes, want 48 at most", size)
	}
}

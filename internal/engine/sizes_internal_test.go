//go:build linux

package engine

import (
	"testing"
	"unsafe"

	"github.com/peald/peald/internal/http2conn"
)

// TestStreamSizes keeps the memory of a stream from growing unnoticed: the limits
// are size classes of the allocator.
func TestStreamSizes(t *testing.T) {
	for name, size := range map[string]struct{ is, limit uintptr }{
		"socket":           {unsafe.Sizeof(socket{}), 48},
		"http2Stream":      {unsafe.Sizeof(http2Stream{}), 32},
		"http2conn.Stream": {unsafe.Sizeof(http2conn.Stream{}), 48},
	} {
		if size.is > size.limit {
			t.Errorf("a %s takes %d bytes, want at most %d", name, size.is, size.limit)
		}
	}
}

package broker

import (
	"math"
	"testing"
)

// TestChecksumSizeWraps checks that the size in a gzip trailer is that of the body
// modulo 2^32 (RFC 1952 §2.3.1).
func TestChecksumSizeWraps(t *testing.T) {
	sum := checksum{size: math.MaxUint32 - 1}
	sum.add(&event{frame: sealFrame(append(newBlock(), "12345"...), chunkRoom)})

	if sum.size != 3 {
		t.Errorf("size %d after 2^32+3 bytes, want 3", sum.size)
	}
}

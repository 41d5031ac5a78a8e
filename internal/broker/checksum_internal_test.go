package broker

import (
	"bytes"
	"hash/crc32"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestChecksum compares the checksum of blocks with that of the whole text.
func TestChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sum checksum
		var text []byte
		for _, block := range rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "blocks") {
			block = bytes.Repeat(block, rapid.SampledFrom([]int{0, 1, 2, 10_000}).Draw(t, "times"))
			added := sumOf(block)
			sum.add(&added)
			text = append(text, block...)
		}
		if want := (checksum{crc32.ChecksumIEEE(text), uint32(len(text))}); sum != want {
			t.Errorf("checksum %x of %d bytes, want %x", sum, len(text), want)
		}
	})
}

// TestChecksumSizeWraps checks that the size in a gzip trailer is that of the body
// modulo 2^32.
func TestChecksumSizeWraps(t *testing.T) {
	sum, block := checksum{size: math.MaxUint32 - 1}, sumOf([]byte("12345"))
	sum.add(&block)

	if sum.size != 3 {
		t.Errorf("size %d after 2^32+3 bytes, want 3", sum.size)
	}
}

// BenchmarkChecksum shows that the cost of a block doesn't depend on its length.
func BenchmarkChecksum(b *testing.B) {
	block := sumOf(make([]byte, 2000))
	var sum checksum
	b.ReportAllocs()
	for b.Loop() {
		sum.add(&block)
	}
}

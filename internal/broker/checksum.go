package broker

import (
	"encoding/binary"
	"hash/crc32"
)

// checksum holds the fields of a gzip trailer for a text: its CRC-32 and its length
// modulo 2^32 (RFC 1952 §2.3.1). The zero value is the checksum of the empty text.
type checksum struct{ crc, size uint32 }

// blockSum is the checksum of a block, prepared for [checksum.add].
type blockSum struct {
	checksum

	shift uint32 // x^(8·size), see multiply
}

// sumOf returns the checksum of a block.
func sumOf(block []byte) blockSum {
	return blockSum{checksum{crc32.ChecksumIEEE(block), uint32(len(block))}, powerOf(len(block))}
}

// add appends a block to the text. Its cost doesn't depend on the block's length:
// a CRC is the remainder of a polynomial, and appending a block of n bytes multiplies
// the polynomial of the preceding text by x^(8n).
func (c *checksum) add(block *blockSum) {
	c.crc = multiply(c.crc, block.shift) ^ block.crc
	c.size += block.size
}

// appendTrailer appends the end of a body with the checksum (RFC 1952 §2.3.1).
func (c *checksum) appendTrailer(dst []byte) []byte {
	dst = append(dst, finalBlock...)
	dst = binary.LittleEndian.AppendUint32(dst, c.crc)
	return binary.LittleEndian.AppendUint32(dst, c.size)
}

// multiply returns the product of two polynomials over GF(2) modulo the CRC-32
// polynomial. The highest bit is the coefficient of x^0.
func multiply(a, b uint32) (product uint32) {
	for range 32 {
		product ^= b & -(a >> 31)
		a <<= 1
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

// powerOf returns x^(8n) in the representation that multiply uses.
func powerOf(n int) uint32 {
	power, square := uint32(1)<<31, uint32(1)<<(31-8)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return power
}

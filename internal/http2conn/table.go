package http2conn

import (
	"slices"

	"golang.org/x/net/http2/hpack"
)

// Clients may refer to fields of earlier requests, which a decoder keeps in its dynamic
// table (RFC 7541 §2.3.2). A decoder with the fields of one request from a browser
// takes 3 KB, and some clients don't honor a smaller SETTINGS_HEADER_TABLE_SIZE. So all
// connections share the Codec's decoder, and each keeps only an image of its table: a
// field block that, when decoded, restores the table.

// The dynamic table's representations (RFC 7541 §6), by their first bits.
const (
	indexedField  = 0x80 // with a 7-bit prefix: the index
	addedField    = 0x40 // with a 6-bit prefix: 0 for a new name
	sizeUpdate    = 0x20 // with a 5-bit prefix: the size
	sizeMask      = 0xe0
	sizePrefix    = 5
	stringPrefix  = 7
	indexPrefix   = 7
	firstDynamic  = 62 // index of the newest entry
	entryOverhead = 32 // RFC 7541 §4.1
)

// restore loads an image into the decoder's table. It never fails for images that save
// has made. After an error, the table may still be that of another connection.
func (c *Codec) restore(image []byte) error {
	c.image = appendInteger(append(c.image[:0], noTable), sizeUpdate, sizePrefix, defaultTableSize)
	c.image = append(c.image, image...)

	c.decoder.SetEmitEnabled(false)
	c.decoder.SetMaxStringLength(0)
	if _, err := c.decoder.Write(c.image); err != nil {
		return err
	}

	return c.decoder.Close()
}

// save returns an image of the decoder's table, which has the given maximum size. It
// returns old if the image hasn't changed.
func (c *Codec) save(old []byte, size uint32) []byte {
	c.decoder.SetEmitEnabled(true)
	c.decoder.SetMaxStringLength(0)
	c.decoder.SetEmitFunc(func(f hpack.HeaderField) { c.entries = append(c.entries, f) })
	_, _ = c.decoder.Write(c.indices) // fails after the last entry
	_ = c.decoder.Close()

	c.image = c.image[:0]
	if size != defaultTableSize {
		c.image = appendInteger(c.image, sizeUpdate, sizePrefix, size)
	}
	for _, entry := range slices.Backward(c.entries) { // so that the oldest is added first
		c.image = append(c.image, addedField)
		c.image = appendString(c.image, entry.Name)
		c.image = appendString(c.image, entry.Value)
	}
	clear(c.entries)
	c.entries = c.entries[:0]

	switch {
	case string(c.image) == string(old):
		return old
	case len(c.image) == 0:
		return nil
	default:
		return append(make([]byte, 0, len(c.image)), c.image...)
	}
}

// tableIndices returns a field block with the indices of all entries that a table
// may have.
func tableIndices() []byte {
	var block []byte
	for i := range uint32(defaultTableSize / entryOverhead) {
		block = appendInteger(block, indexedField, indexPrefix, firstDynamic+i)
	}

	return block
}

// tableSize returns the table size set by the updates at the beginning of a field
// block, or size if there are none.
func tableSize(block []byte, size uint32) uint32 {
	for len(block) > 0 && block[0]&sizeMask == sizeUpdate {
		size, block = readInteger(block, sizePrefix)
	}

	return size
}

// appendInteger appends an integer (RFC 7541 §5.1), with the given bits before its
// prefix.
func appendInteger(dst []byte, bits byte, prefix uint, v uint32) []byte {
	limit := uint32(1)<<prefix - 1
	if v < limit {
		return append(dst, bits|byte(v))
	}

	dst = append(dst, bits|byte(limit))
	for v -= limit; v >= 1<<7; v >>= 7 {
		dst = append(dst, byte(v)|1<<7)
	}

	return append(dst, byte(v))
}

// readInteger reads an integer with the given prefix, and returns what follows it. The
// decoder has already rejected invalid and overly large integers.
func readInteger(p []byte, prefix uint) (v uint32, rest []byte) {
	limit := uint32(1)<<prefix - 1
	v, p = uint32(p[0])&limit, p[1:]
	if v < limit {
		return v, p
	}

	for shift := 0; len(p) > 0; shift += 7 {
		b := p[0]
		v, p = v+uint32(b&^(1<<7))<<shift, p[1:]
		if b < 1<<7 {
			break
		}
	}

	return v, p
}

// appendString appends a string without Huffman coding (RFC 7541 §5.2).
func appendString(dst []byte, s string) []byte {
	return append(appendInteger(dst, 0, stringPrefix, uint32(len(s))), s...)
}

package http2conn

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Except for field blocks, the frames that a server sends have a fixed layout. The
// functions below append them directly; an [http2.Framer] would need a buffer.

// Payload lengths in bytes (RFC 9113 §6).
const (
	settingLen      = 6
	resetLen        = 4
	pingLen         = 8
	goAwayLen       = 8
	windowUpdateLen = 4
	priorityLen     = 5
)

func appendFrameHeader(dst []byte, length int, typ http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(dst,
		byte(length>>16), byte(length>>8), byte(length),
		byte(typ), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendSetting(dst []byte, id http2.SettingID, value uint32) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(id))
	return binary.BigEndian.AppendUint32(dst, value)
}

func appendReset(dst []byte, id uint32, code http2.ErrCode) []byte {
	dst = appendFrameHeader(dst, resetLen, http2.FrameRSTStream, 0, id)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendPing(dst []byte, flags http2.Flags, data [pingLen]byte) []byte {
	dst = appendFrameHeader(dst, pingLen, http2.FramePing, flags, 0)
	return append(dst, data[:]...)
}

func appendGoAway(dst []byte, lastID uint32, code http2.ErrCode) []byte {
	dst = appendFrameHeader(dst, goAwayLen, http2.FrameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, lastID)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, id uint32, n int32) []byte {
	dst = appendFrameHeader(dst, windowUpdateLen, http2.FrameWindowUpdate, 0, id)
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

// appendFieldBlock appends a field block as a HEADERS frame and as many CONTINUATION
// frames as necessary.
func appendFieldBlock(dst []byte, id uint32, block []byte, end bool) []byte {
	typ, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}

	for {
		fragment := block[:min(len(block), maxFrameSize)]
		block = block[len(fragment):]
		if len(block) == 0 {
			flags |= http2.FlagHeadersEndHeaders
		}

		dst = appendFrameHeader(dst, len(fragment), typ, flags, id)
		dst = append(dst, fragment...)
		if len(block) == 0 {
			return dst
		}
		typ, flags = http2.FrameContinuation, 0
	}
}

// frameHeader parses the first headerLen bytes of a frame.
func frameHeader(p []byte) (length int, typ http2.FrameType, flags http2.Flags, id uint32) {
	return int(p[0])<<16 | int(p[1])<<8 | int(p[2]), http2.FrameType(p[3]), http2.Flags(p[4]), binary.BigEndian.Uint32(p[5:]) &^ (1 << 31)
}

// endsFieldBlock reports whether no CONTINUATION frame follows the frame.
func endsFieldBlock(frame []byte) bool {
	_, typ, flags, _ := frameHeader(frame)
	isFields := typ == http2.FrameHeaders || typ == http2.FrameContinuation
	return !isFields || flags.Has(http2.FlagHeadersEndHeaders)
}

// flagsAt is the index of the flags in a frame.
const flagsAt = 4

// setFrameLength sets the length in frame's header to the size of its payload.
func setFrameLength(frame []byte) {
	length := len(frame) - headerLen
	frame[0], frame[1], frame[2] = byte(length>>16), byte(length>>8), byte(length)
}

// unpad removes the padding from a HEADERS frame in place (RFC 9113 §6.2). It reports
// whether the padding is valid.
func unpad(frame []byte) ([]byte, bool) {
	if frame[flagsAt]&byte(http2.FlagHeadersPadded) == 0 {
		return frame, true
	}
	if len(frame) == headerLen || len(frame)-headerLen-1 < int(frame[headerLen]) {
		return nil, false
	}

	end := len(frame) - int(frame[headerLen])
	frame = append(frame[:headerLen], frame[headerLen+1:end]...)
	frame[flagsAt] &^= byte(http2.FlagHeadersPadded)
	setFrameLength(frame)

	return frame, true
}

// fieldBlock returns the field block of a valid HEADERS frame.
func fieldBlock(frame []byte) []byte {
	block := frame[headerLen:]
	flags := http2.Flags(frame[flagsAt])
	if flags.Has(http2.FlagHeadersPadded) && len(block) > int(block[0]) {
		block = block[1 : len(block)-int(block[0])]
	}
	if flags.Has(http2.FlagHeadersPriority) {
		block = block[min(priorityLen, len(block)):]
	}

	return block
}

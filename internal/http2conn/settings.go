package http2conn

import "golang.org/x/net/http2"

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if !c.flags.has(unacked) {
			return violation(http2.ErrCodeProtocol, "unexpected SETTINGS acknowledgment")
		}
		c.flags &^= unacked

		return c.spendFrame()
	}

	if f.NumSettings() > maxSettings {
		return flood(Frames, "too many settings")
	}
	window := c.streamWindow
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return violation(settingErrCode(s.ID), "invalid value of "+s.ID.String())
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			window = int32(s.Val)
		case http2.SettingHeaderTableSize:
			c.limitResponseTable(s.Val)
		default:
			// The server neither pushes nor opens streams. It uses the frame size that
			// every client accepts. MAX_HEADER_LIST_SIZE is only advisory.
		}
		return nil
	})
	if err != nil {
		return err
	}

	// If there are several values, only the last one is applied to the windows of
	// streams, since the net effect is the same.
	if err := c.setStreamWindow(window); err != nil {
		return err
	}
	c.flags |= settled
	c.queue = appendFrameHeader(c.queue, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	c.wakeOne()
	c.Wake()

	return c.spendFrame()
}

func settingErrCode(id http2.SettingID) http2.ErrCode {
	if id == http2.SettingInitialWindowSize {
		return http2.ErrCodeFlowControl
	}

	return http2.ErrCodeProtocol
}

// noTable is a dynamic table size update to 0 (RFC 7541 §6.3).
const noTable = 0x20

// limitResponseTable applies the client's limit to the dynamic table for responses.
// This server doesn't use that table, but must announce a size of 0 if the limit is
// lower than the default (RFC 9113 §4.3.1).
func (c *Conn) limitResponseTable(size uint32) {
	if size < defaultTableSize && !c.flags.has(noTableSent) {
		c.flags |= tableUpdate
	}
}

// encode returns the field block of a response, which must be the next one sent.
func (c *Conn) encode(codec *Codec, status int, h map[string][]string) []byte {
	block := codec.encode(status, h, c.server.date, c.flags.has(tableUpdate))
	if c.flags.has(tableUpdate) {
		c.flags = c.flags&^tableUpdate | noTableSent
	}

	return block
}

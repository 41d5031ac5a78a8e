package http2conn

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Codec parses frames and encodes header fields. It holds no connection state, only
// about 20 KB of scratch memory. It may be used for any number of connections, but
// by only one goroutine at a time.
type Codec struct {
	input   bytes.Reader
	framer  *http2.Framer
	decoder *hpack.Decoder // holds the dynamic table of the connection being served
	entries []hpack.HeaderField
	image   []byte // an image of the dynamic table; see table.go
	indices []byte // a field block that refers to every entry of the dynamic table

	encoder *hpack.Encoder // never uses a dynamic table
	block   bytes.Buffer   // what encoder has written
	keys    []string
	lower   map[string]string // lower-case names of response fields
}

// maxLower is the maximum number of names in Codec.lower. Only handlers choose these
// names, so there are few of them.
const maxLower = 100

// NewCodec returns a new codec.
func NewCodec() *Codec {
	c := &Codec{lower: make(map[string]string), indices: tableIndices()}
	c.reset()

	// The encoder announces its table size along with the first field that it encodes.
	// Connections share the encoder, so this update is discarded here; see tableUpdate.
	c.encoder = hpack.NewEncoder(&c.block)
	c.encoder.SetMaxDynamicTableSizeLimit(0)
	c.encodeField(":status", "200")
	c.block.Reset()

	return c
}

// reset discards the parser's state after an error in the middle of a frame.
func (c *Codec) reset() {
	c.framer = http2.NewFramer(nil, &c.input)
	c.framer.SetReuseFrames()
	c.decoder = hpack.NewDecoder(defaultTableSize, nil)
	c.framer.ReadMetaHeaders = c.decoder
}

// read parses a frame. A HEADERS frame must have a complete field block.
func (c *Codec) read(frame []byte, maxHeaderList uint32) (http2.Frame, error) {
	c.input.Reset(frame)
	c.framer.MaxHeaderListSize = maxHeaderList
	f, err := c.framer.ReadFrame()
	c.input.Reset(nil)

	return f, err
}

// encode returns the field block of a response, which is valid until the next call. It
// omits fields that HTTP/2 doesn't allow, and adds a date if h has none.
func (c *Codec) encode(status int, h http.Header, date func() string, tableUpdate bool) []byte {
	c.block.Reset()
	if tableUpdate {
		c.block.WriteByte(noTable)
	}
	c.encodeField(":status", strconv.Itoa(status))

	c.keys = c.keys[:0]
	for key := range h {
		c.keys = append(c.keys, key)
	}
	slices.Sort(c.keys)

	for _, key := range c.keys {
		name, ok := c.fieldName(key)
		if !ok {
			continue
		}
		for _, value := range h[key] {
			if value = textTrim(value); httpguts.ValidHeaderFieldValue(value) {
				c.encodeField(name, value)
			}
		}
	}
	clear(c.keys)

	if _, ok := h["Date"]; !ok && status >= 200 {
		c.encodeField("date", date())
	}

	return c.block.Bytes()
}

// encodeField appends a field to c.block. It can't fail, since it writes to a buffer.
func (c *Codec) encodeField(name, value string) {
	_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
}

// fieldName returns the HTTP/2 name of a response field, and reports whether the field
// is allowed.
func (c *Codec) fieldName(key string) (string, bool) {
	name, ok := c.lower[key]
	if !ok {
		name = strings.ToLower(key)
		if !httpguts.ValidHeaderFieldName(key) || connectionSpecific(name) {
			name = ""
		}
		if len(c.lower) < maxLower {
			c.lower[strings.Clone(key)] = name
		}
	}

	return name, name != ""
}

// connectionSpecific reports whether a field, by its lower-case name, describes an
// HTTP/1.1 connection (RFC 9113 §8.2.2).
func connectionSpecific(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	default:
		return false
	}
}

func textTrim(s string) string { return strings.Trim(s, " \t") }

package http2conn_test

import (
	"strings"

	"golang.org/x/net/http2"
)

// malformed returns a case for a request that is reset.
func malformed(section, name string, pairs ...string) conformanceCase {
	return conformanceCase{section: section, name: name, want: malformedOne, send: func(c *client) { c.headers(1, true, pairs...) }}
}

// valid returns a case for a request that is answered.
func valid(section, name string, pairs ...string) conformanceCase {
	return conformanceCase{section: section, name: name, want: answeredOne, send: func(c *client) { c.headers(1, true, pairs...) }}
}

func fieldCases() []conformanceCase {
	return []conformanceCase{
		malformed("8.2.1", "upper-case name", get("X-TEST", "ok")...),
		malformed("8.2.1", "name with a space", get("x test", "ok")...),
		malformed("8.2.1", "name with a colon", get("x:test", "ok")...),
		malformed("8.2.1", "empty name", get("", "ok")...),
		malformed("8.2.1", "value with a line feed", get("x", "a\nb")...),
		malformed("8.2.1", "value with a NUL", get("x", "a\x00b")...),
		malformed("8.2.1", "value with a leading space", get("x", " a")...),
		malformed("8.2.1", "value with a trailing tab", get("x", "a\t")...),
		valid("8.2.1", "empty value", get("x", "")...),
		malformed("8.2.2", "connection", get("connection", "keep-alive")...),
		malformed("8.2.2", "transfer-encoding", get("transfer-encoding", "chunked")...),
		malformed("8.2.2", "upgrade", get("upgrade", "h2c")...),
		malformed("8.2.2", "keep-alive", get("keep-alive", "timeout=5")...),
		malformed("8.2.2", "proxy-connection", get("proxy-connection", "keep-alive")...),
		malformed("8.2.2", "te other than trailers", get("te", "trailers, deflate")...),
		valid("8.2.2", "te", get("te", "trailers")...),
	}
}

func pseudoFieldCases() []conformanceCase {
	return []conformanceCase{
		malformed("8.3", "unknown pseudo-header field", append([]string{":test", "ok"}, get()...)...),
		malformed("8.3", "pseudo-header field of a response", get(":status", "200")...),
		malformed("8.3", "pseudo-header field after a regular one", ":method", "GET", ":scheme", "https", "x", "y", ":path", "/"),
		malformed("8.3.1", "empty :path", ":method", "GET", ":scheme", "https", ":authority", "x", ":path", ""),
		malformed("8.3.1", "no :method", ":scheme", "https", ":authority", "x", ":path", "/"),
		malformed("8.3.1", "no :scheme", ":method", "GET", ":authority", "x", ":path", "/"),
		malformed("8.3.1", "no :path", ":method", "GET", ":scheme", "https", ":authority", "x"),
		malformed("8.3.1", "two :method", append([]string{":method", "GET"}, get()...)...),
		malformed("8.3.1", "two :scheme", append([]string{":scheme", "https"}, get()...)...),
		malformed("8.3.1", "two :path", append([]string{":path", "/"}, get()...)...),
		malformed("8.3.1", "relative :path", ":method", "GET", ":scheme", "https", ":path", "events"),
		malformed("8.3.1", "absolute :path", ":method", "GET", ":scheme", "https", ":path", "https://x/"),
		malformed("8.3.1", "asterisk in a GET request", ":method", "GET", ":scheme", "https", ":path", "*"),
		valid("8.3.1", "asterisk in an OPTIONS request", ":method", "OPTIONS", ":scheme", "https", ":path", "*"),
		malformed("8.3.1", "invalid escape in :path", ":method", "GET", ":scheme", "https", ":path", "/%zz"),
		malformed("8.3.1", "invalid :method", ":method", "GET /", ":scheme", "https", ":path", "/"),
		malformed("8.3.1", "unsupported :scheme", ":method", "GET", ":scheme", "ftp", ":path", "/"),
		malformed("8.3.1", "userinfo in :authority", ":method", "GET", ":scheme", "https", ":authority", "alice@x", ":path", "/"),
		malformed("8.3.1", "invalid :authority", ":method", "GET", ":scheme", "https", ":authority", "x y", ":path", "/"),
		malformed("8.3.1", "host differs from :authority", get("host", "example.org")...),
		malformed("8.3.1", "two host fields", get("host", "example.com", "host", "example.com")...),
		valid("8.3.1", "host equals :authority", get("host", "example.com")...),
		valid("8.3.1", "host without :authority", ":method", "GET", ":scheme", "https", ":path", "/", "host", "x"),
		malformed("8.5", "CONNECT with a path", ":method", "CONNECT", ":scheme", "https", ":path", "/", ":authority", "x:443"),
		malformed("8.5", "CONNECT without an authority", ":method", "CONNECT"),
		malformed("4 of RFC 8441", "extended CONNECT", ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "x"),
		{section: "8.5", name: "CONNECT", want: "HEADERS 1 501 end, RST_STREAM 1 NO_ERROR", send: func(c *client) {
			c.headers(1, false, ":method", "CONNECT", ":authority", "x:443")
		}},
	}
}

func messageCases() []conformanceCase {
	return []conformanceCase{
		{section: "8.1", name: "HEADERS in a body", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post()...)
			c.headers(1, false, "x", "y")
		}},
		{section: "8.1", name: "trailers", want: answeredOne, send: func(c *client) {
			c.headers(1, false, post("trailer", "x")...)
			c.WriteData(1, false, []byte("test"))
			c.headers(1, true, "x", "y")
		}},
		{section: "8.1", name: "pseudo-header field in trailers", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post()...)
			c.headers(1, true, ":method", "POST")
		}},
		{section: "8.2.2", name: "connection-specific field in trailers", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post()...)
			c.headers(1, true, "connection", "close")
		}},
		{section: "8.2.1", name: "upper-case name in trailers", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post()...)
			c.headers(1, true, "X", "y")
		}},
		malformed("8.1.1", "content-length without a body", post("content-length", "4")...),
		malformed("8.1.1", "invalid content-length", post("content-length", "+0")...),
		malformed("8.1.1", "two values of content-length", post("content-length", "0", "content-length", "1")...),
		valid("8.1.1", "content-length twice", post("content-length", "0", "content-length", "0")...),
		{section: "8.1.1", name: "body shorter than content-length", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post("content-length", "5")...)
			c.WriteData(1, true, []byte("test"))
		}},
		{section: "8.1.1", name: "body longer than content-length", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post("content-length", "5")...)
			c.WriteData(1, false, []byte("test"))
			c.WriteData(1, false, []byte("test"))
		}},
		{section: "8.1.1", name: "trailers before content-length is reached", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, false, post("content-length", "5")...)
			c.WriteData(1, false, []byte("test"))
			c.headers(1, true, "x", "y")
		}},
		{section: "10.5.1", name: "header too large", want: "HEADERS 1 431 end", send: func(c *client) {
			c.startHeaders(1)
			for range 2 {
				c.WriteContinuation(1, false, c.fields("x", strings.Repeat("x", 8<<10), "y", strings.Repeat("y", 8<<10)))
			}
			c.WriteContinuation(1, true, c.fields("z", strings.Repeat("z", 1<<10)))
		}},
		{section: "10.5.1", name: "header too large, and a body", want: "HEADERS 1 431 end, RST_STREAM 1 NO_ERROR", send: func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(post()...)})
			c.WriteContinuation(1, false, c.fields("x", strings.Repeat("x", 1<<10), "x", strings.Repeat("x", 17<<10)))
			c.WriteContinuation(1, true, c.fields("y", strings.Repeat("y", 17<<10)))
			c.WriteData(1, true, []byte("x"))
		}},
	}
}

// hpackCases are for RFC 7541.
func hpackCases() []conformanceCase {
	const section = "RFC 7541 "
	const base = "\x82\x87\x84\x01\x01x" // GET https://x/
	block := func(section, name, more, want string) conformanceCase {
		return conformanceCase{section: section, name: name, want: want, send: func(c *client) { c.block1(base + more) }}
	}

	return []conformanceCase{
		block(section+"2.3.3", "invalid index", "\xc6", decodingError),
		block(section+"4.2", "size update at the end", "\x40\x01x\x01y\x20", decodingError),
		block(section+"5.1", "integer overflow", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", decodingError),
		block(section+"5.2", "Huffman padding longer than 7 bits", "\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff", decodingError),
		block(section+"5.2", "Huffman padding of zeros", "\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90", decodingError),
		block(section+"5.2", "Huffman code for EOS", "\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f", decodingError),
		block(section+"6.1", "index 0", "\x80", decodingError),
		block(section+"6.1", "indexed field", "\x90", answeredOne),
		block(section+"6.2.1", "added field", "\x40\x01x\x01y\xbe", answeredOne),
		block(section+"6.2.1", "added field with an indexed name", "\x7a\x01y", answeredOne),
		block(section+"6.2.2", "field without indexing", "\x00\x01x\x01y", answeredOne),
		block(section+"6.2.2", "Huffman coding", "\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f", answeredOne),
		block(section+"6.2.3", "field that is never indexed", "\x10\x01x\x01y", answeredOne),
		{section: section + "6.3", name: "size updates", want: answeredOne, send: func(c *client) { c.block1("\x3f\x61\x3f\xe1\x1f" + base) }},
		{section: section + "6.3", name: "size update above the limit", want: decodingError, send: func(c *client) { c.block1("\x3f\xe2\x1f" + base) }},
	}
}

package http2conn_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/peald/peald/internal/http2conn"
)

// TestRequestsEqualThoseOfNetHTTP compares requests with those that net/http's
// server passes to handlers.
func TestRequestsEqualThoseOfNetHTTP(t *testing.T) {
	for name, test := range map[string]struct {
		header []string
		body   bool
	}{
		"Chrome":              {header: chrome()},
		"curl":                {header: get("user-agent", "curl/8.14.1", "accept", "*/*")},
		"Firefox":             {header: get("dnt", "1", "last-event-id", "a-1", "origin", "https://x", "priority", "u=4")},
		"cookies":             {header: get("cookie", "a=1", "cookie", "b=2", "cookie", "c=3")},
		"repeated fields":     {header: get("x-a", "1", "x-b", "2", "x-a", "3", "x-a", "4", "x-b", "5")},
		"no host":             {header: []string{":method", "GET", ":scheme", "http", ":path", "/"}},
		"escaped path":        {header: []string{":method", "GET", ":scheme", "http", ":path", "/a%2Fb/ü?q=%20x&y#z", ":authority", "[::1]:80"}},
		"two slashes":         {header: []string{":method", "GET", ":scheme", "http", ":path", "//x/y", ":authority", "x"}},
		"other method":        {header: []string{":method", "QUERY", ":scheme", "http", ":path", "/", ":authority", "x"}},
		"content-length":      {header: post("content-length", "0")},
		"body":                {header: post("content-length", "3"), body: true},
		"body without length": {header: post("te", "trailers"), body: true},
		"expect":              {header: post("expect", "100-continue"), body: true},
		"non-ASCII value":     {header: get("x", "\xfc\xff")},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, http2conn.Config{})
			c.headers(1, !test.body, test.header...)
			c.flush()
			if len(c.handler.requests) != 1 {
				t.Fatalf("no request; %v, %s", c.err, c.replies())
			}
			got, want := c.handler.requests[0], netHTTPRequest(t, test.body, test.header)

			if (got.Body == nil) != test.body {
				t.Errorf("the body is %v", got.Body)
			}
			// These are left to the caller.
			want.Body, want.RemoteAddr, got.Body = nil, "", nil
			if want = want.WithContext(context.Background()); !reflect.DeepEqual(got.WithContext(context.Background()), want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestHost checks that the host field takes the place of a missing :authority. Some
// versions of net/http leave it in the header.
func TestHost(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", "host", "example.com")
	c.flush()
	if r := c.handler.requests[0]; r.Host != "example.com" || len(r.Header) != 0 {
		t.Errorf("the host is %q, and the header %v", r.Host, r.Header)
	}
}

// netHTTPRequest returns the request that net/http's server passes to its handler.
func netHTTPRequest(t *testing.T, body bool, header []string) *http.Request {
	t.Helper()

	requests := make(chan *http.Request, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { requests <- r }))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()

	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(header); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: header[i], Value: header[i+1]})
	}
	io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, nil)
	f.WriteSettings()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: !body})

	return <-requests
}

// TestDynamicTable sends requests that refer to fields of earlier ones, on two
// connections with the same codec.
func TestDynamicTable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clients := []*client{connect(t, http2conn.Config{}), connect(t, http2conn.Config{})}
		clients[1].codec = clients[0].codec

		for range rapid.IntRange(1, 30).Draw(rt, "requests") {
			c := rapid.SampledFrom(clients).Draw(rt, "client")
			if rapid.IntRange(0, 4).Draw(rt, "resize") == 0 {
				c.encoder.SetMaxDynamicTableSize(rapid.SampledFrom([]uint32{0, 40, 200, 1000, 4095, 4096}).Draw(rt, "size"))
			}

			pairs, want := get(), http.Header{}
			for range rapid.IntRange(0, 20).Draw(rt, "fields") {
				name := rapid.SampledFrom([]string{"user-agent", "x-a", "x-b", "x-c", "x-d"}).Draw(rt, "name")
				value := strings.Repeat("v", rapid.IntRange(0, 200).Draw(rt, "length"))
				pairs = append(pairs, name, value)
				want.Add(name, value)
			}
			id := uint32(2*len(c.handler.requests) + 1)
			c.headers(id, true, pairs...)
			c.flush()
			if c.err != nil {
				rt.Fatal(c.err)
			}
			if got := c.handler.requests[len(c.handler.requests)-1].Header; !reflect.DeepEqual(got, want) {
				rt.Fatalf("the header is %v, want %v", got, want)
			}
		}
	})
}

// TestTablesAreSeparate checks that a connection can't refer to the fields of
// another one with the same codec, however that ends.
func TestTablesAreSeparate(t *testing.T) {
	const secret = "\x40\x06secret\x06secret" // which the dynamic table gets
	for name, end := range map[string]string{
		"valid":            "",
		"invalid index":    "\xff\x70",
		"truncated":        "\x40\x10x",
		"truncated number": "\xff\x80",
		"invalid field":    "\x40\x01X\x01y",
		"pseudo field":     "\x40\x02:x\x01y",
		"too long":         "\x40\x01x\x7f\x80\x80\x04",
	} {
		t.Run(name, func(t *testing.T) {
			first, second := connect(t, http2conn.Config{}), connect(t, http2conn.Config{})
			second.codec = first.codec
			first.block1(secret + end)
			first.flush()
			second.block1("\x82\x87\x84\xbe") // the newest entry of the table
			second.flush()
			expect(t, second.replies(), decodingError)
		})
	}
}

// TestInvalidFieldsKeepTheTable checks that a request that is reset because of its
// fields changes the dynamic table nevertheless.
func TestInvalidFieldsKeepTheTable(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.headers(1, true, get("x-first", "1", "X-Bad", "2", "x-last", "3")...)
	c.headers(3, true, get("x-first", "1", "x-last", "3")...)
	c.flush()
	expect(t, c.replies(), "RST_STREAM 1 PROTOCOL_ERROR")
	if header := c.handler.requests[0].Header; header.Get("X-First") != "1" || header.Get("X-Last") != "3" {
		t.Errorf("the header is %v", header)
	}
}

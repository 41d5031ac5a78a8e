package engine

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// verdict classifies the first bytes of a request.
type verdict uint8

const (
	incomplete   verdict = iota
	foreign              // net/http must handle it
	complete             // a complete request header for the engine's path
	http2Preface         // HTTP/2 with prior knowledge
)

const (
	method    = "GET "
	lineEnd   = " HTTP/1.1\r\n"
	headerEnd = "\r\n\r\n"
)

// classify examines the first bytes of a request. size is the length of the header if
// it is complete. A header with bare line feeds is left to net/http.
func classify(input []byte, path string, most int) (size int, what verdict) {
	if n := min(len(input), len(http2.ClientPreface)); string(input[:n]) == http2.ClientPreface[:n] && n > 0 {
		if n < len(http2.ClientPreface) {
			return 0, incomplete
		}
		return 0, http2Preface
	}
	if n := min(len(input), len(method)); string(input[:n]) != method[:n] {
		return 0, foreign
	}
	target := input[min(len(input), len(method)):]
	if n := min(len(target), len(path)); string(target[:n]) != path[:n] {
		return 0, foreign
	}
	if len(target) > len(path) && target[len(path)] != '?' && target[len(path)] != ' ' {
		return 0, foreign
	}

	end := bytes.Index(input, []byte(headerEnd))
	if end >= 0 && end+len(headerEnd) <= most {
		input = input[:end+len(headerEnd)]
	}
	switch {
	case bytes.Count(input, []byte("\n")) != bytes.Count(input, []byte("\r\n")):
		return 0, foreign // A bare line feed also ends a line (RFC 9112 §2.2).
	case end >= 0 && end+len(headerEnd) <= most:
		return len(input), complete
	case len(input) >= most:
		return 0, foreign
	default:
		return 0, incomplete
	}
}

// parse parses the header of a GET request. It returns nil for anything malformed or
// unusual, and net/http then parses the header again and decides what to do.
func parse(head []byte, path string) *http.Request {
	end := bytes.Index(head, []byte(lineEnd))
	if end < len(method)+len(path) || bytes.IndexByte(head[:end], '\n') >= 0 {
		return nil
	}
	target := string(head[len(method):end])
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Path != path || strings.IndexByte(target, ' ') >= 0 {
		return nil
	}

	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(head[end+len(lineEnd):]))).ReadMIMEHeader()
	if err != nil {
		return nil
	}
	hosts := header["Host"]
	if len(hosts) != 1 || hosts[0] == "" || !httpguts.ValidHostHeader(hosts[0]) {
		return nil
	}
	for name, values := range header {
		if !usual(name, values) {
			return nil
		}
	}
	delete(header, "Host")

	return &http.Request{
		Method: http.MethodGet, URL: u, RequestURI: target,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header(header), Host: hosts[0], Body: http.NoBody,
		Close: httpguts.HeaderValuesContainsToken(header["Connection"], "close"),
	}
}

// usual reports whether a header is valid and doesn't change how the request must
// be read.
func usual(name string, values []string) bool {
	switch name {
	case "Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Http2-Settings":
		return false
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return false
	}
	for _, value := range values {
		if !httpguts.ValidHeaderFieldValue(value) || strings.IndexByte(value, '\n') >= 0 {
			return false
		}
	}
	return true
}

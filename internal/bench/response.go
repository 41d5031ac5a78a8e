package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// requestBytes returns the encoded request for a stream.
func requestBytes(address *url.URL, header http.Header) ([]byte, error) {
	request := &http.Request{
		Method: http.MethodGet, URL: address, Host: address.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	text, err := httputil.DumpRequest(request, false)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return text, nil
}

// requestFields returns the header fields of the request for a stream over HTTP/2.
func requestFields(address *url.URL, header http.Header) []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: http.MethodGet},
		{Name: ":scheme", Value: address.Scheme},
		{Name: ":authority", Value: address.Host},
		{Name: ":path", Value: address.RequestURI()},
	}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			// Tokens aren't compressed (RFC 7541 §7.1.3).
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: value, Sensitive: name == "Authorization"})
		}
	}
	return fields
}

// maxHead is the maximum length of a response header, in bytes.
const maxHead = 64 << 10

// splitHead splits a response into its header and the beginning of its body. It
// returns a nil head until the header is complete.
func splitHead(received []byte) (head, rest []byte) {
	end := []byte("\r\n\r\n")
	i := bytes.Index(received, end)
	if i < 0 {
		return nil, received
	}
	return received[:i+len(end)], received[i+len(end):]
}

// parseHead parses a response header. It reports whether the body is chunked, and
// returns its length in bytes, or -1 if that is unknown. It returns an error if the
// response isn't an event stream.
func parseHead(head, rest []byte) (chunked bool, length int64, err error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return false, 0, fmt.Errorf("malformed HTTP response: %w", err)
	}

	// The body isn't read through response.
	_ = response.Body.Close()
	chunked = len(response.TransferEncoding) > 0
	if chunked {
		var c dechunker
		rest, _ = c.next(&rest)
	}

	if err := checkResponse(response.StatusCode, response.Status, response.Header, rest); err != nil {
		return false, 0, err
	}

	return chunked, response.ContentLength, nil
}

// statusError describes a rejection.
func statusError(status string, body []byte) error {
	if line := firstLine(body); line != "" {
		return fmt.Errorf("%s: %s", status, line)
	}
	return errors.New(status)
}

// checkResponse returns an error if a response isn't an event stream.
func checkResponse(code int, status string, header http.Header, body []byte) error {
	if code != http.StatusOK {
		return statusError(status, body)
	}
	if kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind != "text/event-stream" {
		return fmt.Errorf("the response is not an event stream: Content-Type is %q; want text/event-stream", header.Get("Content-Type"))
	}
	return nil
}

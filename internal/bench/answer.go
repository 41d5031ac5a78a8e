package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// requestBytes is what a stream sends.
func requestBytes(address *url.URL, header http.Header) ([]byte, error) {
	request := &http.Request{
		Method: http.MethodGet, URL: address, Host: address.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	text, err := httputil.DumpRequest(request, false)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	return text, nil
}

// maxHead is how long the head of a response may be.
const maxHead = 64 << 10

// splitHead returns the head of a response and what follows it. The head is
// nil until it is complete.
func splitHead(received []byte) (head, rest []byte) {
	end := []byte("\r\n\r\n")
	i := bytes.Index(received, end)
	if i < 0 {
		return nil, received
	}
	return received[:i+len(end)], received[i+len(end):]
}

// parseHead reads the head of a response, and returns whether its body is
// chunked. What is not the beginning of an event stream is an error.
func parseHead(head, rest []byte) (chunked bool, err error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return false, fmt.Errorf("no HTTP response: %w", err)
	}

	// There is no body in what it was given to read.
	_ = response.Body.Close()
	chunked = len(response.TransferEncoding) > 0
	if chunked {
		var c dechunker
		rest, _ = c.next(&rest)
	}

	if err := checkAnswer(response.StatusCode, response.Status, response.Header, rest); err != nil {
		return false, err
	}
	if response.ContentLength >= 0 {
		return false, errEnd // of which there is no more to come than that
	}

	return chunked, nil
}

// checkAnswer says what is wrong with an answer that is no event stream.
func checkAnswer(code int, status string, header http.Header, body []byte) error {
	if code != http.StatusOK {
		if said := firstLine(body); said != "" {
			return fmt.Errorf("%s: %s", status, said)
		}
		return errors.New(status)
	}
	if kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind != "text/event-stream" {
		return fmt.Errorf("what answers there is no event stream but %q", header.Get("Content-Type"))
	}
	return nil
}

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/peald/peald/internal/eventstream"
)

// pollWait is the time that a poll waits for a message: the longest that peald allows.
const pollWait = "60s"

// errReconnect means that the server closes a connection that isn't broken. The client
// continues on another one.
var errReconnect = errors.New("the server closes the connection after the response")

// pollURL returns the URL of the next poll of a client. The first one, without a
// position, doesn't wait, so that a broken connection can't lose messages.
func pollURL(address *url.URL, position string) *url.URL {
	if position == "" {
		return address
	}
	next := *address
	if next.RawQuery != "" {
		next.RawQuery += "&"
	}
	next.RawQuery += "wait=" + pollWait + "&last_event_id=" + url.QueryEscape(position)
	return &next
}

// batch is the response to a poll. Its blocks are what a stream would have received
// instead.
type batch struct {
	blocks   []byte
	position string
}

// readBatch reads the response to a poll.
func readBatch(response *http.Response) (b batch, err error) {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return b, err
	}

	if response.StatusCode != http.StatusOK {
		return b, statusError(response.Status, body)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "application/json" {
		return b, fmt.Errorf("the response to a poll has the Content-Type %q; want application/json", response.Header.Get("Content-Type"))
	}

	var text struct {
		Events []struct {
			ID    string `json:"id"`
			Event string `json:"event"`
			Data  string `json:"data"`
		} `json:"events"`
		Position string `json:"position"`
	}
	if err := json.Unmarshal(body, &text); err != nil {
		return b, fmt.Errorf("malformed response to a poll: %w", err)
	}
	if text.Position == "" {
		return b, errors.New("the response to a poll has no position; want a server with a history")
	}

	for _, e := range text.Events {
		b.blocks = eventstream.AppendEvent(b.blocks, e.ID, e.Event, e.Data)
	}
	b.position = text.Position
	return b, nil
}

// pollConn is the client's side of an HTTP/1.1 connection that polls. It does no I/O.
type pollConn struct {
	address  *url.URL
	header   http.Header
	position *string // of the client, which may outlive the connection
	response []byte  // until it is complete
}

// request returns the next request.
func (p *pollConn) request() ([]byte, error) {
	return requestBytes(pollURL(p.address, *p.position), p.header)
}

// receive implements protocol. The replies are further polls.
func (p *pollConn) receive(received []byte, to sink) (reply []byte, err error) {
	p.response = append(p.response, received...)
	if head, _ := splitHead(p.response); head == nil && len(p.response) <= maxHead {
		return nil, nil
	}

	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(p.response)), nil)
	if err != nil {
		return nil, fmt.Errorf("malformed HTTP response: %w", err)
	}
	b, err := readBatch(response)
	_ = response.Body.Close()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil // the rest of the body has yet to arrive
	}
	if err != nil {
		return nil, err
	}

	if *p.position == "" {
		to.opened(0)
	}
	to.body(0, b.blocks)
	*p.position, p.response = b.position, nil
	if response.Close {
		return nil, errReconnect
	}
	return p.request()
}

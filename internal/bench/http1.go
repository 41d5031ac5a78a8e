package bench

import "fmt"

// sink takes what a protocol decodes. The streams of a connection are numbered
// from 0, in the order of their requests.
type sink interface {
	// opened is called once for each stream, when its response header has
	// arrived and is that of an event stream.
	opened(stream int)
	// body is called for each piece of a stream's body. The piece is valid
	// until body returns.
	body(stream int, piece []byte)
	// ended is called at most once for each stream, when the server has closed
	// or rejected the stream but not the connection.
	ended(stream int, reason error)
}

// http1 is the client's side of an HTTP/1.1 connection with one stream. It does
// no I/O. The zero value expects a response header.
type http1 struct {
	open   bool
	head   []byte     // response header until it is complete
	chunks *dechunker // nil if the body isn't chunked
}

// receive implements protocol. There are no replies.
func (h *http1) receive(received []byte, to sink) (reply []byte, err error) {
	if !h.open {
		if received, err = h.readHead(received); err != nil || !h.open {
			return nil, err
		}
		to.opened(0)
	}

	for len(received) > 0 {
		body := received
		if h.chunks == nil {
			received = nil
		} else if body, err = h.chunks.next(&received); err != nil {
			return nil, err
		}

		if len(body) > 0 {
			to.body(0, body)
		}
	}

	return nil, nil
}

// readHead reads the response header and returns the bytes that follow it.
func (h *http1) readHead(received []byte) (rest []byte, err error) {
	h.head = append(h.head, received...)
	head, rest := splitHead(h.head)
	if head == nil {
		if len(h.head) > maxHead {
			return nil, fmt.Errorf("malformed HTTP response: header longer than %d bytes", maxHead)
		}
		return nil, nil
	}

	chunked, err := parseHead(head, rest)
	if err != nil {
		return nil, err
	}
	if chunked {
		h.chunks = new(dechunker)
	}

	h.open, h.head = true, nil
	return rest, nil
}

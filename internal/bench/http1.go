package bench

import "fmt"

// http1 is the client's side of an HTTP/1.1 connection with one stream. It does
// no I/O. The zero value expects a response header.
type http1 struct {
	open   bool
	head   []byte     // response header until it is complete
	chunks *dechunker // nil if the body isn't chunked
	left   int64      // bytes of the body, or -1 if that is unknown
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
		var body []byte
		if h.chunks == nil {
			body, received = h.limit(received), nil
		} else if body, err = h.chunks.next(&received); err != nil {
			return nil, err
		}

		if len(body) > 0 {
			to.body(0, body)
		}
	}

	if h.left == 0 {
		return nil, errEnd
	}
	return nil, nil
}

// limit returns the part of received that belongs to a body of known length.
func (h *http1) limit(received []byte) []byte {
	if h.left < 0 {
		return received
	}
	body := received[:min(h.left, int64(len(received)))]
	h.left -= int64(len(body))
	return body
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

	chunked, length, err := parseHead(head, rest)
	if err != nil {
		return nil, err
	}
	if chunked {
		h.chunks = new(dechunker)
	}

	h.open, h.head, h.left = true, nil, length
	return rest, nil
}

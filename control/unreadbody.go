package control

import (
	"io"
	"net/http"
	"time"
)

// How much of a body that nobody needs is read after the response, and for how
// long. A client that still writes when its connection is closed gets a reset,
// which can destroy the response before the client has read it.
const (
	maxDrain  = 64 << 20
	drainTime = 10 * time.Second

	// drainedByServer is the size of the body, in bytes, that net/http itself reads.
	drainedByServer = 256 << 10
)

// drainBody wraps next so that HTTP/1.x clients that write their whole request
// before they read get the response to a body that is too large, or that next
// doesn't read for another reason. HTTP/2 needs none of it.
func drainBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Body == nil {
			next.ServeHTTP(w, r)

			return
		}

		body := &trackedBody{ReadCloser: r.Body}
		tracked := r.WithContext(r.Context())
		tracked.Body = body
		next.ServeHTTP(w, tracked)

		switch {
		case body.ended:
		case !body.begun && r.ContentLength > 0 && r.ContentLength <= drainedByServer:
		case !body.begun && r.Header.Get("Expect") != "":
			// To read would ask the client to send the body.
		default:
			finish(w, body)
		}
	})
}

// finish sends the response and then reads the rest of body, within bounds.
func finish(w http.ResponseWriter, body io.Reader) {
	control := http.NewResponseController(w)
	if control.EnableFullDuplex() != nil || control.Flush() != nil {
		return
	}

	_ = control.SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.CopyN(io.Discard, body, maxDrain)
}

// trackedBody records how far a request's body was read.
type trackedBody struct {
	io.ReadCloser

	begun bool
	ended bool // by its end or by an error
}

// Read implements [io.Reader].
func (b *trackedBody) Read(p []byte) (int, error) {
	b.begun = true

	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err != nil

	return n, err
}

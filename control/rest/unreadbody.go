package rest

import (
	"io"
	"net/http"
	"time"
)

// maxDrain, in bytes, and drainTime limit how much of an unneeded body is read after
// the response. If a connection is closed while its client is still writing, the client
// receives a reset, which can discard the response before the client has read it.
const (
	maxDrain  = 64 << 20
	drainTime = 10 * time.Second

	// drainedByServer is the size, in bytes, up to which net/http itself reads an
	// unneeded body.
	drainedByServer = 256 << 10
)

// drainBody wraps next for HTTP/1.x clients that write their whole request before they
// read anything. It ensures that such clients receive the response even if next doesn't
// read the body, for example because it is too large. HTTP/2 doesn't need this.
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
			// Reading would prompt the client to send the body.
		default:
			finish(w, body)
		}
	})
}

// finish sends the response, and then reads the rest of body up to the limits.
func finish(w http.ResponseWriter, body io.Reader) {
	control := http.NewResponseController(w)
	if control.EnableFullDuplex() != nil || control.Flush() != nil {
		return
	}

	_ = control.SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.CopyN(io.Discard, body, maxDrain)
}

// trackedBody records how far a request body has been read.
type trackedBody struct {
	io.ReadCloser

	begun bool
	ended bool // Read has returned an error, such as io.EOF
}

// Read implements [io.Reader].
func (b *trackedBody) Read(p []byte) (int, error) {
	b.begun = true

	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err != nil

	return n, err
}

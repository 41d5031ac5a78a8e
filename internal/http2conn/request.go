package http2conn

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// onHeaders processes the header or the trailers of a request.
func (c *Conn) onHeaders(codec *Codec, f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if st := c.find(id); st != nil {
		return c.onTrailers(st, f)
	}
	refuse := c.flags.has(goingAway) // read before open, which may call GoAway
	if done, err := c.open(id); err != nil || done {
		return err
	}

	switch {
	case refuse || len(c.streams) >= c.server.cfg.MaxStreams:
		return c.streamError(id, http2.ErrCodeRefusedStream, "too many streams")

	case f.HasPriority() && f.Priority.StreamDep == id:
		return c.streamError(id, http2.ErrCodeProtocol, "stream depends on itself")
	}

	st := &Stream{conn: c, id: id, sendWindow: c.streamWindow}
	if f.StreamEnded() {
		st.flags |= remoteClosed
	} else {
		st.body = &body{missing: -1, window: defaultWindow}
	}
	if f.Truncated {
		return c.reject(codec, st, http.StatusRequestHeaderFieldsTooLarge)
	}
	r, expectContinue, err := newRequest(f)
	if err != nil {
		return c.streamError(id, http2.ErrCodeProtocol, err.Error())
	}
	if r.Method == http.MethodConnect {
		return c.reject(codec, st, http.StatusNotImplemented)
	}

	if st.body != nil {
		st.body.missing = r.ContentLength
	}
	if expectContinue {
		st.flags |= expects
	}
	c.streams = append(c.streams, st)
	c.handler.Request(st, r)

	return nil
}

// open records a new stream. If done is true, the frame must be ignored.
func (c *Conn) open(id uint32) (done bool, err error) {
	switch {
	case id%2 == 0:
		return true, violation(http2.ErrCodeProtocol, "even stream id")
	case id > c.lastID:
		c.advance(id)
		return false, c.countRequest()
	case c.reset&c.history(id) != 0:
		// The client sent this frame before it received our RST_STREAM.
		return true, c.spendFrame()
	case c.opened&c.history(id) != 0:
		return true, violation(http2.ErrCodeStreamClosed, "HEADERS for a closed stream")
	default:
		return true, violation(http2.ErrCodeProtocol, "stream id isn't higher than the last one")
	}
}

// onInvalidFields handles a HEADERS frame with fields that aren't allowed.
func (c *Conn) onInvalidFields(id uint32, cause http2.StreamError) error {
	if c.find(id) == nil {
		if done, err := c.open(id); err != nil || done {
			return err
		}
	}

	return c.streamError(id, cause.Code, cause.Cause.Error())
}

// reject answers a request without passing it to the handler.
func (c *Conn) reject(codec *Codec, st *Stream, status int) error {
	c.streams = append(c.streams, st)
	st.SendHeaders(codec, status, http.Header{"Content-Length": {"0"}}, true)

	return c.spendFrame()
}

// onTrailers processes a HEADERS frame that follows the request's header (RFC 9113
// §8.1).
func (c *Conn) onTrailers(st *Stream, f *http2.MetaHeadersFrame) error {
	switch {
	case st.flags.has(remoteClosed):
		return c.streamError(st.id, http2.ErrCodeStreamClosed, "HEADERS after the end of the stream")
	case !f.StreamEnded():
		return c.streamError(st.id, http2.ErrCodeProtocol, "trailers don't end the stream")
	case len(f.PseudoFields()) > 0:
		return c.streamError(st.id, http2.ErrCodeProtocol, "pseudo-header field in trailers")
	}
	for _, field := range f.Fields {
		if err := checkField(field); err != nil {
			return c.streamError(st.id, http2.ErrCodeProtocol, err.Error())
		}
	}

	return c.receiveBody(st, 0, nil, true)
}

// newRequest returns the request that f describes, and reports whether the client is
// waiting for status 100 before sending the body. The codec has already checked field
// names and the order of pseudo-header fields.
func newRequest(f *http2.MetaHeadersFrame) (r *http.Request, expectContinue bool, err error) {
	fields := f.RegularFields()
	header, err := newHeader(fields)
	if err != nil {
		return nil, false, err
	}
	r = &http.Request{
		Method:     f.PseudoValue("method"),
		Proto:      "HTTP/2.0",
		ProtoMajor: 2,
		Header:     header,
	}

	if r.Host, err = host(f.PseudoValue("authority"), header); err != nil {
		return nil, false, err
	}
	if err := setTarget(r, f); err != nil {
		return nil, false, err
	}
	if err := setLength(r, f.StreamEnded()); err != nil {
		return nil, false, err
	}

	if cookies := header["Cookie"]; len(cookies) > 1 {
		header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	if httpguts.HeaderValuesContainsToken(header["Expect"], "100-continue") {
		delete(header, "Expect")
		expectContinue = true
	}

	return r, expectContinue, nil
}

// newHeader returns fields under their HTTP/1.1 names.
func newHeader(fields []hpack.HeaderField) (http.Header, error) {
	header := make(http.Header, len(fields))
	values := make([]string, len(fields)) // one allocation for all

	for i, field := range fields {
		if err := checkField(field); err != nil {
			return nil, err
		}
		key := canonicalName(field.Name)
		if more := header[key]; more != nil {
			header[key] = append(more, field.Value)
			continue
		}
		values[i] = field.Value
		header[key] = values[i : i+1 : i+1]
	}

	return header, nil
}

// canonicalName returns a field's HTTP/1.1 name. It saves an allocation for names that
// browsers send but that net/textproto has no copy of.
func canonicalName(name string) string {
	switch name {
	case "dnt":
		return "Dnt"
	case "last-event-id":
		return "Last-Event-Id"
	case "origin":
		return "Origin"
	case "priority":
		return "Priority"
	case "sec-ch-ua":
		return "Sec-Ch-Ua"
	case "sec-ch-ua-mobile":
		return "Sec-Ch-Ua-Mobile"
	case "sec-ch-ua-platform":
		return "Sec-Ch-Ua-Platform"
	case "sec-fetch-dest":
		return "Sec-Fetch-Dest"
	case "sec-fetch-mode":
		return "Sec-Fetch-Mode"
	case "sec-fetch-site":
		return "Sec-Fetch-Site"
	default:
		return textproto.CanonicalMIMEHeaderKey(name)
	}
}

// checkField checks that a field complies with RFC 9113 §8.2. The codec has already
// checked which characters the name contains.
func checkField(field hpack.HeaderField) error {
	switch {
	case connectionSpecific(field.Name):
		return malformedError("connection-specific field " + field.Name)
	case field.Name == "te" && field.Value != "trailers":
		return malformedError("te isn't trailers")
	case textTrim(field.Value) != field.Value:
		return malformedError("spaces around the value of " + field.Name)
	}

	return nil
}

// host returns the request's host, and removes it from header (RFC 9113 §8.3.1).
func host(authority string, header http.Header) (string, error) {
	hosts := header["Host"]
	switch {
	case len(hosts) > 1:
		return "", malformedError("several host fields")
	case len(hosts) == 1 && authority == "":
		authority = hosts[0]
	case len(hosts) == 1 && hosts[0] != authority:
		return "", malformedError("host differs from :authority")
	}
	delete(header, "Host")

	if strings.Contains(authority, "@") || !httpguts.ValidHostHeader(authority) {
		return "", malformedError("invalid :authority")
	}

	return authority, nil
}

// setTarget checks and sets the method and URL (RFC 9113 §8.3.1 and §8.5).
func setTarget(r *http.Request, f *http2.MetaHeadersFrame) error {
	scheme, path := f.PseudoValue("scheme"), f.PseudoValue("path")

	switch {
	case f.PseudoValue("protocol") != "":
		return malformedError("extended CONNECT isn't supported")
	case !httpguts.ValidHeaderFieldName(r.Method): // methods and field names are both tokens
		return malformedError("invalid :method")
	case r.Method == http.MethodConnect:
		if scheme != "" || path != "" || r.Host == "" {
			return malformedError("invalid CONNECT")
		}
		return nil
	case scheme != "http" && scheme != "https":
		return malformedError("invalid :scheme")
	case !strings.HasPrefix(path, "/") && (path != "*" || r.Method != http.MethodOptions):
		return malformedError("invalid :path")
	}

	u, err := url.ParseRequestURI(path)
	if err != nil {
		return malformedError("invalid :path")
	}
	r.URL, r.RequestURI = u, path

	return nil
}

// setLength checks content-length and sets the length and body of the request.
func setLength(r *http.Request, ended bool) error {
	r.ContentLength = -1
	if values := r.Header["Content-Length"]; len(values) > 0 {
		length, err := strconv.ParseUint(values[0], 10, 63)
		if err != nil {
			return malformedError("invalid content-length")
		}
		for _, value := range values[1:] {
			if value != values[0] {
				return malformedError("multiple content-length values")
			}
		}
		r.ContentLength = int64(length)
	}

	if ended {
		if r.ContentLength > 0 {
			return malformedError("body differs from content-length")
		}
		r.ContentLength = 0
		r.Body = http.NoBody
	}

	return nil
}

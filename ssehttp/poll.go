package ssehttp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/engine"
)

// MaxWait is the maximum time that a poll may wait for an event.
const MaxWait = time.Minute

// wish describes what a request asks for.
type wish struct {
	format   format
	wait     time.Duration // how long a poll may wait for its first event
	envelope bool          // events have the members of an envelope
}

// requested returns what a request asks for.
func requested(r *http.Request) (wanted wish, rej *rejection) {
	wanted.format = formatOf(r.Header)
	if wanted.format == noFormat {
		return wanted, rejectQuoting(BadRequest, http.StatusNotAcceptable,
			"the Accept header is %q; this resource is text/event-stream or application/json", r.Header.Get("Accept"))
	}
	if !strings.Contains(r.URL.RawQuery, "wait") && !strings.Contains(r.URL.RawQuery, "envelope") {
		return wanted, nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if values := query["wait"]; err == nil && len(values) > 0 {
		wanted.wait, rej = waitOf(values, wanted.format)
	}
	if values := query["envelope"]; err == nil && rej == nil && len(values) > 0 {
		wanted.envelope, rej = envelopeOf(values)
	}
	return wanted, rej // admit rejects a malformed query
}

// waitOf parses the values of the wait query parameter.
func waitOf(values []string, f format) (time.Duration, *rejection) {
	if slices.ContainsFunc(values, func(other string) bool { return other != values[0] }) {
		return 0, reject(BadRequest, http.StatusBadRequest, "the query has two different values for wait; want one")
	}
	wait, err := time.ParseDuration(values[0])
	switch {
	case err != nil || wait <= 0 || wait > MaxWait || values[0][0] == '+':
		return 0, rejectQuoting(BadRequest, http.StatusBadRequest,
			"wait is %q; want a duration of more than 0 and at most 60s, such as 20s", shortened(values[0]))
	case f != jsonFormat:
		return 0, reject(BadRequest, http.StatusBadRequest, "wait is only for polls; send it with Accept: application/json")
	}
	return wait, nil
}

// envelopeOf parses the values of the envelope query parameter.
func envelopeOf(values []string) (bool, *rejection) {
	if slices.ContainsFunc(values, func(other string) bool { return other != values[0] }) {
		return false, reject(BadRequest, http.StatusBadRequest, "the query has two different values for envelope; want one")
	}
	on, err := strconv.ParseBool(values[0])
	if err != nil {
		return false, rejectQuoting(BadRequest, http.StatusBadRequest,
			"envelope is %q; want 1 or true for events in envelopes, or 0 or false for events without", shortened(values[0]))
	}
	return on, nil
}

// poll answers a request for JSON, immediately or after a wait. It returns when the
// response has been written or the engine has taken over the response and the
// reservation. If it returns a rejection, it has not written anything.
func (h *Handler) poll(w http.ResponseWriter, r *http.Request, rules *rules, sub broker.Subscription, wanted wish, res *reservation) *rejection {
	if rej := h.enter(r, rules, sub, res); rej != nil {
		return rej
	}
	p := h.broker.NewPoll(sub, wanted.wait)
	batch, answered, err := p.Read()
	if err != nil {
		h.closed(res)
		return startFailed(err)
	}

	pollHeaders(w.Header())
	lines := h.logPoll(r, rules, &sub, p.Stream())
	if answered {
		defer h.closed(res)
		lines.answered(&batch)
		writeWhole(w, encodeBatch(&batch, wanted.envelope), rules.cfg.WriteTimeout)
		return nil
	}

	answer := &pollAnswer{envelope: wanted.envelope, lines: lines}
	body, taken, err := h.deferResponse(w, r)
	if taken && err == nil {
		err = h.holdPoll(body, w, p, res, batch, answer)
	} else if taken {
		h.closed(res)
	}
	if taken {
		if err != nil {
			h.record(r, rules, sub.User, startFailed(err))
		}
		return nil
	}

	defer h.closed(res)
	if err := h.servePoll(w, r, p, rules.cfg.WriteTimeout, answer); err != nil {
		return startFailed(err)
	}
	return nil
}

// deferResponse lets the engine take over the response. It returns false if net/http
// must send it.
func (h *Handler) deferResponse(w http.ResponseWriter, r *http.Request) (_ engine.Body, taken bool, _ error) {
	if h.engine == nil {
		return nil, false, nil
	}
	return h.engine.Defer(w, r)
}

// holdPoll makes p wait on a body that the engine has taken over. If that fails, the
// client gets batch, which is empty. Even after an error, the stream counts and keeps
// its reservation until the body is closed.
func (h *Handler) holdPoll(body engine.Body, w http.ResponseWriter, p *broker.Poll, res *reservation, batch broker.Batch, answer *pollAnswer) error {
	if err := h.attach(body, p.Stream(), res); err != nil {
		return err
	}
	if body.Transport() != engine.HTTP2 {
		answer.body, _ = body.(engine.Reusable)
		answer.fields = h.pollFields(w.Header())
	}
	err := p.Start(answer.lines.around(body, heldAs(body.Transport())), answer)
	if err != nil {
		batch.Reason = startReason(err)
		body.Finish(answer.Encode(batch))
	}
	return err
}

// startReason returns the close reason for a poll that can't wait because of err.
func startReason(err error) broker.Reason {
	if startFailed(err).cause == Suspended {
		return broker.Suspended
	}
	return broker.Shutdown
}

// servePoll makes p wait in this goroutine, through net/http.
func (h *Handler) servePoll(w http.ResponseWriter, r *http.Request, p *broker.Poll, writeTimeout time.Duration, answer *pollAnswer) error {
	by := transportOf(r)
	h.served[by].Add(1)
	defer h.served[by].Add(-1)

	sink := newResponseSink(w, p.Stream())
	if err := p.Start(answer.lines.around(sink, by), answer); err != nil {
		return err
	}
	sink.run(wholeWriter{w}, r, writeTimeout)
	_ = sink.rc.SetWriteDeadline(time.Time{}) // The connection may serve another request.
	return nil
}

// wholeWriter writes a response in one piece.
type wholeWriter struct{ http.ResponseWriter }

// Write implements [http.ResponseWriter].
func (w wholeWriter) Write(p []byte) (int, error) {
	w.Header().Set("Content-Length", strconv.Itoa(len(p)))
	return w.ResponseWriter.Write(p)
}

// writeWhole writes a response in one piece, and gives up after a timeout. The timeout
// matters only for net/http, because the engine never waits for the client.
func writeWhole(w http.ResponseWriter, body []byte, timeout time.Duration) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := (wholeWriter{w}).Write(body); err == nil {
		_ = rc.Flush()
	}
	_ = rc.SetWriteDeadline(time.Time{}) // The connection may serve another request.
}

func pollHeaders(header http.Header) {
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header["Vary"] = []string{strings.Join(append(header["Vary"], "Accept"), ", ")}
}

// pollFields returns a response's header fields in the form in which HTTP/1.1 sends
// them, without the status line and the fields that differ between responses. Polls
// share the result, unless they need special headers.
func (h *Handler) pollFields(header http.Header) []byte {
	header.Del("Connection") // Encode adds it if necessary
	_, special := header["Access-Control-Allow-Origin"]
	vary := header.Get("Vary")
	if last := h.polls.Load(); !special && last != nil && last.vary == vary {
		return last.bytes
	}

	var b bytes.Buffer
	_ = header.Write(&b) // writing to a buffer can't fail
	b.WriteString("\r\n")
	if !special {
		h.polls.Store(&head{vary: vary, bytes: b.Bytes()})
	}
	return b.Bytes()
}

// pollAnswer encodes the response to a poll that waits.
type pollAnswer struct {
	fields   []byte          // see pollFields; nil if the response's head isn't part of the body
	body     engine.Reusable // nil if the connection is closed after the response
	envelope bool            // events have the members of an envelope
	lines    *pollLog        // nil for none
}

// Encode implements [broker.Encoder].
func (a *pollAnswer) Encode(b broker.Batch) []byte {
	a.lines.note(&b)
	if a.fields == nil {
		return encodeBatch(&b, a.envelope)
	}

	text := encodeBatch(&b, a.envelope)
	whole := make([]byte, 0, maxHead+len(a.fields)+len(text))
	whole = append(whole, "HTTP/1.1 200 OK\r\nDate: "...)
	whole = time.Now().UTC().AppendFormat(whole, http.TimeFormat)
	if b.Reason != broker.Answered || a.body == nil || !a.body.Reusable() {
		whole = append(whole, "\r\nConnection: close"...)
	}
	whole = append(whole, "\r\nContent-Length: "...)
	whole = strconv.AppendInt(whole, int64(len(text)), 10)
	whole = append(append(whole, "\r\n"...), a.fields...)
	return append(whole, text...)
}

// maxHead is the space reserved for the part of a head that Encode writes, in bytes.
const maxHead = 128

// batchText is the JSON form of a [broker.Batch].
type batchText struct {
	Events   []eventText `json:"events"`
	Position string      `json:"position"`
	Reset    *resetText  `json:"reset"`
}

// eventText is the JSON form of a [broker.Polled]. User, Broadcast and Time are empty
// unless the client asked for envelopes.
type eventText struct {
	ID        string   `json:"id,omitempty"`
	Event     string   `json:"event"`
	Topic     string   `json:"topic,omitempty"`
	Topics    []string `json:"topics,omitempty"`
	User      bool     `json:"user,omitempty"`
	Broadcast bool     `json:"broadcast,omitempty"`
	Data      string   `json:"data"`
	Time      string   `json:"time,omitempty"`
}

type resetText struct {
	Reason      string `json:"reason"`
	LastEventID string `json:"last_event_id"`
}

// encodeBatch returns a batch as JSON, with a line feed at the end. With envelope, each
// event has the members that its envelope would have in a stream.
func encodeBatch(b *broker.Batch, envelope bool) []byte {
	text := batchText{Events: make([]eventText, len(b.Events)), Position: b.Position}
	for i, e := range b.Events {
		written := &text.Events[i]
		written.ID, written.Event, written.Data = e.ID, e.Event, e.Data
		written.Topics = e.Topics
		if topic, ok := e.Audience.Topic(); ok {
			written.Topic = topic
		}
		if envelope {
			_, written.User = e.Audience.User()
			written.Broadcast = e.Audience.IsEveryone()
			written.Time = e.Time()
		}
	}
	if b.Reset != nil {
		text.Reset = &resetText{b.Reset.Reason, b.Reset.LastEventID}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err) // strings can always be encoded
	}
	return out.Bytes()
}

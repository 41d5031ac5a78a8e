package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/peald/peald/internal/eventstream"
)

// connection is one connection of an iteration.
type connection struct {
	*iteration

	silence *watchdog

	// valuesMayFollow is set until the first position mark.
	valuesMayFollow bool
	err             error // what is wrong with an event
}

// connect opens a stream and yields its events until it closes. It returns nil after a
// 204, and if the caller leaves the loop.
func (it *iteration) connect(ctx context.Context) error {
	request, err := it.request(ctx)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := connection{iteration: it, silence: newWatchdog(it.cfg.silence, cancel), valuesMayFollow: true}
	defer c.silence.stop()

	c.silence.start()
	response, err := it.client.Do(request.WithContext(ctx))
	c.silence.stop()
	if err != nil {
		return c.failure(ctx, err)
	}
	defer response.Body.Close()

	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return nil
	default:
		c.silence.start()
		return newStatusError(response)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "text/event-stream" {
		return &ContentTypeError{response.Header.Get("Content-Type")}
	}

	it.cfg.onOpen()
	return c.failure(ctx, c.read(response.Body))
}

// request returns the request for a stream.
func (it *iteration) request(ctx context.Context) (*http.Request, error) {
	header := it.cfg.header.Clone()
	header.Set("Accept", "text/event-stream")
	if position := it.sub.Position(); position != "" {
		if err := checkPosition(position); err != nil {
			return nil, Permanent(fmt.Errorf("resume: %w", err))
		}
		header.Set("Last-Event-ID", position)
	}
	if err := it.authorize(ctx, header); err != nil {
		return nil, err
	}
	return &http.Request{Method: http.MethodGet, URL: it.cfg.url, Host: it.cfg.url.Host, Header: header}, nil
}

// authorize adds the token to a header. It asks the source for one if necessary.
func (it *iteration) authorize(ctx context.Context, header http.Header) error {
	if it.cfg.token == nil {
		return nil
	}
	if !it.asked {
		token, err := it.cfg.token(ctx)
		if err != nil {
			return fmt.Errorf("get a token: %w", err)
		}
		if !httpguts.ValidHeaderFieldValue(token) {
			return Permanent(errors.New("get a token: the token contains a control character"))
		}
		it.token, it.asked = token, true
	}
	if it.token != "" {
		header.Set("Authorization", "Bearer "+it.token)
	}
	return nil
}

// failure returns why a connection with the context ctx failed with err.
func (c *connection) failure(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), ErrSilent) {
		// Over HTTP/2, the next stream would use the same dead connection.
		c.client.CloseIdleConnections()
		return context.Cause(ctx)
	}
	return err
}

// read yields the events in body until it ends. It returns nil if the caller leaves the
// loop.
func (c *connection) read(body io.Reader) error {
	opened := time.Now()
	before := c.sub.Position()
	decoder := eventstream.Decoder{OnEvent: c.receive}
	decoder.Resume(before)
	defer func() {
		if retry := decoder.Retry(); retry > 0 {
			c.retry = retry
		}
		c.progress = c.progress || c.sub.Position() != before || time.Since(opened) >= c.cfg.first
	}()

	buf := make([]byte, 4<<10)
	for {
		c.silence.start()
		n, err := body.Read(buf)
		c.silence.stop()

		_, _ = decoder.Write(buf[:n])
		switch {
		case c.left:
			return nil
		case c.err != nil:
			return c.err
		case decoder.Buffered() > c.cfg.maxEvent+roomForFields:
			return c.tooLarge()
		}
		c.sub.moveTo([]byte(decoder.LastEventID())) // of a block with nothing but an id

		switch {
		case errors.Is(err, io.EOF):
			return ErrClosed
		case err != nil:
			return fmt.Errorf("connection broken: %w", err)
		}
	}
}

// roomForFields limits what an incomplete block has in addition to its data, in bytes:
// field names, an id, and a type.
const roomForFields = 4 << 10

func (c *connection) tooLarge() error {
	return &EventTooLargeError{Limit: c.cfg.maxEvent, Position: c.sub.Position()}
}

// receive yields an event, unless it is a position mark.
func (c *connection) receive(e eventstream.Event) {
	switch {
	case c.left || c.err != nil:
		return
	case len(e.Data) > c.cfg.maxEvent:
		c.err = c.tooLarge()
		return
	case string(e.Type) == eventstream.MarkType:
		c.valuesMayFollow = false
		c.sub.moveTo(e.ID)
		return
	}

	event, err := newEvent(e, c.cfg.envelope)
	if err != nil {
		c.err = err
		return
	}
	if event.Reset != nil && (e.HasID || event.Reset.Reason == overflow) {
		c.valuesMayFollow = false // the reset has the position, or isn't at the start
	}
	event.Retained = c.valuesMayFollow && !isReserved(event.Type)
	event.ID = c.sub.moveTo(e.ID)
	c.progress = true
	c.left = !c.yield(event, nil)
}

// watchdog cancels a connection when nothing has arrived for too long.
type watchdog struct {
	limit time.Duration // 0 for no limit
	timer *time.Timer
}

func newWatchdog(limit time.Duration, cancel context.CancelCauseFunc) *watchdog {
	if limit == 0 {
		return &watchdog{}
	}
	w := &watchdog{limit: limit, timer: time.AfterFunc(limit, func() { cancel(fmt.Errorf("%w for %s", ErrSilent, limit)) })}
	w.stop()
	return w
}

// start begins to wait for something to arrive.
func (w *watchdog) start() {
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

// stop ends the wait. The time that the caller takes for an event doesn't count.
func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

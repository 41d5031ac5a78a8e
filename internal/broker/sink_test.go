package broker_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http/httputil"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// config returns a configuration for tests.
func config() broker.Config {
	return broker.Config{
		Shards: 3, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect,
		Heartbeat: 15 * time.Second, Retry: 3 * time.Second, WriteTimeout: 30 * time.Second,
	}
}

// client is both a sink and the client at the other end of its connection.
type client struct {
	mu       sync.Mutex
	form     broker.Opening
	stream   *broker.Stream
	got      bytes.Buffer
	room     int // bytes that the connection accepts before it is full; -1 for no limit
	writes   int
	isClosed bool
	reason   broker.Reason
	err      error
}

func (c *client) Write(pieces [][]byte) (n int, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		panic("Write after Close")
	}
	if c.err != nil {
		return 0, c.err
	}
	c.writes++
	for _, p := range pieces {
		take := len(p)
		if c.room >= 0 {
			take = min(take, c.room)
			c.room -= take
		}
		c.got.Write(p[:take])
		n += take
	}
	return n, nil
}

func (c *client) Close(r broker.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		panic("second Close")
	}
	c.isClosed, c.reason = true, r
}

// drain makes room for n more bytes and notifies the stream.
func (c *client) drain(n int) {
	c.mu.Lock()
	c.room = n
	c.mu.Unlock()
	c.stream.Ready()
}

// fail breaks the connection.
func (c *client) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.New("broken")
}

// closed reports whether the stream has been closed, and why.
func (c *client) closed() (bool, broker.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isClosed, c.reason
}

// text returns the part of the body that has arrived, without its codings.
func (c *client) text() string {
	body, _ := c.body()
	return body
}

// body returns what text does, and errBodyEnd if the body is complete.
func (c *client) body() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r io.Reader = bytes.NewReader(c.got.Bytes())
	if c.form.Chunked {
		r = httputil.NewChunkedReader(r)
	}
	if c.form.Gzip {
		var err error
		if r, err = gzip.NewReader(r); err != nil {
			return "", err
		}
	}
	var body bytes.Buffer
	_, err := body.ReadFrom(eofReader{r})
	return body.String(), err
}

// eofReader replaces io.EOF with an error that ReadFrom returns.
type eofReader struct{ io.Reader }

var errBodyEnd = errors.New("the body is complete")

func (r eofReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = errBodyEnd
	}
	return n, err
}

type received struct{ typ, data, id string }

// events returns what an EventSource would have dispatched, except for position
// marks, which have no listeners.
func (c *client) events() (events []received) {
	d := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if string(e.Type) == eventstream.MarkType {
			return
		}
		events = append(events, received{string(e.Type), string(e.Data), string(e.ID)})
	}}
	_, _ = d.Write([]byte(c.text()))
	return events
}

func (c *client) data() (data []string) {
	for _, e := range c.events() {
		data = append(data, e.data)
	}
	return data
}

// connect opens a stream over a connection that has room for the given number of
// bytes, or for any number if room is -1.
func connect(t *testing.T, b *broker.Broker, sub broker.Subscription, room int) *client {
	t.Helper()
	return connectAs(t, b, sub, room, broker.Opening{})
}

// connectChunked is like connect, with the chunked coding.
func connectChunked(t *testing.T, b *broker.Broker, sub broker.Subscription, room int) *client {
	t.Helper()
	return connectAs(t, b, sub, room, broker.Opening{Chunked: true})
}

// connectAs is like connect, with any form of the body.
func connectAs(t *testing.T, b *broker.Broker, sub broker.Subscription, room int, form broker.Opening) *client {
	t.Helper()
	c := &client{room: room, form: form, stream: b.NewStream(sub)}
	c.start(t, form)
	return c
}

// forms returns all forms of a body, by name.
func forms() map[string]broker.Opening {
	return map[string]broker.Opening{
		"bare": {}, "chunked": {Chunked: true}, "gzip": {Gzip: true}, "chunked gzip": {Chunked: true, Gzip: true},
	}
}

func (c *client) start(t *testing.T, o broker.Opening) {
	t.Helper()
	if err := c.stream.Start(c, o); err != nil {
		t.Fatalf("start a stream: %v", err)
	}
}

func publish(t *testing.T, b *broker.Broker, m broker.Message) broker.Receipt {
	t.Helper()
	r, err := b.Publish(t.Context(), m)
	if err != nil {
		t.Fatalf("publish %q: %v", m.Data, err)
	}
	return r
}

func toAll(data string) broker.Message {
	return broker.Message{Audience: broker.Everyone(), Data: data}
}

func toUser(user, data string) broker.Message {
	return broker.Message{Audience: broker.ToUser(user), Data: data}
}

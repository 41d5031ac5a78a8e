package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"
)

// bidi is a WebDriver BiDi connection. It is safe for concurrent use.
type bidi struct {
	conn *websocket.Conn

	// handle is called for each event. It must not use the connection.
	handle func(method string, params json.RawMessage)

	mu      sync.Mutex
	last    int                      // ID of the latest command
	waiting map[int]chan bidiMessage // by command ID
	closed  bool                     // no further replies
}

// bidiMessage is a reply or an event.
type bidiMessage struct {
	Type    string          `json:"type"`
	ID      int             `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

var errBiDiClosed = errors.New("connection to the browser closed")

func dialBiDi(url string, handle func(method string, params json.RawMessage)) (*bidi, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	conn, _, err := websocket.Dial(ctx, url, nil) //nolint:bodyclose // closed by the library
	if err != nil {
		return nil, err
	}

	conn.SetReadLimit(-1)

	b := &bidi{conn: conn, handle: handle, waiting: map[int]chan bidiMessage{}}

	go b.read()

	return b, nil
}

// read dispatches messages until the connection is closed.
func (b *bidi) read() {
	for {
		_, data, err := b.conn.Read(context.Background())

		var m bidiMessage

		if err == nil {
			err = json.Unmarshal(data, &m)
		}

		if err != nil {
			b.fail()

			return
		}

		if m.Type == "event" {
			b.handle(m.Method, m.Params)

			continue
		}

		b.mu.Lock()

		if reply, ok := b.waiting[m.ID]; ok {
			reply <- m

			delete(b.waiting, m.ID)
		}

		b.mu.Unlock()
	}
}

// fail fails the commands that are waiting for a reply.
func (b *bidi) fail() {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.closed = true

	for _, reply := range b.waiting {
		close(reply)
	}

	clear(b.waiting)
}

// call sends a command, waits for its reply, and stores the result in the variable
// that result points to, unless result is nil.
func (b *bidi) call(method string, params object, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	reply := make(chan bidiMessage, 1)

	b.mu.Lock()
	b.last++
	id := b.last

	if b.closed {
		close(reply)
	} else {
		b.waiting[id] = reply
	}

	b.mu.Unlock()

	command, err := json.Marshal(object{"id": id, "method": method, "params": params})
	if err != nil {
		return err
	}

	if err := b.conn.Write(ctx, websocket.MessageText, command); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}

	select {
	case m, ok := <-reply:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", method, errBiDiClosed)
		case m.Type == "error":
			return fmt.Errorf("%s: %s: %s", method, m.Error, m.Message)
		case result == nil:
			return nil
		}

		return json.Unmarshal(m.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

func (b *bidi) close() { _ = b.conn.CloseNow() }

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/peald/peald/internal/eventstream"
)

// resumable is a stream that is cut and resumed, as EventSource does it, but
// at once. It is used by one goroutine.
type resumable struct {
	address string // host:port
	request string // up to the header's last line
	keeps   keeps
	lastID  string
}

// keeps is which ids a client resumes from.
type keeps uint8

const (
	// everyID: that of the last block that had one, as in the standard
	// (WHATWG HTML §9.2.6) and in Chromium.
	everyID keeps = iota
	// dispatchedIDs: that of the last event that was dispatched, as in Firefox
	// and WebKitGTK.
	dispatchedIDs
)

// String returns the name of the policy in results.
func (k keeps) String() string { return [...]string{"every_id", "dispatched_ids"}[k] }

func newResumable(address *url.URL, token, topic string) *resumable {
	target := *address
	query := target.Query()

	if topic != "" {
		query.Add("topic", topic)
	}

	target.RawQuery = query.Encode()
	request := "GET " + target.RequestURI() + " HTTP/1.1\r\nHost: " + address.Host + "\r\nAccept: text/event-stream\r\n"

	if token != "" {
		request += "Authorization: Bearer " + token + "\r\n"
	}

	host := address.Host
	if address.Port() == "" {
		host = net.JoinHostPort(address.Hostname(), "80")
	}

	return &resumable{address: host, request: request}
}

// read opens the stream, from where it was, and reads it in pieces of a size
// until ctx ends, whose error it then returns, or the stream does. It calls
// onEvent for each event and onPosition when it has a position to resume from.
func (s *resumable) read(ctx context.Context, piece int, onEvent func(typ, data []byte), onPosition func()) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer conn.Close()

	// A cut is sudden: what has arrived and was not read is lost, and half of
	// the time the server is told by a reset.
	var done atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		if tcp, ok := conn.(*net.TCPConn); ok && !done.Load() && rand.IntN(2) == 0 {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	})
	defer stop()
	defer done.Store(true)

	request := s.request
	if s.lastID != "" {
		request += "Last-Event-ID: " + s.lastID + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return causeOf(ctx, err)
	}

	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", resp.Status)
	}

	decoder := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if s.keeps == dispatchedIDs && len(e.ID) > 0 {
			s.lastID = string(e.ID)
		}
		if string(e.Type) != eventstream.MarkType {
			onEvent(e.Type, e.Data)
		}
	}}

	buf := make([]byte, piece)
	for {
		n, err := resp.Body.Read(buf)
		_, _ = decoder.Write(buf[:n])

		if id := decoder.LastEventID(); s.keeps == everyID && id != "" {
			s.lastID = id
		}
		if s.lastID != "" {
			onPosition()
		}
		if err != nil {
			return causeOf(ctx, err)
		}
	}
}

// causeOf is ctx's error if that is why err came about.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the server ended the stream")
	}
	return err
}

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
	"os"
	"sync/atomic"

	"github.com/peald/peald/internal/eventstream"
)

// resumable is a stream that can be cut and resumed as EventSource does, but
// without a delay. It must be used by one goroutine at a time.
type resumable struct {
	address string // host:port
	request string // request line and header, without the final empty line
	keeps   keeps
	lastID  string
}

// keeps is a policy for the ID that a client resumes from.
type keeps uint8

const (
	// everyID keeps the ID of the last block that had one, as the standard
	// (WHATWG HTML §9.2.6) and Chromium do.
	everyID keeps = iota
	// dispatchedIDs keeps the ID of the last dispatched event, as Firefox and
	// WebKitGTK do.
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

// read opens the stream, resuming from the last position, and reads it in pieces
// of at most piece bytes. It calls onEvent for each event, and onPosition after
// each read once there is a position to resume from. It returns when the stream
// closes, or when ctx is done, with ctx's cause.
func (s *resumable) read(ctx context.Context, piece int, onEvent func(typ, data []byte), onPosition func()) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer conn.Close()

	// A cut is abrupt: data that has arrived but hasn't been read is lost. Half of
	// the cuts reset the connection.
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
		return fmt.Errorf("the server replied %s", resp.Status)
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

// causeOf returns ctx's cause if ctx is done, and err otherwise.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// A dialer has its own timer, which may fire before ctx's.
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	if errors.Is(err, io.EOF) {
		return errServerClosed
	}
	return err
}

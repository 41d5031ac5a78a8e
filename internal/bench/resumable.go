package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/peald/peald/internal/eventstream"
)

// resumable is a stream that can be cut and resumed as EventSource does, but
// without a delay. It must be used by one goroutine at a time.
type resumable struct {
	server  string // host:port
	address *url.URL
	header  http.Header
	tls     *tls.Config // nil for plain text
	http2   bool
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

// transport describes the connections of resumable streams.
type transport struct {
	tls   *tls.Config // for https URLs; may be nil
	http2 bool
}

// newResumable returns a stream at address. It has its own TLS session cache, like
// each browser.
func newResumable(address *url.URL, over transport, token, topic string) *resumable {
	target := *address
	query := target.Query()

	if topic != "" {
		query.Add("topic", topic)
	}

	target.RawQuery = query.Encode()
	s := &resumable{
		server: net.JoinHostPort(address.Hostname(), cmp.Or(address.Port(), schemePort(address))), address: &target,
		header: http.Header{"Accept": {"text/event-stream"}}, http2: over.http2,
		tls: tlsConfig(over.tls, address, over.http2),
	}

	if s.tls != nil {
		s.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	if token != "" {
		s.header.Set("Authorization", "Bearer "+token)
	}
	return s
}

// begin returns the protocol of a new connection, and what to send first.
func (s *resumable) begin() (p protocol, first []byte, err error) {
	header := s.header
	if s.lastID != "" {
		header = header.Clone()
		header.Set("Last-Event-ID", s.lastID)
	}

	if s.http2 {
		return newHTTP2Conn(newFrameCodec(), [][]hpack.HeaderField{requestFields(s.address, header)}, false)
	}
	first, err = requestBytes(s.address, header)
	return &http1{}, first, err
}

// read opens the stream, resuming from the last position, and reads it in pieces
// of at most piece bytes. It calls onEvent for each event, and onPosition after
// each read once there is a position to resume from. It returns when the stream
// closes, or when ctx is done, with ctx's cause.
func (s *resumable) read(ctx context.Context, piece int, onEvent func(typ, data []byte), onPosition func()) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.server)
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

	secured, err := s.secure(ctx, conn)
	if err == nil {
		err = s.follow(secured, make([]byte, piece), onEvent, onPosition)
	}
	return causeOf(ctx, err)
}

// secure returns conn, with TLS if the stream uses it.
func (s *resumable) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	if s.tls == nil {
		return conn, nil
	}
	client := tls.Client(conn, s.tls)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if s.http2 && client.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		return nil, errNotHTTP2
	}
	return client, nil
}

// follow requests the stream and reads it into buf until it closes.
func (s *resumable) follow(conn io.ReadWriter, buf []byte, onEvent func(typ, data []byte), onPosition func()) error {
	protocol, first, err := s.begin()
	if err != nil {
		return err
	}
	if _, err := conn.Write(first); err != nil {
		return err
	}

	to := &resumableSink{decoder: eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if s.keeps == dispatchedIDs && len(e.ID) > 0 {
			s.lastID = string(e.ID)
		}
		if string(e.Type) != eventstream.MarkType {
			onEvent(e.Type, e.Data)
		}
	}}}

	for {
		n, err := conn.Read(buf)
		if n > 0 {
			reply, wrong := protocol.receive(buf[:n], to)
			if len(reply) > 0 && wrong == nil {
				_, wrong = conn.Write(reply)
			}
			err = cmp.Or(wrong, to.reason, err)
		}

		if id := to.decoder.LastEventID(); s.keeps == everyID && id != "" {
			s.lastID = id
		}
		if s.lastID != "" {
			onPosition()
		}
		if err != nil {
			return err
		}
	}
}

// resumableSink decodes the events of a connection's only stream.
type resumableSink struct {
	decoder eventstream.Decoder
	reason  error // why the stream ended
}

func (*resumableSink) opened(int) {}

func (r *resumableSink) body(_ int, piece []byte) { _, _ = r.decoder.Write(piece) }

func (r *resumableSink) ended(_ int, reason error) { r.reason = reason }

// causeOf returns the cause of ctx if ctx is done, and err otherwise.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// A dialer has its own timer, which may fire before ctx's.
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errEnd) {
		return errServerClosed
	}
	return err
}

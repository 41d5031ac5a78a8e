package engine_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/engine"
	"github.com/peald/peald/internal/testbed"
)

// slowServer serves streams with small socket buffers.
type slowServer struct {
	broker *broker.Broker
	addr   string
	seq    int // of the last event
}

// slowQueue limits the queues of a slowServer's streams.
const slowQueue = 24 << 10

// newSlowServer starts a server over TLS with a policy for slow consumers. It sends
// the number of bytes in a request's query before the events.
func newSlowServer(t *testing.T, cfg *tls.Config, policy broker.SlowPolicy) *slowServer {
	t.Helper()

	b := broker.New(broker.Config{
		Shards: 1, QueueBytes: slowQueue, SlowConsumer: policy, Heartbeat: time.Hour, Retry: 1, WriteTimeout: time.Hour,
		History: broker.History{MaxEvents: 1000, MaxBytes: 1 << 20, MaxAge: time.Hour},
	})
	e, err := engine.New(1)
	if err != nil {
		t.Fatal(err)
	}
	sockets := net.ListenConfig{Control: withSmallBuffer(unix.SO_SNDBUF)}
	tcp, err := sockets.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	s := &served{addr: tcp.Addr().String()}
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		body, taken, err := e.TakeOver(w, r)
		if err != nil || !taken {
			t.Errorf("TakeOver returned %t, %v", taken, err)
			return
		}
		padding, _ := strconv.Atoi(r.URL.RawQuery)
		head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: " + strings.Repeat("x", padding) + "\r\n\r\n"
		st := b.NewStream(broker.Subscription{LastEventID: r.Header.Get("Last-Event-ID")})
		if err := body.Attach(st, func() {}); err != nil {
			t.Error(err)
		}
		if err := st.Start(body, broker.Opening{Chunked: true, Head: []byte(head)}); err != nil {
			t.Error(err)
		}
	}
	l := e.Listen(tcp, engine.ListenConfig{
		TLS: cfg, Path: "/events", Handler: s, Other: s, Guard: s, Logger: slog.New(slog.DiscardHandler),
		HeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeader: 16 << 10,
	})
	t.Cleanup(func() {
		b.Close()
		_ = l.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return &slowServer{broker: b, addr: s.addr}
}

// withSmallBuffer sets a socket's buffer for sending or receiving to its minimum.
func withSmallBuffer(option int) func(network, addr string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1) })
	}
}

const (
	// slowEvent is the size in bytes of a short event of a slowServer in a
	// chunked body, without the epoch in its id.
	slowEvent = len("xx\r\nevent: broadcast\nid: -\ndata: \n\n\r\n") + short

	// The data of a slowServer's events is this long, less the number in the id. So
	// each event has one of two sizes, which begin with different digits.
	short, long = 20, 60
)

// publish publishes n events. The data ends with the event's number.
func (s *slowServer) publish(t *testing.T, n, size int) {
	t.Helper()

	for range n {
		s.seq++
		data := fmt.Sprintf("%0*d", size-len(strconv.Itoa(s.seq)), s.seq)
		if _, err := s.broker.Publish(t.Context(), broker.Message{Audience: broker.Everyone(), Data: data, ConflateKey: "key"}); err != nil {
			t.Fatal(err)
		}
	}
}

// dropped returns how many events were dropped because a queue was full.
func (s *slowServer) dropped() int64 {
	return s.broker.Stats().Total.Dropped[broker.SlowConsumer.String()]
}

// TestDropsAtRecordBoundaries drops events of streams whose client doesn't read for a
// while. Each time, the first TLS record that the socket accepts only in part ends at
// another byte of an event.
func TestDropsAtRecordBoundaries(t *testing.T) {
	t.Parallel()

	cert := testbed.NewCertificate(t)
	pair, err := tls.LoadX509KeyPair(cert.CertFile, cert.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	client := cert.Client("http/1.1")
	client.ServerName = "127.0.0.1"
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	for _, policy := range []broker.SlowPolicy{broker.DropOldest, broker.Conflate} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()

			s := newSlowServer(t, cfg, policy)
			position, err := s.broker.Position()
			if err != nil {
				t.Fatal(err)
			}
			size := slowEvent + len(strings.TrimSuffix(position, "-0"))
			for padding := range size {
				s.testDrops(t, client, padding)
				if t.Failed() {
					break
				}
			}
		})
	}
}

// testDrops opens a stream, publishes until events are dropped, and then reads.
func (s *slowServer) testDrops(t *testing.T, cfg *tls.Config, padding int) {
	t.Helper()

	position, err := s.broker.Position()
	if err != nil {
		t.Fatal(err)
	}
	s.publish(t, 250, short) // more than a record, and replayed at once

	dialer := net.Dialer{Control: withSmallBuffer(unix.SO_RCVBUF)}
	raw, err := dialer.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, cfg)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(conn, "GET /events?%d HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %s\r\n\r\n", padding, position); err != nil {
		t.Fatal(err)
	}

	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Stats().Resumes.Replayed == int64(padding)+1 }) {
		t.Fatal("the stream didn't resume")
	}

	for before, first := s.dropped(), s.seq; s.dropped() == before; {
		if s.publish(t, 20, long); s.seq-first > 100_000 {
			t.Fatalf("no event was dropped: %+v", s.broker.Stats().Total)
		}
	}
	_ = raw.(*net.TCPConn).SetReadBuffer(1 << 20)
	if err := s.read(conn); err != nil {
		t.Errorf("with a head that is %d bytes longer: %v", padding, err)
	}
}

// read reads a stream up to the last event, and checks all events.
func (s *slowServer) read(conn io.Reader) error {
	r := bufio.NewReader(conn)
	head := textproto.NewReader(r)
	if status, err := head.ReadLine(); err != nil || status != "HTTP/1.1 200 OK" {
		return fmt.Errorf("the response begins with %q, %w", status, err)
	}
	if _, err := head.ReadMIMEHeader(); err != nil {
		return err
	}

	var event, id string
	lines := bufio.NewScanner(httputil.NewChunkedReader(r))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			number := strings.TrimLeft(value, "0")
			size := len(value) + len(number)
			if event == "broadcast" && (size != short && size != long || !strings.HasSuffix(id, "-"+number)) {
				return fmt.Errorf("the event %s has the data %q", id, value)
			}
			if number == strconv.Itoa(s.seq) {
				return nil
			}
		case "", "retry", "data:":
		default:
			return fmt.Errorf("line %q after the event %s", lines.Text(), id)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("after the event %s: %w", id, err)
	}
	return fmt.Errorf("the stream ended after the event %s", id)
}

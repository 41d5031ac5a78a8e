package clients_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"
)

// recorder is a proxy between the client of one stream and the daemon. It forwards
// bytes unchanged, records requests, and can hold requests or refuse connections.
type recorder struct {
	stream *stream

	mu       sync.Mutex
	listener *net.TCPListener
	upstream string
	held     chan struct{} // requests are held until it is closed
	conns    map[net.Conn]struct{}
	closed   bool
	serving  sync.WaitGroup
}

// record starts a recorder for the stream, in front of the daemon at upstream.
func record(t *testing.T, s *stream, upstream string) {
	t.Helper()

	// Outgoing loopback connections use 127.0.0.1 as source address, so none of
	// them can occupy this port while the recorder refuses connections.
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}

	released := make(chan struct{})
	close(released)

	r := &recorder{
		stream: s, listener: listener, upstream: upstream, held: released,
		conns: map[net.Conn]struct{}{},
	}
	s.recorder, s.addr = r, listener.Addr().String()

	r.serving.Go(func() { r.accept(listener) })
	t.Cleanup(r.close)
}

func (r *recorder) accept(listener *net.TCPListener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}

		if !r.add(conn) {
			return
		}

		r.serving.Go(func() {
			defer r.remove(conn)

			r.serve(conn)
		})
	}
}

// add registers a connection, which close closes. It returns false if the recorder
// is already closed.
func (r *recorder) add(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.closed {
		_ = conn.Close()

		return false
	}

	r.conns[conn] = struct{}{}

	return true
}

func (r *recorder) remove(conn net.Conn) {
	_ = conn.Close()

	r.mu.Lock()
	defer r.mu.Unlock()

	delete(r.conns, conn)
}

func (r *recorder) close() {
	r.mu.Lock()
	r.closed = true
	_ = r.listener.Close()

	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()

	r.release()
	r.serving.Wait()
}

// hold holds requests until release is called.
func (r *recorder) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.held = make(chan struct{})
}

// release forwards the held requests and all further ones.
func (r *recorder) release() {
	r.mu.Lock()
	defer r.mu.Unlock()

	select {
	case <-r.held:
	default:
		close(r.held)
	}
}

// forward forwards further connections to another daemon.
func (r *recorder) forward(upstream string) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.upstream = upstream
}

// refuse refuses further connections, as if no daemon were listening.
func (r *recorder) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()

	_ = r.listener.Close()
}

// admit accepts connections again after refuse.
func (r *recorder) admit(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()

	addr, _ := r.listener.Addr().(*net.TCPAddr)

	listener, err := net.ListenTCP("tcp", addr)
	if err != nil {
		t.Errorf("listen again: %v", err)

		return
	}

	r.listener = listener
	r.serving.Go(func() { r.accept(listener) })
}

// serve forwards the requests of one connection.
func (r *recorder) serve(client net.Conn) {
	var daemon net.Conn

	waiting := make(chan int, 16) // the numbers of requests without a response

	for reader := bufio.NewReader(client); ; {
		head, err := readHead(reader)
		if err != nil {
			return
		}

		number := r.requested(head)

		r.mu.Lock()
		held, upstream := r.held, r.upstream
		r.mu.Unlock()
		<-held

		if daemon == nil {
			daemon, err = new(net.Dialer).Dial("tcp", upstream)
			if err != nil || !r.add(daemon) {
				return
			}

			r.serving.Go(func() {
				defer r.remove(daemon)

				r.answer(client, daemon, waiting)
			})
			defer daemon.Close()
		}

		waiting <- number

		if _, err := daemon.Write(head); err != nil {
			return
		}
	}
}

// readHead returns the bytes of the next request, which must have no body.
func readHead(reader *bufio.Reader) ([]byte, error) {
	var head []byte

	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			return nil, err
		}

		head = append(head, line...)
	}

	return head, nil
}

// requested records a request and returns its index.
func (r *recorder) requested(head []byte) (number int) {
	made := request{at: time.Now()}

	if parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head))); err == nil {
		query, _ := url.ParseQuery(parsed.URL.RawQuery)

		made.lastID = parsed.Header.Get("Last-Event-ID")
		if made.lastID == "" {
			made.lastID = query.Get("last_event_id")
		}
	}

	r.stream.change(func() {
		number = len(r.stream.requests)
		r.stream.requests = append(r.stream.requests, made)
	})

	return number
}

// answer forwards responses. When the daemon closes or resets its connection, it
// does the same with the client's.
func (r *recorder) answer(client, daemon net.Conn, waiting <-chan int) {
	defer client.Close()

	var chunk [32 << 10]byte

	number, begun := 0, true

	for {
		n, err := daemon.Read(chunk[:])
		if n > 0 {
			_, failed := client.Write(chunk[:n])

			select {
			case number = <-waiting:
				begun = false

				var status int

				_, _ = fmt.Sscanf(string(chunk[:n]), "HTTP/1.1 %d", &status)
				r.stream.change(func() { r.stream.requests[number].status = status })
			default:
			}

			if !begun && bytes.Contains(chunk[:n], []byte("retry:")) {
				begun = true
				opened := bytes.Contains(chunk[:n], []byte("event:")) // a position mark or a reset

				r.stream.change(func() {
					r.stream.requests[number].begun = opened
					r.stream.requests[number].refused = !opened
				})
			}

			if failed != nil {
				return
			}
		}

		if err != nil {
			if isReset(err) {
				if conn, ok := client.(*net.TCPConn); ok {
					_ = conn.SetLinger(0)
				}
			}

			return
		}
	}
}

func isReset(err error) bool {
	var number syscall.Errno

	return asErrno(err, &number) && number == syscall.ECONNRESET
}

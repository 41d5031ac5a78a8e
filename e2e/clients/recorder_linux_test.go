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

// recorder stands between one stream's client and the daemon. It passes bytes on
// as they are, records requests, and can hold them or refuse connections.
type recorder struct {
	stream *stream

	mu       sync.Mutex
	listener *net.TCPListener
	upstream string
	held     chan struct{} // requests wait until it is closed
	conns    map[net.Conn]struct{}
	closed   bool
	serving  sync.WaitGroup
}

// record puts a recorder in front of the daemon at upstream.
func record(t *testing.T, s *stream, upstream string) {
	t.Helper()

	// Connections to other addresses of loopback start at 127.0.0.1, so none of
	// them takes this port while the recorder refuses connections.
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

// add keeps a connection, so that it is closed at the end at the latest.
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

// hold makes requests wait.
func (r *recorder) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.held = make(chan struct{})
}

// release lets requests go that wait, and all that follow.
func (r *recorder) release() {
	r.mu.Lock()
	defer r.mu.Unlock()

	select {
	case <-r.held:
	default:
		close(r.held)
	}
}

// forward makes further connections go to another daemon.
func (r *recorder) forward(upstream string) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.upstream = upstream
}

// refuse makes connects fail from now on, as if nobody listened.
func (r *recorder) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()

	_ = r.listener.Close()
}

// admit ends what refuse began.
func (r *recorder) admit(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()

	addr, _ := r.listener.Addr().(*net.TCPAddr)

	listener, err := net.ListenTCP("tcp", addr)
	if err != nil {
		t.Errorf("listening again: %v", err)

		return
	}

	r.listener = listener
	r.serving.Go(func() { r.accept(listener) })
}

// serve passes the requests of one connection on.
func (r *recorder) serve(client net.Conn) {
	var daemon net.Conn

	waiting := make(chan int, 16) // the requests whose responses have not begun

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

// readHead returns the bytes of the next request, which has no body.
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

// requested records a request and returns its number.
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

// answer passes responses on. When the daemon closes its side, or breaks it, the
// client sees the same.
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

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// reader opens and reads many streams with epoll. While loop runs, its goroutine
// owns all fields except wake and tally.
type reader struct {
	tally  *tally
	to     unix.Sockaddr
	family int
	from   []netip.Addr // source addresses, used in rotation
	atOnce int

	poll int // epoll descriptor
	wake int // eventfd that stops the loop

	sockets    []socket
	next       int // index of the next socket to open
	opening    int // number of sockets between connect and the response header
	slowClosed int
	buf        []byte
}

// socket is the connection of one stream.
type socket struct {
	stream

	fd      int32
	phase   phase
	slow    bool
	chunks  *dechunker // nil if the body isn't chunked
	request []byte
	head    []byte // response header until it is complete
	start   time.Duration
}

// phase is the phase of a socket. Phases follow one another in this order, but
// any phase may change to closed.
type phase uint8

const (
	waiting    phase = iota // not opened yet
	connecting              // until the request is written
	requesting              // until the response header is complete
	streaming
	closed
)

func newReader(p *payloads, to netip.AddrPort, from []netip.Addr, atOnce int) (*reader, error) {
	r := &reader{tally: newTally(p), from: from, atOnce: atOnce, buf: make([]byte, 256<<10)}
	if to.Addr().Is4() {
		r.family, r.to = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		r.family, r.to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}

	var err error
	if r.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create an epoll descriptor: %w", err)
	}
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("create an eventfd: %w", err), unix.Close(r.poll))
	}
	if err := r.watch(unix.EPOLL_CTL_ADD, r.wake, unix.EPOLLIN, wakeUp); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the eventfd: %w", err), unix.Close(r.wake), unix.Close(r.poll))
	}

	return r, nil
}

// wakeUp marks events on the eventfd. Other events hold the index of a socket.
const wakeUp = -1

func (r *reader) watch(how, fd int, events uint32, index int32) error {
	return unix.EpollCtl(r.poll, how, fd, &unix.EpollEvent{Events: events, Fd: index})
}

func (r *reader) add(request []byte, user uint32, slow bool) {
	r.sockets = append(r.sockets, socket{stream: stream{user: user}, fd: -1, request: request, slow: slow})
}

// stop makes loop return. Any goroutine may call it, even before loop.
func (r *reader) stop() {
	_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (r *reader) loop() {
	defer r.closeAll()

	// Use a small batch, so that a socket that becomes ready during the batch isn't
	// delayed by the rest of it.
	events := make([]unix.EpollEvent, 256)
	for {
		r.connectMore()
		n, err := unix.EpollWait(r.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("epoll_wait: %v", err))
		}

		for i := range max(n, 0) {
			if events[i].Fd == wakeUp {
				return
			}
			r.handle(events[i].Fd)
		}
	}
}

func (r *reader) connectMore() {
	for r.opening < r.atOnce && r.next < len(r.sockets) {
		s := &r.sockets[r.next]
		r.opening++
		if err := r.connect(s, r.next); err != nil {
			r.fail(s, err)
		}
		r.next++
	}
}

func (r *reader) connect(s *socket, index int) error {
	s.phase, s.start = connecting, r.tally.payloads.now()
	fd, err := unix.Socket(r.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}

	s.fd = int32(fd)
	if s.slow {
		// The smaller the kernel's buffer, the sooner the stream counts as slow.
		const small = 4 << 10
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, small); err != nil {
			return err
		}
	}

	if len(r.from) > 0 {
		// Otherwise bind would choose a port that isn't in use for any destination,
		// and there are too few such ports.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		from := r.from[index%len(r.from)].As4()
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from}); err != nil {
			return err
		}
	}

	if err := unix.Connect(fd, r.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}

	return r.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLOUT, int32(index))
}

// handle processes an event on a socket.
func (r *reader) handle(index int32) {
	var err error
	s := &r.sockets[index]
	switch s.phase {
	case connecting:
		err = r.sendRequest(s, index)
	case requesting, streaming:
		err = r.read(s)
	case waiting, closed:
	}
	if err != nil {
		r.fail(s, err)
	}
}

// sendRequest checks the result of connect and writes the request.
func (r *reader) sendRequest(s *socket, index int32) error {
	errno, err := unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	// The buffer of a new socket is large enough for any request.
	if _, err := unix.Write(int(s.fd), s.request); err != nil {
		return err
	}
	s.phase = requesting
	return r.watch(unix.EPOLL_CTL_MOD, int(s.fd), unix.EPOLLIN|unix.EPOLLRDHUP, index)
}

func (r *reader) read(s *socket) error {
	n, err := unix.Read(int(s.fd), r.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return errEnd
	}

	received := r.buf[:n]
	if s.phase == requesting {
		if received, err = r.readHead(s, received); err != nil || s.phase == requesting {
			return err
		}
	}

	if s.chunks == nil {
		r.tally.decode(&s.stream, received)
		return nil
	}

	for len(received) > 0 {
		body, err := s.chunks.next(&received)
		if err != nil {
			return err
		}
		r.tally.decode(&s.stream, body)
	}

	return nil
}

// readHead reads the response header and returns the bytes that follow it.
func (r *reader) readHead(s *socket, received []byte) (rest []byte, err error) {
	s.head = append(s.head, received...)
	head, rest := splitHead(s.head)
	if head == nil {
		if len(s.head) > maxHead {
			return nil, fmt.Errorf("malformed HTTP response: header longer than %d bytes", maxHead)
		}
		return nil, nil
	}

	chunked, err := parseHead(head, rest)
	if err != nil {
		return nil, err
	}
	if chunked {
		s.chunks = new(dechunker)
	}

	s.phase, s.head = streaming, nil
	r.opening--
	r.tally.streamOpened(r.tally.payloads.now() - s.start)

	if s.slow {
		return nil, r.watch(unix.EPOLL_CTL_DEL, int(s.fd), 0, 0)
	}

	return rest, nil
}

// fail closes a socket after err, and counts the stream as closed.
func (r *reader) fail(s *socket, err error) {
	if s.phase < streaming {
		r.opening--
	}
	s.phase, s.head = closed, nil
	r.tally.streamClosed(&s.stream, closeReason(err))
	r.closeSocket(s)
}

func (r *reader) closeSocket(s *socket) {
	if s.fd >= 0 {
		_ = unix.Close(int(s.fd))
		s.fd = -1
	}
}

func (r *reader) closeAll() {
	r.drainSlow()
	for i := range r.sockets {
		r.closeSocket(&r.sockets[i])
	}
}

// drainSlow reads the slow streams to the end of their data and counts those that
// the server has closed, which only becomes visible after the data.
func (r *reader) drainSlow() {
	left := 0
	for i := range r.sockets {
		s := &r.sockets[i]
		if s.slow && s.phase == streaming && r.watch(unix.EPOLL_CTL_ADD, int(s.fd), unix.EPOLLIN, int32(i)) == nil {
			left++
		}
	}

	if left == 0 || r.watch(unix.EPOLL_CTL_DEL, r.wake, 0, 0) != nil {
		return
	}

	const (
		silence = 300 // milliseconds without data before giving up
		limit   = 3 * time.Second
	)

	events := make([]unix.EpollEvent, 64)
	for deadline := time.Now().Add(limit); left > 0 && time.Now().Before(deadline); {
		n, err := unix.EpollWait(r.poll, events, silence)
		if n == 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}

		for _, event := range events[:max(n, 0)] {
			s := &r.sockets[event.Fd]
			if !s.slow {
				r.handle(event.Fd)
				continue
			}

			n, err := unix.Read(int(s.fd), r.buf)
			if n > 0 || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}

			r.closeSocket(s)
			r.slowClosed++
			left--
		}
	}
}

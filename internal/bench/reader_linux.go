package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// reader is one goroutine that opens and reads many streams on an epoll set.
// But for wake and the tally all of it is that goroutine's, from loop's begin
// to its end.
type reader struct {
	tally  *tally
	to     unix.Sockaddr
	family int
	from   []netip.Addr // addresses to come from, by turns
	atOnce int

	poll int // the epoll set
	wake int // an eventfd that ends the loop

	sockets   []socket
	next      int // the socket to be opened next
	opening   int // sockets between connect and the head of their response
	slowEnded int
	buf       []byte
}

// socket is one stream's connection.
type socket struct {
	stream

	fd      int32
	phase   phase
	slow    bool
	chunks  *dechunker // nil for a body that isn't chunked
	request []byte
	head    []byte // of the response, until it is complete
	began   time.Duration
}

type phase uint8

const (
	waiting    phase = iota // to be opened
	connecting              // until the request can be written
	asking                  // until the response's head is there
	streaming
	over
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
		return nil, fmt.Errorf("make an epoll set: %w", err)
	}
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), unix.Close(r.poll))
	}
	if err := r.watch(unix.EPOLL_CTL_ADD, r.wake, unix.EPOLLIN, wakeUp); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the eventfd: %w", err), unix.Close(r.wake), unix.Close(r.poll))
	}

	return r, nil
}

// wakeUp stands in an event for the eventfd, where others have the index of
// their socket.
const wakeUp = -1

func (r *reader) watch(how, fd int, events uint32, index int32) error {
	return unix.EpollCtl(r.poll, how, fd, &unix.EpollEvent{Events: events, Fd: index})
}

func (r *reader) add(request []byte, user uint32, slow bool) {
	r.sockets = append(r.sockets, socket{stream: stream{user: user}, fd: -1, request: request, slow: slow})
}

// stop ends the loop. It may be called by any goroutine, even before the loop.
func (r *reader) stop() {
	_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (r *reader) loop() {
	defer r.closeAll()

	// Few at a time, so that those that come first aren't read too late for
	// others that are ready by then.
	events := make([]unix.EpollEvent, 256)
	for {
		r.connectMore()
		n, err := unix.EpollWait(r.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("wait for an epoll set of our own: %v", err))
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
			r.end(s, err)
		}
		r.next++
	}
}

func (r *reader) connect(s *socket, index int) error {
	s.phase, s.began = connecting, r.tally.payloads.now()
	fd, err := unix.Socket(r.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}

	s.fd = int32(fd)
	if s.slow {
		// The less the kernel takes for it, the sooner it is slow.
		const little = 4 << 10
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, little); err != nil {
			return err
		}
	}

	if len(r.from) > 0 {
		// Without this the kernel would choose a port that is free to every
		// destination, of which there are too few.
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

// handle goes on with the socket that something happened to.
func (r *reader) handle(index int32) {
	var err error
	s := &r.sockets[index]
	switch s.phase {
	case connecting:
		err = r.ask(s, index)
	case asking, streaming:
		err = r.read(s)
	case waiting, over:
	}
	if err != nil {
		r.end(s, err)
	}
}

// ask writes the request on a connection that has come about, or has not.
func (r *reader) ask(s *socket, index int32) error {
	errno, err := unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	// A socket that is new has room for any request.
	if _, err := unix.Write(int(s.fd), s.request); err != nil {
		return err
	}
	s.phase = asking
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
	if s.phase == asking {
		if received, err = r.begin(s, received); err != nil || s.phase == asking {
			return err
		}
	}

	if s.chunks == nil {
		r.tally.take(&s.stream, received)
		return nil
	}

	for len(received) > 0 {
		body, err := s.chunks.next(&received)
		if err != nil {
			return err
		}
		r.tally.take(&s.stream, body)
	}

	return nil
}

// begin reads the head of the response, and returns what follows it.
func (r *reader) begin(s *socket, received []byte) (rest []byte, err error) {
	s.head = append(s.head, received...)
	head, rest := splitHead(s.head)
	if head == nil {
		if len(s.head) > maxHead {
			return nil, errors.New("no HTTP response: its head has no end")
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
	r.tally.open(r.tally.payloads.now() - s.began)

	if s.slow {
		return nil, r.watch(unix.EPOLL_CTL_DEL, int(s.fd), 0, 0)
	}

	return rest, nil
}

// end lets go of a socket, and counts it unless the run itself has ended.
func (r *reader) end(s *socket, why error) {
	if s.phase < streaming {
		r.opening--
	}
	s.phase, s.head = over, nil
	r.tally.end(&s.stream, cause(why))
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

// drainSlow reads at last what the slow streams have got, since an end that
// the server made shows only behind it, and counts those ends.
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
		silence = 300 // milliseconds, after which there is no more to come
		most    = 3 * time.Second
	)

	events := make([]unix.EpollEvent, 64)
	for until := time.Now().Add(most); left > 0 && time.Now().Before(until); {
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
			r.slowEnded++
			left--
		}
	}
}

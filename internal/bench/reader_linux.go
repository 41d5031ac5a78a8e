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
	client *exchange
	to     unix.Sockaddr
	family int
	from   []netip.Addr // source addresses, used in rotation
	atOnce int

	poll int // epoll descriptor
	wake int // eventfd that stops the loop

	sockets    []socket
	next       int     // index of the next socket to open
	opening    int     // number of streams between connect and the response header
	current    *socket // whose bytes are being decoded
	codec      *frameCodec
	slowClosed int
	buf        []byte
}

func newReader(p *payloads, client *exchange, to netip.AddrPort, from []netip.Addr, atOnce int) (*reader, error) {
	r := &reader{tally: newTally(p), client: client, from: from, atOnce: atOnce, codec: newFrameCodec(), buf: make([]byte, turn)}
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

// add adds a connection with a stream for each of users, which are user numbers.
func (r *reader) add(users []uint32, slow bool) {
	s := socket{link: link{fd: -1}, slow: slow, streams: make([]nativeStream, len(users))}
	for i, user := range users {
		s.streams[i].user = user
	}
	r.sockets = append(r.sockets, s)
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
		r.opening += len(s.streams)
		if err := r.connect(s, r.next); err != nil {
			r.fail(s, err)
		}
		r.next++
	}
}

// connect starts to connect s.
func (r *reader) connect(s *socket, index int) error {
	s.phase, s.start = connecting, r.tally.payloads.now()
	fd, err := unix.Socket(r.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}

	s.link.fd = int32(fd)
	if s.slow && !r.client.http2() {
		// The smaller the kernel's buffer, the sooner the stream is slow.
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

	s.interest = unix.EPOLLOUT
	return r.watch(unix.EPOLL_CTL_ADD, fd, s.interest, int32(index))
}

// handle processes an event on a socket.
func (r *reader) handle(index int32) {
	s := &r.sockets[index]
	r.current = s
	err := r.advance(s)
	switch {
	case errors.Is(err, errReconnect):
		s.close()
		err = r.connect(s, int(index))
	case err == nil && s.phase != closed:
		err = r.await(s, index)
	}
	if err != nil {
		r.fail(s, err)
	}
}

// advance does what a ready socket allows.
func (r *reader) advance(s *socket) error {
	switch s.phase {
	case connecting:
		errno, err := unix.GetsockoptInt(int(s.link.fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return err
		}
		if errno != 0 {
			return unix.Errno(errno)
		}
		if r.client.tls == nil {
			return r.establish(s)
		}
		s.beginHandshake(r.client.tls)
		return r.shakeHands(s)
	case handshaking:
		if err := s.link.flush(); err != nil {
			return err
		}
		return r.shakeHands(s)
	case established:
		if err := s.link.flush(); err != nil {
			return err
		}
		return s.receive(r.buf, r)
	case waiting, closed:
	}
	return nil
}

// shakeHands continues a TLS handshake, and then sends the requests.
func (r *reader) shakeHands(s *socket) error {
	done, err := s.continueHandshake()
	if err != nil || !done {
		return err
	}
	if err := r.establish(s); err != nil {
		return err
	}
	// The last read of the handshake may have taken more than the handshake.
	return s.receive(r.buf, r)
}

// establish sends the requests for the streams of a connected socket.
func (r *reader) establish(s *socket) error {
	protocol, first, err := r.client.begin(s, r.codec)
	if err != nil {
		return err
	}
	s.phase, s.protocol = established, protocol
	return s.send(first)
}

// await has epoll report the next event that s needs.
func (r *reader) await(s *socket, index int32) error {
	if s.unread {
		return r.watch(unix.EPOLL_CTL_DEL, int(s.link.fd), 0, 0)
	}

	interest := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if len(s.link.pending) > 0 {
		interest |= unix.EPOLLOUT
	}
	if interest == s.interest {
		return nil
	}
	s.interest = interest
	return r.watch(unix.EPOLL_CTL_MOD, int(s.link.fd), interest, index)
}

// opened implements sink.
func (r *reader) opened(stream int) {
	s := r.current
	s.streams[stream].opened = true
	// Over HTTP/2 a slow stream keeps its flow-control window closed instead.
	s.unread = s.slow && !r.client.http2()
	r.opening--
	r.tally.streamOpened(r.tally.payloads.now() - s.start)
}

// body implements sink.
func (r *reader) body(stream int, piece []byte) {
	if !r.current.slow {
		r.tally.decode(&r.current.streams[stream].stream, piece)
	}
}

// ended implements sink.
func (r *reader) ended(stream int, reason error) { r.end(r.current, stream, reason) }

// end counts a stream as closed because of err. It closes the socket of the last
// stream.
func (r *reader) end(s *socket, stream int, err error) {
	one := &s.streams[stream]
	if one.ended {
		return
	}

	one.ended = true
	s.ended++
	if !one.opened {
		r.opening--
	}
	if s.slow && one.opened {
		r.slowClosed++
	} else {
		r.tally.streamClosed(&one.stream, closeReason(err))
	}

	if s.ended == len(s.streams) {
		s.close()
	}
}

// fail closes a socket because of err and counts its streams as closed.
func (r *reader) fail(s *socket, err error) {
	for i := range s.streams {
		r.end(s, i, err)
	}
}

func (r *reader) closeAll() {
	r.drainSlow()
	for i := range r.sockets {
		r.sockets[i].close()
	}
}

// drainSlow reads the slow streams to the end of their data and counts those that
// the server has closed, which only becomes visible after the data.
func (r *reader) drainSlow() {
	left := 0
	for i := range r.sockets {
		s := &r.sockets[i]
		if s.phase == established && s.unread && r.watch(unix.EPOLL_CTL_ADD, int(s.link.fd), unix.EPOLLIN, int32(i)) == nil {
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
			if !s.unread {
				r.handle(event.Fd)
				continue
			}

			n, err := unix.Read(int(s.link.fd), r.buf)
			if n > 0 || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}

			r.fail(s, errEnd)
			left--
		}
	}
}

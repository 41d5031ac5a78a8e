package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/peald/peald/client"
)

// portablePool holds a goroutine for each stream, and net/http connections.
type portablePool struct {
	tally   *tally
	streams []stream
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func newPortablePool(ctx context.Context, r *run, address *url.URL) *portablePool {
	ctx, cancel := context.WithCancel(ctx)
	p := &portablePool{tally: newTally(r.payloads), streams: make([]stream, r.cfg.Clients), cancel: cancel}

	transport := r.transport(ctx, address)
	opening := make(chan struct{}, max(1, r.cfg.AtOnce/r.cfg.PerConnection))
	for _, numbers := range r.connections() {
		c := &portableConn{pool: p, transport: transport, address: address, opening: opening, polls: r.cfg.Poll}
		for _, n := range numbers {
			s := &stream{} // a slow stream, which isn't checked
			if n < len(p.streams) {
				s = &p.streams[n]
			}

			s.user = r.userOf(n)
			c.streams = append(c.streams, portableStream{s, r.requests[s.user], n >= len(p.streams)})
		}
		p.done.Go(func() { c.run(ctx) })
	}

	return p
}

// transport returns a transport that makes connections for streams.
func (r *run) transport(ctx context.Context, address *url.URL) *http.Transport {
	var dialers []*net.Dialer
	if ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", address.Hostname()); err == nil {
		for _, from := range r.sources(ips[0].Unmap()) {
			dialers = append(dialers, &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))})
		}
	}

	if dialers == nil {
		dialers = []*net.Dialer{{}}
	}

	var dials atomic.Int64
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!r.cfg.HTTP2)
	protocols.SetHTTP2(r.cfg.HTTP2)
	protocols.SetUnencryptedHTTP2(r.cfg.HTTP2)

	return &http.Transport{
		TLSClientConfig: r.cfg.TLS,
		Protocols:       protocols,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialers[int(dials.Add(1))%len(dialers)].DialContext(ctx, network, addr)
		},
		DisableCompression: true,
		DisableKeepAlives:  !r.cfg.HTTP2 && !r.cfg.Poll, // such a connection has a single stream
		ReadBufferSize:     4 << 10,
		WriteBufferSize:    1 << 10,
	}
}

// portableConn is a connection with one or more streams.
type portableConn struct {
	pool      *portablePool
	transport *http.Transport
	address   *url.URL
	opening   chan struct{} // holds an element for each connection that opens streams
	streams   []portableStream
	polls     bool // instead of streams
}

type portableStream struct {
	*stream

	header http.Header
	slow   bool
}

// run opens the connection and its streams, and reads the streams until they
// close.
func (c *portableConn) run(ctx context.Context) {
	select {
	case c.opening <- struct{}{}:
	case <-ctx.Done():
		return
	}
	opened := sync.OnceFunc(func() { <-c.opening })
	defer opened()

	if c.polls {
		for _, s := range c.streams { // one
			c.closed(ctx, s, c.poll(ctx, s, opened))
		}
		return
	}

	start := time.Now()
	conn, err := c.transport.NewClientConn(ctx, c.address.Scheme, net.JoinHostPort(c.address.Hostname(), c.address.Port()))
	if err != nil {
		for _, s := range c.streams {
			c.closed(ctx, s, err)
		}
		return
	}
	defer conn.Close()

	var done sync.WaitGroup
	for i, s := range c.streams {
		// The server's limit is known after its first response.
		if limit := conn.Available() + conn.InFlight(); i == 1 && conn.Err() == nil && limit < len(c.streams) {
			err = fmt.Errorf("the server allows %d streams per connection; want %d", limit, len(c.streams))
		}
		if err != nil {
			c.closed(ctx, s, err)
			continue
		}

		// The streams of a connection are opened one after another.
		next := make(chan struct{})
		proceed := sync.OnceFunc(func() { close(next) })
		done.Go(func() {
			defer proceed()
			c.closed(ctx, s, c.follow(ctx, conn, s, func() {
				c.pool.tally.streamOpened(time.Since(start))
				proceed()
			}))
		})
		<-next
	}

	opened()
	done.Wait()
}

// closed counts a stream that closed because of err before the end of the run.
func (c *portableConn) closed(ctx context.Context, s portableStream, err error) {
	if err != nil && ctx.Err() == nil {
		c.pool.tally.streamClosed(s.stream, closeReason(err))
	}
}

// follow opens a stream and reads it until it closes. It calls opened in between.
func (c *portableConn) follow(ctx context.Context, conn http.RoundTripper, s portableStream, opened func()) error {
	header := s.header.Clone()
	header.Del("Accept") // the client sets it

	subscription, err := client.Subscribe(ctx, c.address.String(),
		client.WithHTTPClient(&http.Client{Transport: conn, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
		client.WithHeader(header),
		client.WithMaxEventSize(maxEvent),
		client.WithSilenceLimit(0),
		client.WithoutReconnect(),
		client.WithOnOpen(func() {
			opened()
			if s.slow {
				<-ctx.Done()
			}
		}))
	if err != nil {
		return err
	}
	for event, err := range subscription.Events() {
		if err != nil {
			return errors.Unwrap(err) // without the URL, which all streams have in common
		}
		c.pool.tally.receive(s.stream, event.Data)
	}
	return errNoContent
}

// maxEvent is the maximum size of an event, in bytes.
const maxEvent = 1 << 30

// tallies implements pool.
func (p *portablePool) tallies() []*tally { return []*tally{p.tally} }

// all implements pool.
func (p *portablePool) all() []*stream {
	all := make([]*stream, len(p.streams))
	for i := range all {
		all[i] = &p.streams[i]
	}
	return all
}

// slowClosed implements pool. In this pool, a stream that never reads doesn't
// notice that the server has closed it.
func (p *portablePool) slowClosed() *int { return nil }

// close implements pool.
func (p *portablePool) close() {
	p.cancel()
	p.done.Wait()
}

var (
	errServerClosed = errors.New("the server closed the stream")
	errNoContent    = errors.New("204 No Content")
)

// closeReason describes why a stream closed, without details that differ between
// streams.
func closeReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, client.ErrClosed) {
		return errServerClosed.Error()
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if errno == syscall.EADDRNOTAVAIL {
			return "no free source port; use more source addresses (sources)"
		}
		if errno == syscall.EPIPE {
			return errServerClosed.Error()
		}
		return errno.Error()
	}
	if reset, ok := errors.AsType[http2.StreamError](err); ok {
		err = resetReason(reset.Code) // without the stream's ID
	}
	if errors.Is(err, errEnd) {
		return errServerClosed.Error()
	}
	return fmt.Sprint(err)
}

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
)

// portablePool holds a goroutine and a net/http connection for each stream.
type portablePool struct {
	tally   *tally
	streams []stream
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func newPortablePool(ctx context.Context, r *run, address *url.URL) *portablePool {
	ctx, cancel := context.WithCancel(ctx)
	p := &portablePool{tally: newTally(r.payloads), streams: make([]stream, r.cfg.Clients), cancel: cancel}

	client := &http.Client{
		Transport:     r.transport(ctx, address),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	opening := make(chan struct{}, r.cfg.AtOnce)
	for n := range r.cfg.streams() {
		s := &stream{} // a slow stream, which isn't checked
		if n < len(p.streams) {
			s = &p.streams[n]
		}

		s.user = r.userOf(n)
		request := (&http.Request{Method: http.MethodGet, URL: address, Header: r.requests[s.user].Clone()}).WithContext(ctx)

		p.done.Go(func() {
			err := p.follow(ctx, client, request, s, opening, n >= len(p.streams))
			if err != nil && ctx.Err() == nil {
				p.tally.streamClosed(s, closeReason(err))
			}
		})
	}

	return p
}

// transport returns a transport that opens a connection for each stream.
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
	protocols.SetHTTP1(true)

	return &http.Transport{
		TLSClientConfig: r.cfg.TLS,
		Protocols:       protocols, // HTTP/2 would share connections between streams
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialers[int(dials.Add(1))%len(dialers)].DialContext(ctx, network, addr)
		},
		DisableCompression: true,
		DisableKeepAlives:  true,
		ReadBufferSize:     4 << 10,
		WriteBufferSize:    1 << 10,
	}
}

// follow opens a stream and reads it until it closes.
func (p *portablePool) follow(ctx context.Context, client *http.Client, request *http.Request, s *stream, opening chan struct{}, slow bool) error {
	select {
	case opening <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}

	start := time.Now()
	response, err := client.Do(request)
	<-opening

	if err != nil {
		return err
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		const limit = 1 << 10
		body, _ := io.ReadAll(io.LimitReader(response.Body, limit))
		return checkResponse(response.StatusCode, response.Status, response.Header, body)
	}

	if err := checkResponse(response.StatusCode, response.Status, response.Header, nil); err != nil {
		return err
	}

	p.tally.streamOpened(time.Since(start))
	if slow {
		<-ctx.Done()
		return nil
	}

	buf := make([]byte, 4<<10)
	for {
		n, err := response.Body.Read(buf)
		p.tally.decode(s, buf[:n])
		if err != nil {
			return err
		}
	}
}

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

var errServerClosed = errors.New("the server closed the stream")

// closeReason describes why a stream closed, without details that differ between
// streams.
func closeReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errEnd) {
		return errServerClosed.Error()
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if errno == syscall.EADDRNOTAVAIL {
			return "no free source port; use more source addresses (sources)"
		}
		return errno.Error()
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return fmt.Sprint(err)
}
